package table

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

var silent = slog.New(slog.DiscardHandler)

func newEngine(t testing.TB, s sdk.Settings) *Engine {
	t.Helper()
	e, err := New(silent)
	if err != nil {
		t.Fatal(err)
	}
	e.now = func() time.Time { return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) }
	if err := e.Configure(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func address(place string) sdk.Address {
	country, state, _ := strings.Cut(place, "-")
	return sdk.Address{Country: country, State: state, PostalCode: codes[strings.ToUpper(strings.TrimSpace(country))]}
}

// codes are of places without taxes of their own, in countries that have others.
var codes = map[string]string{"AT": "1010", "DE": "10115", "ES": "28001", "FI": "00100", "FR": "75001", "GB": "SW1A 1AA", "GR": "104 31", "IT": "00184", "NO": "0150", "PT": "1000-001"}

// sale makes a document of lines such as "100.00 books" or "119.00 standard included".
func sale(from, to, date, currency string, lines ...string) *tax.Document {
	d := &tax.Document{Reference: "R1", Kind: tax.Sale, Date: date, Currency: currency,
		Seller: tax.Party{Address: address(from), Business: true}, Customer: tax.Party{Address: address(to)}}
	for i, text := range lines {
		f := strings.Fields(text)
		d.Lines = append(d.Lines, tax.Line{ID: fmt.Sprint(i + 1), Amount: decimal.RequireFromString(f[0]), Category: f[1],
			Included: len(f) > 2, Quantity: one})
	}
	return d
}

// show writes a result so that it can be compared.
func show(r *tax.Result) string {
	if r.Status == tax.NotCalculated {
		return "not calculated: " + r.Reason
	}
	text := fmt.Sprintf("%s + %s = %s", r.Net, r.Tax.Decimal, r.Gross.Decimal)
	for _, s := range r.Summary {
		text += fmt.Sprintf("; %s %s %s %s of %s: %s", s.Jurisdiction.Name, s.Name, s.Kind, s.Rate, s.Taxable, s.Amount)
	}
	for _, w := range r.Warnings {
		text += "; !" + w.Code
	}
	if r.Provisional {
		text += "; provisional"
	}
	return text
}

// at gives the customer another postal code.
func at(d *tax.Document, postal string) *tax.Document {
	d.Customer.Address.PostalCode = postal
	return d
}

// The numbers are worked out by hand from the rates of the sources, but for Québec's, which is
// Revenu Québec's own example.
func TestExamples(t *testing.T) {
	e := newEngine(t, nil)
	for _, c := range []struct {
		name string
		d    *tax.Document
		want string
	}{
		{"Germany", sale("DE", "DE", "2026-11-26", "EUR", "100.00 standard", "50.00 books"),
			"150 + 22.5 = 172.5; DE VAT reduced 0.07 of 50: 3.5; DE VAT standard 0.19 of 100: 19; !rate"},
		{"Germany in the second half of 2020", sale("DE", "DE", "2020-12-31", "EUR", "100.00 standard"), "100 + 16 = 116; DE VAT standard 0.16 of 100: 16"},
		{"Germany, included", sale("DE", "DE", "2026-11-26", "EUR", "119.00 standard included"), "100 + 19 = 119; DE VAT standard 0.19 of 100: 19"},
		{"freight follows the goods", sale("DE", "DE", "2026-11-26", "EUR", "100.00 standard", "100.00 reduced", "10.00 freight"),
			"210 + 27.3 = 237.3; DE VAT reduced 0.07 of 105: 7.35; DE VAT standard 0.19 of 105: 19.95"},
		{"freight of free goods", sale("DE", "DE", "2026-11-26", "EUR", "0.00 standard", "10.00 freight"), "10 + 1.9 = 11.9; DE VAT standard 0.19 of 10: 1.9"},
		{"distance sale", sale("DE", "FR", "2026-11-26", "EUR", "100.00 standard"), "100 + 20 = 120; FR VAT standard 0.2 of 100: 20"},
		{"Estonia before and after", sale("EE", "EE", "2025-06-30", "EUR", "100.00 standard"), "100 + 22 = 122; EE VAT standard 0.22 of 100: 22"},
		{"Finland", sale("FI", "FI", "2024-09-01", "EUR", "10.00 standard"), "10 + 2.55 = 12.55; FI VAT standard 0.255 of 10: 2.55"},
		{"export", sale("DE", "CH", "2026-11-26", "EUR", "100.00 standard", "10.00 freight"), "110 + 0 = 110; DE VAT export 0 of 110: 0; !import_not_calculated"},
		{"Monaco is France's", sale("FR", "MC", "2026-11-26", "EUR", "100.00 books"), "100 + 5.5 = 105.5; FR VAT reduced 0.055 of 100: 5.5; !rate"},
		{"the Isle of Man is the United Kingdom's", sale("GB", "IM", "2026-11-26", "GBP", "100.00 standard"), "100 + 20 = 120; GB VAT standard 0.2 of 100: 20"},
		{"United Kingdom, zero", sale("GB", "GB", "2026-11-26", "GBP", "10.00 food", "10.00 standard"),
			"20 + 2 = 22; GB VAT standard 0.2 of 10: 2; GB VAT zero 0 of 10: 0; !rate"},
		{"Switzerland", sale("CH", "CH", "2026-11-26", "CHF", "100.00 standard", "100.00 medicines"),
			"200 + 10.7 = 210.7; CH VAT reduced 0.026 of 100: 2.6; CH VAT standard 0.081 of 100: 8.1; !rate"},
		{"Switzerland in 2023", sale("CH", "CH", "2023-12-31", "CHF", "100.00 standard"), "100 + 7.7 = 107.7; CH VAT standard 0.077 of 100: 7.7"},
		{"Norway", sale("NO", "NO", "2026-11-26", "NOK", "100.00 standard", "100.00 food"),
			"200 + 40 = 240; NO VAT reduced 0.15 of 100: 15; NO VAT standard 0.25 of 100: 25; !rate"},
		{"Québec", sale("CA-ON", "CA-QC", "2026-11-26", "CAD", "100.00 standard"),
			"100 + 14.98 = 114.98; CA GST standard 0.05 of 100: 5; CA-QC QST standard 0.09975 of 100: 9.98; !coverage"},
		{"Ontario", sale("CA-QC", "CA-ON", "2026-11-26", "CAD", "100.00 standard"), "100 + 13 = 113; CA-ON HST standard 0.13 of 100: 13; !coverage"},
		{"Nova Scotia before", sale("CA-NS", "CA-NS", "2025-03-31", "CAD", "100.00 standard"), "100 + 15 = 115; CA-NS HST standard 0.15 of 100: 15; !coverage"},
		{"Nova Scotia after", sale("CA-NS", "CA-NS", "2025-04-01", "CAD", "100.00 standard"), "100 + 14 = 114; CA-NS HST standard 0.14 of 100: 14; !coverage"},
		{"British Columbia", sale("CA-AB", "CA-BC", "2026-11-26", "CAD", "100.00 standard"),
			"100 + 12 = 112; CA GST standard 0.05 of 100: 5; CA-BC PST standard 0.07 of 100: 7; !coverage"},
		{"Singapore 2022", sale("SG", "SG", "2022-12-31", "SGD", "100.00 standard"), "100 + 7 = 107; SG GST standard 0.07 of 100: 7"},
		{"Singapore 2023", sale("SG", "SG", "2023-12-31", "SGD", "100.00 standard"), "100 + 8 = 108; SG GST standard 0.08 of 100: 8"},
		{"Singapore 2024", sale("SG", "SG", "2024-01-01", "SGD", "100.00 standard"), "100 + 9 = 109; SG GST standard 0.09 of 100: 9"},
		{"Australia", sale("AU", "AU", "2026-11-26", "AUD", "110.00 standard included"), "100 + 10 = 110; AU GST standard 0.1 of 100: 10"},
		{"Australia rounds the invoice", sale("AU", "AU", "2026-11-26", "AUD", "1.25 standard", "1.25 standard", "1.25 standard"),
			"3.75 + 0.38 = 4.13; AU GST standard 0.1 of 3.75: 0.38"},
		{"New Zealand", sale("NZ", "NZ", "2026-11-26", "NZD", "115.00 food included"), "100 + 15 = 115; NZ GST standard 0.15 of 100: 15"},
		{"Japan rounds once for each rate", sale("JP", "JP", "2026-11-26", "JPY", "33 food", "33 food", "33 food", "105 standard"),
			"204 + 19 = 223; JP Consumption Tax reduced 0.08 of 99: 8; JP Consumption Tax standard 0.1 of 105: 11; !rate"},
		{"Indonesia", sale("ID", "ID", "2026-11-26", "IDR", "1000000.00 standard"),
			"1000000 + 110000 = 1110000; ID VAT standard 0.12 of 916666.67: 110000; !rate"},
		{"Thailand", sale("TH", "TH", "2026-09-30", "THB", "100.00 standard"), "100 + 7 = 107; TH VAT standard 0.07 of 100: 7"},
		{"Vietnam", sale("VN", "VN", "2026-11-26", "VND", "100000 standard", "100000 full-10"),
			"200000 + 18000 = 218000; VN VAT standard 0.08 of 100000: 8000; VN VAT standard 0.1 of 100000: 10000; !rate"},
		{"Philippines", sale("PH", "PH", "2026-11-26", "PHP", "1000.00 standard"), "1000 + 120 = 1120; PH VAT standard 0.12 of 1000: 120"},
		{"Malaysia", sale("MY", "MY", "2026-11-26", "MYR", "1000.00 sales-10"), "1000 + 100 = 1100; MY SST standard 0.1 of 1000: 100; !coverage"},
		{"California", sale("US-OR", "US-CA", "2026-11-26", "USD", "100.00 standard"), "100 + 7.25 = 107.25; US-CA Sales Tax standard 0.0725 of 100: 7.25; !local_taxes; provisional"},
		{"Oregon", sale("US-CA", "US-OR", "2026-11-26", "USD", "100.00 standard"), "100 + 0 = 100; US-OR Sales Tax outside 0 of 100: 0; !rate"},
		{"Alaska", sale("US-CA", "US-AK", "2026-11-26", "USD", "100.00 standard"), "100 + 0 = 100; US-AK Sales Tax outside 0 of 100: 0; !local_taxes; !rate; provisional"},
		{"Indiana", sale("US-CA", "US-IN", "2026-11-26", "USD", "100.00 standard"), "100 + 7 = 107; US-IN Sales Tax standard 0.07 of 100: 7"},
		{"codes as people write them", sale(" de", "fr ", "2026-11-26", "EUR", "100.00 standard"), "100 + 20 = 120; FR VAT standard 0.2 of 100: 20"},
		{"a state as people write it", sale("US-CA", "us- in ", "2026-11-26", "USD", "100.00 standard"), "100 + 7 = 107; US-IN Sales Tax standard 0.07 of 100: 7"},
		{"a postal code with its country", at(sale("ES", "ES", "2026-11-26", "EUR", "100.00 standard"), "ES-28001"), "100 + 21 = 121; ES VAT standard 0.21 of 100: 21"},
		{"services", sale("DE", "DE", "2026-11-26", "EUR", "100.00 services"), "100 + 19 = 119; DE VAT standard 0.19 of 100: 19"},
	} {
		got, err := e.Estimate(context.Background(), c.d)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if show(got) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, show(got), c.want)
		}
	}
}

func TestWhatTheTablesDoNotSayIsNotCalculated(t *testing.T) {
	exempt := sale("DE", "DE", "2026-11-26", "EUR", "1.00 standard")
	exempt.Customer.Exemption = "embassy"
	goods := func(place, postal string) *tax.Document {
		return at(sale(place, place, "2026-11-26", "EUR", "1.00 standard"), postal)
	}
	services := func(place, postal string) *tax.Document {
		return at(sale(place, place, "2026-11-26", "EUR", "1.00 services"), postal)
	}
	belfast := sale("GB", "DE", "2026-11-26", "GBP", "1.00 standard")
	belfast.Seller.Address.PostalCode = "BT1 5GS"
	e := newEngine(t, nil)
	for _, c := range []struct {
		name string
		d    *tax.Document
		want string // part of the reason
	}{
		{"country", sale("BR", "BR", "2026-11-26", "BRL", "1.00 standard"), "no taxes of BR"},
		{"no destination", sale("DE", "", "2026-11-26", "EUR", "1.00 standard"), "not known from which country to which"},
		{"too early", sale("DE", "DE", "2015-12-31", "EUR", "1.00 standard"), "only for other dates"},
		{"decree that ended", sale("TH", "TH", "2026-10-01", "THB", "1.00 standard"), "on 2026-10-01, only for other dates"},
		{"category", sale("DE", "DE", "2026-11-26", "EUR", "1.00 medicines"), "no source was read"},
		{"unheard category", sale("DE", "DE", "2026-11-26", "EUR", "1.00 toys"), "no VAT of DE for category toys"},
		{"category of the tables", sale("DE", "DE", "2026-11-26", "EUR", "1.00 export"), "for the tables alone"},
		{"one of two taxes", sale("CA", "CA-QC", "2026-11-26", "CAD", "1.00 food"), "no QST of CA-QC for category food"},
		{"no state", sale("US-CA", "US", "2026-11-26", "USD", "1.00 standard"), "names no state"},
		{"no such state", sale("US-CA", "US-XX", "2026-11-26", "USD", "1.00 standard"), "no rates of US-XX"},
		{"export without a source", sale("US-CA", "DE", "2026-11-26", "USD", "1.00 standard"), "no source was read for goods that leave"},
		{"service across a border", sale("DE", "FR", "2026-11-26", "EUR", "1.00 services"), "where services from DE to FR are taxed"},
		{"freight alone", sale("DE", "DE", "2026-11-26", "EUR", "1.00 freight"), "freight without goods"},
		{"freight of goods that are not calculated", sale("DE", "DE", "2026-11-26", "EUR", "1.00 freight", "1.00 toys"), "freight takes their rate"},
		{"freight without a rule", sale("SG", "SG", "2026-11-26", "SGD", "1.00 standard", "1.00 freight"), "which rate freight takes"},
		{"exemption", exempt, `no exemption "embassy"`},
		{"Canary Islands", goods("ES", "35001"), "the Canary Islands"},
		{"services there", services("ES", "38 001"), "the Canary Islands"},
		{"services of somebody there", at(sale("ES-TF", "ES", "2026-11-26", "EUR", "1.00 services"), "28001"), "the Canary Islands"},
		{"no postal code", goods("ES", ""), "names no postal code, which decides whether it is in the Canary Islands"},
		{"no postal code, and a state", at(sale("ES", "ES-MD", "2026-11-26", "EUR", "1.00 standard"), ""), "names no postal code"},
		{"a part of a postal code", goods("ES", "3"), "names no"},
		{"no postal code for a service", services("DE", ""), "names no postal code, which decides whether it is in Heligoland"},
		{"Åland", goods("FI", "22100"), "the Åland Islands"},
		{"Svalbard", goods("NO", "9170"), "Svalbard and Jan Mayen"},
		{"medicines that may take another rate", sale("CA", "CA-AB", "2026-11-26", "CAD", "1.00 medicines"), "say zero or standard"},
		{"an island", goods("GR", "851 00"), "islands with rates of their own"},
		{"no such country", sale("DE", "ZZ", "2026-11-26", "EUR", "1.00 standard"), `"ZZ" is no ISO 3166 country code`},
		{"a country by its name", sale("DE", "Brazil", "2026-11-26", "EUR", "1.00 standard"), `"Brazil" is no ISO 3166 country code`},
		{"Greece by another code", sale("DE", "EL", "2026-11-26", "EUR", "1.00 standard"), "say GR"},
		{"Britain by another code", sale("uk ", "DE", "2026-11-26", "EUR", "1.00 standard"), "say GB"},
		{"services to no country", sale("DE", "EL", "2026-11-26", "EUR", "1.00 services"), "say GR"},
		{"Northern Ireland", belfast, "Northern Ireland"},
		{"Malaysia", sale("MY", "MY", "2026-11-26", "MYR", "1.00 standard"), "tariff code"},
	} {
		got, err := e.Estimate(context.Background(), c.d)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got.Status != tax.NotCalculated || got.Tax.Valid || got.Gross.Valid || !strings.Contains(got.Reason, c.want) {
			t.Errorf("%s: got %+v, want not calculated because of %q, with no tax and no gross", c.name, got, c.want)
		}
		for _, l := range got.Lines {
			if (l.Status == tax.NotCalculated) == (l.Tax.Valid || len(l.Taxes) != 0 || l.Reason == "") {
				t.Errorf("%s: got line %+v, want it either calculated or not, with a reason", c.name, l)
			}
		}
	}
}

// Half of 0.25 leaves a cent that could go either way, and decides on a cent of tax.
func TestOrderDoesNotDecideOnACentOfFreight(t *testing.T) {
	e := newEngine(t, nil)
	for _, lines := range [][]string{{"10.01 standard", "10.01 reduced", "0.25 freight"}, {"0.25 freight", "10.01 reduced", "10.01 standard"}} {
		got, err := e.Estimate(context.Background(), sale("DE", "DE", "2026-11-26", "EUR", lines...))
		want := "20.27 + 2.63 = 22.9; DE VAT reduced 0.07 of 10.14: 0.71; DE VAT standard 0.19 of 10.13: 1.92"
		if err != nil || show(got) != want {
			t.Errorf("%q: got %s, %v, want %s", lines, show(got), err, want)
		}
	}
}

func TestCustomersWithinTheUnion(t *testing.T) {
	french, german := sdk.TaxID{Country: "FR", Kind: "vat", Number: "FR 40 303 265 045"}, sdk.TaxID{Country: "DE", Kind: "vat", Number: "DE136695976"}
	wrong := sdk.TaxID{Country: "FR", Kind: "vat", Number: "FR 41 303 265 045"}
	const reverse, taxed = "100 + 0 = 100; FR VAT reverse 0 of 100: 0; !vat_number_unproved; provisional", "100 + 20 = 120; FR VAT standard 0.2 of 100: 20"
	for _, c := range []struct {
		name     string
		business bool
		ids      []sdk.TaxID
		origin   bool
		want     string
	}{
		{"consumer", false, nil, false, taxed},
		{"consumer below the threshold", false, nil, true, "100 + 19 = 119; DE VAT standard 0.19 of 100: 19"},
		{"business", true, []sdk.TaxID{french}, false, reverse},
		{"business, the second number", true, []sdk.TaxID{german, french}, false, reverse},
		{"business in Northern Ireland's register", true, []sdk.TaxID{{Country: "XI", Number: "XI980780684"}}, false, reverse},
		{"business that is registered where the goods come from", true, []sdk.TaxID{german}, false, taxed + "; !no_vat_number"},
		{"business with a number that is mistyped", true, []sdk.TaxID{wrong}, false, taxed + "; !no_vat_number"},
		{"business without a number", true, nil, false, taxed + "; !no_vat_number"},
		{"number of somebody who does not act as a business", false, []sdk.TaxID{french}, false, taxed},
	} {
		s := sdk.Settings{}
		if c.origin {
			s[settingDistance] = atOrigin
		}
		d := sale("DE", "FR", "2026-11-26", "EUR", "100.00 standard")
		d.Customer.Business, d.Customer.Address.TaxIDs = c.business, c.ids
		got, err := newEngine(t, s).Estimate(context.Background(), d)
		if err != nil {
			t.Fatal(err)
		}
		if show(got) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, show(got), c.want)
		}
		if noted := strings.Contains(strings.Join(got.Notes, " "), "Reverse charge"); noted != (c.want == reverse) {
			t.Errorf("%s: notes %q", c.name, got.Notes)
		}
	}
}

func TestRoundingSetting(t *testing.T) {
	d := sale("AU", "AU", "2026-11-26", "AUD", "1.25 standard", "1.25 standard", "1.25 standard")
	got, err := newEngine(t, sdk.Settings{settingRounding: roundLine}).Estimate(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	if want := "3.75 + 0.39 = 4.14; AU GST standard 0.1 of 3.75: 0.39"; show(got) != want {
		t.Errorf("got %s, want %s", show(got), want)
	}
}

func TestWrongDocumentsAreRefusedByField(t *testing.T) {
	e := newEngine(t, nil)
	for _, c := range []struct {
		field  string
		change func(d *tax.Document)
	}{
		{"kind", func(d *tax.Document) { d.Kind = "invoice" }},
		{"date", func(d *tax.Document) { d.Date = "26.11.2026" }},
		{"taxPoint", func(d *tax.Document) { d.TaxPoint = "2026-02-30" }},
		{"currency", func(d *tax.Document) { d.Currency = "euro" }},
		{"lines", func(d *tax.Document) { d.Lines = nil }},
		{"lines[1].id", func(d *tax.Document) { d.Lines[1].ID = d.Lines[0].ID }},
		{"lines[0].amount", func(d *tax.Document) { d.Lines[0].Amount = decimal.RequireFromString("-1") }},
		{"lines[1].amount", func(d *tax.Document) { d.Lines[1].Amount = decimal.RequireFromString("0.001") }},
		{"lines[1].amount", func(d *tax.Document) { d.Lines[1].Amount = decimal.New(1, 1_000_000) }},
	} {
		d := sale("DE", "DE", "2026-11-26", "EUR", "1.00 standard", "2.00 standard")
		c.change(d)
		_, err := e.Estimate(context.Background(), d)
		if coded, ok := err.(*sdk.Error); !ok || coded.Class != sdk.Validation || coded.Field != c.field { //nolint:errorlint // it is the contract
			t.Errorf("%s: got %v, want a validation error there", c.field, err)
		}
	}
}

func TestSettingsAreRefusedByName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, value string }{
		{"rate", "1"}, {settingRounding, "up"}, {settingDistance, "here"}, {settingTables, file + "s"}, {settingState, file},
	} {
		e, err := New(silent)
		if err != nil {
			t.Fatal(err)
		}
		err = e.Configure(context.Background(), sdk.Settings{c.name: c.value})
		if sdk.ClassOf(err) != sdk.Validation || !strings.HasPrefix(err.Error(), "validation: "+c.name+":") {
			t.Errorf("%s: got %v, want a validation error of that name", c.name, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	d, err := newEngine(t, sdk.Settings{settingState: t.TempDir()}).Describe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if bare, err := newEngine(t, nil).Describe(context.Background()); err != nil || len(bare.Operations) != 2 {
		t.Errorf("without a state: got %+v, %v, want what needs none", bare, err)
	}
	if d.Data == "" || len(d.Operations) != 6 || len(d.Config) != len(settings) {
		t.Errorf("got %+v", d)
	}
	covers := map[string]int{}
	for _, c := range d.Covers {
		covers[c.Country]++
		if slices.Contains([]string{"CA", "IN", "AK"}, c.State) && c.Country == "US" && strings.Contains(c.Note, "state rate only") == (c.State == "IN") {
			t.Errorf("%+v says, or does not say, that it is the state's rate only", c)
		}
	}
	if covers["DE"] != 1 || covers["US"] != 51 || covers["CA"] != 17 || covers["BR"] != 0 {
		t.Errorf("covers %v, want one of DE, 51 of US and 17 of CA", covers)
	}
}

func TestValidateTaxID(t *testing.T) {
	e := newEngine(t, nil)
	for _, c := range []struct{ country, number, status, checked string }{
		{"DE", "DE 136,695 976", tax.IDValid, "checksum"}, {"DE", "136695978", tax.IDInvalid, "checksum"},
		{"SG", "197401143C", tax.IDValid, "format"}, {"BR", "1", tax.IDUnknown, ""},
	} {
		got, err := e.ValidateTaxID(context.Background(), &sdk.TaxID{Country: c.country, Number: c.number})
		if err != nil || got.Status != c.status || got.Checked != c.checked {
			t.Errorf("%s %s: got %+v, %v, want %s by %s", c.country, c.number, got, err, c.status, c.checked)
		}
	}
	if _, err := e.ValidateTaxID(context.Background(), &sdk.TaxID{Country: "DE"}); sdk.ClassOf(err) != sdk.Validation {
		t.Errorf("got %v, want a validation error", err)
	}
}
