package mydhl

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// said is the JSON text of a part of what was sent.
func said(t *testing.T, v any, path ...any) string {
	t.Helper()
	out, err := json.Marshal(at(v, path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// An order says what the shipment says, in the provider's words.
func TestWhatAnOrderSays(t *testing.T) {
	p := newDHL(t, at12)
	m := opened(t, p, t.TempDir(), sdk.Settings{setPaperless: yes})
	s := order()
	s.Options = map[string]string{carrier.OptSaturday: "true", carrier.OptSignature: "adult", carrier.OptNotifyMail: "bo@example.com", carrier.OptHold: "SPL123"}
	s.Insurance = &sdk.Money{Amount: d("1000.50"), Currency: "USD"}
	s.Payer = &carrier.Payer{Party: carrier.PayerThird, Account: "987654321"}
	s.Label, s.LabelDPI = carrier.ZPL, 203
	if _, err := m.Ship(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	sent := p.sent("POST /shipments")
	for _, c := range []struct {
		path []any
		want string
	}{
		{[]any{"plannedShippingDateAndTime"}, `"2026-05-05T17:00:00 GMT+02:00"`},
		{[]any{"productCode"}, `"P"`},
		{[]any{"pickup", "isRequested"}, `false`},
		{[]any{"accounts"}, `[{"number":"123456789","typeCode":"shipper"},{"number":"987654321","typeCode":"payer"},{"number":"123456789","typeCode":"duties-taxes"}]`},
		{[]any{"valueAddedServices"}, `[{"serviceCode":"AA"},{"serviceCode":"SD"},{"currency":"USD","serviceCode":"II","value":1000.5},{"serviceCode":"WY"},{"serviceCode":"DD"}]`},
		{[]any{"customerReferences"}, `[{"typeCode":"CU","value":"SO-1"},{"typeCode":"CO","value":"4711"}]`},
		{[]any{"shipmentNotification"}, `[{"receiverId":"bo@example.com","typeCode":"email"}]`},
		{[]any{"onDemandDelivery"}, `{"deliveryOption":"servicepoint","servicePointId":"SPL123"}`},
		{[]any{"outputImageProperties", "encodingFormat"}, `"zpl"`},
		{[]any{"outputImageProperties", "printerDPI"}, `200`},
		{[]any{"outputImageProperties", "imageOptions", 1}, `{"invoiceType":"commercial","isRequested":true,"typeCode":"invoice"}`},
		{[]any{"customerDetails", "shipperDetails", "contactInformation"}, `{"companyName":"Northwind GmbH","email":"ann@northwind.example","fullName":"Ann Adler","phone":"+49 89 1234"}`},
		{[]any{"customerDetails", "shipperDetails", "registrationNumbers"}, `[{"issuerCountryCode":"DE","number":"DE1234567","typeCode":"EOR"}]`},
		{[]any{"customerDetails", "receiverDetails", "postalAddress"}, `{"addressLine1":"89 Chiaroscuro Rd.","cityName":"Portland","countryCode":"US","postalCode":"97219","provinceCode":"OR"}`},
		{[]any{"customerDetails", "receiverDetails", "typeCode"}, `"private"`},
		{[]any{"content", "packages", 0}, `{"customerReferences":[{"typeCode":"CU","value":"a"}],"dimensions":{"height":15.05,"length":30,"width":20},"referenceNumber":1,"weight":2.3}`},
		{[]any{"content", "packages", 1, "weight"}, `1.235`},
		{[]any{"content", "declaredValue"}, `190.05`},
		{[]any{"content", "declaredValueCurrency"}, `"EUR"`},
		{[]any{"content", "incoterm"}, `"DDP"`},
		{[]any{"content", "description"}, `"Chai, Syrup"`},
		{[]any{"content", "exportDeclaration", "invoice"}, `{"date":"2026-05-03","number":"R-17","signatureName":"Ann Adler"}`},
		{[]any{"content", "exportDeclaration", "lineItems", 0}, `{"commodityCodes":[{"typeCode":"outbound","value":"090230"}],"description":"Chai","exportReasonType":"permanent","manufacturerCountry":"IN","number":1,"price":18.005,"quantity":{"unitOfMeasurement":"PCS","value":10},"weight":{"netValue":2}}`},
	} {
		if got := said(t, sent, c.path...); got != c.want {
			t.Errorf("%v: it says %s, want %s", c.path, got, c.want)
		}
	}
}

// A return is paid by the account for imports, and its papers say what it is.
func TestWhatAReturnSays(t *testing.T) {
	p := newDHL(t, at12)
	m := opened(t, p, t.TempDir(), sdk.Settings{setImport: "555"})
	s := order()
	s.From, s.To = s.To, s.From
	s.Customs.DutyPayer, s.Customs.Incoterm, s.Original = "recipient", "DAP", "SO-0"
	s.From.State = "O" // a code of one letter has no place there
	got, err := m.ShipReturn(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if got.Documents[0].Kind != "return-label" || got.Documents[2].Kind != "customs" {
		t.Errorf("the papers are %s and %s", got.Documents[0].Kind, got.Documents[2].Kind)
	}
	sent := p.sent("POST /shipments")
	for want, path := range map[string][]any{
		`[{"number":"123456789","typeCode":"shipper"},{"number":"555","typeCode":"payer"}]`: {"accounts"},
		`"return"`:  {"content", "exportDeclaration", "exportReasonType"},
		`"returns"`: {"outputImageProperties", "imageOptions", 1, "invoiceType"},
		`null`:      {"customerDetails", "shipperDetails", "postalAddress", "provinceCode"},
	} {
		if got := said(t, sent, path...); got != want {
			t.Errorf("%v: it says %s, want %s", path, got, want)
		}
	}
	_, err = m.Ship(t.Context(), s)
	class(t, "the same, as no return", err, sdk.Duplicate)
}

// Pounds and inches stay what they are.
func TestImperial(t *testing.T) {
	pieces, system, err := piecesOf([]carrier.Parcel{{Weight: sdk.Measure{Value: d("17"), Unit: "oz"},
		Dimensions: &carrier.Dimensions{Length: d("10"), Width: d("8.5"), Height: d("4"), Unit: "in"}}})
	if err != nil || system != imperial || pieces[0].Weight.String() != "1.063" || pieces[0].Dimensions.Width.String() != "8.5" {
		t.Errorf("%+v, %s, %v", pieces, system, err)
	}
}

// The moment of handing over is never one that is past when the provider reads it.
func TestPlanned(t *testing.T) {
	for _, c := range []struct{ now, date, want string }{
		{"2026-05-04T10:00:00Z", "2026-05-04", "2026-05-04T17:00:00 GMT+02:00"},
		{"2026-05-04T14:50:00Z", "2026-05-04", "2026-05-04T17:05:00 GMT+02:00"},
		{"2026-05-04T21:50:00Z", "2026-05-04", "2026-05-04T23:59:59 GMT+02:00"},
		{"2026-10-24T10:00:00Z", "2026-10-25", "2026-10-25T17:00:00 GMT+01:00"}, // the clocks go back that night
		{"2026-05-04T10:00:00Z", "", "2026-05-04T17:00:00 GMT+02:00"},
		{"2026-05-04T22:10:00Z", "2026-05-04", "date"}, // it is the 5th at the site
		{"2026-05-04T10:00:00Z", "2026-05-15", "date"},
		{"2026-05-04T10:00:00Z", "5 May", "date"},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		m := New(logger(t))
		m.now = func() time.Time { return now }
		if err := m.place(sdk.Settings{setZone: "Europe/Berlin"}); err != nil {
			t.Fatal(err)
		}
		got, err := m.planned(c.date)
		if err != nil {
			got = sdk.AsError(err).Field
		}
		if got != c.want {
			t.Errorf("at %s for %q: %q, %v, want %q", c.now, c.date, got, err, c.want)
		}
	}
}

// What the provider would refuse, or would cut, is refused here, at its field, and is not sent.
func TestWhatIsNotSent(t *testing.T) {
	for _, c := range []struct {
		field  string
		class  sdk.Class
		change func(*carrier.Shipment)
	}{
		{"service", sdk.Validation, func(s *carrier.Shipment) { s.Service = "" }},
		{"service", sdk.Validation, func(s *carrier.Shipment) { s.Service = "ZZ" }},
		{"date", sdk.Validation, func(s *carrier.Shipment) { s.Date = "" }},
		{"date", sdk.Validation, func(s *carrier.Shipment) { s.Date = "2026-05-03" }},
		{"date", sdk.NotServiced, func(s *carrier.Shipment) { s.Date = "2026-06-03" }},
		{"rateId", sdk.Validation, func(s *carrier.Shipment) { s.RateID = "7" }},
		{"returnTo", sdk.Validation, func(s *carrier.Shipment) { s.ReturnTo = &s.From }},
		{"from.phone", sdk.Validation, func(s *carrier.Shipment) { s.From.Phone = "" }},
		{"to.name", sdk.Validation, func(s *carrier.Shipment) { s.To.Name = "" }},
		{"to.lines", sdk.Validation, func(s *carrier.Shipment) { s.To.Lines = []string{" "} }},
		{"to.lines[1]", sdk.Validation, func(s *carrier.Shipment) { s.To.Lines = []string{"a", strings.Repeat("ü", 46)} }},
		{"to.lines[3]", sdk.Validation, func(s *carrier.Shipment) { s.To.Lines = []string{"a", "b", "c", "d"} }},
		{"to.country", sdk.Validation, func(s *carrier.Shipment) { s.To.Country = "USA" }},
		{"to.city", sdk.Validation, func(s *carrier.Shipment) { s.To.City = "" }},
		{"to.postalCode", sdk.Validation, func(s *carrier.Shipment) { s.To.PostalCode = "1234567890123" }},
		{"from.taxIds[0].kind", sdk.Validation, func(s *carrier.Shipment) { s.From.TaxIDs = []sdk.TaxID{{Country: "DE", Kind: "shoe", Number: "1"}} }},
		{"parcels[1].weight", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[1].Weight.Value = d("0") }},
		{"parcels[1].weight", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[1].Weight.Unit = "st" }},
		{"parcels[0].dimensions.width", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[0].Dimensions.Width = d("-1") }},
		{"parcels[0].packaging", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[0].Packaging = "crate" }},
		{"parcels[0].items[0].quantity", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[0].Items[0].Quantity = d("1.5") }},
		{"parcels[0].items[0].origin", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[0].Items[0].Origin = "" }},
		{"parcels[0].items[0].weight", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[0].Items[0].Weight = nil }},
		{"parcels[0].items[0].value.amount", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[0].Items[0].Value = eur("1.0005") }},
		{"parcels[1].items[0].value", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[1].Items[0].Value = &sdk.Money{Amount: d("1"), Currency: "USD"} }},
		{"parcels[1].items[0].value", sdk.Validation, func(s *carrier.Shipment) {
			s.Parcels[0].Value, s.Parcels[1].Value = eur("1"), eur("1")
			s.Parcels[1].Items[0].Value = &sdk.Money{Amount: d("1"), Currency: "USD"}
		}},
		{"parcels[0].items", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[0].Items, s.Parcels[1].Items = nil, nil }},
		{"customs.content", sdk.Validation, func(s *carrier.Shipment) { s.Customs.Content = "loot" }},
		{"customs.incoterm", sdk.Validation, func(s *carrier.Shipment) { s.Customs.Incoterm = "XYZ" }},
		{"customs.dutyAccount", sdk.Validation, func(s *carrier.Shipment) { s.Customs.DutyPayer = "third" }},
		{"payer.account", sdk.Validation, func(s *carrier.Shipment) { s.Payer = &carrier.Payer{Party: "recipient"} }},
		{"payer.party", sdk.Validation, func(s *carrier.Shipment) { s.Payer = &carrier.Payer{Party: "nobody"} }},
		{"cod", sdk.NotSupported, func(s *carrier.Shipment) { s.COD = eur("1") }},
		{"insurance", sdk.Validation, func(s *carrier.Shipment) { s.Insurance = eur("-1") }},
		{"insurance", sdk.Validation, func(s *carrier.Shipment) { s.Insurance = &sdk.Money{Amount: d("1"), Currency: "eur"} }},
		{"options.dangerous", sdk.NotSupported, func(s *carrier.Shipment) { s.Options = map[string]string{"dangerous": "UN1845"} }},
		{"options.signature", sdk.Validation, func(s *carrier.Shipment) { s.Options = map[string]string{"signature": "blood"} }},
		{"options.hold", sdk.Validation, func(s *carrier.Shipment) { s.Options = map[string]string{"hold": "too long"} }},
		{"labelDpi", sdk.NotSupported, func(s *carrier.Shipment) { s.LabelDPI = 600 }},
		{"label", sdk.NotSupported, func(s *carrier.Shipment) { s.Label = carrier.PNG }},
	} {
		p := newDHL(t, at12)
		m := opened(t, p, t.TempDir(), nil)
		s := order()
		c.change(s)
		_, err := m.Ship(t.Context(), s)
		if e := class(t, c.field, err, c.class); e.Field != c.field {
			t.Errorf("%v: it is at %q, want at %q", err, e.Field, c.field)
		}
		if p.count("") != 0 {
			t.Errorf("%s: it was sent", c.field)
		}
	}
}

// What cannot be kept whole is answered all the same, and kept without its papers.
func TestPapersThatAreTooLarge(t *testing.T) {
	p := newDHL(t, at12)
	m := opened(t, p, t.TempDir(), nil)
	made := &sold{Shipment: "1234567890", Tracking: []string{"JD1"}, Labels: []int{0},
		Documents: []document{{Kind: "label", Format: "pdf", Data: make([]byte, 4<<20)}}}
	if err := m.record.Begin(shipKey("big"), "", &begun{Product: "P", Parcels: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if got := m.keep(shipKey("big"), made); len(got.Documents) != 1 || len(got.Warnings) != 0 {
		t.Errorf("the first answer has %d papers and the warnings %v", len(got.Documents), got.Warnings)
	}
	got, err := m.GetByReference(t.Context(), "big")
	if err != nil || got.Shipment != "1234567890" || got.Parcels[0].Label != -1 || len(got.Warnings) != 1 || got.Warnings[0].Code != "label_lost" {
		t.Errorf("lookup: %+v, %v", got, err)
	}
}

// Settings that cannot be meant are refused at their name.
func TestConfigure(t *testing.T) {
	p := newDHL(t, at12)
	for name, value := range map[string]string{setBase: "http://express.example/mydhlapi", setZone: "Mars/Olympus", setHandover: "late", setPaperless: "perhaps",
		setProduct: "ZZ", setSettle: "1", setKeep: "0", setProxy: "proxy", setAccount: "1234567890123", "colour": "red"} {
		c := New(logger(t))
		s := p.settings(t.TempDir())
		s[name] = value
		if e := class(t, name, c.Configure(t.Context(), s), sdk.Validation); e.Field != name {
			t.Errorf("%s: it is at %q", name, e.Field)
		}
		if _, err := c.Rate(t.Context(), order()); sdk.ClassOf(err) != sdk.Conflict {
			t.Errorf("%s: rate, not configured: %v", name, err)
		}
	}
	dir := t.TempDir()
	c := opened(t, p, dir, nil)
	class(t, "configure, a second time", c.Configure(t.Context(), p.settings(dir)), sdk.Conflict)
	class(t, "configure, with another's directory", New(logger(t)).Configure(t.Context(), p.settings(dir)), sdk.Unavailable)
}

// The record forgets what is old, and never what has no outcome.
func TestForgetting(t *testing.T) {
	now := noon
	p := newDHL(t, func() time.Time { return now })
	dir := t.TempDir()
	m := opened(t, p, dir, sdk.Settings{setKeep: "30"})
	for _, reference := range []string{"SO-1", "SO-2", "SO-3"} {
		old := order()
		old.Reference = reference
		if _, err := m.Ship(t.Context(), old); err != nil {
			t.Fatal(err)
		}
	}
	p.fail(fault{at: "POST /shipments", before: cut})
	open := order()
	open.Reference = "open"
	_, err := m.Ship(t.Context(), open)
	class(t, "ship", err, sdk.UnknownOutcome)
	now = noon.AddDate(0, 0, 31)
	young := order()
	young.Reference, young.Date, young.Parcels = "young", "2026-06-05", young.Parcels[:1]
	if _, err := m.Ship(t.Context(), young); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = opened(t, p, dir, sdk.Settings{setKeep: "30"})
	class(t, "lookup of the old", lookup(t, m, "SO-1"), sdk.NotFound)
	class(t, "lookup of what has no outcome", lookup(t, m, "open"), sdk.Unavailable)
	if err := lookup(t, m, "young"); err != nil {
		t.Errorf("lookup of the young: %v", err)
	}
}
