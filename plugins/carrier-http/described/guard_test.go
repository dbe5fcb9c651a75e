package described

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// What a caller names stays one part of the path, and the account is shown to no other host.
func TestAddressesStayAtTheProvider(t *testing.T) {
	c, w, _ := openReadme(t)
	x, err := c.exchange(c.d.operations[carrier.OpTrack], &carrier.TrackRequest{}, map[string]any{"number": "../a/b?c=d#e"})
	if err != nil {
		t.Fatal(err)
	}
	to, err := x.address(t.Context())
	if err != nil || to.EscapedPath() != "/track/..%2Fa%2Fb%3Fc=d%23e" || to.RawQuery != "" || "http://"+to.Host != w.http.URL {
		t.Errorf("%v, %v", to, err)
	}
	for _, number := range []string{"", "..", "."} {
		x.input["number"] = number
		_, err := x.address(t.Context())
		sdktest.FailsAt(t, "a number that is a step", err, "tracking")
	}
	elsewhere := newWheels(t)
	for _, path := range []string{elsewhere.http.URL + "/labels/x.pdf", "https://elsewhere.example/label", "//elsewhere.example/label", "label", "ftp://127.0.0.1/label"} {
		if _, err := x.fetch(t.Context(), path); err == nil || elsewhere.count("GET labels")+w.count("GET labels") != 0 {
			t.Errorf("%s was fetched, %v", path, err)
		}
	}
	if data, err := x.fetch(t.Context(), w.http.URL+"/labels/x.pdf"); err != nil || len(data) == 0 {
		t.Errorf("its own label: %v", err)
	}
}

// A success that does not name every parcel, or whose price is none, cannot be read.
func TestResultsAreLookedAt(t *testing.T) {
	for name, body := range map[string]string{
		"one parcel":       `{"id":"S","service":"std","numbers":["1"],"labels":[],"price":1,"currency":"EUR"}`,
		"an empty number":  `{"id":"S","service":"std","numbers":["1",""],"labels":[],"price":1,"currency":"EUR"}`,
		"no shipment":      `{"service":"std","numbers":["1","2"],"labels":[],"price":1,"currency":"EUR"}`,
		"no currency":      `{"id":"S","service":"std","numbers":["1","2"],"labels":[],"price":1,"currency":"euro"}`,
		"no price":         `{"id":"S","service":"std","numbers":["1","2"],"labels":[],"currency":"EUR"}`,
		"a label of noise": `{"id":"S","service":"std","numbers":["1","2"],"labels":[{"format":"pdf","base64":"!"}],"price":1,"currency":"EUR"}`,
	} {
		c, w, _ := openReadme(t)
		w.lose("POST shipments", status(http.StatusCreated, body))
		_, err := c.Ship(t.Context(), order("A"))
		sdktest.Fails(t, name, err, sdk.UnknownOutcome)
	}
	money := func(text string) sdk.Money {
		return sdk.Money{Amount: decimal.RequireFromString(text), Currency: "EUR"}
	}
	for _, c := range []struct {
		total string
		parts []string
		good  bool
	}{{"3", nil, true}, {"3", []string{"1", "2"}, true}, {"3.01", []string{"1", "2"}, false}, {"-1", nil, false}} {
		r := &carrier.Rate{Total: money(c.total)}
		for _, p := range c.parts {
			r.Charges = append(r.Charges, carrier.Charge{Kind: "base", Amount: money(p)})
		}
		if err := balanced(r); (err == nil) != c.good {
			t.Errorf("%s of %v: %v", c.total, c.parts, err)
		}
	}
}

// The record forgets what is old, and never what has no outcome.
func TestTheRecordForgets(t *testing.T) {
	dir, at := t.TempDir(), &clock{at: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)}
	const keep = 24 * time.Hour
	open := func() *purchases.Record {
		r, err := openRecord(dir, keep, logger(t), at.now)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := open()
	more := map[string]string{"more": "than half of the record, so that it is worth while to write it anew"}
	if err := errors.Join(r.Begin("a", "1", nil), r.Done("a", more), r.Begin("b", "2", nil)); err != nil {
		t.Fatal(err)
	}
	at.pass(2 * keep)
	if err := r.Begin("c", "3", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is read from what was written anew
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r = open()
		for key, want := range map[string]purchases.Phase{"a": "", "b": purchases.Begun, "c": purchases.Begun} {
			if s, err := r.Find(key); err != nil || s.Phase != want {
				t.Errorf("%s is %q, want %q: %v", key, s.Phase, want, err)
			}
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
