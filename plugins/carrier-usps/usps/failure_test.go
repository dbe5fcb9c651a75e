package usps

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// cut ends the connection, before or after the provider has done what was asked for.
var (
	cutBefore = mishap{}
	cutAfter  = mishap{after: true}
)

// Each answer has its class, and nothing that buys is sent a second time.
func TestEveryAnswerHasItsClass(t *testing.T) {
	page := "<html><h1>Bad Gateway</h1></html>"
	for _, c := range []struct {
		name        string
		m           mishap
		looks, buys sdk.Class
		times       int
	}{
		{"no answer", cutBefore, sdk.Unavailable, sdk.UnknownOutcome, 1},
		{"no answer, and it was done", cutAfter, sdk.Unavailable, sdk.UnknownOutcome, 1},
		{"400 of a gateway", mishap{status: 400, body: page}, sdk.Validation, sdk.Validation, 1},
		{"401 each time", mishap{status: 401, body: page}, sdk.Auth, sdk.Auth, 2},
		{"403", mishap{status: 403, body: page}, sdk.Auth, sdk.Auth, 1},
		{"409", mishap{status: 409, body: page}, sdk.Conflict, sdk.UnknownOutcome, 1},
		{"429", mishap{status: 429, body: page}, sdk.Throttled, sdk.Throttled, 1},
		{"500", mishap{status: 500, body: page}, sdk.Unavailable, sdk.UnknownOutcome, 1},
		{"502", mishap{status: 502, body: page}, sdk.Unavailable, sdk.UnknownOutcome, 1},
		{"503", mishap{status: 503, body: page}, sdk.Unavailable, sdk.Unavailable, 1},
		{"504, and it was done", mishap{after: true, status: 504, body: page}, sdk.Unavailable, sdk.UnknownOutcome, 1},
		{"a redirect", mishap{status: 307, header: map[string]string{"Location": "/elsewhere"}}, sdk.Internal, sdk.UnknownOutcome, 1},
		{"a page", mishap{status: 200, body: page}, sdk.Unavailable, sdk.UnknownOutcome, 1},
		{"half an answer", mishap{status: 200, body: `{"trackingNumber": "9205`}, sdk.Unavailable, sdk.UnknownOutcome, 1},
		{"less than it says", mishap{status: 200, header: map[string]string{"Content-Length": "4000"}, body: "{}"}, sdk.Unavailable, sdk.UnknownOutcome, 1},
		{"a huge number", mishap{status: 200, body: `{"trackingNumber": "92055900", "postage": 1e999999999, "rateOptions": [{"totalBasePrice": 1e999999999}]}`}, sdk.Unavailable, sdk.UnknownOutcome, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProvider(t)
			carrier := open(t, settingsFor(t, p))
			p.upset(onPrices, c.m, c.m)
			_, err := carrier.Rate(t.Context(), parcel("R"))
			sdktest.Fails(t, "rate", err, c.looks)
			if got := p.count(onPrices); got != c.times {
				t.Errorf("rate: asked %d times, want %d", got, c.times)
			}
			p.with(func() { p.mishaps[onPrices] = nil })
			p.upset(onLabel, c.m, c.m)
			_, err = carrier.Ship(t.Context(), parcel("S"))
			sdktest.Fails(t, "ship", err, c.buys)
			if got := p.count(onLabel); got != c.times {
				t.Errorf("ship: asked %d times, want %d", got, c.times)
			}
		})
	}
}

func TestTheProvidersWordsAreKept(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	far := parcel("far")
	far.To.PostalCode = "99999"
	_, err := c.Rate(t.Context(), far)
	sdktest.FailsAt(t, "a ZIP code that there is not", err, "to.postalCode")
	if e := sdk.AsError(err); e.Provider.Code != "160042" || !strings.Contains(e.Provider.Text, "ZIP code is not valid") || e.Fault != sdk.FaultCaller || e.Retryable {
		t.Errorf("it became %+v", e)
	}
	nowhere := parcel("nowhere")
	nowhere.To.PostalCode = "99998"
	_, err = c.Ship(t.Context(), nowhere)
	sdktest.FailsAt(t, "an address where nothing is delivered", err, "to.postalCode")
	_, err = c.GetByReference(t.Context(), "nowhere")
	sdktest.Fails(t, "lookup of what was refused", err, sdk.NotFound)
	late := parcel("late")
	late.Date = "2026-12-24"
	_, err = c.Ship(t.Context(), late)
	sdktest.Fails(t, "a day that is too far away", err, sdk.NotServiced)
	if e := sdk.AsError(err); e.Field != "date" {
		t.Errorf("the field is %q, want date", e.Field)
	}
	p.upset(onPrices, mishap{status: 429, header: map[string]string{"Retry-After": "30"}})
	_, err = c.Rate(t.Context(), parcel("R"))
	if e := sdk.AsError(err); e.Class != sdk.Throttled || e.RetryAfter != sdk.Span(30*time.Second) || !e.Retryable {
		t.Errorf("throttled: %+v", e)
	}
	at := httpcall.RetryAfter(http.Header{"Retry-After": {"Fri, 27 Nov 2026 12:01:00 GMT"}}, time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC))
	if at != sdk.Span(time.Minute) {
		t.Errorf("a time in Retry-After is read as %s, want a minute", at)
	}
}

func TestTokensAreKeptAndRenewed(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	now := time.Now()
	c.client.bearer.now = func() time.Time { return now }
	ship := func(reference string) {
		t.Helper()
		if _, err := c.Ship(t.Context(), parcel(reference)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(tokens, payments int) {
		t.Helper()
		if got := [2]int{p.count(onToken), p.count(onPayment)}; got != [2]int{tokens, payments} {
			t.Fatalf("%v tokens and payment authorisations were fetched, want %d and %d", got, tokens, payments)
		}
	}
	ship("1")
	ship("2")
	want(1, 1)
	p.with(func() { p.bearer = "" }) // the provider has forgotten it
	ship("3")
	want(2, 1)
	p.with(func() { p.payment = "" })
	ship("4")
	want(3, 2) // nobody says which of the two it was
	now = now.Add(28799*time.Second - 30*time.Second)
	ship("5")
	want(4, 2)
	if p.bought() != 5 {
		t.Errorf("%d labels were bought, want 5", p.bought())
	}
}

func TestAWrongSecretIsNotShown(t *testing.T) {
	p := newProvider(t)
	settings := settingsFor(t, p)
	settings[setSecret] = "other-s3cret"
	var shown bytes.Buffer
	c := New(slog.New(slog.NewTextHandler(&shown, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err := c.Configure(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.upset(onToken, mishap{status: 400, body: `{"error": "invalid_client: other-s3cret"}`})
	_, err := c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship with a wrong secret", err, sdk.Auth)
	if e := sdk.AsError(err); strings.Contains(e.Error()+e.Provider.Text, "s3cret") || !strings.Contains(e.Provider.Text, "***") {
		t.Errorf("the error shows the secret: %+v", e)
	}
	if _, err := c.Rate(t.Context(), parcel("R")); err == nil {
		t.Error("a wrong secret is good for prices")
	}
	for _, secret := range []string{"s3cret", "Jefferson", "63104"} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("the log shows %q: %s", secret, shown.String())
		}
	}
	if p.count(onLabel) != 0 {
		t.Error("a label was asked for")
	}
}

// unreached is a network on which one call reaches nobody.
type unreached struct {
	http.RoundTripper
	path string
}

func (u unreached) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == u.path {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	return u.RoundTripper.RoundTrip(r)
}

func TestAProviderThatIsNotThereHasSoldNothing(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	reached := c.client.buying.Transport
	c.client.buying.Transport = unreached{reached, labelPath}
	_, err := c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship to nobody", err, sdk.Unavailable)
	_, err = c.GetByReference(t.Context(), "S")
	sdktest.Fails(t, "lookup of what was not sent", err, sdk.NotFound)
	if p.count(onReprint) != 0 {
		t.Error("the provider was asked for what was not sent to it")
	}
	c.client.buying.Transport = reached
	other := parcel("S")
	other.To.Name = "Somebody Else"
	if _, err := c.Ship(t.Context(), other); err != nil {
		t.Errorf("with other contents: %v", err)
	}
}

// What has no answer is found by its key, after a restart too.
func TestAnUnknownOutcomeIsFound(t *testing.T) {
	for _, back := range []bool{false, true} {
		p := newProvider(t)
		settings := settingsFor(t, p)
		c := open(t, settings)
		ship := func(c *Carrier, s *carrier.Shipment) (*carrier.Shipped, error) {
			if back {
				return c.ShipReturn(t.Context(), s)
			}
			return c.Ship(t.Context(), s)
		}
		p.upset(onLabel, cutAfter)
		_, err := ship(c, parcel("S"))
		sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
		other := parcel("S")
		other.To.Name = "Somebody Else"
		_, err = ship(c, other)
		sdktest.Fails(t, "other contents while nobody knows", err, sdk.Duplicate)
		_, err = c.Void(t.Context(), &carrier.VoidRequest{Reference: "S"})
		sdktest.Fails(t, "void while nobody knows", err, sdk.Conflict)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c = open(t, settings)
		p.upset(onReprint, cutBefore, mishap{status: 503})
		for range 2 {
			_, err = c.GetByReference(t.Context(), "S")
			sdktest.Fails(t, "lookup while the provider is down", err, sdk.Unavailable)
		}
		found, err := c.GetByReference(t.Context(), "S")
		if err != nil {
			t.Fatal(err)
		}
		again, err := ship(c, parcel("S"))
		if err != nil {
			t.Fatal(err)
		}
		if d := sdktest.Diff(again, found); d != "" || found.Shipment == "" || len(found.Documents) != 1 {
			t.Errorf("what was found is not what was bought: %s", d)
		}
		if p.bought() != 1 || p.count(onLabel) != 1 {
			t.Errorf("%d labels were bought with %d calls, want 1 with 1", p.bought(), p.count(onLabel))
		}
	}
}

// What never arrived is bought once, under the same key, whoever asks first.
func TestAnUnknownOutcomeIsAskedForAgainUnderItsKey(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	p.upset(onLabel, cutBefore)
	_, err := c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
	_, err = c.GetByReference(t.Context(), "S")
	sdktest.Fails(t, "lookup of what never arrived", err, sdk.NotFound)
	begin, err := c.book.begun(c.book.shipment("S"))
	if err != nil {
		t.Fatal(err)
	}
	p.upset(onLabel, cutAfter) // and the second time it arrives
	_, err = c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship, again", err, sdk.UnknownOutcome)
	got, err := c.Ship(t.Context(), parcel("S"))
	if err != nil {
		t.Fatal(err)
	}
	if p.bought() != 1 || p.labels[got.Shipment].key != begin.Key {
		t.Errorf("%d labels were bought, and %q has key %q, want 1 with key %q", p.bought(), got.Shipment, p.labels[got.Shipment].key, begin.Key)
	}
}

// A provider that does not say that there is no label leaves it open.
func TestNobodyBuysAgainWhatTheProviderDoesNotSay(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	p.upset(onLabel, cutAfter)
	_, err := c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
	p.with(func() { p.blind = true })
	_, err = c.GetByReference(t.Context(), "S")
	sdktest.Fails(t, "lookup", err, sdk.Unavailable)
	_, err = c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship, again", err, sdk.UnknownOutcome)
	if p.count(onLabel) != 1 {
		t.Errorf("%d labels were asked for, want 1", p.count(onLabel))
	}
}

// A gateway that says 503 may have passed the request on.
func TestA503KeepsItsKey(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	p.upset(onLabel, mishap{after: true, status: 503})
	_, err := c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship", err, sdk.Unavailable)
	if _, err := c.Ship(t.Context(), parcel("S")); err != nil {
		t.Fatal(err)
	}
	if p.bought() != 1 {
		t.Errorf("%d labels were bought, want 1", p.bought())
	}
}

// What was refused can be put right under the same reference.
func TestWhatWasRefusedCanBePutRight(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	wrong := parcel("S")
	wrong.To.PostalCode = "99998"
	_, err := c.Ship(t.Context(), wrong)
	sdktest.Fails(t, "ship to a wrong address", err, sdk.Validation)
	if _, err := c.Ship(t.Context(), parcel("S")); err != nil {
		t.Errorf("with the right one: %v", err)
	}
}

func TestALabelWithoutANumberIsNoAnswer(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	p.upset(onLabel, mishap{change: func(o object) { delete(o, "trackingNumber") }})
	_, err := c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
	if got, err := c.GetByReference(t.Context(), "S"); err != nil || got.Shipment == "" {
		t.Errorf("lookup: %+v, %v", got, err)
	}
}

// A label that may have been bought keeps its key through whatever comes next.
func TestAKeyIsKeptUntilItIsSure(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	p.upset(onLabel, cutBefore, mishap{after: true, status: 429})
	_, err := c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
	_, err = c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship, again", err, sdk.Throttled)
	if _, err := c.Ship(t.Context(), parcel("S")); err != nil {
		t.Fatal(err)
	}
	if p.bought() != 1 {
		t.Errorf("%d labels were bought, want 1", p.bought())
	}
}

// Tokens go nowhere but to the provider.
func TestARedirectIsNotFollowed(t *testing.T) {
	other := newProvider(t)
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	p.upset(onAddress, mishap{status: 302, header: map[string]string{"Location": other.url + "/addresses/v3/address"}})
	a := parcel("").To
	if _, err := c.ValidateAddress(t.Context(), &a); err == nil {
		t.Error("it went well, want an error")
	}
	if got := other.count(onAddress); got != 0 {
		t.Errorf("the other one was asked %d times", got)
	}
}
