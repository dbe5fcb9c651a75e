package carriertest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// ship: what was bought belongs to what was asked for.
func ship(t testing.TB, s *suite) {
	if !s.can(carrier.OpShip) {
		return
	}
	asked, got := s.bought(t)
	shipped(t, s, asked, got)
	if asked.Service != "" && got.Service != asked.Service {
		t.Errorf("ship: service %q, want %q", got.Service, asked.Service)
	}
}

func shipped(t testing.TB, s *suite, asked *carrier.Shipment, got *carrier.Shipped) {
	t.Helper()
	if got.Reference != asked.Reference || got.Shipment == "" {
		t.Errorf("ship: reference %q and shipment %q, want %q and one", got.Reference, got.Shipment, asked.Reference)
	}
	if !slices.ContainsFunc(s.d.Services, func(d carrier.Service) bool { return d.Code == got.Service }) {
		t.Errorf("ship: service %q is not described", got.Service)
	}
	if got.Voided {
		t.Error("ship: it is voided")
	}
	if len(got.Parcels) != len(asked.Parcels) {
		t.Fatalf("ship: %d parcels, want %d", len(got.Parcels), len(asked.Parcels))
	}
	for i, p := range got.Parcels {
		if p.Reference != asked.Parcels[i].Reference || p.Tracking == "" {
			t.Errorf("ship: parcel %d has reference %q and tracking number %q, want %q and one", i, p.Reference, p.Tracking, asked.Parcels[i].Reference)
		}
		if p.Label < -1 || p.Label >= len(got.Documents) {
			t.Errorf("ship: the label of parcel %d is document %d of %d", i, p.Label, len(got.Documents))
		}
	}
	if got.Rate != nil {
		priced(t, s, "ship", got.Rate)
	}
}

// labels: each format that is described can be had, the first when none is asked for, and it
// is what it says.
func labels(t testing.TB, s *suite) {
	if !s.can(carrier.OpShip) {
		return
	}
	_, got := s.bought(t)
	label(t, "no format asked for", got, s.d.Labels[0])
	for _, format := range s.d.Labels {
		asked := s.shipment(t, s.Takes)
		asked.Label = format
		got, err := s.c.Ship(t.Context(), asked)
		if err != nil {
			t.Fatalf("ship with label %s: %v", format, err)
		}
		label(t, format+" asked for", got, format)
	}
	asked := s.shipment(t, s.Takes)
	asked.Label = "papyrus"
	_, err := s.c.Ship(t.Context(), asked)
	sdktest.Fails(t, "ship with label papyrus", err, sdk.Validation, sdk.NotSupported)
}

func label(t testing.TB, what string, got *carrier.Shipped, format string) {
	t.Helper()
	n := 0
	for _, d := range got.Documents {
		if !strings.HasSuffix(d.Kind, "label") {
			continue
		}
		n++
		if begins := magic[d.Format]; d.Format != format || !bytes.HasPrefix(bytes.TrimSpace(d.Data), []byte(begins)) {
			t.Errorf("label, %s: it says %s and begins with %.8q, want %s", what, d.Format, d.Data, format)
		}
	}
	if n == 0 {
		t.Errorf("label, %s: there is none among %d documents", what, len(got.Documents))
	}
}

// magic is how a file of each format begins.
var magic = map[string]string{carrier.ZPL: "^XA", carrier.PDF: "%PDF-", carrier.PNG: "\x89PNG"}

// shipRefuses: what cannot be sent is not bought, and the error says why.
func shipRefuses(t testing.TB, s *suite) {
	if !s.can(carrier.OpShip) {
		return
	}
	refused := s.shipment(t, s.Refuses)
	_, err := s.c.Ship(t.Context(), refused)
	sdktest.Fails(t, "ship what is not served", err, sdk.NotServiced)
	if s.remembers() {
		_, err = s.c.GetByReference(t.Context(), refused.Reference)
		sdktest.Fails(t, "lookup of what was refused", err, sdk.NotFound)
	}
	s.refuses(t, []sdk.Class{sdk.Validation}, []wrong{
		{"no reference", "reference", func(s *carrier.Shipment) { s.Reference = "" }},
		{"a reference of 65 bytes", "reference", func(s *carrier.Shipment) { s.Reference = strings.Repeat("r", 65) }},
		{"no parcel", "parcels", func(s *carrier.Shipment) { s.Parcels = nil }},
		{"no date", "date", func(s *carrier.Shipment) { s.Date = "" }},
		{"a date that is none", "date", func(s *carrier.Shipment) { s.Date = "30.11.2026" }},
	})
	// What a carrier cannot do it must not leave undone in silence.
	ten := sdk.Money{Amount: decimal.NewFromInt(10), Currency: "eur"}
	s.refuses(t, []sdk.Class{sdk.Validation, sdk.NotSupported}, []wrong{
		{"insurance in no currency", "insurance", func(s *carrier.Shipment) { s.Insurance = &ten }},
		{"an amount to collect in no currency", "cod", func(s *carrier.Shipment) { s.COD = &ten }},
		{"a payer that nobody knows", "payer", func(s *carrier.Shipment) { s.Payer = &carrier.Payer{Party: "nobody"} }},
		{"a label of 7 dots an inch", "labelDpi", func(s *carrier.Shipment) { s.LabelDPI = 7 }},
		{"an option that nobody knows", "options", func(s *carrier.Shipment) { s.Options = map[string]string{"by-night": "true"} }},
	})
}

// wrong is a shipment that cannot be bought, and where it says so.
type wrong struct {
	what, field string
	change      func(*carrier.Shipment)
}

func (s *suite) refuses(t testing.TB, classes []sdk.Class, all []wrong) {
	t.Helper()
	for _, c := range all {
		asked := s.shipment(t, s.Takes)
		c.change(asked)
		_, err := s.c.Ship(t.Context(), asked)
		sdktest.Fails(t, "ship with "+c.what, err, classes...)
		if e := sdk.AsError(err); !strings.HasPrefix(e.Field, c.field) {
			t.Errorf("ship with %s: the error is at field %q, want %q: %v", c.what, e.Field, c.field, e)
		}
	}
}

// shipRate: what was priced can be bought at that price, and no price is made up.
func shipRate(t testing.TB, s *suite) {
	if !s.can(carrier.OpShip) {
		return
	}
	asked := s.shipment(t, s.Takes)
	asked.RateID = "none-" + reference()
	_, err := s.c.Ship(t.Context(), asked)
	sdktest.Fails(t, "ship with the identifier of no rate", err, sdk.Validation, sdk.NotFound, sdk.Expired, sdk.NotSupported)
	if !s.can(carrier.OpRate) {
		return
	}
	asked = s.shipment(t, s.Takes)
	priced, err := s.c.Rate(t.Context(), asked)
	if err != nil || len(priced.Rates) == 0 {
		t.Fatalf("rate: %v", err)
	}
	r := priced.Rates[0]
	asked.Service, asked.RateID = r.Service, r.ID
	got, err := s.c.Ship(t.Context(), asked)
	if err != nil {
		t.Fatalf("ship rate %q of service %s: %v", r.ID, r.Service, err)
	}
	if r.ID != "" && got.Rate != nil && !got.Rate.Total.Amount.Equal(r.Total.Amount) {
		t.Errorf("ship rate %q of %s: it costs %s", r.ID, r.Total, got.Rate.Total)
	}
}

// shipTwice: the same again is the same answer, with other contents it is refused.
func shipTwice(t testing.TB, s *suite) {
	if !s.can(carrier.OpShip) {
		return
	}
	asked, first := s.bought(t)
	again, err := s.c.Ship(t.Context(), asked)
	if err != nil {
		t.Fatalf("ship, the same again: %v", err)
	}
	same(t, "ship, the same again", again, first)
	if s.remembers() {
		_, err = s.c.Ship(t.Context(), other(asked))
		sdktest.Fails(t, "ship, other contents under the same reference", err, sdk.Duplicate)
	}
}

// shipAtOnce: what comes at the same time is not mixed up, and the same is bought once.
func shipAtOnce(t testing.TB, s *suite) {
	if !s.can(carrier.OpShip) {
		return
	}
	const each = 4
	asked := make([]*carrier.Shipment, each)
	for i := range asked {
		asked[i] = s.shipment(t, s.Takes)
	}
	got := make([]*carrier.Shipped, 2*each)
	errs := make([]error, 2*each)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() { got[i], errs[i] = s.c.Ship(t.Context(), asked[i/2]) })
	}
	all.Wait()
	seen := map[string]bool{}
	for i, err := range errs {
		if err != nil {
			t.Fatalf("ship, %d at once: %v", len(got), err)
		}
		if i%2 == 1 {
			same(t, "ship, the same twice at once", got[i], got[i-1])
			continue
		}
		shipped(t, s, asked[i/2], got[i])
		if seen[got[i].Shipment] {
			t.Errorf("ship, %d at once: shipment %q was sold twice", len(got), got[i].Shipment)
		}
		seen[got[i].Shipment] = true
	}
}

// shipBrokenOff: a call whose caller is gone says whether it was done, and can be made again.
func shipBrokenOff(t testing.TB, s *suite) {
	if !s.can(carrier.OpShip) {
		return
	}
	asked := s.shipment(t, s.Takes)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.direct.Ship(gone, asked)
	if err != nil {
		sdktest.Fails(t, "ship, broken off", err, sdk.Unavailable, sdk.UnknownOutcome)
		if sdk.ClassOf(err) == sdk.Unavailable && s.remembers() {
			_, err := s.c.GetByReference(t.Context(), asked.Reference)
			sdktest.Fails(t, "lookup of what was surely not done", err, sdk.NotFound)
		}
	}
	got, err := s.c.Ship(t.Context(), asked)
	if err != nil {
		t.Fatalf("ship, after it was broken off: %v", err)
	}
	shipped(t, s, asked, got)
}

// lookup: nothing is found before it was bought, and after that the very thing.
func lookup(t testing.TB, s *suite) {
	if !s.remembers() {
		return
	}
	_, err := s.c.GetByReference(t.Context(), reference())
	sdktest.Fails(t, "lookup of what was never bought", err, sdk.NotFound)
	if !s.can(carrier.OpShip) {
		return
	}
	asked, want := s.bought(t)
	got, err := s.c.GetByReference(t.Context(), asked.Reference)
	if err != nil {
		t.Fatalf("lookup: %v", err)
	}
	same(t, "lookup of what was bought", got, want)
}

// shipReturn: the way back is bought as the way there.
func shipReturn(t testing.TB, s *suite) {
	if !s.can(carrier.OpShipReturn) {
		return
	}
	asked := s.shipment(t, s.Takes)
	asked.From, asked.To = asked.To, asked.From
	if s.can(carrier.OpShip) {
		there, _ := s.bought(t)
		asked.Original = there.Reference
	}
	got, err := s.c.ShipReturn(t.Context(), asked)
	if err != nil {
		t.Fatalf("return: %v", err)
	}
	shipped(t, s, asked, got)
	again, err := s.c.ShipReturn(t.Context(), asked)
	if err != nil {
		t.Fatalf("return, the same again: %v", err)
	}
	same(t, "return, the same again", again, got)
	if s.remembers() {
		_, err = s.c.ShipReturn(t.Context(), other(asked))
		sdktest.Fails(t, "return, other contents under the same reference", err, sdk.Duplicate)
	}
}
