package zone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/checkdigit"
)

var ctx = context.Background()

// noon is a Thursday.
var noon = time.Date(2026, 3, 12, 12, 0, 0, 0, time.UTC)

// ticking is a clock that goes on by a minute whenever it is looked at.
func ticking(from time.Time) func() time.Time {
	var looks atomic.Int64
	return func() time.Time { return from.Add(time.Duration(looks.Add(1)) * time.Minute) }
}

var silent = slog.New(slog.DiscardHandler)

func start(t *testing.T, state string, more ...string) *Carrier {
	t.Helper()
	c := New(silent)
	c.now = ticking(noon)
	s := sdk.Settings{setTables: "testdata/tables", setState: state, setName: "Crosstown", setSSCC: "none"}
	for i := 0; i < len(more); i += 2 {
		s[more[i]] = more[i+1]
	}
	if err := c.Configure(ctx, s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func kilos(text string) sdk.Measure {
	return sdk.Measure{Value: decimal.RequireFromString(text), Unit: sdk.Kilogram}
}

func boxOf(l, w, h int64, unit string) *carrier.Dimensions {
	return &carrier.Dimensions{Length: decimal.NewFromInt(l), Width: decimal.NewFromInt(w), Height: decimal.NewFromInt(h), Unit: unit}
}

// munich is a parcel from a warehouse to a customer in the same city.
func munich(reference string) *carrier.Shipment {
	return &carrier.Shipment{Reference: reference, Service: "parcel", Date: "2026-03-12",
		From:    sdk.Address{Company: "Warehouse South", Lines: []string{"Lagerstraße 1"}, City: "München", PostalCode: "81241", Country: "DE"},
		To:      sdk.Address{Name: "Jörg Groß", Lines: []string{"Marienplatz 8", "Hinterhaus"}, City: "München", PostalCode: "80331", Country: "DE"},
		Parcels: []carrier.Parcel{{Weight: kilos("1.2"), Dimensions: boxOf(30, 20, 10, sdk.Centimetre)}},
		Numbers: map[string][]string{rangeTracking: {"Z-" + reference}},
		Order:   "SO-1001"}
}

func usd(amount string) *sdk.Money {
	return &sdk.Money{Amount: decimal.RequireFromString(amount), Currency: "USD"}
}

func wantClass(t *testing.T, err error, class sdk.Class, field string) {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) || e.Class != class || e.Field != field {
		t.Errorf("got error %v (%T), want class %s at %q", err, err, class, field)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestDescribeFollowsTheSettings(t *testing.T) {
	d := must[*carrier.Description](t)(New(silent).Describe(ctx))
	if d.Name != "zone" || len(d.Operations) != 9 || len(d.Services) != 0 || len(d.Config) != len(settings) {
		t.Errorf("before Configure: %+v", d)
	}
	for _, c := range []struct {
		tracking, sscc string
		want           []carrier.Range
	}{
		{"", "", []carrier.Range{{Name: "tracking", Per: "parcel"}}},
		{"s10", "range", []carrier.Range{{Name: "tracking", Per: "parcel"}, {Name: "sscc", Per: "parcel"}}},
		{"sscc", "", []carrier.Range{{Name: "sscc", Per: "parcel"}}},
	} {
		d := must[*carrier.Description](t)(start(t, t.TempDir(), setTracking, c.tracking, setSSCC, c.sscc).Describe(ctx))
		if !reflect.DeepEqual(d.Ranges, c.want) {
			t.Errorf("tracking %q, sscc %q: ranges %v, want %v", c.tracking, c.sscc, d.Ranges, c.want)
		}
		if len(d.Services) != 5 || !strings.HasPrefix(d.Data, "tables-") {
			t.Errorf("services %v of %s", d.Services, d.Data)
		}
	}
}

func TestConfigureNamesTheSetting(t *testing.T) {
	for name, s := range map[string]sdk.Settings{
		setTables: {setState: t.TempDir()}, setState: {setTables: "testdata/tables"}, "colour": {"colour": "red"},
		setTracking: {setTables: "testdata/tables", setState: t.TempDir(), setTracking: "roman"},
		setSSCC:     {setTables: "testdata/tables", setState: t.TempDir(), setSSCC: "some"},
		setPaper:    {setTables: "testdata/tables", setState: t.TempDir(), setPaper: "a7"},
		setFont:     {setTables: "testdata/tables", setState: t.TempDir(), setFont: "E:A.TTF^XZ"},
		setKeep:     {setTables: "testdata/tables", setState: t.TempDir(), setKeep: "30"},
		setName:     {setTables: "testdata/tables", setState: t.TempDir(), setName: strings.Repeat("x", 300)},
	} {
		wantClass(t, New(silent).Configure(ctx, s), sdk.Validation, name)
	}
	wantClass(t, New(silent).Configure(ctx, sdk.Settings{setTables: "nowhere", setState: t.TempDir()}), sdk.Validation, setTables)
	c := start(t, t.TempDir())
	wantClass(t, c.Configure(ctx, nil), sdk.Conflict, "")
}

func TestOneProcessHoldsTheBook(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	s := sdk.Settings{setTables: "testdata/tables", setState: dir}
	wantClass(t, New(silent).Configure(ctx, s), sdk.Unavailable, setState)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := New(silent)
	if err := second.Configure(ctx, s); err != nil {
		t.Errorf("the book is free and was refused: %v", err)
	}
	second.Close()
}

func TestNothingWorksUnconfiguredOrCancelled(t *testing.T) {
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for _, c := range []struct {
		carrier *Carrier
		ctx     context.Context
		class   sdk.Class
	}{{New(silent), ctx, sdk.Validation}, {start(t, t.TempDir()), cancelled, sdk.Unavailable}} {
		for name, call := range map[string]func() error{
			"address":  func() error { _, err := c.carrier.ValidateAddress(c.ctx, &sdk.Address{}); return err },
			"rate":     func() error { _, err := c.carrier.Rate(c.ctx, munich("A")); return err },
			"ship":     func() error { _, err := c.carrier.Ship(c.ctx, munich("A")); return err },
			"return":   func() error { _, err := c.carrier.ShipReturn(c.ctx, munich("A")); return err },
			"get":      func() error { _, err := c.carrier.GetByReference(c.ctx, "A"); return err },
			"void":     func() error { _, err := c.carrier.Void(c.ctx, &carrier.VoidRequest{Reference: "A"}); return err },
			"pickup":   func() error { _, err := c.carrier.Pickup(c.ctx, &carrier.PickupRequest{Action: "book"}); return err },
			"manifest": func() error { _, err := c.carrier.Manifest(c.ctx, &carrier.ManifestRequest{}); return err },
			"track":    func() error { _, err := c.carrier.Track(c.ctx, &carrier.TrackRequest{}); return err },
		} {
			if err := call(); sdk.ClassOf(err) != c.class {
				t.Errorf("%s: %v, want class %s", name, err, c.class)
			}
		}
	}
}

func TestNoRequestAtAllIsAnErrorOfTheCaller(t *testing.T) {
	c := start(t, t.TempDir())
	for name, call := range map[string]func() error{
		"address":  func() error { _, err := c.ValidateAddress(ctx, nil); return err },
		"rate":     func() error { _, err := c.Rate(ctx, nil); return err },
		"ship":     func() error { _, err := c.Ship(ctx, nil); return err },
		"void":     func() error { _, err := c.Void(ctx, nil); return err },
		"pickup":   func() error { _, err := c.Pickup(ctx, nil); return err },
		"manifest": func() error { _, err := c.Manifest(ctx, nil); return err },
		"track":    func() error { _, err := c.Track(ctx, nil); return err },
	} {
		if err := call(); sdk.ClassOf(err) != sdk.Validation {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestShipIsOnceForEachReference(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	_, err := c.GetByReference(ctx, "A-1")
	wantClass(t, err, sdk.NotFound, "reference")
	first := must[*carrier.Shipped](t)(c.Ship(ctx, munich("A-1")))
	if first.Shipment != "Z-A-1" || first.Rate == nil || first.Rate.Total.String() != "4.67 EUR" || first.Documents[0].Kind != "label" {
		t.Errorf("shipped %+v, rate %+v", first, first.Rate)
	}
	again := must[*carrier.Shipped](t)(c.Ship(ctx, munich("A-1")))
	if !reflect.DeepEqual(first, again) {
		t.Errorf("again it was\n%+v\nnot\n%+v", again, first)
	}
	found := must[*carrier.Shipped](t)(c.GetByReference(ctx, "A-1"))
	if !reflect.DeepEqual(first, found) {
		t.Errorf("found\n%+v\nnot\n%+v", found, first)
	}
	other := munich("A-1")
	other.To.Name = "Somebody Else"
	_, err = c.Ship(ctx, other)
	wantClass(t, err, sdk.Duplicate, "reference")
	_, err = c.ShipReturn(ctx, munich("A-1"))
	wantClass(t, err, sdk.Duplicate, "reference")

	moved := munich("A-1")
	moved.Numbers, moved.Label = map[string][]string{rangeTracking: {"LOST-1"}}, carrier.PDF
	pdf := must[*carrier.Shipped](t)(c.Ship(ctx, moved))
	if pdf.Shipment != first.Shipment || pdf.Documents[0].Format != carrier.PDF {
		t.Errorf("printed again as PDF: %+v", pdf)
	}

	c.Close()
	after := must[*carrier.Shipped](t)(start(t, dir).Ship(ctx, munich("A-1")))
	if !reflect.DeepEqual(first, after) {
		t.Errorf("after a restart it was\n%+v\nnot\n%+v", after, first)
	}
}

func TestShipAtTheSameTimeBuysOnce(t *testing.T) {
	c := start(t, t.TempDir())
	answers := make([]*carrier.Shipped, 16)
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() {
			s := munich("A")
			s.Numbers[rangeTracking][0] = fmt.Sprintf("Z-%04d", i)
			answers[i], _ = c.Ship(ctx, s)
		})
	}
	group.Wait()
	for _, got := range answers {
		if got == nil || got.Shipment != answers[0].Shipment {
			t.Fatalf("one reference was bought as %+v and as %+v", answers[0], got)
		}
	}
}

func TestShipRefuses(t *testing.T) {
	c := start(t, t.TempDir())
	must[*carrier.Shipped](t)(c.Ship(ctx, munich("TAKEN")))
	for name, x := range map[string]struct {
		change func(*carrier.Shipment)
		class  sdk.Class
		field  string
	}{
		"no reference":      {func(s *carrier.Shipment) { s.Reference = "" }, sdk.Validation, "reference"},
		"a long reference":  {func(s *carrier.Shipment) { s.Reference = strings.Repeat("x", 65) }, sdk.Validation, "reference"},
		"no service":        {func(s *carrier.Shipment) { s.Service = "" }, sdk.Validation, "service"},
		"unknown service":   {func(s *carrier.Shipment) { s.Service = "drone" }, sdk.Validation, "service"},
		"png":               {func(s *carrier.Shipment) { s.Label = carrier.PNG }, sdk.NotSupported, "label"},
		"no numbers":        {func(s *carrier.Shipment) { s.Numbers = nil }, sdk.Validation, "numbers.tracking"},
		"a used number":     {func(s *carrier.Shipment) { s.Numbers[rangeTracking][0] = "Z-TAKEN" }, sdk.Conflict, "numbers"},
		"a bad number":      {func(s *carrier.Shipment) { s.Numbers[rangeTracking][0] = "^XZ" }, sdk.Validation, "numbers.tracking[0]"},
		"a bad SSCC":        {func(s *carrier.Shipment) { s.Parcels[0].SSCC = "106141412345678907" }, sdk.Validation, "parcels[0].sscc"},
		"a bad leased SSCC": {func(s *carrier.Shipment) { s.Numbers[rangeSSCC] = []string{"1"} }, sdk.Validation, "numbers.sscc[0]"},
		"too heavy":         {func(s *carrier.Shipment) { s.Parcels[0].Weight = kilos("32") }, sdk.NotServiced, ""},
		"no weight":         {func(s *carrier.Shipment) { s.Parcels[0].Weight = sdk.Measure{} }, sdk.Validation, "parcels[0].weight.unit"},
		"weight zero":       {func(s *carrier.Shipment) { s.Parcels[0].Weight = kilos("0") }, sdk.Validation, "parcels[0].weight"},
		"a flat box":        {func(s *carrier.Shipment) { s.Parcels[0].Dimensions.Height = decimal.Zero }, sdk.Validation, "parcels[0].dimensions.height"},
		"a huge box":        {func(s *carrier.Shipment) { s.Parcels[0].Dimensions.Height = decimal.New(1, 50) }, sdk.Validation, "parcels[0].dimensions.height"},
		"a unit":            {func(s *carrier.Shipment) { s.Parcels[0].Dimensions.Unit = "ell" }, sdk.Validation, "parcels[0].dimensions.unit"},
		"no parcels":        {func(s *carrier.Shipment) { s.Parcels = nil }, sdk.Validation, "parcels"},
		"no date":           {func(s *carrier.Shipment) { s.Date = "" }, sdk.Validation, "date"},
		"a date":            {func(s *carrier.Shipment) { s.Date = "12.3.2026" }, sdk.Validation, "date"},
		"before tariffs":    {func(s *carrier.Shipment) { s.Date = "2019-03-12" }, sdk.NotServiced, "from"},
		"a country":         {func(s *carrier.Shipment) { s.To.Country = "Germany" }, sdk.Validation, "to.country"},
		"no postal code":    {func(s *carrier.Shipment) { s.To.PostalCode = "" }, sdk.Validation, "to.postalCode"},
		"an island":         {func(s *carrier.Shipment) { s.To.PostalCode = "27498" }, sdk.NotServiced, "to"},
		"the moon":          {func(s *carrier.Shipment) { s.To.Country = "XM" }, sdk.NotServiced, "to"},
		"four lines":        {func(s *carrier.Shipment) { s.To.Lines = make([]string, 4) }, sdk.Validation, "to.lines"},
		"a long name":       {func(s *carrier.Shipment) { s.To.Name = strings.Repeat("x", 201) }, sdk.Validation, "to.name"},
		"an option":         {func(s *carrier.Shipment) { s.Options = map[string]string{"dangerous": "UN1263"} }, sdk.NotSupported, "options.dangerous"},
		"a signature":       {func(s *carrier.Shipment) { s.Options = map[string]string{"signature": "royal"} }, sdk.Validation, "options.signature"},
		"saturday":          {func(s *carrier.Shipment) { s.Options = map[string]string{"saturday": "yes"} }, sdk.Validation, "options.saturday"},
		"an amount":         {func(s *carrier.Shipment) { s.COD = usd("1000000000001") }, sdk.Validation, "cod.amount"},
		"another currency":  {func(s *carrier.Shipment) { s.Insurance = usd("100") }, sdk.Validation, "insurance.currency"},
		"an offer":          {func(s *carrier.Shipment) { s.RateID = "R1" }, sdk.Validation, "rateId"},
		"another payer":     {func(s *carrier.Shipment) { s.Payer = &carrier.Payer{Party: carrier.PayerRecipient} }, sdk.NotSupported, "payer"},
		"another printer":   {func(s *carrier.Shipment) { s.LabelDPI = 300 }, sdk.NotSupported, "labelDpi"},
	} {
		t.Run(name, func(t *testing.T) {
			s := munich("NEW")
			x.change(s)
			_, err := c.Ship(ctx, s)
			wantClass(t, err, x.class, x.field)
		})
	}
	_, err := c.GetByReference(ctx, "NEW")
	wantClass(t, err, sdk.NotFound, "reference")
}

func TestNumbersOfEachForm(t *testing.T) {
	sscc := func(body string) string { return must[string](t)(checkdigit.Complete(checkdigit.SSCC, body)) }
	for _, x := range []struct {
		tracking, sscc string
		numbers        map[string][]string
		want           carrier.ShippedParcel
		field          string // where it is refused
	}{
		{"plain", "none", map[string][]string{"tracking": {"AB-12"}}, carrier.ShippedParcel{Tracking: "AB-12"}, ""},
		{"mod10", "none", map[string][]string{"tracking": {"6291041500213"}}, carrier.ShippedParcel{Tracking: "6291041500213"}, ""},
		{"mod10", "none", map[string][]string{"tracking": {"6291041500214"}}, carrier.ShippedParcel{}, "numbers.tracking[0]"},
		{"s10", "none", map[string][]string{"tracking": {"RR473124829FI"}}, carrier.ShippedParcel{Tracking: "RR473124829FI"}, ""},
		{"s10", "none", map[string][]string{"tracking": {"RR473124828FI"}}, carrier.ShippedParcel{}, "numbers.tracking[0]"},
		{"plain", "range", map[string][]string{"tracking": {"AB-12"}, "sscc": {sscc("10614141234567891")}}, carrier.ShippedParcel{Tracking: "AB-12", SSCC: sscc("10614141234567891")}, ""},
		{"plain", "range", map[string][]string{"tracking": {"AB-12"}}, carrier.ShippedParcel{}, "numbers.sscc"},
		{"sscc", "none", map[string][]string{"sscc": {sscc("10614141234567891")}}, carrier.ShippedParcel{Tracking: sscc("10614141234567891"), SSCC: sscc("10614141234567891")}, ""},
		{"sscc", "none", nil, carrier.ShippedParcel{}, "numbers.sscc"},
	} {
		c := start(t, t.TempDir(), setTracking, x.tracking, setSSCC, x.sscc)
		s := munich("N")
		s.Numbers = x.numbers
		got, err := c.Ship(ctx, s)
		switch {
		case x.field != "":
			wantClass(t, err, sdk.Validation, x.field)
		case err != nil || got.Parcels[0] != x.want:
			t.Errorf("%s, %s with %v: %+v, %v; want %+v", x.tracking, x.sscc, x.numbers, got, err, x.want)
		}
	}
	c := start(t, t.TempDir(), setSSCC, "range")
	s := munich("OWN")
	s.Parcels[0].SSCC = "106141412345678908"
	if got, err := c.Ship(ctx, s); err != nil || got.Parcels[0].SSCC != s.Parcels[0].SSCC {
		t.Errorf("with an SSCC of its own: %+v, %v", got, err)
	}
	s = munich("TWICE")
	s.Parcels = append(s.Parcels, s.Parcels[0])
	s.Numbers = map[string][]string{"tracking": {"AB-12", "AB-12"}, "sscc": {sscc("10614141234567893"), sscc("10614141234567894")}}
	_, err := c.Ship(ctx, s)
	wantClass(t, err, sdk.Validation, "parcels[1]")
}

func TestVoidAndManifest(t *testing.T) {
	c := start(t, t.TempDir())
	for _, ref := range []string{"A", "B", "C", "D"} {
		s := munich(ref)
		s.Numbers[rangeTracking][0] = "NUM-" + ref
		must[*carrier.Shipped](t)(c.Ship(ctx, s))
	}
	for range 2 {
		got := must[*carrier.Voided](t)(c.Void(ctx, &carrier.VoidRequest{Reference: "A"}))
		if !got.Accepted || got.Refund.String() != "4.67 EUR" || got.Reference != "A" {
			t.Errorf("voided %+v", got)
		}
	}
	if got := must[*carrier.Shipped](t)(c.GetByReference(ctx, "A")); !got.Voided {
		t.Error("what was voided is not marked")
	}
	must[*carrier.Voided](t)(c.Void(ctx, &carrier.VoidRequest{Tracking: []string{"NUM-D"}}))
	_, err := c.Void(ctx, &carrier.VoidRequest{Reference: "X"})
	wantClass(t, err, sdk.NotFound, "reference")
	_, err = c.Void(ctx, &carrier.VoidRequest{Reference: "B", Shipment: "NUM-C"})
	wantClass(t, err, sdk.Validation, "shipment")
	_, err = c.Void(ctx, &carrier.VoidRequest{})
	wantClass(t, err, sdk.Validation, "reference")

	day := &carrier.ManifestRequest{Reference: "M1", Date: "2026-03-12", From: munich("").From, Shipments: []string{"B", "A"}}
	_, err = c.Manifest(ctx, day)
	wantClass(t, err, sdk.Conflict, "shipments[1]")
	day.Shipments = []string{"B", "nothing"}
	_, err = c.Manifest(ctx, day)
	wantClass(t, err, sdk.NotFound, "shipments[1]")
	day.Shipments = []string{"B", "B"}
	_, err = c.Manifest(ctx, day)
	wantClass(t, err, sdk.Validation, "shipments[1]")

	day.Shipments = []string{"B", "C"}
	first := must[*carrier.Manifested](t)(c.Manifest(ctx, day))
	again := must[*carrier.Manifested](t)(c.Manifest(ctx, day))
	if first.Parcels != 2 || !reflect.DeepEqual(first, again) || !strings.HasPrefix(string(first.Documents[0].Data), "%PDF-") {
		t.Errorf("manifest %+v, then %+v", first, again)
	}
	_, err = c.Void(ctx, &carrier.VoidRequest{Reference: "B"})
	wantClass(t, err, sdk.Conflict, "reference")
	second := *day
	second.Reference = "M2"
	_, err = c.Manifest(ctx, &second)
	wantClass(t, err, sdk.Conflict, "shipments[0]")
	second = *day
	second.Date = "2026-03-13"
	_, err = c.Manifest(ctx, &second)
	wantClass(t, err, sdk.Duplicate, "reference")
}

func TestAShipmentIsVoidedAsAWhole(t *testing.T) {
	c := start(t, t.TempDir())
	s := munich("A")
	s.Parcels = append(s.Parcels, s.Parcels[0])
	s.Numbers[rangeTracking] = []string{"NUM-1", "NUM-2"}
	must[*carrier.Shipped](t)(c.Ship(ctx, s))
	_, err := c.Void(ctx, &carrier.VoidRequest{Reference: "A", Tracking: []string{"NUM-2"}})
	wantClass(t, err, sdk.NotSupported, "tracking")
	_, err = c.Void(ctx, &carrier.VoidRequest{Reference: "A", Tracking: []string{"NUM-3"}})
	wantClass(t, err, sdk.Validation, "tracking[0]")
	must[*carrier.Voided](t)(c.Void(ctx, &carrier.VoidRequest{Shipment: "NUM-1", Tracking: []string{"NUM-2", "NUM-1"}}))
}

func TestTrackTellsWhatTheBookKnows(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	for _, ref := range []string{"AA", "BB", "CC"} {
		must[*carrier.Shipped](t)(c.Ship(ctx, munich(ref)))
	}
	must[*carrier.Voided](t)(c.Void(ctx, &carrier.VoidRequest{Reference: "BB"}))
	must[*carrier.Manifested](t)(c.Manifest(ctx, &carrier.ManifestRequest{Reference: "M", Date: "2026-03-12", From: munich("").From, Shipments: []string{"CC"}}))
	c.Close()
	c = start(t, dir) // the book tells the same after a restart
	got := must[*carrier.Tracked](t)(c.Track(ctx, &carrier.TrackRequest{Tracking: []string{"Z-AA", "Z-BB", "Z-CC", "Z-DD"}}))
	for i, want := range []struct {
		status, delivery string
		codes            string
	}{{carrier.StatusPending, "2026-03-13", "booked"}, {carrier.StatusCancelled, "", "booked voided"}, {carrier.StatusPickedUp, "2026-03-13", "booked manifested"}, {carrier.StatusUnknown, "", ""}} {
		p := got.Parcels[i]
		var codes []string
		for _, e := range p.Events {
			codes = append(codes, e.Code)
		}
		if p.Status != want.status || p.Delivery != want.delivery || strings.Join(codes, " ") != want.codes || (p.Problem != nil) != (want.codes == "") {
			t.Errorf("%s: %+v, want %+v", p.Tracking, p, want)
		}
	}
	since := got.Parcels[2].Events[0].Time
	late := must[*carrier.Tracked](t)(c.Track(ctx, &carrier.TrackRequest{Tracking: []string{"Z-CC"}, Since: since})).Parcels[0]
	if len(late.Events) != 1 || late.Status != carrier.StatusPickedUp {
		t.Errorf("since the booking: %+v", late)
	}
}

func TestPickup(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	book := &carrier.PickupRequest{Action: "book", Reference: "P1", Place: munich("").From, Date: "2026-03-13", Ready: "14:00", Close: "17:30", Parcels: 12}
	first := must[*carrier.PickedUp](t)(c.Pickup(ctx, book))
	if again := must[*carrier.PickedUp](t)(c.Pickup(ctx, book)); !reflect.DeepEqual(first, again) {
		t.Errorf("again: %+v, not %+v", again, first)
	}
	other := *book
	other.Date = "2026-03-14"
	_, err := c.Pickup(ctx, &other)
	wantClass(t, err, sdk.Duplicate, "reference")
	changed := must[*carrier.PickedUp](t)(c.Pickup(ctx, &carrier.PickupRequest{Action: "change", Confirmation: first.Confirmation, Ready: "15:00"}))
	if changed.Ready != "15:00" || changed.Close != "17:30" || changed.Confirmation != first.Confirmation {
		t.Errorf("changed to %+v", changed)
	}
	_, err = c.Pickup(ctx, &carrier.PickupRequest{Action: "change", Reference: "P1", Ready: "18:00"})
	wantClass(t, err, sdk.Validation, "close")
	_, err = c.Pickup(ctx, &carrier.PickupRequest{Action: "change", Reference: "P2", Confirmation: first.Confirmation})
	wantClass(t, err, sdk.Validation, "reference")
	c.Close()
	c = start(t, dir)
	for range 2 {
		got := must[*carrier.PickedUp](t)(c.Pickup(ctx, &carrier.PickupRequest{Action: "cancel", Reference: "P1"}))
		if got.Ready != "15:00" {
			t.Errorf("the change was lost over a restart: %+v", got)
		}
	}
	_, err = c.Pickup(ctx, &carrier.PickupRequest{Action: "change", Reference: "P1", Ready: "16:00"})
	wantClass(t, err, sdk.Conflict, "reference")
	_, err = c.Pickup(ctx, book)
	wantClass(t, err, sdk.Conflict, "reference")
	_, err = c.Pickup(ctx, &carrier.PickupRequest{Action: "cancel", Confirmation: "P0"})
	wantClass(t, err, sdk.NotFound, "confirmation")
	_, err = c.Pickup(ctx, &carrier.PickupRequest{Action: "fly"})
	wantClass(t, err, sdk.Validation, "action")
}

func TestReturnHasItsOwnLabel(t *testing.T) {
	c := start(t, t.TempDir())
	s := munich("RET")
	s.From, s.To = s.To, s.From
	got := must[*carrier.Shipped](t)(c.ShipReturn(ctx, s))
	if got.Documents[0].Kind != "return-label" || !strings.Contains(string(got.Documents[0].Data), "RETURN") {
		t.Errorf("%s:\n%s", got.Documents[0].Kind, got.Documents[0].Data)
	}
}

func TestValidateAddressLooksAtTheForm(t *testing.T) {
	c := start(t, t.TempDir())
	for _, x := range []struct {
		a          sdk.Address
		valid      bool
		confidence string
		codes      string
	}{
		{munich("").To, true, "format", ""},
		{sdk.Address{Lines: []string{"Marienplatz 8"}, City: " München ", PostalCode: "80331", Country: "de"}, true, "corrected", ""},
		{sdk.Address{City: "München", PostalCode: "80331", Country: "DE"}, false, "format", "form"},
		{sdk.Address{Lines: []string{"Marienplatz 8"}, City: "München", Country: "DE"}, false, "format", "form"},
		{sdk.Address{Lines: []string{"Calle 1"}, City: "Lima", PostalCode: "15001", Country: "PE"}, true, "format", "not_serviced"},
		{sdk.Address{Lines: []string{"Calle 1"}, City: "Lima", Country: "Peru"}, false, "format", "form"},
	} {
		got := must[*carrier.AddressAdvice](t)(c.ValidateAddress(ctx, &x.a))
		var codes []string
		for _, w := range got.Warnings {
			codes = append(codes, w.Code)
		}
		if got.Valid != x.valid || strings.Join(codes, " ") != x.codes || got.Valid && got.Confidence != x.confidence {
			t.Errorf("%+v: %+v", x.a, got)
		}
		if x.a.Country == "Peru" && got.Warnings[0].Field != "country" {
			t.Errorf("the warning is at %q", got.Warnings[0].Field)
		}
		if got.Confidence == "corrected" && (got.Suggested.Country != "DE" || got.Suggested.City != "München") {
			t.Errorf("suggested %+v", got.Suggested)
		}
	}
}

func TestTheDocumentedExampleIsTheTestedOne(t *testing.T) {
	readme := must[[]byte](t)(os.ReadFile("../README.md"))
	table := must[[]byte](t)(os.ReadFile(filepath.Join("testdata", "tables", "na-2026.yaml")))
	if !strings.Contains(strings.ReplaceAll(string(readme), "\r\n", "\n"), "```yaml\n"+string(table)+"```\n") {
		t.Error("plugins/carrier-zone/README.md does not show testdata/tables/na-2026.yaml as it is; copy it there")
	}
}
