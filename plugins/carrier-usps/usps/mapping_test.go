package usps

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// path gives what stands at a place of a JSON object.
func path(o any, names ...string) any {
	for _, name := range names {
		m, ok := o.(object)
		if !ok {
			return nil
		}
		o = m[name]
	}
	return o
}

// full is a shipment with all that the provider takes.
func full(reference string) *carrier.Shipment {
	s := parcel(reference)
	back := s.From
	back.Lines = []string{"URB Las Gladiolas", "150 Calle A"}
	back.City, back.PostalCode, back.Country, back.State = "San Juan", "00926", "PR", ""
	s.ReturnTo = &back
	s.Options = map[string]string{carrier.OptSignature: "adult", carrier.OptHold: "1437366", carrier.OptSaturday: "true", carrier.OptNotifyMail: "other@example.com"}
	s.Insurance = &sdk.Money{Amount: dec("750"), Currency: "USD"}
	s.Customs = &carrier.Customs{Content: "gift", InvoiceNumber: "INV-1"}
	s.Parcels[0].Items = []carrier.Commodity{{SKU: "A", Description: "Bicycle bell of polished brass, large", Quantity: dec("3"), HSCode: "830610", Origin: "US",
		Weight: &sdk.Measure{Value: dec("100"), Unit: sdk.Gram}, Value: &sdk.Money{Amount: dec("4.35"), Currency: "USD"}}}
	s.Parcels[0].Weight = sdk.Measure{Value: dec("0.5"), Unit: sdk.Kilogram}
	return s
}

func TestALabelIsAskedForInTheProvidersWords(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	got, err := c.Ship(t.Context(), full("S"))
	if err != nil {
		t.Fatal(err)
	}
	asked := p.labels[got.Shipment].request
	for _, want := range []struct {
		value any
		at    string
	}{
		{"2700 S Jefferson Ave", "toAddress streetAddress"}, {"STE 150", "toAddress secondaryAddress"}, {"St. Louis", "toAddress city"}, {"63104", "toAddress ZIPCode"},
		{"2351", "toAddress ZIPPlus4"}, {"Nick", "toAddress firstName"}, {"Fury", "toAddress lastName"}, {"6148098581", "toAddress phone"}, {"other@example.com", "toAddress email"},
		{true, "toAddress holdForPickup"}, {"1437366", "toAddress facilityId"}, {"Crosstown", "fromAddress firm"}, {"URB Las Gladiolas", "returnAddress urbanization"},
		{"150 Calle A", "returnAddress streetAddress"}, {"PR", "returnAddress state"}, {"USPS_GROUND_ADVANTAGE", "packageDescription mailClass"},
		{"CP", "packageDescription rateIndicator"}, {"MACHINABLE", "packageDescription processingCategory"}, {"2026-11-27", "packageDescription mailingDate"},
		{1.1024, "packageDescription weight"}, {11.82, "packageDescription length"}, {7.88, "packageDescription width"}, {3.94, "packageDescription height"},
		{750.0, "packageDescription packageOptions packageValue"}, {"GIFT", "customsForm customsContentType"}, {"INV-1", "customsForm invoiceNumber"},
		{"PDF", "imageInfo imageType"}, {"NONE", "imageInfo receiptOption"},
	} {
		if got := path(asked, strings.Fields(want.at)...); got != want.value {
			t.Errorf("%s is %v, want %v", want.at, got, want.value)
		}
	}
	text, _ := json.Marshal([]any{path(asked, "packageDescription", "extraServices"), path(asked, "customsForm", "contents"), path(asked, "packageDescription", "customerReference")})
	want := `[[920,922,931],[{"HSTariffNumber":"830610","countryofOrigin":"US","itemDescription":"Bicycle bell of polished brass","itemQuantity":3,"itemTotalValue":13.05,"itemTotalWeight":0.6614,"weightUOM":"lb"}],` +
		`[{"printReferenceNumber":true,"referenceNumber":"SO-1001"},{"printReferenceNumber":true,"referenceNumber":"box 1"}]]`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if got.Rate == nil || got.Rate.Total.String() != "16.30 USD" || got.Rate.Delivery != "2026-11-30" || len(got.Rate.Charges) != 4 {
		t.Errorf("the rate is %+v", got.Rate)
	}
}

func TestWhatTheProviderDoesNotTake(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	for _, k := range []struct {
		name, field string
		class       sdk.Class
		spoil       func(*carrier.Shipment)
	}{
		{"two parcels", "parcels[1]", sdk.NotSupported, func(s *carrier.Shipment) { s.Parcels = append(s.Parcels, s.Parcels[0]) }},
		{"71 lb", "parcels[0].weight", sdk.NotServiced, func(s *carrier.Shipment) { s.Parcels[0].Weight.Value = dec("71") }},
		{"no weight", "parcels[0].weight", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[0].Weight.Value = dec("0") }},
		{"no size", "parcels[0].dimensions", sdk.Validation, func(s *carrier.Shipment) { s.Parcels[0].Dimensions = nil }},
		{"a crate", "parcels[0].packaging", sdk.NotSupported, func(s *carrier.Shipment) { s.Parcels[0].Packaging = "crate" }},
		{"no day", "date", sdk.Validation, func(s *carrier.Shipment) { s.Date = "" }},
		{"no service", "service", sdk.Validation, func(s *carrier.Shipment) { s.Service = "" }},
		{"no such service", "service", sdk.Validation, func(s *carrier.Shipment) { s.Service = "PIGEON" }},
		{"Canada", "to.country", sdk.NotServiced, func(s *carrier.Shipment) { s.To.Country = "CA" }},
		{"no such state", "to.state", sdk.Validation, func(s *carrier.Shipment) { s.To.State = "XX" }},
		{"no ZIP code", "from.postalCode", sdk.Validation, func(s *carrier.Shipment) { s.From.PostalCode = "20A24" }},
		{"no city", "to.city", sdk.Validation, func(s *carrier.Shipment) { s.To.City = " " }},
		{"no street", "to.lines", sdk.Validation, func(s *carrier.Shipment) { s.To.Lines = nil }},
		{"a long street", "to.lines[0]", sdk.Validation, func(s *carrier.Shipment) { s.To.Lines = []string{strings.Repeat("é", 51)} }},
		{"nobody", "to.name", sdk.Validation, func(s *carrier.Shipment) { s.To.Name = "" }},
		{"a third pays", "payer", sdk.NotSupported, func(s *carrier.Shipment) { s.Payer = &carrier.Payer{Party: carrier.PayerThird, Account: "1"} }},
		{"collect money", "cod", sdk.NotSupported, func(s *carrier.Shipment) { s.COD = &sdk.Money{Amount: dec("1"), Currency: "USD"} }},
		{"euros insured", "insurance", sdk.Validation, func(s *carrier.Shipment) { s.Insurance = &sdk.Money{Amount: dec("1"), Currency: "EUR"} }},
		{"dangerous goods", "options.dangerous", sdk.NotSupported, func(s *carrier.Shipment) { s.Options = map[string]string{"dangerous": "UN3480"} }},
		{"held, and no phone", "options.hold", sdk.Validation, func(s *carrier.Shipment) { s.Options, s.To.Phone = map[string]string{"hold": "1"}, "" }},
		{"600 dots an inch", "labelDpi", sdk.NotSupported, func(s *carrier.Shipment) { s.Label, s.LabelDPI = carrier.ZPL, 600 }},
		{"customs without goods", "parcels[0].items", sdk.Validation, func(s *carrier.Shipment) { s.Customs = &carrier.Customs{} }},
		{"another's rate", "rateId", sdk.Expired, func(s *carrier.Shipment) { s.RateID = "r_1" }},
		{"a rate that has changed", "rateId", sdk.Expired, func(s *carrier.Shipment) { s.RateID = "USPS_GROUND_ADVANTAGE/CP/MACHINABLE/9.30" }},
		{"the rate of another service", "rateId", sdk.Expired, func(s *carrier.Shipment) { s.RateID = "PRIORITY_MAIL/CP/MACHINABLE/10.40" }},
	} {
		s := parcel("S")
		k.spoil(s)
		_, err := c.Ship(t.Context(), s)
		sdktest.Fails(t, k.name, err, k.class)
		if e := sdk.AsError(err); e.Field != k.field {
			t.Errorf("%s: the field is %q, want %q", k.name, e.Field, k.field)
		}
	}
	media := parcel("S")
	media.Service = "MEDIA_MAIL"
	_, err := c.ShipReturn(t.Context(), media)
	sdktest.Fails(t, "media mail back", err, sdk.NotSupported)
	if p.count(onLabel) != 0 {
		t.Errorf("%d labels were asked for", p.count(onLabel))
	}
}

func TestPrices(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	all := func(change func(*carrier.Shipment)) map[string]string {
		t.Helper()
		s := parcel("R")
		s.Service = ""
		change(s)
		got, err := c.Rate(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, r := range got.Rates {
			out[r.Service] = r.ID
		}
		return out
	}
	same := func(what string, got, want map[string]string) {
		t.Helper()
		if d := sdktest.Diff(got, want); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	same("a box", all(func(*carrier.Shipment) {}), map[string]string{
		"USPS_GROUND_ADVANTAGE": "USPS_GROUND_ADVANTAGE/CP/MACHINABLE/9.40", "PRIORITY_MAIL": "PRIORITY_MAIL/CP/MACHINABLE/10.40",
		express: express + "/CP/MACHINABLE/29.40", "MEDIA_MAIL": "MEDIA_MAIL/CP/MACHINABLE/5.40", "LIBRARY_MAIL": "LIBRARY_MAIL/CP/MACHINABLE/5.40"})
	same("signed and insured, which library mail has not", all(func(s *carrier.Shipment) {
		s.Options = map[string]string{"signature": "any"}
		s.Insurance = &sdk.Money{Amount: dec("600"), Currency: "USD"}
	}), map[string]string{"USPS_GROUND_ADVANTAGE": "USPS_GROUND_ADVANTAGE/CP/MACHINABLE/16.30", "PRIORITY_MAIL": "PRIORITY_MAIL/CP/MACHINABLE/17.30",
		express: express + "/CP/MACHINABLE/36.30", "MEDIA_MAIL": "MEDIA_MAIL/CP/MACHINABLE/12.30"})
	same("a flat-rate envelope", all(func(s *carrier.Shipment) { s.Service, s.Parcels[0].Packaging = "PRIORITY_MAIL", "flat-rate-envelope" }),
		map[string]string{"PRIORITY_MAIL": "PRIORITY_MAIL/FE/FLATS/10.10"})
	none := parcel("R")
	none.To.PostalCode = "00501"
	_, err := c.Rate(t.Context(), none)
	sdktest.Fails(t, "a place without a price", err, sdk.NotServiced)

	exact := parcel("S")
	exact.RateID = "USPS_GROUND_ADVANTAGE/SP/MACHINABLE/10.65"
	got, err := c.Ship(t.Context(), exact)
	if err != nil {
		t.Fatal(err)
	}
	if indicator := path(p.labels[got.Shipment].request, "packageDescription", "rateIndicator"); indicator != "SP" || got.Rate.Total.String() != "10.65 USD" {
		t.Errorf("the label is of rate indicator %v and costs %s, want those of the rate that was named", indicator, got.Rate.Total)
	}
}

// Charges come to what the provider charges, whatever it itemises.
func TestChargesComeToTheTotal(t *testing.T) {
	for want, total := range map[string]string{"surcharge": "11.00", "discount": "9.00"} {
		r := carrier.Rate{Total: sdk.Money{Amount: dec(total), Currency: usd}, Charges: []carrier.Charge{charge("base", "", "", dec("10"))}}
		addUp(&r)
		if len(r.Charges) != 2 || r.Charges[1].Kind != want || !r.Charges[1].Amount.Amount.Equal(dec(total).Sub(dec("10"))) {
			t.Errorf("a total of %s has the charges %+v", total, r.Charges)
		}
	}
}

func TestALabelIsPrintedInAnotherFormat(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	first := shipped(t, c, "S")
	fine := parcel("S")
	fine.Label, fine.LabelDPI = carrier.ZPL, 300
	got, err := c.Ship(t.Context(), fine)
	if err != nil || got.Shipment != first.Shipment || len(got.Documents) != 1 || string(got.Documents[0].Data) != "^XA^FDfine^XZ" || got.Documents[0].Format != carrier.ZPL {
		t.Errorf("reprint: %+v, %v", got, err)
	}
	p.with(func() { p.labels[first.Shipment].reprints = 3 })
	got, err = c.Ship(t.Context(), fine)
	if err != nil || !warned(got.Warnings, "label_format") || got.Documents[0].Format != carrier.PDF {
		t.Errorf("a reprint too many: %+v, %v", got, err)
	}
	if p.bought() != 1 {
		t.Errorf("%d labels were bought, want 1", p.bought())
	}
}

func TestTracking(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	one := shipped(t, c, "S")
	since := time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)
	got, err := c.Track(t.Context(), &carrier.TrackRequest{Tracking: []string{one.Shipment, "../label", "9400000000000000000000"}, Since: since.Add(-time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, e := range got.Parcels[0].Events {
		seen = append(seen, e.Code+" "+e.Status)
	}
	if want := "10 in_transit, ZZ in_transit, OF out_for_delivery, 01 delivered"; strings.Join(seen, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(seen, ", "), want)
	}
	if first := got.Parcels[0]; first.Status != carrier.StatusDelivered || first.Delivery != "2026-11-30" || first.Events[0].Place != "SAINT LOUIS, MO 63104" || !first.Events[0].Time.Equal(since) {
		t.Errorf("got %+v", first)
	}
	for _, other := range got.Parcels[1:] {
		sdktest.Fails(t, "track "+other.Tracking, other.Problem, sdk.NotFound)
	}
	p.upset(onTracking, mishap{status: 429, header: map[string]string{"Retry-After": "5"}})
	_, err = c.Track(t.Context(), &carrier.TrackRequest{Tracking: []string{one.Shipment, one.Shipment}})
	sdktest.Fails(t, "track while throttled", err, sdk.Throttled)
}

func TestAddresses(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	a := parcel("").To
	got, err := c.ValidateAddress(t.Context(), &a)
	if err != nil || !got.Valid || got.Confidence != "exact" || got.Suggested == nil || !got.Suggested.Residential || got.Suggested.PostalCode != "63104-2351" {
		t.Errorf("an address: %+v, %v", got, err)
	}
	a.Lines = []string{"2 S Jefferson Ave"}
	if got, err := c.ValidateAddress(t.Context(), &a); err != nil || !got.Valid || !warned(got.Warnings, "dpv_d") {
		t.Errorf("an address without its apartment: %+v, %v", got, err)
	}
	a.Lines = []string{"1 NOWHERE ST"}
	if got, err := c.ValidateAddress(t.Context(), &a); err != nil || got.Valid || !warned(got.Warnings, "not_found") {
		t.Errorf("an address that there is not: %+v, %v", got, err)
	}
	p.upset(onAddress, mishap{change: func(o object) { o["address"].(object)["city"] = "SAINT LOUIS" }})
	a = parcel("").To
	if got, err := c.ValidateAddress(t.Context(), &a); err != nil || got.Confidence != "corrected" || got.Suggested.City != "SAINT LOUIS" {
		t.Errorf("an address that is put right: %+v, %v", got, err)
	}
}

func TestSettings(t *testing.T) {
	for _, k := range []struct{ name, value, field string }{
		{setBase, "http://apis.usps.com", setBase}, {setBase, "https://user@apis.usps.com", setBase}, {setBase, "apis.usps.com", setBase}, {setMID, "12345", setMID},
		{setManifest, "x", setManifest}, {setCRID, "CRID", setCRID}, {setAccount, "one", setAccount}, {setPrices, "cheap", setPrices}, {setPlace, "roof", setPlace}, {"colour", "blue", "colour"},
	} {
		settings := settingsFor(t, newProvider(t))
		settings[k.name] = k.value
		sdktest.FailsAt(t, k.name+"="+k.value, New(logTo(t)).Configure(t.Context(), settings), k.field)
	}
	c := open(t, settingsFor(t, newProvider(t)))
	if err := c.Configure(t.Context(), nil); sdk.ClassOf(err) != sdk.Conflict {
		t.Errorf("configure, a second time: %v", err)
	}
	if base, err := baseURL(""); base != production || err != nil {
		t.Errorf("without a base URL it is %q, %v", base, err)
	}
}

// What is wrong with a request is seen before the provider sees it, and that is not left to it
// alone: this is the one test in which a request does not fit its document.
func TestAWrongWordIsSeenByTheDocument(t *testing.T) {
	p := newProvider(t)
	if p.docs == nil {
		t.Skipf("without the provider's documents in %s nothing knows its words", testdata)
	}
	p.expected = true
	c := open(t, settingsFor(t, p))
	_, err := c.client.do(t.Context(), &call{name: "label", method: http.MethodPost, path: labelPath, pays: true, buys: true, field: "shipment",
		body: labelRequest{PackageDescription: packageDescription{MailClass: "PIGEON"}}})
	sdktest.FailsAt(t, "a label of no mail class", err, "shipment")
	if len(p.misfits) != 1 {
		t.Errorf("the provider saw %q, want one misfit", p.misfits)
	}
}
