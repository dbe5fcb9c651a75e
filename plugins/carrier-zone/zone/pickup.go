package zone

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// clock is the form of the hours of a pickup.
const clock = "15:04"

// Pickup books, changes or cancels a collection in the local book; the fleet's dispatcher is
// told by whoever reads the site's events.
func (c *Carrier) Pickup(ctx context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no request").At("request")
	}
	var out *carrier.PickedUp
	err := c.withBook(func(m *memory) error {
		var next *collection
		var err error
		switch r.Action {
		case "book":
			next, err = bookPickup(m, r)
		case "change", "cancel":
			next, err = changePickup(m, r)
		default:
			err = sdk.Errorf(sdk.Validation, "%q is no action; book, change and cancel are", cut(r.Action)).At("action")
		}
		if err != nil {
			return err
		}
		q := next.Request
		out = &carrier.PickedUp{Reference: q.Reference, Confirmation: next.Confirmation, Date: q.Date, Ready: q.Ready, Close: q.Close}
		if before := m.pickups[next.Confirmation]; before != nil && reflect.DeepEqual(pickupRecordOf(before), pickupRecordOf(next)) {
			return nil
		}
		return m.write(&line{Time: c.now().UTC(), Pickup: next})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// identifier derives the carrier's identifier from the caller's, so that it is the same after
// a repeat that found nothing in the book.
func identifier(prefix, reference string) string {
	sum := sha256.Sum256([]byte(prefix + reference))
	return prefix + strings.ToUpper(hex.EncodeToString(sum[:6]))
}

func bookPickup(m *memory, r *carrier.PickupRequest) (*collection, error) {
	if err := lookReference(r.Reference); err != nil {
		return nil, err
	}
	if err := lookPickup(r); err != nil {
		return nil, err
	}
	digest, err := r.Digest()
	if err != nil {
		return nil, err
	}
	next := &collection{Confirmation: identifier("P", r.Reference), Digest: digest, Request: *r}
	before := m.pickups[next.Confirmation]
	switch {
	case before == nil:
		return next, nil
	case before.Digest != next.Digest:
		return nil, sdk.Errorf(sdk.Duplicate, "pickup %q was booked with other contents", r.Reference).At("reference").Suggest("change it, or take another reference")
	case before.Cancelled:
		return nil, sdk.Errorf(sdk.Conflict, "pickup %q was booked and cancelled", r.Reference).At("reference").Suggest("take another reference")
	}
	return before, nil
}

func changePickup(m *memory, r *carrier.PickupRequest) (*collection, error) {
	field := "confirmation"
	confirmation := r.Confirmation
	if confirmation == "" {
		confirmation, field = identifier("P", r.Reference), "reference"
	}
	before := m.pickups[confirmation]
	if before == nil {
		return nil, sdk.Errorf(sdk.NotFound, "there is no such pickup").At(field)
	}
	if r.Reference != "" && r.Reference != before.Request.Reference {
		return nil, sdk.Errorf(sdk.Validation, "pickup %s is not that of reference %q", confirmation, cut(r.Reference)).At("reference")
	}
	next := *before
	if r.Action == "cancel" {
		next.Cancelled = true
		return &next, nil
	}
	if before.Cancelled {
		return nil, sdk.Errorf(sdk.Conflict, "pickup %s is cancelled", confirmation).At(field).Suggest("book another")
	}
	q := &next.Request
	q.Date, q.Ready, q.Close = cmp.Or(r.Date, q.Date), cmp.Or(r.Ready, q.Ready), cmp.Or(r.Close, q.Close)
	q.Parcels, q.Instructions = cmp.Or(r.Parcels, q.Parcels), cmp.Or(r.Instructions, q.Instructions)
	if r.Weight != nil {
		q.Weight = r.Weight
	}
	if len(r.Tracking) > 0 {
		q.Tracking = r.Tracking
	}
	if r.Place.Country != "" {
		q.Place = r.Place
	}
	return &next, lookPickup(q)
}

func lookPickup(r *carrier.PickupRequest) error {
	if err := lookAddress("place", &r.Place); err != nil {
		return err
	}
	if _, err := time.Parse(time.DateOnly, r.Date); err != nil {
		return sdk.Errorf(sdk.Validation, "%q is no day such as 2026-01-31", cut(r.Date)).At("date")
	}
	ready, err := time.Parse(clock, r.Ready)
	if err != nil {
		return sdk.Errorf(sdk.Validation, "%q is no time of day such as 15:30", cut(r.Ready)).At("ready")
	}
	end, err := time.Parse(clock, r.Close)
	if err != nil {
		return sdk.Errorf(sdk.Validation, "%q is no time of day such as 15:30", cut(r.Close)).At("close")
	}
	if !ready.Before(end) {
		return sdk.Errorf(sdk.Validation, "it closes at %s, not after it is ready at %s", r.Close, r.Ready).At("close")
	}
	if r.Parcels < 0 || len(r.Tracking) > maxClosed {
		return sdk.Errorf(sdk.Validation, "no pickup takes %d parcels", r.Parcels).At("parcels")
	}
	return nil
}
