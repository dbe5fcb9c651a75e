package zone

import (
	"context"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// maxTracked is how many parcels one call asks for.
const maxTracked = 1000

// Track tells what the book knows of parcels: that they were booked, voided and handed over.
// Scans on the way come from elsewhere.
func (c *Carrier) Track(ctx context.Context, r *carrier.TrackRequest) (*carrier.Tracked, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if r == nil || len(r.Tracking) == 0 || len(r.Tracking) > maxTracked {
		return nil, sdk.Errorf(sdk.Validation, "name 1 to %d parcels", maxTracked).At("tracking")
	}
	out := &carrier.Tracked{}
	err := c.withBook(func(m *memory) error {
		for _, number := range r.Tracking {
			p, err := trackOne(m, number, r.Since)
			if err != nil {
				return err
			}
			out.Parcels = append(out.Parcels, *p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func trackOne(m *memory, number string, since time.Time) (*carrier.TrackedParcel, error) {
	out := &carrier.TrackedParcel{Tracking: number, Status: carrier.StatusUnknown}
	e := m.shipments[m.numbers[number]]
	if e == nil {
		out.Problem = sdk.Errorf(sdk.NotFound, "no parcel has number %q", cut(number)).At("tracking")
		return out, nil
	}
	p, err := m.read(e)
	if err != nil {
		return nil, err
	}
	out.Delivery = p.Rate.Delivery
	place := p.Shipment.From.City
	events := []carrier.TrackEvent{{Status: carrier.StatusPending, Code: "booked", Text: "Booked", Time: e.booked, Place: place}}
	if !e.voided.IsZero() {
		events = append(events, carrier.TrackEvent{Status: carrier.StatusCancelled, Code: "voided", Text: "Voided", Time: e.voided, Place: place})
		out.Delivery = ""
	}
	if e.manifest != nil {
		events = append(events, carrier.TrackEvent{Status: carrier.StatusPickedUp, Code: "manifested", Text: "Handed over with manifest " + e.manifest.Number, Time: e.closed, Place: place})
	}
	for _, event := range events {
		out.Status = event.Status
		if since.IsZero() || event.Time.After(since) {
			out.Events = append(out.Events, event)
		}
	}
	return out, nil
}
