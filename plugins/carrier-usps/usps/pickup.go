package usps

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

const (
	pickupPath  = "/pickup/v3/carrier-pickup"
	maxPickedUp = 1000 // numbers in one request
)

// packageTypes are what a pickup calls the mail classes that it knows.
var packageTypes = map[string]string{"USPS_GROUND_ADVANTAGE": "USPS_GROUND_ADVANTAGE", "PRIORITY_MAIL": "PRIORITY_MAIL", express: express}

// Pickup books, changes or cancels a collection. It is free, and comes with the day's mail.
func (c *Carrier) Pickup(ctx context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no request").At("request")
	}
	known := c.book.pickup(r.Reference, r.Confirmation)
	name := cmp.Or(r.Reference, r.Confirmation)
	if known != nil {
		name = known.Reference
	}
	free, err := c.book.Hold(ctx, pickupKey(name))
	if err != nil {
		return nil, err
	}
	defer free()
	known = c.book.pickup(r.Reference, r.Confirmation)
	switch r.Action {
	case "book":
		return c.bookPickup(ctx, r, known)
	case "change", "cancel":
		if known, err = toChange(r, known); err != nil {
			return nil, err
		}
		if r.Action == "cancel" {
			return c.cancelPickup(ctx, known)
		}
		return c.changePickup(ctx, r, known)
	}
	return nil, sdk.Errorf(sdk.Validation, "%.16q is no action; book, change and cancel are", r.Action).At("action")
}

func (c *Carrier) bookPickup(ctx context.Context, r *carrier.PickupRequest, known *collection) (*carrier.PickedUp, error) {
	if err := lookReference(r.Reference); err != nil {
		return nil, err
	}
	request, warnings, err := c.pickupRequest(r)
	if err != nil {
		return nil, err
	}
	digest, err := r.Digest()
	if err != nil {
		return nil, err
	}
	p := &collection{Reference: r.Reference, Digest: digest, State: asking, Date: r.Date, Warnings: warningsOf(warnings)}
	switch {
	case known == nil || known.State == refused:
		if err := c.book.Begin(pickupKey(p.Reference), digest, p); err != nil {
			return nil, err
		}
	case known.Digest != p.Digest:
		return nil, sdk.Errorf(sdk.Duplicate, "pickup %q was booked with other contents, or may have been", r.Reference).At("reference").Suggest("change it, or take another reference")
	case known.State == cancelled:
		return nil, sdk.Errorf(sdk.Conflict, "pickup %q was booked and cancelled", r.Reference).At("reference").Suggest("take another reference")
	case known.State != asking:
		return known.answer(), nil
	default:
		// The provider has no key for pickups, and cannot be searched. A driver who is asked for
		// twice comes once a day all the same, and costs nothing.
		p.Again = true
		p.Warnings = append(p.Warnings, warning{Code: "booked_twice", Message: "it was booked before without an answer: there may be another pickup of this place and day at the provider"})
	}
	var out pickupConfirmation
	_, err = c.client.do(ctx, &call{name: "pickup", method: http.MethodPost, path: pickupPath, body: request, buys: true, out: &out, field: "place", fields: pickupField})
	if err == nil && out.ConfirmationNumber == "" {
		err = sdk.Errorf(sdk.UnknownOutcome, "pickup: the answer holds no confirmation number")
	}
	if err != nil {
		e := sdk.AsError(err)
		if !p.Again && e.Class != sdk.UnknownOutcome && (e.Class != sdk.Unavailable || e.Provider.Code == "") {
			c.book.Undone(pickupKey(p.Reference))
		}
		return nil, dated(e)
	}
	p.State, p.Confirmation = done, out.ConfirmationNumber
	if out.PickupDate != "" {
		p.Date = out.PickupDate
	}
	if err := after("the pickup was booked", c.book.Done(pickupKey(p.Reference), p)); err != nil {
		return nil, err
	}
	return p.answer(), nil
}

func (p *collection) answer() *carrier.PickedUp {
	return &carrier.PickedUp{Reference: p.Reference, Confirmation: p.Confirmation, Date: p.Date, Warnings: sdkWarnings(p.Warnings)}
}

// pickupRequest says a collection in the provider's words.
func (c *Carrier) pickupRequest(r *carrier.PickupRequest) (*pickupRequest, []sdk.Warning, error) {
	if _, err := time.Parse(time.DateOnly, r.Date); err != nil {
		return nil, nil, sdk.Errorf(sdk.Validation, "%.16q is no day such as 2026-01-31", r.Date).At("date")
	}
	out := &pickupRequest{PickupDate: r.Date, PickupLocation: pickupLocation{PackageLocation: c.place, SpecialInstructions: r.Instructions}}
	var err error
	if out.PickupAddress, err = pickupPlace(&r.Place); err != nil {
		return nil, nil, err
	}
	packages, pounds, err := c.parcelsOf(r)
	if err != nil {
		return nil, nil, err
	}
	out.Packages = packages
	var warnings []sdk.Warning
	if r.Ready != "" || r.Close != "" {
		warnings = append(warnings, sdk.Warning{Code: "no_hours", Field: "ready", Message: "the driver comes with the day's mail, and hours cannot be told to the provider"})
	}
	switch {
	case r.Weight != nil:
		if pounds, err = r.Weight.In(sdk.Pound); err != nil || pounds.IsNegative() {
			return nil, nil, sdk.Errorf(sdk.Validation, "it is no weight such as 25 kg").At("weight")
		}
	case pounds.IsZero():
		pounds = decimal.NewFromInt(int64(r.Parcels))
		warnings = append(warnings, sdk.Warning{Code: "estimate", Field: "weight", Message: "no weight is known; the provider was told one pound a parcel"})
	}
	out.EstimatedWeight = number{pounds.RoundUp(1)}
	return out, warnings, nil
}

func pickupPlace(a *sdk.Address) (pickupAddress, error) {
	var out pickupAddress
	var err error
	if out.Address, err = placeOf("place", a); err != nil {
		return out, err
	}
	if out.addressee, err = peopleOf("place", a); err != nil {
		return out, err
	}
	if out.FirstName == "" || out.LastName == "" {
		return out, sdk.Errorf(sdk.Validation, "a pickup needs somebody with a first and a last name").At("place.name")
	}
	to := mailOf(a.Email)
	if to == "" {
		return out, sdk.Errorf(sdk.Validation, "a pickup needs a mail address that the provider confirms it to").At("place.email")
	}
	out.Contact = []pickupContact{{Email: to}}
	return out, nil
}

// parcelsOf counts the parcels by mail class, as far as they were bought here.
func (c *Carrier) parcelsOf(r *carrier.PickupRequest) ([]pickupPackage, decimal.Decimal, error) {
	pounds := decimal.Zero
	if len(r.Tracking) > maxPickedUp || r.Parcels < 0 || r.Parcels+len(r.Tracking) == 0 {
		return nil, pounds, sdk.Errorf(sdk.Validation, "say how many parcels there are, or name up to %d", maxPickedUp).At("parcels")
	}
	counts := map[string]int{}
	known := 0
	for _, number := range r.Tracking {
		e := c.book.shipment(c.book.referenceOf(number))
		if e == nil {
			continue
		}
		known++
		kind := packageTypes[e.service]
		switch {
		case e.returned:
			kind = "RETURNS"
		case kind == "":
			kind = "OTHER"
		}
		counts[kind]++
		if w, err := decimal.NewFromString(e.pounds); err == nil {
			pounds = pounds.Add(w)
		}
	}
	if rest := max(r.Parcels, len(r.Tracking)) - known; rest > 0 {
		counts["OTHER"] += rest
		pounds = decimal.Zero // of all or of none
	}
	var out []pickupPackage
	for kind, n := range counts {
		out = append(out, pickupPackage{kind, n})
	}
	slices.SortFunc(out, func(a, b pickupPackage) int { return cmp.Compare(a.PackageType, b.PackageType) })
	return out, pounds, nil
}

// toChange gives the pickup that is to be changed. One that was not booked here is known by its
// confirmation alone.
func toChange(r *carrier.PickupRequest, known *collection) (*collection, error) {
	switch {
	case known == nil && r.Confirmation == "":
		return nil, sdk.Errorf(sdk.NotFound, "no pickup was booked under reference %.64q", r.Reference).At("reference")
	case known == nil && !plainTracking.MatchString(r.Confirmation):
		return nil, sdk.Errorf(sdk.Validation, "%.40q is no confirmation number of the provider", r.Confirmation).At("confirmation")
	case known == nil:
		return &collection{Reference: cmp.Or(r.Reference, r.Confirmation), State: done, Confirmation: r.Confirmation}, nil
	case r.Confirmation != "" && known.Confirmation != r.Confirmation:
		return nil, sdk.Errorf(sdk.Validation, "%.40q is not the confirmation of pickup %q", r.Confirmation, known.Reference).At("confirmation")
	case known.State == refused:
		return nil, sdk.Errorf(sdk.NotFound, "pickup %q was not booked", known.Reference).At("reference")
	case known.State == asking:
		return nil, sdk.Errorf(sdk.Conflict, "nobody knows yet whether pickup %q was booked", known.Reference).At("reference").Suggest("book it again under its reference")
	case !plainTracking.MatchString(known.Confirmation):
		return nil, sdk.Errorf(sdk.Internal, "the provider gave the confirmation %.40q, which cannot be asked for", known.Confirmation)
	}
	return known, nil
}

// fetchPickup gives a pickup as it stands at the provider, and the tag without which it takes
// no change.
func (c *Carrier) fetchPickup(ctx context.Context, confirmation string) (*pickupConfirmation, string, error) {
	var out []pickupConfirmation
	header, err := c.client.do(ctx, &call{name: "pickup", method: http.MethodGet, path: pickupPath + "/" + url.PathEscape(confirmation), out: &out, field: "confirmation"})
	if err != nil {
		e := sdk.AsError(err)
		if e.Class == sdk.NotFound {
			e.Field = "confirmation"
		}
		return nil, "", e
	}
	i := slices.IndexFunc(out, func(p pickupConfirmation) bool { return p.ConfirmationNumber == confirmation })
	tag := header.Get("ETag")
	if i < 0 || tag == "" {
		return nil, "", sdk.Errorf(sdk.Unavailable, "pickup: the answer holds no such pickup, or no tag")
	}
	return &out[i], tag, nil
}

func (c *Carrier) changePickup(ctx context.Context, r *carrier.PickupRequest, known *collection) (*carrier.PickedUp, error) {
	if known.State == cancelled || known.State == cancelling {
		return nil, sdk.Errorf(sdk.Conflict, "pickup %q is cancelled, or may be", known.Reference).At("reference").Suggest("book another")
	}
	digest, err := r.Digest()
	if err != nil {
		return nil, err
	}
	if known.Changed == digest {
		return known.answer(), nil
	}
	now, tag, err := c.fetchPickup(ctx, known.Confirmation)
	if err != nil {
		return nil, err
	}
	if now.CarrierPickupRequest == nil {
		return nil, sdk.Errorf(sdk.Unavailable, "pickup: the answer does not say what was booked")
	}
	next := *now.CarrierPickupRequest
	if err := c.merge(&next, r); err != nil {
		return nil, err
	}
	var out pickupConfirmation
	_, err = c.client.do(ctx, &call{name: "change of a pickup", method: http.MethodPut, path: pickupPath + "/" + url.PathEscape(known.Confirmation), header: map[string]string{"If-Match": tag},
		body: pickupConfirmation{PickupDate: next.PickupDate, CarrierPickupRequest: &next}, buys: true, out: &out, field: "confirmation", fields: pickupField})
	if err != nil {
		return nil, dated(err)
	}
	known.Changed, known.Date = digest, next.PickupDate
	if out.PickupDate != "" {
		known.Date = out.PickupDate
	}
	if err := after("the pickup was changed", c.book.Note(pickupKey(known.Reference), known)); err != nil {
		return nil, err
	}
	return known.answer(), nil
}

// merge changes what a request names.
func (c *Carrier) merge(next *pickupRequest, r *carrier.PickupRequest) error {
	if r.Date != "" {
		if _, err := time.Parse(time.DateOnly, r.Date); err != nil {
			return sdk.Errorf(sdk.Validation, "%.16q is no day such as 2026-01-31", r.Date).At("date")
		}
		next.PickupDate = r.Date
	}
	if r.Place.Country != "" {
		place, err := pickupPlace(&r.Place)
		if err != nil {
			return err
		}
		next.PickupAddress = place
	}
	if r.Parcels > 0 || len(r.Tracking) > 0 {
		packages, pounds, err := c.parcelsOf(r)
		if err != nil {
			return err
		}
		next.Packages = packages
		if pounds.IsPositive() {
			next.EstimatedWeight = number{pounds.RoundUp(1)}
		}
	}
	if r.Weight != nil {
		pounds, err := r.Weight.In(sdk.Pound)
		if err != nil || pounds.IsNegative() {
			return sdk.Errorf(sdk.Validation, "it is no weight such as 25 kg").At("weight")
		}
		next.EstimatedWeight = number{pounds.RoundUp(1)}
	}
	if r.Instructions != "" {
		next.PickupLocation.SpecialInstructions = r.Instructions
	}
	return nil
}

func (c *Carrier) cancelPickup(ctx context.Context, known *collection) (*carrier.PickedUp, error) {
	if known.State == cancelled {
		return known.answer(), nil
	}
	asked := known.State == cancelling
	_, tag, err := c.fetchPickup(ctx, known.Confirmation)
	if err == nil {
		if !asked {
			known.State = cancelling
			if err := c.book.Note(pickupKey(known.Reference), known); err != nil {
				return nil, err
			}
		}
		_, err = c.client.do(ctx, &call{name: "cancellation of a pickup", method: http.MethodDelete, path: pickupPath + "/" + url.PathEscape(known.Confirmation),
			header: map[string]string{"If-Match": tag}, buys: true, field: "confirmation"})
	}
	if err != nil {
		e := sdk.AsError(err)
		if !asked || e.Class != sdk.Validation && e.Class != sdk.NotFound && e.Class != sdk.Conflict {
			return nil, e
		}
		known.Warnings = append(known.Warnings, warning{Code: "unconfirmed", Message: "it was cancelled before without an answer, and the provider takes no second cancellation: " + e.Provider.Text})
	}
	known.State = cancelled
	if err := after("the pickup was cancelled", c.book.Note(pickupKey(known.Reference), known)); err != nil {
		return nil, err
	}
	return known.answer(), nil
}

func pickupField(parameter string) string {
	if f := parameterField(parameter); f == "date" {
		return f
	}
	switch {
	case parameter == "pickupDate":
		return "date"
	case parameter == "estimatedWeight":
		return "weight"
	}
	return addressField("place", parameter)
}
