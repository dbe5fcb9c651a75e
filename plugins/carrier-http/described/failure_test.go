package described

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// clock is set by tests.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// opened is a carrier with a provider and a clock of its own.
func opened(t testing.TB, text string, more sdk.Settings) (*Carrier, *wheels, *clock) {
	t.Helper()
	w, at := newWheels(t), &clock{at: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)}
	c := New(parsed(t, "file.yaml", text), logger(t))
	c.now = at.now
	s := sdk.Settings{setBase: w.http.URL, setState: t.TempDir()}
	for name, value := range more {
		s[name] = value
	}
	if err := c.Configure(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // some tests close it before
	return c, w, at
}

func openReadme(t testing.TB) (*Carrier, *wheels, *clock) {
	return opened(t, readme(t), sdk.Settings{"account": "7", "api-key": "secret"})
}

func openKeyed(t testing.TB) (*Carrier, *wheels, *clock) {
	return opened(t, keyed(t), sdk.Settings{"client": "me", "client-secret": "secret"})
}

func order(reference string) *carrier.Shipment {
	s := parcels("Utrecht")
	s.Reference = reference
	return &s
}

// Ways in which an answer is lost after the provider did what was asked.
var losses = map[string]func(http.ResponseWriter) bool{
	"cut":         func(http.ResponseWriter) bool { panic(http.ErrAbortHandler) },
	"bad gateway": func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusBadGateway); return true },
	"half": func(w http.ResponseWriter) bool {
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"id":`)) // the rest never comes
		return true
	},
	"a page": func(w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("<html>welcome</html>"))
		return true
	},
	"another status": func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusAccepted); return true },
	"a redirect": func(w http.ResponseWriter) bool {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusSeeOther)
		return true
	},
}

// lose makes the provider lose its next answer to a call.
func (w *wheels) lose(call string, how func(http.ResponseWriter) bool) {
	w.set(func() {
		w.after[call] = func(out http.ResponseWriter) bool {
			delete(w.after, call)
			return how(out)
		}
	})
}

// A shipment whose answer was lost is looked up and not bought again, while the provider's
// search lags behind too.
func TestALostAnswerIsLookedUp(t *testing.T) {
	for name, how := range losses {
		t.Run(name, func(t *testing.T) {
			c, w, at := openReadme(t)
			w.lose("POST shipments", how)
			_, err := c.Ship(t.Context(), order("A"))
			sdktest.Fails(t, "ship, the answer is lost", err, sdk.UnknownOutcome)
			w.set(func() { w.hidden = true })
			_, err = c.Ship(t.Context(), order("A"))
			sdktest.Fails(t, "ship again, it is not found yet", err, sdk.UnknownOutcome)
			_, err = c.GetByReference(t.Context(), "A")
			sdktest.Fails(t, "lookup, it is not found yet", err, sdk.Unavailable)
			other := order("A")
			other.To.Name = "Else"
			_, err = c.Ship(t.Context(), other)
			sdktest.Fails(t, "ship other contents", err, sdk.Duplicate)
			w.set(func() { w.hidden = false })
			found, err := c.GetByReference(t.Context(), "A")
			if err != nil || len(found.Parcels) != 2 || found.Parcels[1].Reference != "b" || len(found.Documents) != 1 {
				t.Fatalf("lookup: %+v, %v", found, err)
			}
			w.set(func() { w.hidden = true })
			at.pass(time.Hour)
			again, err := c.Ship(t.Context(), order("A"))
			if err != nil || sdktest.Diff(again, found) != "" {
				t.Errorf("ship again: %v, %s", err, sdktest.Diff(again, found))
			}
			if n := w.count("POST shipments"); n != 1 {
				t.Errorf("it was bought %d times", n)
			}
		})
	}
}

// A shipment that never arrived is bought once the search would have found it.
func TestALostRequestIsMadeAgain(t *testing.T) {
	c, w, at := openReadme(t)
	w.lose("POST shipments", func(http.ResponseWriter) bool {
		w.sold = nil // it did not arrive
		panic(http.ErrAbortHandler)
	})
	_, err := c.Ship(t.Context(), order("A"))
	sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
	_, err = c.GetByReference(t.Context(), "A")
	sdktest.Fails(t, "lookup, too early", err, sdk.Unavailable)
	at.pass(3 * time.Second)
	_, err = c.GetByReference(t.Context(), "A")
	sdktest.Fails(t, "lookup", err, sdk.NotFound)
	if _, err := c.Ship(t.Context(), order("A")); err != nil {
		t.Errorf("ship again: %v", err)
	}
}

// What was answered with a refusal or never sent was surely not done, and is made anew.
func TestRefusalsAreNotUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		how   func(http.ResponseWriter) bool
		class sdk.Class
		field string
	}{
		"throttled":   {status(http.StatusTooManyRequests, ""), sdk.Throttled, ""},
		"unavailable": {status(http.StatusServiceUnavailable, ""), sdk.Unavailable, ""},
		"auth":        {status(http.StatusForbidden, ""), sdk.Auth, ""},
		"wrong place": {status(http.StatusNotFound, "<html>"), sdk.Unavailable, ""},
		"zip":         {status(http.StatusUnprocessableEntity, `{"error":{"code":"E_ZIP","message":"no such zip","field":"zip"}}`), sdk.Validation, "to.postalCode"},
		"a long text": {status(http.StatusUnprocessableEntity, `{"error":{"code":"E_LONG","message":"`+strings.Repeat("long ", 2000)+`"}}`), sdk.Validation, "shipment"},
		"no field":    {status(http.StatusUnprocessableEntity, `{"error":{"code":"E_OTHER"}}`), sdk.Validation, "shipment"},
		"a list":      {status(http.StatusBadRequest, `[1]`), sdk.Validation, "shipment"},
	} {
		t.Run(name, func(t *testing.T) {
			x, w, _ := openReadme(t)
			w.lose("POST shipments", c.how)
			_, err := x.Ship(t.Context(), order("A"))
			sdktest.Fails(t, "ship", err, c.class)
			if e := sdk.AsError(err); e.Field != c.field || name == "zip" && (e.Provider.Code != "E_ZIP" || e.Provider.Text != "no such zip") {
				t.Errorf("%+v", e)
			}
			if e := sdk.AsError(err); name == "a long text" && (len(e.Provider.Text) != sdk.MaxProviderText || !strings.HasPrefix(e.Message, "long long")) {
				t.Errorf("its text is %.40q, and the message %.40q", e.Provider.Text, e.Message)
			}
			if e := sdk.AsError(err); c.class == sdk.Throttled && time.Duration(e.RetryAfter) != time.Minute {
				t.Errorf("to be asked again after %s", e.RetryAfter)
			}
			if s, err := x.record.Find("ship:A"); err != nil || s.Phase != purchases.Undone {
				t.Errorf("it is %q in the record, %v", s.Phase, err)
			}
		})
	}
}

func status(code int, body string) func(http.ResponseWriter) bool {
	return func(w http.ResponseWriter) bool {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body)) // whoever asks reads it
		return true
	}
}

// A search that answers like a page of somebody else's says nothing about what was bought.
func TestALookupThatMissesIsNoAnswer(t *testing.T) {
	c, w, _ := openReadme(t)
	w.lose("GET shipments", status(http.StatusNotFound, "<html>"))
	_, err := c.GetByReference(t.Context(), "A")
	sdktest.Fails(t, "lookup", err, sdk.Unavailable)
}

// Where the provider has a key, a lost answer is asked for again under it, and only for as long
// as the provider knows the key.
func TestALostAnswerIsRepeatedUnderItsKey(t *testing.T) {
	c, w, at := openKeyed(t)
	w.lose("POST shipments", losses["cut"])
	_, err := c.Ship(t.Context(), order("A"))
	sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
	w.lose("POST shipments", status(http.StatusUnprocessableEntity, `{"error":{"code":"E_AREA"}}`))
	_, err = c.Ship(t.Context(), order("A"))
	sdktest.Fails(t, "ship again, and it is refused", err, sdk.UnknownOutcome)
	found, err := c.GetByReference(t.Context(), "A")
	if err != nil || found.Shipment != "S0" {
		t.Fatalf("lookup: %+v, %v", found, err)
	}
	w.lose("POST shipments", losses["cut"])
	_, err = c.Ship(t.Context(), order("B"))
	sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
	at.pass(25 * time.Hour)
	before := w.count("POST shipments")
	_, err = c.Ship(t.Context(), order("B"))
	sdktest.Fails(t, "ship again, when the key is forgotten", err, sdk.UnknownOutcome)
	_, err = c.GetByReference(t.Context(), "B")
	sdktest.Fails(t, "lookup, when the key is forgotten", err, sdk.Unavailable)
	if w.count("POST shipments") != before || len(w.sold) != 2 {
		t.Errorf("%d were sold", len(w.sold))
	}
}

// A label that cannot be fetched leaves the outcome open, and is fetched the next time.
func TestALostLabel(t *testing.T) {
	c, w, _ := openKeyed(t)
	w.lose("GET labels", status(http.StatusInternalServerError, ""))
	_, err := c.Ship(t.Context(), order("A"))
	sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
	got, err := c.Ship(t.Context(), order("A"))
	if err != nil || len(got.Documents) != 1 || len(w.sold) != 1 {
		t.Errorf("ship again: %+v, %v, and %d were sold", got, err, len(w.sold))
	}
}

// Voids and collections whose answer was lost are done once.
func TestLostAnswersOfOtherCalls(t *testing.T) {
	c, w, _ := openReadme(t)
	if _, err := c.Ship(t.Context(), order("A")); err != nil {
		t.Fatal(err)
	}
	w.lose("DELETE shipments", losses["cut"])
	_, err := c.Void(t.Context(), &carrier.VoidRequest{Reference: "A"})
	sdktest.Fails(t, "void", err, sdk.UnknownOutcome)
	v, err := c.Void(t.Context(), &carrier.VoidRequest{Reference: "A"})
	if err != nil || !v.Accepted || w.count("DELETE shipments") != 1 {
		t.Errorf("void again: %+v, %v", v, err)
	}
	k, w, _ := openKeyed(t)
	book := &carrier.PickupRequest{Action: "book", Reference: "P", Date: "2026-05-04"}
	w.lose("POST pickups", losses["cut"])
	_, err = k.Pickup(t.Context(), book)
	sdktest.Fails(t, "pickup", err, sdk.UnknownOutcome)
	if got, err := k.Pickup(t.Context(), book); err != nil || got.Confirmation != "P0" || len(w.sold) != 1 {
		t.Errorf("pickup again: %+v, %v", got, err)
	}
}

// A token is fetched once for many calls, and anew when it is no longer taken.
func TestTokens(t *testing.T) {
	c, w, at := openKeyed(t)
	track := func() error {
		_, err := c.Track(t.Context(), &carrier.TrackRequest{Tracking: []string{"none"}})
		return err
	}
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		all.Go(func() { errs[i] = track() })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, change := range []func(){func() {}, func() { w.set(func() { w.tokens++ }) }, func() { at.pass(time.Hour) }} {
		change()
		if err := track(); err != nil || w.tokens != []int{1, 3, 4}[i] {
			t.Errorf("%d: %v, and %d tokens", i, err, w.tokens)
		}
	}
	c.client.settings["client-secret"] = "other"
	at.pass(2 * time.Hour)
	err := track()
	sdktest.Fails(t, "the account is wrong", err, sdk.Auth)
	if strings.Contains(fmt.Sprintf("%+v", sdk.AsError(err)), "other") {
		t.Errorf("the error shows the secret: %v", err)
	}
}

// Digits are not lost on the way, labels are longer than what expressions see, and a secret is
// not shown to them.
func TestWhatExpressionsSee(t *testing.T) {
	c, w, _ := openReadme(t)
	w.set(func() { w.long = 400_000 })
	got, err := c.Ship(t.Context(), order("A"))
	if err != nil || len(got.Documents) != 1 || string(got.Documents[0].Data) != string(w.file("pdf")) {
		t.Errorf("label: %v", err)
	}
	s := parcels("Utrecht")
	s.Service = ""
	rates, err := c.Rate(t.Context(), &s)
	if err != nil || len(rates.Rates) != 2 || rates.Rates[1].Total.Amount.String() != "12.500000000000000001" {
		t.Errorf("rates: %+v, %v", rates, err)
	}
	if _, shown := c.visible["api-key"]; shown || c.visible["account"] != "7" {
		t.Errorf("settings: %v", c.visible)
	}
	d := parsed(t, "f", strings.Replace(readme(t), "amount: .price, currency}}]}", `amount: (.price | tonumber), currency}}]}`, 1))
	_, err = d.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "lost digits") {
		t.Errorf("a price that goes through tonumber: %v", err)
	}
}

// A call that never ends does not hold the carrier up for longer than the caller.
func TestDeadline(t *testing.T) {
	c, w, _ := openReadme(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.lose("POST shipments", func(http.ResponseWriter) bool { cancel(); panic(http.ErrAbortHandler) })
	_, err := c.Ship(ctx, order("A"))
	sdktest.Fails(t, "ship, the caller leaves", err, sdk.UnknownOutcome)
}
