package mydhl

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// class wants an error of a class.
func class(t *testing.T, what string, err error, want sdk.Class) *sdk.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("%s: no error, want class %s", what, want)
	}
	e := sdk.AsError(err)
	if e.Class != want {
		t.Fatalf("%s: %v, want class %s", what, err, want)
	}
	return e
}

// The class of a failure says whether the order may have been taken, and the next call goes by
// it.
func TestAFailedOrder(t *testing.T) {
	for _, c := range []struct {
		what  string
		fault fault
		want  sdk.Class
	}{
		{"429", fault{before: answers(429, map[string]string{"Retry-After": "7"}, "")}, sdk.Throttled},
		{"503", fault{before: answers(503, nil, "down")}, sdk.Unavailable},
		{"a password that is no longer good", fault{before: answers(401, nil, `{"title":"Unauthorized"}`)}, sdk.Auth},
		{"forbidden", fault{before: answers(403, nil, "")}, sdk.Auth},
		{"a refusal", fault{before: answers(400, nil, `{"detail":"8003: Account not allowed for this service."}`)}, sdk.Auth},
		{"a page of a proxy", fault{before: answers(404, nil, "<html>")}, sdk.Unavailable},
		{"a redirect", fault{before: answers(302, map[string]string{"Location": "http://127.0.0.1:1/"}, "")}, sdk.Unavailable},
		{"500", fault{before: answers(500, nil, `{"detail":"999: Process failure occurred.","code":"500"}`)}, sdk.UnknownOutcome},
		{"502", fault{before: answers(502, nil, "")}, sdk.UnknownOutcome},
		{"504", fault{before: answers(504, nil, "")}, sdk.UnknownOutcome},
		{"cut before it was taken", fault{before: cut}, sdk.UnknownOutcome},
		{"cut after it was taken", fault{after: cut}, sdk.UnknownOutcome},
		{"half an answer", fault{after: half}, sdk.UnknownOutcome},
		{"garbage", fault{after: answers(201, nil, "<html>")}, sdk.UnknownOutcome},
		{"an answer without a number", fault{after: answers(201, nil, "{}")}, sdk.UnknownOutcome},
		{"an answer with a parcel too few", fault{after: answers(201, nil, `{"shipmentTrackingNumber":"1234567890","packages":[{"trackingNumber":"JD1"}]}`)}, sdk.UnknownOutcome},
		{"no content", fault{after: answers(204, nil, "")}, sdk.UnknownOutcome},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := newDHL(t, at12)
			m := opened(t, p, t.TempDir(), nil)
			c.fault.at = "POST /shipments"
			p.fail(c.fault)
			_, err := m.Ship(t.Context(), order())
			e := class(t, "ship", err, c.want)
			if c.what == "429" && time.Duration(e.RetryAfter) != 7*time.Second {
				t.Errorf("retry after %s, want 7s", e.RetryAfter)
			}
			taken := len(p.sales())
			got, err := m.GetByReference(t.Context(), "SO-1")
			switch {
			case c.want != sdk.UnknownOutcome:
				class(t, "lookup", err, sdk.NotFound)
			case taken == 0:
				class(t, "lookup", err, sdk.Unavailable)
			case err != nil || got.Shipment != p.sales()[0].number:
				t.Errorf("lookup: %+v, %v", got, err)
			}
			_, err = m.Ship(t.Context(), order())
			switch {
			case c.want == sdk.UnknownOutcome && taken == 0:
				class(t, "ship, a second time", err, sdk.UnknownOutcome)
			case err != nil:
				t.Errorf("ship, a second time: %v", err)
			}
			if want := max(taken, 1); c.want != sdk.UnknownOutcome && len(p.sales()) != 1 || c.want == sdk.UnknownOutcome && len(p.sales()) != taken {
				t.Errorf("%d shipments were sold, want %d", len(p.sales()), want)
			}
		})
	}
}

// Nothing is sent to a provider that is not there, and nothing was.
func TestNobodyThere(t *testing.T) {
	p := newDHL(t, at12)
	m := opened(t, p, t.TempDir(), nil)
	p.http.Close()
	_, err := m.Ship(t.Context(), order())
	class(t, "ship", err, sdk.Unavailable)
	_, err = m.GetByReference(t.Context(), "SO-1")
	class(t, "lookup", err, sdk.NotFound)
	_, err = m.Rate(t.Context(), order())
	class(t, "rate", err, sdk.Unavailable)
}

// A caller whose time is over does not know what became of the order.
func TestACallerThatLeaves(t *testing.T) {
	p := newDHL(t, at12)
	m := opened(t, p, t.TempDir(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	p.fail(fault{at: "POST /shipments", after: func(http.ResponseWriter, *http.Request) { cancel(); <-ctx.Done(); cut(nil, nil) }})
	_, err := m.Ship(ctx, order())
	class(t, "ship", err, sdk.UnknownOutcome)
	got, err := m.GetByReference(t.Context(), "SO-1")
	if err != nil || got.Shipment != p.sales()[0].number {
		t.Errorf("lookup: %+v, %v", got, err)
	}
}

// What was lost is found by the next process too, with what can still be had of it.
func TestALostAnswerIsFound(t *testing.T) {
	p := newDHL(t, at12)
	dir := t.TempDir()
	m := opened(t, p, dir, nil)
	long := order()
	long.Reference = strings.Repeat("x", 64)
	p.fail(fault{at: "POST /shipments", after: cut})
	_, err := m.Ship(t.Context(), long)
	class(t, "ship", err, sdk.UnknownOutcome)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = opened(t, p, dir, nil)
	p.set(func() { p.hidden = true })
	e := class(t, "lookup, while tracking does not know it", lookup(t, m, long.Reference), sdk.Unavailable)
	if !e.Retryable {
		t.Error("it will not be asked again")
	}
	p.fail(fault{at: "GET /tracking", before: answers(429, map[string]string{"Retry-After": "5"}, "")})
	if e := class(t, "lookup, while tracking takes no calls", lookup(t, m, long.Reference), sdk.Unavailable); time.Duration(e.RetryAfter) != 5*time.Second {
		t.Errorf("retry after %s, want 5s", e.RetryAfter)
	}
	p.set(func() { p.hidden = false })
	got, err := m.GetByReference(t.Context(), long.Reference)
	if err != nil {
		t.Fatal(err)
	}
	if got.Shipment != p.sales()[0].number || got.Reference != long.Reference || len(got.Parcels) != 2 || got.Parcels[1].Tracking != p.sales()[0].pieces[1] ||
		got.Parcels[1].Reference != "b" || got.Parcels[0].Label != -1 || len(got.Warnings) != 1 || got.Warnings[0].Code != "label_lost" {
		t.Errorf("found: %+v", got)
	}
	if len(got.Documents) != 1 || got.Documents[0].Kind != "customs" {
		t.Errorf("found: the papers are %+v", got.Documents)
	}
	again, err := m.Ship(t.Context(), long)
	if err != nil || again.Shipment != got.Shipment || len(p.sales()) != 1 {
		t.Errorf("ship, after it was found: %+v, %v, and %d are sold", again, err, len(p.sales()))
	}
}

func lookup(t *testing.T, m *Carrier, reference string) error {
	t.Helper()
	_, err := m.GetByReference(t.Context(), reference)
	return err
}

// An order that tracking never knew counts as not done after the time that was set, and not
// before.
func TestSettling(t *testing.T) {
	now := noon
	p := newDHL(t, func() time.Time { return now })
	m := opened(t, p, t.TempDir(), sdk.Settings{setSettle: "48"})
	p.fail(fault{at: "POST /shipments", before: cut})
	_, err := m.Ship(t.Context(), order())
	class(t, "ship", err, sdk.UnknownOutcome)
	now = noon.Add(47 * time.Hour)
	class(t, "lookup, before the time", lookup(t, m, "SO-1"), sdk.Unavailable)
	p.fail(fault{at: "GET /tracking", before: answers(503, nil, "")})
	now = noon.Add(48 * time.Hour)
	class(t, "lookup, with tracking down", lookup(t, m, "SO-1"), sdk.Unavailable)
	class(t, "lookup, after the time", lookup(t, m, "SO-1"), sdk.NotFound)
	late := order()
	late.Date = "2026-05-07"
	if _, err := m.Ship(t.Context(), late); err != nil {
		t.Errorf("ship, after it was settled: %v", err)
	}
}

// A process that dies between the writing and the sending leaves an order of which nobody
// knows, and the next process does not send it.
func TestADeathBeforeTheAnswer(t *testing.T) {
	p := newDHL(t, at12)
	dir := t.TempDir()
	m := opened(t, p, dir, nil)
	s := order()
	digest, err := digestOf(s, false)
	if err != nil {
		t.Fatal(err)
	}
	b := begunOf(s, false)
	b.Account = m.account
	if err := m.record.Begin(shipKey(s.Reference), digest, b); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = opened(t, p, dir, nil)
	_, err = m.Ship(t.Context(), s)
	class(t, "ship", err, sdk.UnknownOutcome)
	class(t, "lookup", lookup(t, m, s.Reference), sdk.Unavailable)
	if n := p.count("POST /shipments"); n != 0 {
		t.Errorf("it was sent %d times", n)
	}
	s.Order = "another"
	_, err = m.Ship(t.Context(), s)
	class(t, "ship, with other contents", err, sdk.Duplicate)
}

// What was bought is the same after a restart, and while the provider is gone.
func TestARestart(t *testing.T) {
	p := newDHL(t, at12)
	dir := t.TempDir()
	m := opened(t, p, dir, nil)
	want, err := m.Ship(t.Context(), order())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = opened(t, p, dir, nil)
	p.http.Close()
	for what, ask := range map[string]func() (*carrier.Shipped, error){
		"lookup":     func() (*carrier.Shipped, error) { return m.GetByReference(t.Context(), "SO-1") },
		"ship again": func() (*carrier.Shipped, error) { return m.Ship(t.Context(), order()) },
	} {
		got, err := ask()
		if err != nil || sdktest.Diff(got, want) != "" {
			t.Errorf("%s: %+v, %v, want %+v", what, got, err, want)
		}
	}
}

// What was ordered and cannot be read again is not to be ordered elsewhere.
func TestARecordThatIsDamaged(t *testing.T) {
	p := newDHL(t, at12)
	dir := t.TempDir()
	m := opened(t, p, dir, nil)
	ask := func() error { _, err := m.Ship(t.Context(), order()); return err }
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	damage(t, filepath.Join(dir, "orders.log"))
	class(t, "ship", ask(), sdk.UnknownOutcome)
	class(t, "lookup", lookup(t, m, "SO-1"), sdk.Unavailable)
	if len(p.sales()) != 1 {
		t.Errorf("%d are sold, want 1", len(p.sales()))
	}
}

// damage changes the record behind the plugin's back.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt([]byte("?"), info.Size()-2)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// The provider's words are read into classes and places.
func TestProblems(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		class  sdk.Class
		field  string
		code   string
	}{
		{422, `{"detail":"#/content/packages/1/weight: 0 is not greater or equal to 0.001"}`, sdk.Validation, "parcels[1].weight", "422"},
		{422, `{"detail":"Multiple problems found, see Additional Details","additionalDetails":["#/customerDetails/receiverDetails/postalAddress/cityName: expected maxLength: 45, actual: 49"]}`, sdk.Validation, "to.city", "422"},
		{422, `{"detail":"#/customerDetails/shipperDetails/contactInformation: required key [phone] not found"}`, sdk.Validation, "from.phone", "422"},
		{422, `{"detail":"#/customerDetails/shipperDetails/registrationNumbers/2/number: x"}`, sdk.Validation, "from.taxIds[2]", "422"},
		{400, `{"detail":"998: ShipTimeStamp is not well formatted.(Expected Sample Format : '2010-02-11T17:10:09 GMT+01:00')"}`, sdk.Validation, "date", "998"},
		{400, `{"detail":"7008: The requested Special Service Code  #/valueAddedServices/0/serviceCode 'xx' is not available between this origin and destination."}`, sdk.NotServiced, "", "7008"},
		{400, `{"detail":"The account number is not found or invalid. Please check the account number and retry."}`, sdk.Auth, "", "400"},
		{400, `{"detail":"Receiver postal code is invalid"}`, sdk.Validation, "to.postalCode", "400"},
		{400, `{"title":"Bad request","status":998}`, sdk.Validation, "shipment", "400"},
	} {
		p := newDHL(t, at12)
		m := opened(t, p, t.TempDir(), nil)
		p.fail(fault{at: "POST /shipments", before: answers(c.status, nil, c.body)})
		_, err := m.Ship(t.Context(), order())
		e := class(t, c.body, err, c.class)
		if e.Field != c.field || e.Provider.Code != c.code || e.Provider.Text == "" {
			t.Errorf("%s: at %q, code %q, text %q, want at %q and code %q", c.body, e.Field, e.Provider.Code, e.Provider.Text, c.field, c.code)
		}
	}
}

// A number that would grow without end is none.
func TestNumbersAreBounded(t *testing.T) {
	for _, text := range []string{"1e400000000", "1e-400000000", "abc", strings.Repeat("9", 65), strings.Repeat("9", 19), "1e18"} {
		if err := new(number).UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%.20s is read as a number", text)
		}
	}
	var n number
	if err := n.UnmarshalJSON([]byte("157.950")); err != nil || n.String() != "157.95" {
		t.Errorf("157.950 is read as %s, %v", n, err)
	}
}
