package remote

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

func pemOf(certificate []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}

func TestSettings(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	oauth := sdk.Settings{setURL: "https://tax.example", setTokenURL: "https://id.example/token", setID: "site", setSecret: "s"}
	with := func(s sdk.Settings, name, value string) sdk.Settings {
		out := sdk.Settings{}
		for k, v := range s {
			out[k] = v
		}
		if out[name] = value; value == "" {
			delete(out, name)
		}
		return out
	}
	good := sdk.Settings{setURL: "https://tax.example/base", setToken: "t"}
	for _, s := range []sdk.Settings{good, oauth, with(oauth, setScope, "a b"), with(good, setURL, "http://127.0.0.1:8085"), with(good, setURL, "http://[::1]:8085"),
		with(good, setURL, "http://localhost"), with(good, setTimeout, "60s"), with(good, setProxy, "http://proxy.example:3128"), with(good, setCache, "3600s")} {
		if err := New(nil).Configure(t.Context(), s); err != nil {
			t.Errorf("%v: %v", s, err)
		}
	}
	for _, c := range []struct {
		s     sdk.Settings
		field string
	}{
		{nil, setURL}, {with(good, "colour", "red"), "colour"}, {with(good, setURL, "tax.example"), setURL}, {with(good, setURL, "http://tax.example"), setURL},
		{with(good, setURL, "http://10.0.0.1"), setURL}, {with(good, setURL, "ftp://tax.example"), setURL}, {with(good, setURL, "https://"), setURL},
		{with(good, setURL, "https://user:hunter2@tax.example"), setURL}, {with(good, setURL, "https://tax.example?key=1"), setURL},
		{with(good, setToken, ""), setToken}, {with(good, setToken, "a\nb"), setToken}, {with(good, setID, "site"), setToken}, {with(good, setScope, "a"), setToken},
		{with(oauth, setTokenURL, ""), setTokenURL}, {with(oauth, setTokenURL, "http://id.example"), setTokenURL}, {with(oauth, setID, ""), setID},
		{with(oauth, setSecret, ""), setSecret}, {with(good, setTimeout, "soon"), setTimeout}, {with(good, setTimeout, "0s"), setTimeout},
		{with(good, setTimeout, "61s"), setTimeout}, {with(good, setCache, "3601s"), setCache}, {with(good, setCache, "-1s"), setCache},
		{with(good, setProxy, "proxy.example:3128"), setProxy}, {with(good, setProxy, "http://u:hunter2@proxy.example"), setProxy}, {with(good, setProxy, "http://proxy.example/a"), setProxy},
		{with(good, setCA, junk), setCA}, {with(good, setCA, junk+"none"), setCA},
	} {
		err := New(nil).Configure(t.Context(), c.s)
		sdktest.FailsAt(t, fmt.Sprint(c.s), err, c.field)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is shown: %v", err)
		}
	}
	e := configured(t, good)
	sdktest.Fails(t, "configure, a second time", e.Configure(t.Context(), good), sdk.Conflict)
	for _, k := range calls {
		_, err := k.do(t.Context(), New(nil))
		sdktest.Fails(t, k.op+", before configure", err, sdk.Unavailable)
	}
}

// A plugin that starts while the line is cut describes what the protocol has; once the other
// side was reached, what that has.
func TestDescribe(t *testing.T) {
	f := newFarWith(t, nil) // without state it only estimates
	e := f.open()
	now := time.Now()
	e.now = func() time.Time { return now }
	describe := func() *tax.Description {
		t.Helper()
		d, err := e.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	f.fail(fault{op: opDescribe, before: cut})
	for range 2 { // the second is not asked for
		if d := describe(); len(d.Operations) != len(operations) || len(d.Covers) != 0 || f.count(opDescribe) != 1 {
			t.Fatalf("cut off: %+v, asked %d times", d, f.count(opDescribe))
		}
	}
	now = now.Add(aboutPause)
	want, err := f.engine.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d := describe()
		if len(d.Operations) != 2 || d.Data != want.Data || sdktest.Diff(d.Covers, want.Covers) != "" || f.count(opDescribe) != 2 {
			t.Fatalf("reached: %+v, asked %d times", d.Operations, f.count(opDescribe))
		}
	}
	now = now.Add(aboutAge)
	f.fail(fault{op: opDescribe, before: says(200, `{"name":"a","version":"1"}`)})
	if d := describe(); len(d.Operations) != 2 || f.count(opDescribe) != 3 {
		t.Fatalf("cut off again: %+v, asked %d times", d.Operations, f.count(opDescribe))
	}
}

func TestCache(t *testing.T) {
	f := newFar(t)
	s := f.settings()
	s[setCache] = "300s"
	e := configured(t, s)
	now := time.Now()
	e.now = func() time.Time { return now }
	e.cache.now = e.now
	estimate := func(d *tax.Document, want string, asked int) *tax.Result {
		t.Helper()
		r, err := e.Estimate(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if r.Source != want || r.Reference != d.Reference || f.count(tax.OpEstimate) != asked {
			t.Fatalf("it is %s of %q, and was asked %d times, want %s and %d", r.Source, r.Reference, f.count(tax.OpEstimate), want, asked)
		}
		return r
	}
	first := estimate(known(), live, 1)
	now = now.Add(299 * time.Second)
	d := known()
	d.Reference = "another cart"
	again := estimate(d, cached, 1)
	if len(again.Warnings) != len(first.Warnings)+1 || again.Warnings[len(first.Warnings)].Code != WarningCached ||
		!strings.Contains(again.Warnings[len(first.Warnings)].Message, "299s") {
		t.Errorf("its age is not named: %+v", again.Warnings)
	}
	again.Reference, again.Source, again.Warnings = first.Reference, first.Source, first.Warnings
	if diff := sdktest.Diff(again, first); diff != "" {
		t.Errorf("it is another: %s", diff)
	}
	estimate(adjusted(), live, 2)
	now = now.Add(time.Second)
	estimate(known(), live, 3)
	if r, err := e.Finalise(t.Context(), known()); err != nil || r.Source != live || f.count(tax.OpFinalise) != 1 {
		t.Errorf("finalise: %+v, %v", r, err)
	}
	unknown := sale("AQ", "AQ", "EUR", "100.00 standard")
	estimate(unknown, live, 4)
	estimate(unknown, live, 5) // what is not calculated may be a moment later
	large := sale("DE", "DE", "EUR")
	for i := range maxKeptLines + 1 {
		large.Lines = append(large.Lines, tax.Line{ID: fmt.Sprint(i)})
	}
	estimate(large, live, 6)
	estimate(large, live, 7)
}

func TestTheCacheIsBounded(t *testing.T) {
	now := time.Now()
	c := newCache(time.Hour, func() time.Time { return now })
	of := func(i int) *tax.Document { return sale("DE", "DE", "EUR", fmt.Sprint(i+1, " standard")) }
	for i := range maxKept + 2 {
		now = now.Add(time.Millisecond)
		c.keep(of(i), &tax.Result{Status: tax.Calculated})
		c.keep(of(i), &tax.Result{Status: tax.Calculated, Reason: "the second counts for nothing"})
	}
	if len(c.kept) != maxKept || len(c.order) != maxKept {
		t.Errorf("it keeps %d, %d", len(c.kept), len(c.order))
	}
	if c.find(of(1)) != nil || c.find(of(2)) == nil || c.find(of(maxKept+1)) == nil {
		t.Error("it is not the oldest that went")
	}
	now = now.Add(time.Hour)
	if c.find(of(2)) != nil || len(c.kept) != 0 {
		t.Errorf("it keeps %d that are too old", len(c.kept))
	}
}

// tokens is a server of tokens, which are numbered.
type tokens struct {
	mu     sync.Mutex
	given  int
	status int // other than 200 once it is set
	lives  int // seconds
	http   *httptest.Server
}

func newTokens(t *testing.T, f *far) *tokens {
	k := &tokens{lives: 3600}
	k.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		id, secret, _ := r.BasicAuth()
		if err := r.ParseForm(); err != nil || r.Form.Get("grant_type") != "client_credentials" || r.Form.Get("scope") != "tax:write tax:read" {
			t.Errorf("it was asked for %v, %v", r.Form, err)
		}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case k.status != 0:
			w.Header().Set("Retry-After", "5")
			w.WriteHeader(k.status)
			return
		case id != "site" || secret != "h0us":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"error":"invalid_client","error_description":"not %s"}`, secret)
			return
		}
		k.given++
		token := fmt.Sprint("token-", k.given)
		f.only(token)
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": k.lives})
	}))
	t.Cleanup(k.http.Close)
	return k
}

func (k *tokens) set(status, lives int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status, k.lives = status, lives
}

func (k *tokens) settings(f *far) sdk.Settings {
	return sdk.Settings{setURL: f.http.URL, setTokenURL: k.http.URL, setID: "site", setSecret: "h0us", setScope: "tax:write  tax:read"}
}

// A token is kept while it is taken, and had anew when it is not: of that the caller sees
// nothing.
func TestClientCredentials(t *testing.T) {
	f := newFar(t)
	k := newTokens(t, f)
	e := configured(t, k.settings(f))
	finalise := func(what string, given, asked int) {
		t.Helper()
		if _, err := e.Finalise(t.Context(), known()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if k.given != given || f.count(tax.OpFinalise) != asked {
			t.Fatalf("%s: %d tokens and %d calls, want %d and %d", what, k.given, f.count(tax.OpFinalise), given, asked)
		}
	}
	finalise("first", 1, 1)
	finalise("kept", 1, 2)
	f.only()
	finalise("no longer taken", 2, 4)
	k.set(0, 1)
	f.only()
	finalise("short", 3, 6)
	finalise("at its end", 4, 7)
	f.fail(fault{op: tax.OpFinalise, before: says(401, "no")}, fault{op: tax.OpFinalise, before: says(401, "no")})
	_, err := e.Finalise(t.Context(), known())
	sdktest.Fails(t, "never taken", err, sdk.Auth)
	if n := f.count(tax.OpFinalise); n != 9 {
		t.Errorf("it was asked %d times, want once more with a new token", n-7)
	}
}

// Many callers fetch one token.
func TestOneTokenForAll(t *testing.T) {
	f := newFar(t)
	k := newTokens(t, f)
	e := configured(t, k.settings(f))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := e.Estimate(t.Context(), known()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if k.given != 1 {
		t.Errorf("%d tokens were had", k.given)
	}
}

// Without a token nothing is asked, so nothing was done.
func TestNoToken(t *testing.T) {
	for _, c := range []struct {
		what   string
		status int
		want   sdk.Class
		after  time.Duration
	}{{"refused", 400, sdk.Auth, 5 * time.Second}, {"not allowed", 403, sdk.Auth, 5 * time.Second}, {"too many calls", 429, sdk.Throttled, 5 * time.Second},
		{"down", 503, sdk.Unavailable, 5 * time.Second}, {"odd", 302, sdk.Unavailable, 5 * time.Second}} {
		f := newFar(t)
		k := newTokens(t, f)
		k.set(c.status, 0)
		_, err := configured(t, k.settings(f)).Finalise(t.Context(), known())
		sdktest.Fails(t, c.what, err, c.want)
		if got := sdk.AsError(err).RetryAfter; time.Duration(got) != c.after || f.count(tax.OpFinalise) != 0 {
			t.Errorf("%s: retry after %s, asked %d times", c.what, got, f.count(tax.OpFinalise))
		}
	}
	f := newFar(t)
	k := newTokens(t, f)
	s := k.settings(f)
	s[setSecret] = "wr0ng"
	_, err := configured(t, s).Finalise(t.Context(), known())
	sdktest.Fails(t, "a wrong secret", err, sdk.Auth)
	if e := sdk.AsError(err); e.Provider.Code != "invalid_client" || strings.Contains(fmt.Sprintf("%+v", e), "wr0ng") {
		t.Errorf("got %+v", e)
	}
	k.http.Close()
	_, err = configured(t, k.settings(f)).Finalise(t.Context(), known())
	sdktest.Fails(t, "nobody gives tokens", err, sdk.Unavailable)
}
