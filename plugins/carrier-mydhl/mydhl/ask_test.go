package mydhl

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// Prices are in the currency of the bill, add up, and are not there where the provider did not
// calculate.
func TestRates(t *testing.T) {
	p := newDHL(t, at12)
	m := opened(t, p, t.TempDir(), nil)
	s := order()
	s.Service = ""
	got, err := m.Rate(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	text := func(r *carrier.Rate) string {
		out := r.Service + " " + r.Total.String()
		for _, c := range r.Charges {
			out += fmt.Sprintf(", %s %s %s", c.Kind, c.Code, c.Amount.Amount)
		}
		return out + fmt.Sprintf(", %d days, %s, %s %s", r.Days, r.Delivery, r.Billed.Value, r.Billed.Unit)
	}
	want := []string{
		"P 157.95 EUR, base  130, surcharge FF 27.95, 3 days, 2026-05-07, 3.5 kg",
		"Y 201.17 EUR, base  150.1, surcharge FF 20.5, tax  30.57, 2 days, 2026-05-07, 3.5 kg",
	}
	if len(got.Rates) != len(want) {
		t.Fatalf("%d rates, want %d", len(got.Rates), len(want))
	}
	for i := range want {
		if g := text(&got.Rates[i]); g != want[i] {
			t.Errorf("rate %d is %s, want %s", i, g, want[i])
		}
	}
	if len(got.Warnings) != 2 || got.Warnings[0].Code != "not_priced" || got.Warnings[1].Code != "dhl" {
		t.Errorf("warnings: %+v", got.Warnings)
	}
	s.Service = "H"
	_, err = m.Rate(t.Context(), s)
	class(t, "the rate of one that was not calculated", err, sdk.NotServiced)
	s.Service = "D"
	_, err = m.Rate(t.Context(), s)
	class(t, "the rate of one that is not offered", err, sdk.NotServiced)
}

// What the parts of a price leave is said, and nothing is left.
func TestBalance(t *testing.T) {
	for _, c := range []struct{ total, part, tax, want string }{
		{"10", "", "0", "base 10"},
		{"12", "", "2", "base 10, tax 2"},
		{"12", "10", "2", "base 10, tax 2"},
		{"13", "10", "2", "base 10, tax 2, surcharge 1"},
		{"10", "10", "2", "base 10"}, // the tax is in it
		{"9", "10", "0", "base 10, discount -1"},
	} {
		r := &carrier.Rate{Total: *eur(c.total)}
		if c.part != "" {
			addCharge(r, "", "TRANSPORT", d(c.part))
		}
		balance(r, d(c.tax))
		var got []string
		for _, charge := range r.Charges {
			got = append(got, charge.Kind+" "+charge.Amount.Amount.String())
		}
		if g := strings.Join(got, ", "); g != c.want {
			t.Errorf("of %s with %s and tax %s: %s, want %s", c.total, c.part, c.tax, g, c.want)
		}
	}
}

// An address is as good as the provider says, and no worse when it cannot be asked.
func TestAddresses(t *testing.T) {
	p := newDHL(t, at12)
	m := opened(t, p, t.TempDir(), nil)
	for _, c := range []struct {
		city, postal, country string
		valid                 bool
		confidence, suggested string
	}{
		{"Portland", "97219", "US", true, "exact", ""},
		{"Minga", "80331", "DE", true, "corrected", "MUENCHEN"},
		{"Nowhere", "00000", "US", false, "exact", ""},
		{"McMurdo", "", "AQ", false, "exact", ""},
	} {
		got, err := m.ValidateAddress(t.Context(), &sdk.Address{City: c.city, PostalCode: c.postal, Country: c.country})
		if err != nil {
			t.Fatal(err)
		}
		suggested := ""
		if got.Suggested != nil {
			suggested = got.Suggested.City
		}
		if got.Valid != c.valid || got.Confidence != c.confidence || suggested != c.suggested || len(got.Warnings) == 0 {
			t.Errorf("%s: %+v", c.city, got)
		}
	}
	p.fail(fault{at: "GET /address-validate", before: answers(503, nil, "")})
	_, err := m.ValidateAddress(t.Context(), &sdk.Address{City: "Portland", PostalCode: "97219", Country: "US"})
	class(t, "an address, with the provider down", err, sdk.Unavailable)
	p.set(func() { p.password = "another" })
	_, err = m.ValidateAddress(t.Context(), &sdk.Address{City: "Portland", PostalCode: "97219", Country: "US"})
	class(t, "an address, after the password has changed", err, sdk.Auth)
}

func collection() *carrier.PickupRequest {
	return &carrier.PickupRequest{Action: "book", Reference: "PU-1", Place: order().From, Date: "2026-05-05", Ready: "10:00", Close: "16:00", Parcels: 2}
}

// A collection is booked once, changed and cancelled, and each of it twice is once.
func TestPickups(t *testing.T) {
	p := newDHL(t, at12)
	dir := t.TempDir()
	m := opened(t, p, dir, nil)
	shipped, err := m.Ship(t.Context(), order())
	if err != nil {
		t.Fatal(err)
	}
	r := collection()
	r.Tracking = []string{shipped.Parcels[0].Tracking, shipped.Parcels[1].Tracking}
	r.Instructions = strings.Repeat("ring twice ", 10)
	first, err := m.Pickup(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	sent := p.sent("POST /pickups")
	for want, path := range map[string][]any{
		`"2026-05-05T10:00:00 GMT+02:00"`: {"plannedPickupDateAndTime"}, `"16:00"`: {"closeTime"}, `"P"`: {"shipmentDetails", 0, "productCode"},
		`[{"weight":1.768},{"weight":1.768}]`: {"shipmentDetails", 0, "packages"}, `"` + shipped.Shipment + `"`: {"shipmentDetails", 0, "shipmentTrackingNumber"},
		`"` + strings.TrimSpace(r.Instructions[80:]) + `"`: {"specialInstructions", 1, "value"},
	} {
		if got := said(t, sent, path...); got != want {
			t.Errorf("%v: it says %s, want %s", path, got, want)
		}
	}
	again, err := m.Pickup(t.Context(), r)
	if err != nil || sdktest.Diff(again, first) != "" {
		t.Errorf("booked twice: %+v, %v, want %+v", again, err, first)
	}
	other := *r
	other.Close = "17:00"
	_, err = m.Pickup(t.Context(), &other)
	class(t, "booked with other contents", err, sdk.Duplicate)
	other.Action, other.Confirmation = "change", first.Confirmation
	for range 2 {
		if got, err := m.Pickup(t.Context(), &other); err != nil || got.Confirmation != first.Confirmation || got.Ready != "11:00" {
			t.Errorf("changed: %+v, %v", got, err)
		}
	}
	other.Action = "cancel"
	for range 2 {
		if got, err := m.Pickup(t.Context(), &other); err != nil || got.Confirmation != first.Confirmation {
			t.Errorf("cancelled: %+v, %v", got, err)
		}
	}
	if p.count("DELETE") != 1 || p.count("POST /pickups") != 1 {
		t.Errorf("%d cancellations and %d bookings were sent", p.count("DELETE"), p.count("POST /pickups"))
	}
	other.Action = "change"
	_, err = m.Pickup(t.Context(), &other)
	class(t, "changed after it was cancelled", err, sdk.Conflict)
	other.Confirmation = "PRG000000000000"
	_, err = m.Pickup(t.Context(), &other)
	class(t, "changed, one that was never booked", err, sdk.NotFound)
}

// A booking whose answer was lost is not sent again; a cancellation is, and what the provider
// no longer has then is what was wanted.
func TestPickupsWithLostAnswers(t *testing.T) {
	p := newDHL(t, at12)
	dir := t.TempDir()
	m := opened(t, p, dir, nil)
	p.fail(fault{at: "POST /pickups", after: cut})
	for range 2 {
		_, err := m.Pickup(t.Context(), collection())
		class(t, "book", err, sdk.UnknownOutcome)
	}
	if n := p.count("POST /pickups"); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
	p.fail(fault{at: "POST /pickups", before: answers(503, nil, "")})
	r := collection()
	r.Reference = "PU-2"
	_, err := m.Pickup(t.Context(), r)
	class(t, "book", err, sdk.Unavailable)
	got, err := m.Pickup(t.Context(), r)
	if err != nil || len(got.Warnings) != 1 || got.Warnings[0].Code != "weight_assumed" {
		t.Fatalf("booked after a 503: %+v, %v", got, err)
	}
	r.Action, r.Confirmation = "cancel", got.Confirmation
	p.fail(fault{at: "DELETE", after: cut})
	_, err = m.Pickup(t.Context(), r)
	class(t, "cancel", err, sdk.UnknownOutcome)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = opened(t, p, dir, nil)
	if _, err := m.Pickup(t.Context(), r); err != nil {
		t.Errorf("cancel, after the answer was lost: %v", err)
	}
	// One that somebody else cancelled was not cancelled here.
	p.set(func() { p.pickups["PRG260504999999"] = "cancelled" })
	r.Confirmation = "PRG260504999999"
	_, err = m.Pickup(t.Context(), r)
	class(t, "cancel what others cancelled", err, sdk.Conflict)
	_, err = m.Pickup(t.Context(), r)
	class(t, "the same again", err, sdk.Conflict)
}

func TestPickupsThatAreNotSent(t *testing.T) {
	p := newDHL(t, at12)
	m := opened(t, p, t.TempDir(), nil)
	for _, c := range []struct {
		field  string
		change func(*carrier.PickupRequest)
	}{
		{"reference", func(r *carrier.PickupRequest) { r.Reference = "" }},
		{"date", func(r *carrier.PickupRequest) { r.Date = "tomorrow" }},
		{"date", func(r *carrier.PickupRequest) { r.Date = "2026-05-03" }},
		{"ready", func(r *carrier.PickupRequest) { r.Ready = "9:00" }},
		{"close", func(r *carrier.PickupRequest) { r.Close = "10:00" }},
		{"place.phone", func(r *carrier.PickupRequest) { r.Place.Phone = "" }},
		{"parcels", func(r *carrier.PickupRequest) { r.Parcels = 1000 }},
		{"weight", func(r *carrier.PickupRequest) { r.Weight = &sdk.Measure{Value: d("0"), Unit: "kg"} }},
		{"instructions", func(r *carrier.PickupRequest) { r.Instructions = strings.Repeat("x", 321) }},
		{"confirmation", func(r *carrier.PickupRequest) { r.Action, r.Confirmation = "change", "short" }},
		{"confirmation", func(r *carrier.PickupRequest) { r.Action = "cancel" }},
	} {
		r := collection()
		c.change(r)
		_, err := m.Pickup(t.Context(), r)
		if e := class(t, c.field, err, sdk.Validation); e.Field != c.field {
			t.Errorf("%v: it is at %q, want at %q", err, e.Field, c.field)
		}
	}
	if p.count("") != 0 {
		t.Errorf("it was sent")
	}
}

func event(date, clock, code string) map[string]any {
	return map[string]any{"date": date, "time": clock, "GMTOffset": "+09:00", "typeCode": code, "description": "about " + code}
}

// Numbers of shipments and of pieces are tracked in pages, each page by one call of a kind.
func TestTracking(t *testing.T) {
	p := newDHL(t, at12)
	m := opened(t, p, t.TempDir(), sdk.Settings{setProof: yes})
	shipped, err := m.Ship(t.Context(), order())
	if err != nil {
		t.Fatal(err)
	}
	p.set(func() {
		p.sold[0].events = []map[string]any{event("2026-05-06", "13:06:00", "OK"), event("2026-05-05", "08:00:00", "PU"), event("2026-05-05", "20:00:00", "zz"),
			event("2026-05-06", "09:00:00", "WC"), event("not", "a time", "AR")}
	})
	numbers := []string{shipped.Shipment, shipped.Parcels[1].Tracking}
	for i := range 399 {
		numbers = append(numbers, fmt.Sprintf("JD%018d", i))
	}
	var all []carrier.TrackedParcel
	r := &carrier.TrackRequest{Tracking: numbers}
	for pages := 1; ; pages++ {
		got, err := m.Track(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got.Parcels...)
		if r.Page = got.Next; r.Page == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
	}
	if len(all) != len(numbers) {
		t.Fatalf("%d parcels, want %d", len(all), len(numbers))
	}
	for i, want := range []string{"2026-05-04T23:00:00Z picked_up", "2026-05-05T11:00:00Z in_transit", "2026-05-06T00:00:00Z out_for_delivery", "2026-05-06T04:06:00Z delivered"} {
		e := all[0].Events[i]
		if got := e.Time.Format(time.RFC3339) + " " + e.Status; got != want || e.Place != "Brisbane-AU" {
			t.Errorf("event %d of the shipment is %s at %s, want %s", i, got, e.Place, want)
		}
	}
	if piece := all[1]; piece.Status != carrier.StatusDelivered || piece.Delivery != "2026-05-07" || piece.Proof == nil || !strings.HasPrefix(string(piece.Proof.Data), "%PDF") {
		t.Errorf("the piece: %+v", piece)
	}
	if other := all[300]; other.Problem == nil || other.Problem.Class != sdk.NotFound {
		t.Errorf("a number that nobody knows: %+v", other)
	}
	r = &carrier.TrackRequest{Tracking: numbers[:1], Since: time.Date(2026, 5, 6, 1, 0, 0, 0, time.UTC)}
	got, err := m.Track(t.Context(), r)
	if err != nil || len(got.Parcels[0].Events) != 1 || got.Parcels[0].Status != carrier.StatusDelivered {
		t.Errorf("since: %+v, %v", got, err)
	}
	proofs := p.count("GET /shipments/" + shipped.Shipment + "/proof")
	r.Since = noon.AddDate(0, 0, 9)
	if got, err := m.Track(t.Context(), r); err != nil || len(got.Parcels[0].Events) != 0 || got.Parcels[0].Proof != nil {
		t.Errorf("since then: %+v, %v", got, err)
	}
	if n := p.count("GET /shipments/" + shipped.Shipment + "/proof"); n != proofs {
		t.Errorf("the proof of an old delivery was fetched %d times more", n-proofs)
	}
	r.Page = "7"
	_, err = m.Track(t.Context(), r)
	class(t, "a page that is not there", err, sdk.Validation)
	p.fail(fault{at: "GET /shipments/", before: answers(http.StatusBadGateway, nil, "")})
	_, err = m.Track(t.Context(), &carrier.TrackRequest{Tracking: numbers[:1]})
	class(t, "tracking, with the provider down", err, sdk.Unavailable)
}
