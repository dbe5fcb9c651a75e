package described

import (
	"context"
	"slices"
	"strconv"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

const (
	maxTracked = 100 // numbers in one call
	maxSingles = 20  // calls in one page, where each number is asked for by itself
)

// Track asks for a page of numbers.
func (c *Carrier) Track(ctx context.Context, r *carrier.TrackRequest) (*carrier.Tracked, error) {
	o, err := c.operation(carrier.OpTrack)
	if err != nil {
		return nil, err
	}
	if r == nil || len(r.Tracking) == 0 {
		return nil, sdk.Errorf(sdk.Validation, "there is no number").At("tracking")
	}
	from, most := 0, maxTracked
	if r.Page != "" {
		if from, err = strconv.Atoi(r.Page); err != nil || from <= 0 || from >= len(r.Tracking) {
			return nil, sdk.Errorf(sdk.Validation, "%.20q is no page of these numbers", r.Page).At("page")
		}
	}
	if o.each {
		most = maxSingles
	}
	page := *r
	page.Page, page.Tracking = "", r.Tracking[from:min(len(r.Tracking), from+most)]
	found := map[string]carrier.TrackedParcel{}
	if o.each {
		for i, number := range page.Tracking {
			one := page
			one.Tracking = page.Tracking[i : i+1]
			if err := c.track(ctx, o, &one, map[string]any{"number": number}, found); err != nil {
				return nil, err
			}
		}
	} else if err := c.track(ctx, o, &page, nil, found); err != nil {
		return nil, err
	}
	out := &carrier.Tracked{}
	for _, number := range page.Tracking {
		p, ok := found[number]
		if !ok {
			p = carrier.TrackedParcel{Tracking: number, Status: carrier.StatusUnknown, Problem: sdk.Errorf(sdk.NotFound, "the provider knows nothing of this number")}
		}
		out.Parcels = append(out.Parcels, p)
	}
	if next := from + len(page.Tracking); next < len(r.Tracking) {
		out.Next = strconv.Itoa(next)
	}
	return out, nil
}

// track makes one call and puts what it finds into found.
func (c *Carrier) track(ctx context.Context, o *operation, r *carrier.TrackRequest, more map[string]any, found map[string]carrier.TrackedParcel) error {
	x, err := c.exchange(o, r, more)
	if err != nil {
		return err
	}
	m, err := x.run(ctx)
	if sdk.ClassOf(err) == sdk.NotFound && err != nil || err == nil && m == nil {
		return nil
	}
	if err != nil {
		return err
	}
	tracked, err := x.tracked(m)
	if err != nil {
		return err
	}
	for _, p := range tracked.Parcels {
		p.Events = slices.DeleteFunc(p.Events, func(e carrier.TrackEvent) bool { return e.Time.Before(r.Since) })
		found[p.Tracking] = p
	}
	return nil
}

// tracked reads what is known of numbers. The oldest event comes first, and the last one's
// status is the parcel's.
func (x *exchange) tracked(m map[string]any) (*carrier.Tracked, error) {
	for _, p := range objects(m["parcels"]) {
		setDefault(p, "status", carrier.StatusUnknown)
		if number, ok := x.input["number"]; ok {
			p["tracking"] = number
		}
		for _, e := range objects(p["events"]) {
			setDefault(e, "status", carrier.StatusInTransit)
		}
	}
	out, err := readInto[carrier.Tracked](x, m)
	if err != nil {
		return nil, err
	}
	for i := range out.Parcels {
		p := &out.Parcels[i]
		slices.SortStableFunc(p.Events, func(a, b carrier.TrackEvent) int { return a.Time.Compare(b.Time) })
		if n := len(p.Events); n > 0 {
			p.Status = p.Events[n-1].Status
		}
	}
	return out, nil
}
