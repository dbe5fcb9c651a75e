package mydhl

import (
	"context"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

const (
	maxAsked  = 200     // numbers in one call
	maxProofs = 2 << 20 // bytes of proofs in one page
)

// Track asks for at most 200 numbers a page.
func (c *Carrier) Track(ctx context.Context, r *carrier.TrackRequest) (*carrier.Tracked, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if r == nil || len(r.Tracking) == 0 {
		return nil, sdk.Errorf(sdk.Validation, "there is no number").At("tracking")
	}
	from := 0
	if r.Page != "" {
		n, err := strconv.Atoi(r.Page)
		if err != nil || n <= 0 || n >= len(r.Tracking) {
			return nil, sdk.Errorf(sdk.Validation, "%q is no page of these numbers", clip(r.Page, 20)).At("page")
		}
		from = n
	}
	page := r.Tracking[from:min(len(r.Tracking), from+maxAsked)]
	found, err := c.whereabouts(ctx, page)
	if err != nil {
		return nil, err
	}
	out, proofs := &carrier.Tracked{}, 0
	for _, number := range page {
		p := c.parcelOf(number, found, r.Since)
		if proof := c.proofOf(ctx, &p, found[number], r.Since); proof != nil {
			if proofs += len(proof.Data); proofs > maxProofs && len(out.Parcels) > 0 {
				break
			}
			p.Proof = proof
		}
		out.Parcels = append(out.Parcels, p)
	}
	if next := from + len(out.Parcels); next < len(r.Tracking) {
		out.Next = strconv.Itoa(next)
	}
	return out, nil
}

// way is what the provider knows of one number.
type way struct {
	shipment string
	delivery string
	events   []trackedEvent
}

// whereabouts asks for numbers of both kinds: of shipments, which are ten digits, and of pieces.
func (c *Carrier) whereabouts(ctx context.Context, numbers []string) (map[string]*way, error) {
	found := map[string]*way{}
	kinds := map[string][]string{}
	for _, n := range numbers {
		if n == "" || strings.ContainsAny(n, ", ") {
			continue
		}
		kind := "pieceTrackingNumber"
		if shipmentNumber(n) {
			kind = "shipmentTrackingNumber"
		}
		kinds[kind] = append(kinds[kind], n)
	}
	for _, kind := range sorted(kinds) {
		var answer trackingAnswer
		if err := c.client.do(ctx, trackCall(kind, kinds[kind]), &answer); err != nil && sdk.ClassOf(err) != sdk.NotFound {
			return nil, err
		}
		for _, s := range answer.Shipments {
			if s.ShipmentTrackingNumber == "" {
				continue
			}
			found[s.ShipmentTrackingNumber] = &way{s.ShipmentTrackingNumber, s.EstimatedDeliveryDate, s.Events}
			for _, p := range s.Pieces {
				events := p.Events
				if len(events) == 0 {
					events = s.Events
				}
				found[p.TrackingNumber] = &way{s.ShipmentTrackingNumber, s.EstimatedDeliveryDate, events}
			}
		}
	}
	return found, nil
}

// trackCall asks for one shipment by itself, since that alone says what zone its times are of.
func trackCall(kind string, numbers []string) *call {
	q := url.Values{"trackingView": {"all-checkpoints"}, "levelOfDetail": {"all"}}
	if kind == "shipmentTrackingNumber" && len(numbers) == 1 {
		q.Set("requestGMTOffsetPerEvent", "true")
		return &call{method: http.MethodGet, path: []string{"shipments", numbers[0], "tracking"}, query: q}
	}
	q[kind] = numbers
	return &call{method: http.MethodGet, path: []string{"tracking"}, query: q}
}

func shipmentNumber(n string) bool {
	return len(n) == 10 && strings.Trim(n, "0123456789") == ""
}

// parcelOf says what became of a number. One that was ordered here and that tracking does not
// know yet is pending.
func (c *Carrier) parcelOf(number string, found map[string]*way, since time.Time) carrier.TrackedParcel {
	p := carrier.TrackedParcel{Tracking: number, Status: carrier.StatusPending}
	w := found[number]
	if w == nil {
		if _, ours := c.record.ofTracking(number); !ours {
			p.Status = carrier.StatusUnknown
			p.Problem = sdk.Errorf(sdk.NotFound, "DHL knows nothing of this number")
		}
		return p
	}
	if len(w.delivery) >= len(day) {
		if _, err := time.Parse(day, w.delivery[:len(day)]); err == nil {
			p.Delivery = w.delivery[:len(day)]
		}
	}
	var all []carrier.TrackEvent
	for i := range w.events {
		if e, ok := eventOf(&w.events[i]); ok {
			all = append(all, e)
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Time.Before(all[j].Time) })
	if len(all) > 0 {
		p.Status = all[len(all)-1].Status
	}
	for _, e := range all {
		if !e.Time.Before(since) {
			p.Events = append(p.Events, e)
		}
	}
	return p
}

// eventOf reads one checkpoint. Where its zone is not said, its time is taken for UTC.
func eventOf(e *trackedEvent) (carrier.TrackEvent, bool) {
	offset := e.GMTOffset
	if offset == "" {
		offset = "+00:00"
	}
	at, err := time.Parse("2006-01-02T15:04:05-07:00", e.Date+"T"+e.Time+offset)
	if err != nil {
		return carrier.TrackEvent{}, false
	}
	meaning := checkpoints[strings.ToUpper(e.TypeCode)]
	if meaning.status == "" {
		meaning.status = carrier.StatusInTransit
	}
	out := carrier.TrackEvent{Status: meaning.status, Reason: meaning.reason, Code: clip(e.TypeCode, 20), Text: clip(e.Description, 500), Time: at.UTC()}
	if len(e.ServiceArea) > 0 {
		out.Place = clip(e.ServiceArea[0].Description, 100)
	}
	return out, true
}

// proofOf fetches the proof of a delivery that is news to the caller.
func (c *Carrier) proofOf(ctx context.Context, p *carrier.TrackedParcel, w *way, since time.Time) *carrier.Document {
	if !c.proof || w == nil || p.Status != carrier.StatusDelivered || !since.IsZero() && len(p.Events) == 0 {
		return nil
	}
	q := url.Values{"shipperAccountNumber": {c.account}, "content": {"epod-summary"}}
	var answer imageAnswer
	err := c.client.do(ctx, &call{method: http.MethodGet, path: []string{"shipments", w.shipment, "proof-of-delivery"}, query: q}, &answer)
	if err != nil {
		c.log.Info("no proof of delivery is fetched", "shipment", w.shipment, "error", err)
		return nil
	}
	for _, image := range answer.Documents {
		if len(image.Content) > 0 {
			return &carrier.Document{Kind: "proof", Format: strings.ToLower(clip(image.EncodingFormat, 10)), Data: image.Content}
		}
	}
	return nil
}

type meaning struct{ status, reason string }

// checkpoints are DHL's codes of what happens on the way. One that is not here is a movement.
var checkpoints = map[string]meaning{
	"SA": {carrier.StatusPending, ""}, "SD": {carrier.StatusPending, ""},
	"PU": {carrier.StatusPickedUp, ""}, "PO": {carrier.StatusInTransit, ""}, "PL": {carrier.StatusInTransit, ""}, "DF": {carrier.StatusInTransit, ""},
	"AF": {carrier.StatusInTransit, ""}, "AR": {carrier.StatusInTransit, ""}, "CR": {carrier.StatusInTransit, ""}, "TR": {carrier.StatusInTransit, ""},
	"FD": {carrier.StatusInTransit, ""}, "RW": {carrier.StatusInTransit, ""}, "IC": {carrier.StatusInTransit, ""}, "TP": {carrier.StatusInTransit, ""},
	"WC": {carrier.StatusOutForDelivery, ""}, "CC": {carrier.StatusReadyForPickup, ""},
	"OK": {carrier.StatusDelivered, ""}, "DD": {carrier.StatusDelivered, "carrier damaged"},
	"NH": {carrier.StatusFailed, "consignee not home"}, "CA": {carrier.StatusFailed, "consignee closed"}, "RD": {carrier.StatusFailed, "consignee refused"},
	"CM": {carrier.StatusFailed, "consignee moved"}, "ND": {carrier.StatusFailed, "carrier not delivered"}, "PD": {carrier.StatusFailed, "carrier delivered in part"},
	"CD": {carrier.StatusOnHold, "customs delay"}, "BN": {carrier.StatusOnHold, "customs broker notified"}, "HP": {carrier.StatusOnHold, "consignee payment"},
	"BA": {carrier.StatusOnHold, "consignee address"}, "OH": {carrier.StatusOnHold, ""}, "SS": {carrier.StatusOnHold, "retailer stopped"},
	"AD": {carrier.StatusOnHold, "consignee agreed date"}, "IR": {carrier.StatusOnHold, "carrier incident"}, "DM": {carrier.StatusOnHold, "carrier damaged"},
	"TD": {carrier.StatusDelayed, "carrier transport"}, "MD": {carrier.StatusDelayed, "carrier missed cycle"}, "MS": {carrier.StatusDelayed, "carrier missort"},
	"MC": {carrier.StatusDelayed, "carrier miscode"}, "NA": {carrier.StatusDelayed, "carrier not arrived"}, "SM": {carrier.StatusDelayed, "carrier scheduled"},
	"UD": {carrier.StatusDelayed, "weather or the like"}, "RT": {carrier.StatusReturning, ""},
}
