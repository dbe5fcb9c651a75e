package remote

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// codes are of places without taxes of their own.
var codes = map[string]string{"DE": "10115", "FR": "75001", "GB": "SW1A 1AA"}

func address(place string) sdk.Address {
	country, state, _ := strings.Cut(place, "-")
	return sdk.Address{Country: country, State: state, PostalCode: codes[country]}
}

// sale makes a document of lines such as "100.00 books" or "119.00 standard included".
func sale(from, to, currency string, lines ...string) *tax.Document {
	d := &tax.Document{Reference: "R1", Kind: tax.Sale, Date: "2026-11-26", Currency: currency,
		Seller: tax.Party{Address: address(from), Business: true}, Customer: tax.Party{Address: address(to)}, ShipFrom: address(from), ShipTo: address(to)}
	for i, text := range lines {
		f := strings.Fields(text)
		d.Lines = append(d.Lines, tax.Line{ID: fmt.Sprint(i + 1), Amount: decimal.RequireFromString(f[0]), Category: f[1], Included: len(f) > 2,
			Quantity: decimal.NewFromInt(1)})
	}
	return d
}

// scenes are places with the categories that are calculated there; "none" is not, anywhere.
var scenes = []struct {
	from, to, currency string
	categories         []string
}{
	{"DE", "DE", "EUR", []string{"standard", "food", "services", "freight", "none"}},
	{"DE", "FR", "EUR", []string{"standard", "books", "reduced-10", "freight"}},
	{"GB", "GB", "GBP", []string{"standard", "food", "none"}},
	{"CA-ON", "CA-QC", "CAD", []string{"standard"}},
	{"US-NY", "US-MN", "USD", []string{"standard"}},
	{"JP", "JP", "JPY", []string{"standard", "food"}},
}

func drawn(t *rapid.T) *tax.Document {
	s := rapid.SampledFrom(scenes).Draw(t, "scene")
	d := sale(s.from, s.to, s.currency, "0 "+s.categories[0])
	d.Kind = rapid.SampledFrom([]string{tax.Sale, tax.Return}).Draw(t, "kind")
	for i := range rapid.IntRange(0, 8).Draw(t, "lines") {
		cents := rapid.OneOf(rapid.Int64Range(0, 50), rapid.Int64Range(0, 1_000_000_000_000)).Draw(t, "cents")
		d.Lines = append(d.Lines, tax.Line{ID: fmt.Sprint("drawn", i), Category: rapid.SampledFrom(s.categories).Draw(t, "category"),
			Amount: decimal.New(cents, -sdk.MinorDigits(s.currency)), Included: rapid.Bool().Draw(t, "included")})
	}
	return d
}

// What comes over the line is what the engine there says, to the last digit.
func TestNothingChangesOnTheWay(t *testing.T) {
	f := newFar(t)
	e := f.open()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		d := drawn(t)
		n++
		d.Reference = fmt.Sprint("drawn-", n)
		want, err := f.engine.Estimate(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.Estimate(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if want = copied(t, want); sdktest.Diff(got, want) != "" {
			t.Fatalf("estimate: %s", sdktest.Diff(got, want))
		}
		got, err = e.Finalise(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if want, err = f.engine.Finalise(t.Context(), d); err != nil { // the same again
			t.Fatal(err)
		}
		if want = copied(t, want); sdktest.Diff(got, want) != "" {
			t.Fatalf("finalise: %s", sdktest.Diff(got, want))
		}
	})
}

// The document of the protocol has the fields of the contract, and says rightly which are
// always there.
func TestTheProtocolHasTheContractsNames(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{"Decimal": true, "NullDecimal": true, "Date": true, "Span": true, "TaxKind": true}
	for _, v := range []any{tax.Document{}, tax.Result{}, tax.Description{}, tax.VoidRequest{}, tax.Voided{}, tax.TaxIDAdvice{}, sdk.Error{}, byReference{}} {
		compare(t, doc, reflect.TypeOf(v), seen)
	}
	for name := range doc.Components.Schemas {
		if !seen[name] {
			t.Errorf("schema %s is no type of the contract", name)
		}
	}
}

func compare(t *testing.T, doc *openapi3.T, of reflect.Type, seen map[string]bool) {
	for of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	plain := []reflect.Type{reflect.TypeFor[decimal.Decimal](), reflect.TypeFor[decimal.NullDecimal](), reflect.TypeFor[time.Time]()}
	if of.Kind() != reflect.Struct || slices.Contains(plain, of) {
		return
	}
	name := strings.ToUpper(of.Name()[:1]) + of.Name()[1:]
	schema := doc.Components.Schemas[name]
	if schema == nil {
		t.Errorf("there is no schema %s", name)
		return
	}
	if seen[name] {
		return
	}
	seen[name] = true
	var fields, required []string
	for _, f := range reflect.VisibleFields(of) {
		field, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || field == "config" { // how the other side is set up is its own business
			continue
		}
		fields = append(fields, field)
		if option == "" && f.Type != reflect.TypeFor[decimal.NullDecimal]() {
			required = append(required, field)
		}
		compare(t, doc, f.Type, seen)
	}
	var named []string
	for field := range schema.Value.Properties {
		named = append(named, field)
	}
	slices.Sort(fields)
	slices.Sort(named)
	slices.Sort(required)
	if !slices.Equal(fields, named) {
		t.Errorf("%s: the schema has %q, the type %q", name, named, fields)
	}
	needed := slices.Sorted(slices.Values(schema.Value.Required))
	if !slices.Equal(required, needed) {
		t.Errorf("%s: the schema wants %q, the type always has %q", name, needed, required)
	}
	if has := schema.Value.AdditionalProperties.Has; has == nil || *has {
		t.Errorf("%s is not closed", name)
	}
}

// An answer that is not of what was asked, or does not add up, is none.
func TestAnswersThatAreNone(t *testing.T) {
	f := newFar(t)
	d := sale("DE", "DE", "EUR", "100.00 standard", "50.00 books", "11.90 standard included")
	good, err := f.engine.Finalise(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		change func(r *tax.Result)
	}{
		{"another reference", func(r *tax.Result) { r.Reference = "R2" }},
		{"another currency", func(r *tax.Result) { r.Currency = "USD" }},
		{"an estimate", func(r *tax.Result) { r.Kind = tax.ResultEstimate }},
		{"a credit", func(r *tax.Result) { r.Kind = tax.ResultCredit }},
		{"not final", func(r *tax.Result) { r.Final = time.Time{} }},
		{"voided", func(r *tax.Result) { r.Voided = true }},
		{"a line less", func(r *tax.Result) { r.Lines = r.Lines[:2] }},
		{"another line", func(r *tax.Result) { r.Lines[0].ID = "4" }},
		{"lines in another order", func(r *tax.Result) { r.Lines[0], r.Lines[1] = r.Lines[1], r.Lines[0] }},
		{"another net", func(r *tax.Result) { r.Net.Decimal = r.Net.Decimal.Add(decimal.New(1, -2)) }},
		{"another net of a line", func(r *tax.Result) {
			a, b := &r.Lines[0].Net, &r.Lines[1].Net
			a.Decimal, b.Decimal = a.Decimal.Add(decimal.New(1, -2)), b.Decimal.Sub(decimal.New(1, -2))
		}},
		{"no net", func(r *tax.Result) { r.Net.Valid = false }},
		{"no net of a line", func(r *tax.Result) { r.Lines[0].Net.Valid, r.Net.Valid = false, false }},
		{"another tax", func(r *tax.Result) {
			r.Tax.Decimal, r.Gross.Decimal = r.Tax.Decimal.Add(decimal.New(1, -2)), r.Gross.Decimal.Add(decimal.New(1, -2))
		}},
		{"another tax alone", func(r *tax.Result) { r.Tax.Decimal = r.Tax.Decimal.Add(decimal.New(1, -2)) }},
		{"another tax of a line and of all, but for its taxes", func(r *tax.Result) {
			for _, d := range []*decimal.Decimal{&r.Lines[0].Tax.Decimal, &r.Tax.Decimal, &r.Gross.Decimal, &r.Summary[0].Amount} {
				*d = d.Add(decimal.New(1, -2))
			}
		}},
		{"another tax of a line", func(r *tax.Result) { r.Lines[0].Tax.Decimal = r.Lines[0].Tax.Decimal.Add(decimal.New(1, -2)) }},
		{"another gross", func(r *tax.Result) { r.Gross.Decimal = r.Gross.Decimal.Add(decimal.New(1, -2)) }},
		{"another summary", func(r *tax.Result) { r.Summary[0].Amount = r.Summary[0].Amount.Add(decimal.New(1, -2)) }},
		{"a status that nobody knows", func(r *tax.Result) { r.Status = "guessed" }},
		{"a line's status that nobody knows", func(r *tax.Result) { r.Lines[0].Status = "guessed" }},
		{"no tax, which is calculated", func(r *tax.Result) { r.Tax.Valid, r.Gross.Valid = false, false }},
		{"no tax of a line, which is calculated", func(r *tax.Result) { r.Lines[0].Tax.Valid = false }},
		{"not calculated, with a tax", func(r *tax.Result) { r.Lines[0].Status, r.Lines[0].Reason = tax.NotCalculated, "none" }},
		{"not calculated, without a reason", func(r *tax.Result) { r.Lines[0].Status, r.Lines[0].Tax.Valid = tax.NotCalculated, false }},
		{"a line is not calculated, the document is", func(r *tax.Result) {
			r.Lines[0] = tax.LineResult{ID: r.Lines[0].ID, Status: tax.NotCalculated, Reason: "none", Net: r.Lines[0].Net}
		}},
	} {
		answer := copied(t, good)
		c.change(answer)
		text, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		f.fail(fault{op: tax.OpFinalise, before: says(http.StatusOK, string(text))})
		got, err := f.open().Finalise(t.Context(), d)
		if err == nil {
			t.Errorf("%s: it was taken: %+v", c.what, got)
			continue
		}
		sdktest.Fails(t, c.what, err, sdk.UnknownOutcome)
		if got := sdk.AsError(err).Fault; got != sdk.FaultProvider {
			t.Errorf("%s: the fault is with the %s", c.what, got)
		}
	}
	if got, err := f.open().Finalise(t.Context(), d); err != nil || !got.Final.Equal(good.Final) {
		t.Errorf("the good one: %+v, %v", got, err)
	}
}

// An answer is read up to its limit, and one beyond it is none.
func TestTheLargestAnswer(t *testing.T) {
	f := newFar(t)
	d := known()
	good, err := f.engine.Finalise(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	f.fail(fault{op: tax.OpFinalise, before: says(http.StatusOK, string(text)+strings.Repeat(" ", maxAnswer-len(text)))},
		fault{op: tax.OpFinalise, before: says(http.StatusOK, string(text)+strings.Repeat(" ", maxAnswer-len(text)+1))})
	if _, err := f.open().Finalise(t.Context(), d); err != nil {
		t.Errorf("an answer of the largest size: %v", err)
	}
	_, err = f.open().Finalise(t.Context(), d)
	sdktest.Fails(t, "an answer that is larger", err, sdk.UnknownOutcome)
}

// The same holds for what is looked up, estimated or known of a number.
func TestOtherAnswersThatAreNone(t *testing.T) {
	f := newFar(t)
	good, err := f.engine.Finalise(t.Context(), known())
	if err != nil {
		t.Fatal(err)
	}
	estimate, err := f.engine.Estimate(t.Context(), known())
	if err != nil {
		t.Fatal(err)
	}
	advice := tax.TaxIDAdvice{ID: sdk.TaxID{Country: "DE", Number: "DE136695976"}, Status: tax.IDValid, Checked: "format"}
	for _, c := range []struct {
		what, op string
		answer   func() any
	}{
		{"another reference", tax.OpGetByReference, func() any { r := copied(t, good); r.Reference = "R2"; return r }},
		{"an estimate", tax.OpGetByReference, func() any { return estimate }},
		{"nothing final", tax.OpGetByReference, func() any { r := copied(t, good); r.Final = time.Time{}; return r }},
		{"a sum that is none", tax.OpGetByReference, func() any { r := copied(t, good); r.Net.Decimal = decimal.Zero; return r }},
		{"something final", tax.OpEstimate, func() any { return good }},
		{"something voided", tax.OpEstimate, func() any { r := copied(t, estimate); r.Voided = true; return r }},
		{"another reference", tax.OpVoid, func() any { return &tax.Voided{Reference: "R2"} }},
		{"no country", tax.OpValidateTaxID, func() any { a := advice; a.ID.Country = ""; return &a }},
		{"no number", tax.OpValidateTaxID, func() any { a := advice; a.ID.Number = ""; return &a }},
		{"a status that nobody knows", tax.OpValidateTaxID, func() any { a := advice; a.Status = "likely"; return &a }},
		{"a look that nobody knows", tax.OpValidateTaxID, func() any { a := advice; a.Checked = "guess"; return &a }},
	} {
		text, err := json.Marshal(c.answer())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range calls {
			if k.op != c.op {
				continue
			}
			want := sdk.Unavailable
			if k.marks {
				want = sdk.UnknownOutcome
			}
			f.fail(fault{op: k.op, before: says(http.StatusOK, string(text))})
			_, err := k.do(t.Context(), f.open())
			sdktest.Fails(t, k.op+", "+c.what, err, want)
		}
	}
}

// copied gives a result as it is on the way, where nothing stands behind a null, from the far side.
func copied(t rapid.TB, r *tax.Result) *tax.Result {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	out := new(tax.Result)
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
	out.Source = live
	return out
}

// answering is a transport that answers with the same bytes.
type answering struct {
	status int
	body   []byte
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Request: r, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(a.body)))}, nil
}

// FuzzAnswer reads what the other side may send: it is a result that adds up, or an error that
// keeps its limits and promises nothing that was not said.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"reference":"R1","kind":"invoice","currency":"EUR","status":"calculated","lines":[{"id":"1","status":"calculated","net":"1","tax":"0.19",`+
		`"taxes":[{"jurisdiction":{"country":"DE"},"name":"VAT","kind":"standard","rate":"0.19","taxable":"1","amount":"0.19"}]}],"net":"1","tax":"0.19","gross":"1.19",`+
		`"source":"local","provisional":false,"final":"2026-11-26T12:00:00Z","voided":false}`))
	f.Add(409, []byte(`{"class":"duplicate","fault":"caller","message":"no","retryable":false}`))
	f.Add(503, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 100 || status > 999 {
			return
		}
		e := configured(t, sdk.Settings{setURL: "https://tax.example", setToken: "t"})
		e.client.http.Transport = answering{status, body}
		d := sale("DE", "DE", "EUR", "1 standard")
		r, err := e.Finalise(t.Context(), d)
		if err == nil {
			if status != 200 || checkSettled(d, r) != nil {
				t.Errorf("it was taken: %+v", r)
			}
			return
		}
		coded, ok := err.(*sdk.Error) //nolint:errorlint // the contract says which type it is
		if !ok || !coded.Class.Known() || *coded != *coded.Bounded() || coded.Message == "" || coded.Class == sdk.Validation && coded.Field == "" {
			t.Fatalf("%#v", err)
		}
		said := new(sdk.Error)
		if sdk.ReadJSON(body, said) == nil && status != 200 {
			return
		}
		if refusals := []int{401, 403, 407, 413, 429}; !slices.Contains(refusals, status) && coded.Class != sdk.UnknownOutcome {
			t.Errorf("status %d without an error of the protocol is %v", status, coded)
		}
	})
}
