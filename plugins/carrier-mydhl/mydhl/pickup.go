package mydhl

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

const (
	maxInstruction   = 80
	maxInstructions  = 4
	leastConfirmed   = 15 // characters of a confirmation
	mostConfirmed    = 20
	assumedKilograms = 1 // of a parcel to be collected, of which nobody knows the weight
)

// The provider's names of fields in orders of collections.
var pickupFields = func() map[string]string {
	out := map[string]string{"/plannedPickupDateAndTime": "ready", "/closeTime": "close", "/specialInstructions": "instructions",
		"/dispatchConfirmationNumber": "confirmation", "/customerDetails/shipperDetails": "place", "/shipmentDetails": "parcels",
		"/shipmentDetails/#/packages/#/weight": "weight"}
	address(out, "/customerDetails/shipperDetails", "place.")
	return out
}()

// Pickup books, changes or cancels a collection. The provider cannot be asked what was booked:
// so a booking whose answer was lost is not sent again. A change that comes twice is one, and
// so is a cancellation.
func (c *Carrier) Pickup(ctx context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no pickup").At("action")
	}
	if r.Reference == "" || len(r.Reference) > maxReference {
		return nil, sdk.Errorf(sdk.Validation, "a reference has 1 to %d bytes, and this one %d", maxReference, len(r.Reference)).At("reference")
	}
	switch r.Action {
	case "book":
		return c.book(ctx, r)
	case "change":
		return c.change(ctx, r)
	case "cancel":
		return c.cancel(ctx, r)
	}
	return nil, sdk.Errorf(sdk.Validation, "%q is none of book, change, cancel", clip(r.Action, 20)).At("action")
}

func (c *Carrier) book(ctx context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	key := pickupKey(r.Reference)
	leave, err := c.record.Hold(ctx, key)
	if err != nil {
		return nil, err
	}
	defer leave()
	now, err := c.record.Find(key)
	if err != nil {
		return nil, err
	}
	digest, err := r.Digest()
	if err != nil {
		return nil, sdk.Errorf(sdk.Validation, "the collection cannot be told from others: %v", err).At("reference")
	}
	if now.Phase == purchases.Begun || now.Phase == purchases.Done {
		return c.bookedBefore(r, now, digest)
	}
	request, notes, err := c.pickupRequest(r)
	if err != nil {
		return nil, err
	}
	if err := c.record.Begin(key, digest, &begun{Date: r.Date, Account: c.account}); err != nil {
		return nil, err
	}
	var answer pickupAnswer
	k := &call{method: http.MethodPost, path: []string{"pickups"}, body: request, buys: true, fields: pickupFields}
	if err := c.client.do(ctx, k, &answer); err != nil {
		if sdk.ClassOf(err) != sdk.UnknownOutcome {
			c.record.Undone(key)
		}
		return nil, err
	}
	if len(answer.Numbers) == 0 || answer.Numbers[0] == "" {
		return nil, k.unread(fmt.Errorf("it names no confirmation"))
	}
	made := pickedOf(r, &answer, answer.Numbers[0])
	made.Warnings = append(notes, made.Warnings...)
	for _, more := range answer.Numbers[1:] {
		made.Warnings = append(made.Warnings, note{Code: "several", Text: "DHL confirmed it as " + clip(more, mostConfirmed) + " too, which is cancelled by itself"})
	}
	if err := c.record.Done(key, made); err != nil {
		c.log.Error("a collection was booked and cannot be written down", "confirmation", made.Confirmation, "error", err)
		made.Warnings = append(made.Warnings, note{Code: "not_recorded", Text: "it is booked, and could not be written down"})
	}
	return pickedUp(made, r.Reference), nil
}

func (c *Carrier) bookedBefore(r *carrier.PickupRequest, s purchases.State, digest string) (*carrier.PickedUp, error) {
	if s.Digest != digest {
		return nil, sdk.Errorf(sdk.Duplicate, "reference %q was booked with other contents", r.Reference).At("reference").
			Suggest("change the collection by its confirmation, or take another reference")
	}
	if s.Phase == purchases.Begun {
		e := lost("the collection", s.Since)
		e.Retryable = false
		return nil, e
	}
	made := &picked{}
	if err := c.record.Answer(s, made); err != nil {
		return nil, unread(err)
	}
	return pickedUp(made, r.Reference), nil
}

func (c *Carrier) change(ctx context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	if n := len(r.Confirmation); n < leastConfirmed || n > mostConfirmed {
		return nil, sdk.Errorf(sdk.Validation, "%q is no confirmation such as PRG201220123456", clip(r.Confirmation, 30)).At("confirmation")
	}
	request, notes, err := c.pickupRequest(r)
	if err != nil {
		return nil, err
	}
	request.Confirmation, request.OriginalAccount = r.Confirmation, c.account
	var answer pickupAnswer
	k := &call{method: http.MethodPatch, path: []string{"pickups", r.Confirmation}, body: request, buys: true, fields: pickupFields}
	if err := c.client.do(ctx, k, &answer); err != nil {
		return nil, err
	}
	if answer.Number == "" {
		answer.Number = r.Confirmation
	}
	made := pickedOf(r, &answer, answer.Number)
	made.Warnings = append(notes, made.Warnings...)
	return pickedUp(made, r.Reference), nil
}

// cancel is one with all that come after it. What the provider no longer has was cancelled by
// an earlier call, if there was one.
func (c *Carrier) cancel(ctx context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	if r.Confirmation == "" || len(r.Confirmation) > maxReference {
		return nil, sdk.Errorf(sdk.Validation, "the confirmation is missing").At("confirmation")
	}
	key := cancelKey(r.Confirmation)
	leave, err := c.record.Hold(ctx, key)
	if err != nil {
		return nil, err
	}
	defer leave()
	before, err := c.record.Find(key)
	if err != nil {
		return nil, err
	}
	out := &carrier.PickedUp{Reference: r.Reference, Confirmation: r.Confirmation, Date: r.Date, Ready: r.Ready, Close: r.Close}
	if before.Phase == purchases.Done {
		return out, nil
	}
	who := r.Place.Name
	if who == "" {
		who = r.Place.Company
	}
	if who == "" {
		who = "Shipper"
	}
	why := strings.TrimSpace(r.Instructions)
	if why == "" {
		why = "no longer needed"
	}
	if before.Phase != purchases.Begun {
		if err := c.record.Begin(key, "", &begun{Date: r.Date, Account: c.account}); err != nil {
			return nil, err
		}
	}
	k := &call{method: http.MethodDelete, path: []string{"pickups", r.Confirmation}, buys: true,
		query: url.Values{"requestorName": {short(who, maxLine)}, "reason": {short(why, maxInstruction)}}}
	err = c.client.do(ctx, k, nil)
	gone := err != nil && (sdk.ClassOf(err) == sdk.NotFound || sdk.ClassOf(err) == sdk.Conflict)
	switch {
	case err == nil, gone && before.Phase == purchases.Begun:
	case sdk.ClassOf(err) == sdk.UnknownOutcome:
		return nil, err
	default:
		if before.Phase != purchases.Begun {
			c.record.Undone(key)
		}
		return nil, err
	}
	if err := c.record.Done(key, nil); err != nil {
		c.log.Warn("a collection was cancelled and cannot be written down", "confirmation", r.Confirmation, "error", err)
	}
	return out, nil
}

// pickupRequest makes the order, and says what it assumed.
func (c *Carrier) pickupRequest(r *carrier.PickupRequest) (*pickupRequest, []note, error) {
	out := &pickupRequest{LocationType: "business", Accounts: []account{{TypeCode: "shipper", Number: c.account}}, CloseTime: r.Close}
	if r.Place.Residential {
		out.LocationType = "residence"
	}
	place, err := partyOf(&r.Place, "place.")
	if err != nil {
		return nil, nil, err
	}
	place.TypeCode, place.RegistrationNumbers = "", nil // a collection has no customs
	out.CustomerDetails.ShipperDetails = place
	if out.PlannedPickup, err = c.window(r); err != nil {
		return nil, nil, err
	}
	for text := strings.TrimSpace(r.Instructions); text != ""; {
		if len(out.SpecialInstructions) == maxInstructions {
			return nil, nil, sdk.Errorf(sdk.Validation, "DHL takes %d characters", maxInstructions*maxInstruction).At("instructions")
		}
		part := short(text, maxInstruction)
		out.SpecialInstructions = append(out.SpecialInstructions, instruction{Value: part})
		text = strings.TrimSpace(text[len(part):])
	}
	goods, notes, err := c.collectedOf(r)
	if err != nil {
		return nil, nil, err
	}
	out.ShipmentDetails = []collected{*goods}
	return out, notes, nil
}

// window is when a collection is ready, at the site's time.
func (c *Carrier) window(r *carrier.PickupRequest) (string, error) {
	if _, err := time.Parse(day, r.Date); err != nil {
		return "", sdk.Errorf(sdk.Validation, "%q is no date such as 2026-05-04", clip(r.Date, 20)).At("date")
	}
	ready, err := time.ParseInLocation(day+" "+clock, r.Date+" "+r.Ready, c.zone)
	if err != nil || len(r.Ready) != len(clock) {
		return "", sdk.Errorf(sdk.Validation, "%q is no time of day such as 15:30", clip(r.Ready, 20)).At("ready")
	}
	end, err := time.ParseInLocation(day+" "+clock, r.Date+" "+r.Close, c.zone)
	if err != nil || len(r.Close) != len(clock) {
		return "", sdk.Errorf(sdk.Validation, "%q is no time of day such as 15:30", clip(r.Close, 20)).At("close")
	}
	if !ready.Before(end) {
		return "", sdk.Errorf(sdk.Validation, "it closes at %s, not after it is ready at %s", r.Close, r.Ready).At("close")
	}
	now := c.now()
	if end.Before(now) {
		return "", sdk.Errorf(sdk.Validation, "it is past at the site").At("date")
	}
	if ready.Before(now) { // the provider takes no moment that is past
		ready = now.In(c.zone).Add(time.Minute)
	}
	return stamp(ready), nil
}

// collectedOf says what is collected: what the record knows of the tracking numbers, and for
// the rest what the request says.
func (c *Carrier) collectedOf(r *carrier.PickupRequest) (*collected, []note, error) {
	out := &collected{ProductCode: c.product, UnitOfMeasurement: metric}
	known, shipments, weight := map[string]bool{}, 0, decimal.Zero
	for _, number := range r.Tracking {
		s, found := c.record.ofTracking(number)
		if !found || known[s.shipment] {
			continue
		}
		known[s.shipment] = true
		shipments++
		out.ProductCode, out.ShipmentTrackingNumber = s.product, s.shipment
		if w, err := decimal.NewFromString(s.weight); err == nil {
			weight = weight.Add(w)
		}
	}
	if shipments > 1 {
		out.ShipmentTrackingNumber = "" // there is room for one
	}
	n := max(r.Parcels, len(r.Tracking), 1)
	if n > maxParcels {
		return nil, nil, sdk.Errorf(sdk.Validation, "DHL collects %d parcels at once", maxParcels).At("parcels")
	}
	var notes []note
	switch {
	case r.Weight != nil:
		w, err := r.Weight.In(sdk.Kilogram)
		if err != nil || !w.IsPositive() {
			return nil, nil, sdk.Errorf(sdk.Validation, "%s %s is no weight", r.Weight.Value, clip(r.Weight.Unit, 10)).At("weight")
		}
		weight = w
	case !weight.IsPositive():
		weight = decimal.NewFromInt(int64(n * assumedKilograms))
		notes = append(notes, note{Code: "weight_assumed", Text: fmt.Sprintf("DHL wants a weight: %d kg a parcel was said", assumedKilograms)})
	}
	each := number{weight.DivRound(decimal.NewFromInt(int64(n)), 6).RoundUp(3)}
	for range n {
		out.Packages = append(out.Packages, piece{Weight: each})
	}
	return out, notes, nil
}

func pickedOf(r *carrier.PickupRequest, a *pickupAnswer, confirmation string) *picked {
	out := &picked{Confirmation: confirmation, Date: r.Date, Ready: r.Ready, Close: r.Close}
	if _, err := time.Parse(day, a.NextPickupDate); err == nil {
		out.Date = a.NextPickupDate
	}
	if _, err := time.Parse(clock, a.ReadyByTime); err == nil {
		out.Ready = a.ReadyByTime
	}
	for _, w := range a.Warnings {
		out.Warnings = append(out.Warnings, note{Code: "dhl", Text: clip(w, 500)})
	}
	return out
}

func pickedUp(p *picked, reference string) *carrier.PickedUp {
	out := &carrier.PickedUp{Reference: reference, Confirmation: p.Confirmation, Date: p.Date, Ready: p.Ready, Close: p.Close}
	for _, w := range p.Warnings {
		out.Warnings = append(out.Warnings, sdk.Warning{Code: w.Code, Message: w.Text})
	}
	return out
}
