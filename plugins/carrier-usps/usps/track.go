package usps

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

const (
	maxTracked = 100 // numbers in one request; the provider is asked for each
	atOnce     = 4
)

// Track asks for each number.
func (c *Carrier) Track(ctx context.Context, r *carrier.TrackRequest) (*carrier.Tracked, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if r == nil || len(r.Tracking) == 0 || len(r.Tracking) > maxTracked {
		return nil, sdk.Errorf(sdk.Validation, "name 1 to %d parcels", maxTracked).At("tracking")
	}
	if r.Page != "" {
		return nil, sdk.Errorf(sdk.Validation, "there is no other page").At("page")
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out := &carrier.Tracked{Parcels: make([]carrier.TrackedParcel, len(r.Tracking))}
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	var once sync.Once
	var first error
	for i, number := range r.Tracking {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := c.trackOne(ctx, &out.Parcels[i], number, r.Since); err != nil {
				once.Do(func() { first = err })
				stop() // the others have nothing better to expect
			}
		})
	}
	all.Wait()
	if first != nil {
		return nil, first
	}
	return out, nil
}

// trackOne fills in one parcel. A number that the provider does not know is a problem of that
// parcel alone.
func (c *Carrier) trackOne(ctx context.Context, out *carrier.TrackedParcel, number string, since time.Time) error {
	out.Tracking, out.Status = number, carrier.StatusUnknown
	if !plainTracking.MatchString(number) {
		out.Problem = sdk.Errorf(sdk.NotFound, "%.40q is no number of this carrier", number).At("tracking")
		return nil
	}
	var got trackAnswer
	_, err := c.client.do(ctx, &call{name: "tracking", method: http.MethodGet, path: "/tracking/v3/tracking/" + url.PathEscape(number),
		query: url.Values{"expand": {"DETAIL"}}, out: &got, field: "tracking"})
	if err != nil {
		e := sdk.AsError(err)
		if e.Class != sdk.NotFound && e.Class != sdk.Validation {
			return e
		}
		e.Class, e.Field = sdk.NotFound, "tracking"
		out.Problem = e
		return nil
	}
	events := make([]carrier.TrackEvent, 0, len(got.TrackingEvents))
	for _, e := range got.TrackingEvents {
		if at, ok := e.time(); ok {
			status, reason := statusOf(e.EventCode, e.EventType)
			events = append(events, carrier.TrackEvent{Status: status, Reason: reason, Code: e.EventCode, Text: e.EventType, Time: at, Place: e.place()})
		}
	}
	slices.Reverse(events) // they come with the newest first, and are many at the same minute
	slices.SortStableFunc(events, func(a, b carrier.TrackEvent) int { return a.Time.Compare(b.Time) })
	if n := len(events); n > 0 {
		out.Status = events[n-1].Status
	} else {
		out.Status, _ = statusOf("", got.StatusCategory)
	}
	out.Events = slices.DeleteFunc(events, func(e carrier.TrackEvent) bool { return !since.IsZero() && !e.Time.After(since) })
	for _, day := range []string{got.ExpectedDeliveryTimeStamp, got.PredictedDeliveryDate} {
		if len(day) >= len(time.DateOnly) && out.Delivery == "" {
			if _, err := time.Parse(time.DateOnly, day[:len(time.DateOnly)]); err == nil {
				out.Delivery = day[:len(time.DateOnly)]
			}
		}
	}
	return nil
}

// time gives when it happened; false: the provider does not say so that it can be read. Without
// an offset its clock is taken for that of Greenwich.
func (e *trackEvent) time() (time.Time, bool) {
	for _, text := range []string{e.GMTTimestamp, e.EventTimestamp} {
		for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05"} {
			if at, err := time.Parse(form, text); err == nil {
				return at.UTC(), true
			}
		}
	}
	return time.Time{}, false
}

func (e *trackEvent) place() string {
	parts := []string{e.EventCity, strings.TrimSpace(e.EventState + " " + e.EventZIP), e.EventCountry}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), ", ")
}

// outcome is what an event of the provider means.
type outcome struct{ status, reason string }

// events are the provider's codes of scans, as its Publication 199 lists them.
var events = map[string]outcome{
	"MA": {carrier.StatusPending, ""}, "GX": {carrier.StatusPending, ""}, "GA": {carrier.StatusPending, ""},
	"03": {carrier.StatusPickedUp, ""}, "OA": {carrier.StatusPickedUp, ""}, "PA": {carrier.StatusPickedUp, ""}, "TM": {carrier.StatusPickedUp, ""}, "80": {carrier.StatusPickedUp, ""},
	"06": {carrier.StatusInTransit, ""}, "07": {carrier.StatusInTransit, ""}, "08": {carrier.StatusInTransit, "carrier_missent"}, "10": {carrier.StatusInTransit, ""},
	"15": {carrier.StatusInTransit, "carrier_missent"}, "41": {carrier.StatusInTransit, ""}, "42": {carrier.StatusInTransit, ""}, "81": {carrier.StatusInTransit, ""},
	"82": {carrier.StatusInTransit, ""}, "A1": {carrier.StatusInTransit, ""}, "T1": {carrier.StatusInTransit, ""}, "L1": {carrier.StatusInTransit, ""},
	"NT": {carrier.StatusInTransit, ""}, "EF": {carrier.StatusInTransit, ""}, "SF": {carrier.StatusInTransit, ""}, "PC": {carrier.StatusInTransit, ""},
	"OF": {carrier.StatusOutForDelivery, ""},
	"14": {carrier.StatusReadyForPickup, ""}, "16": {carrier.StatusReadyForPickup, ""},
	"01": {carrier.StatusDelivered, ""}, "17": {carrier.StatusDelivered, ""}, "43": {carrier.StatusDelivered, ""},
	"02": {carrier.StatusFailed, "consignee_not_in"}, "51": {carrier.StatusFailed, "consignee_closed"}, "52": {carrier.StatusFailed, "consignee_not_in"},
	"53": {carrier.StatusFailed, "consignee_no_access"}, "54": {carrier.StatusFailed, "consignee_no_room"}, "55": {carrier.StatusFailed, "consignee_no_safe_place"},
	"56": {carrier.StatusFailed, "consignee_not_in"},
	"04": {carrier.StatusReturning, "consignee_refused"}, "05": {carrier.StatusReturning, "retailer_address"}, "09": {carrier.StatusReturning, ""},
	"21": {carrier.StatusReturning, "retailer_address"}, "22": {carrier.StatusReturning, "retailer_address"}, "23": {carrier.StatusReturning, "consignee_moved"},
	"24": {carrier.StatusReturning, "consignee_moved"}, "25": {carrier.StatusReturning, "consignee_unknown"}, "26": {carrier.StatusReturning, "consignee_vacant"},
	"27": {carrier.StatusReturning, "consignee_unclaimed"}, "28": {carrier.StatusReturning, "consignee_deceased"}, "29": {carrier.StatusReturning, ""},
	"31": {carrier.StatusReturning, "consignee_unclaimed"},
	"11": {carrier.StatusOnHold, "carrier_dead_letter"}, "44": {carrier.StatusReturning, "retailer_recalled"}, "DX": {carrier.StatusDelayed, "carrier_not_updated"},
}

// words are how its texts begin or what they hold, for codes that are not in the list. The first
// that fits counts.
var words = []struct {
	text string
	outcome
}{
	{"return to sender", outcome{carrier.StatusReturning, ""}}, {"out for delivery", outcome{carrier.StatusOutForDelivery, ""}},
	{"delivery attempt", outcome{carrier.StatusFailed, ""}}, {"notice left", outcome{carrier.StatusFailed, ""}}, {"undeliverable", outcome{carrier.StatusReturning, ""}},
	{"available for pickup", outcome{carrier.StatusReadyForPickup, ""}}, {"delivered", outcome{carrier.StatusDelivered, ""}}, {"customs", outcome{carrier.StatusInTransit, ""}},
	{"held", outcome{carrier.StatusOnHold, ""}}, {"label created", outcome{carrier.StatusPending, ""}}, {"pre-shipment", outcome{carrier.StatusPending, ""}},
	{"delay", outcome{carrier.StatusDelayed, ""}}, {"accept", outcome{carrier.StatusPickedUp, ""}}, {"picked up", outcome{carrier.StatusPickedUp, ""}},
	{"transit", outcome{carrier.StatusInTransit, ""}}, {"arriv", outcome{carrier.StatusInTransit, ""}}, {"depart", outcome{carrier.StatusInTransit, ""}}, {"process", outcome{carrier.StatusInTransit, ""}},
}

// statusOf gives what an event means; unknown where the provider says nothing that is known.
func statusOf(code, text string) (status, reason string) {
	if known, ok := events[strings.ToUpper(code)]; ok {
		return known.status, known.reason
	}
	text = strings.ToLower(text)
	for _, w := range words {
		if strings.Contains(text, w.text) {
			return w.status, w.reason
		}
	}
	return carrier.StatusUnknown, ""
}
