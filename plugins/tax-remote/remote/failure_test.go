package remote

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// calls are all of the operations, with what they are asked here.
var calls = []struct {
	op    string
	marks bool
	field string // that is wrong when nobody says which
	do    func(context.Context, *Engine) (any, error)
}{
	{tax.OpEstimate, false, "lines", func(ctx context.Context, e *Engine) (any, error) { return e.Estimate(ctx, known()) }},
	{tax.OpFinalise, true, "lines", func(ctx context.Context, e *Engine) (any, error) { return e.Finalise(ctx, known()) }},
	{tax.OpAdjust, true, "lines", func(ctx context.Context, e *Engine) (any, error) { return e.Adjust(ctx, adjusted()) }},
	{tax.OpGetByReference, false, "reference", func(ctx context.Context, e *Engine) (any, error) { return e.GetByReference(ctx, "R1") }},
	{tax.OpVoid, true, "reference", func(ctx context.Context, e *Engine) (any, error) {
		return e.Void(ctx, &tax.VoidRequest{Reference: "R1", Reason: "test"})
	}},
	{tax.OpValidateTaxID, false, "number", func(ctx context.Context, e *Engine) (any, error) {
		return e.ValidateTaxID(ctx, &sdk.TaxID{Country: "DE", Kind: "vat", Number: "DE136695976"})
	}},
}

func known() *tax.Document {
	return sale("DE", "DE", "EUR", "100.00 standard", "50.00 books", "11.90 standard included")
}

func adjusted() *tax.Document { return sale("DE", "DE", "EUR", "80.00 standard") }

const refusal = `"fault":"plugin","message":"no","retryable":false}`

// failures are what can become of a call on its way, and the class that it ends with.
var failures = []struct {
	what   string
	before http.HandlerFunc
	after  http.HandlerFunc
	looks  sdk.Class // of what leaves no mark
	marks  sdk.Class
}{
	{what: "cut before it was taken", before: cut, looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "cut after it was taken", after: cut, looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "cut within the answer", after: says(200, `{"reference"`, "Content-Length", "1000"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "an empty answer", after: says(200, ""), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "an empty object", after: says(200, "{}"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "a page", after: says(200, "<html>welcome</html>"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "a list", after: says(200, "[]"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "an error as if it were a result", after: says(200, `{"class":"validation",`+refusal), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "an endless answer", after: says(200, strings.Repeat(" ", maxAnswer+1)), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "no content", after: says(204, ""), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "created", after: says(201, "{}"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "a gateway's 500", after: says(500, "oops"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "a gateway's 502", before: says(502, "bad gateway"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "a gateway's 503, which passed it on", after: says(503, "busy"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "a gateway's 504", after: says(504, "late"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "a gateway's 404", before: says(404, "not found"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "a gateway's 400", before: says(400, "what?"), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "a class that nobody knows", after: says(400, `{"class":"odd",`+refusal), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "a fault over there", after: says(500, `{"class":"internal",`+refusal), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "an unknown outcome over there", after: says(504, `{"class":"unknown_outcome",`+refusal), looks: sdk.Unavailable, marks: sdk.UnknownOutcome},
	{what: "surely not done", before: says(503, `{"class":"unavailable",`+refusal), looks: sdk.Unavailable, marks: sdk.Unavailable},
	{what: "too many calls", before: says(429, `{"class":"throttled",`+refusal), looks: sdk.Throttled, marks: sdk.Throttled},
	{what: "a gateway's 429", before: says(429, "slow down"), looks: sdk.Throttled, marks: sdk.Throttled},
	{what: "a gateway's 401", before: says(401, "who?"), looks: sdk.Auth, marks: sdk.Auth},
	{what: "a gateway's 403", before: says(403, "no"), looks: sdk.Auth, marks: sdk.Auth},
	{what: "not allowed over there", before: says(403, `{"class":"auth",`+refusal), looks: sdk.Auth, marks: sdk.Auth},
	{what: "a gateway's 413", before: says(413, "large"), looks: sdk.Validation, marks: sdk.Validation},
	{what: "wrong, and nobody says where", before: says(400, `{"class":"validation",`+refusal), looks: sdk.Validation, marks: sdk.Validation},
	{what: "a contradiction", before: says(409, `{"class":"conflict",`+refusal), looks: sdk.Conflict, marks: sdk.Conflict},
	{what: "not offered", before: says(501, `{"class":"not_supported",`+refusal), looks: sdk.NotSupported, marks: sdk.NotSupported},
}

// A failure means the same for each operation, but for those that leave a mark. After it, the
// same call is one thing with the one that failed.
func TestFailures(t *testing.T) {
	for _, c := range failures {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			f := newFar(t)
			for _, k := range calls {
				f.fail(fault{k.op, c.before, c.after})
				_, err := k.do(t.Context(), f.open()) // a connection of its own: one that idled is replaced unseen
				want := c.looks
				if k.marks {
					want = c.marks
				}
				sdktest.Fails(t, k.op, err, want)
				e := sdk.AsError(err)
				if e.Class == sdk.Validation && e.Field != k.field {
					t.Errorf("%s: field %q, want %q", k.op, e.Field, k.field)
				}
				passes := e.Class == sdk.Unavailable || e.Class == sdk.UnknownOutcome || e.Class == sdk.Throttled
				if e.Retryable != passes || e.Fault == sdk.FaultPlugin {
					t.Errorf("%s: retryable %v, the fault is with the %s: %v", k.op, e.Retryable, e.Fault, e)
				}
				got, err := k.do(t.Context(), f.open())
				if err != nil {
					t.Fatalf("%s, the same again: %v", k.op, err)
				}
				if r, is := got.(*tax.Result); is && k.op != tax.OpEstimate {
					kept, err := f.engine.GetByReference(t.Context(), "R1")
					if err != nil || !kept.Final.Equal(r.Final) || !kept.Gross.Decimal.Equal(r.Gross.Decimal) {
						t.Errorf("%s: it answers %+v, and has %+v, %v", k.op, r, kept, err)
					}
				}
			}
		})
	}
}

// What the other side refuses comes with its own words and the field of its own.
func TestRefusals(t *testing.T) {
	f := newFar(t)
	e := f.open()
	d := known()
	d.Lines[1].Amount = d.Lines[1].Amount.Neg()
	_, err := e.Finalise(t.Context(), d)
	sdktest.FailsAt(t, "a negative amount", err, "lines[1].amount")
	if sdk.AsError(err).Suggestion == "" || sdk.AsError(err).Fault != sdk.FaultCaller {
		t.Errorf("got %+v", sdk.AsError(err))
	}
	f.fail(fault{op: tax.OpEstimate, before: says(422, `{"class":"not_serviced","fault":"caller","message":"not there","field":"shipTo.country",`+
		`"retryable":false,"provider":{"code":"1602","text":"JurisdictionNotFound\u0000"}}`)})
	_, err = e.Estimate(t.Context(), d)
	sdktest.Fails(t, "a place that is not served", err, sdk.NotServiced)
	if got := sdk.AsError(err); got.Field != "shipTo.country" || got.Provider != (sdk.Provider{Code: "1602", Text: "JurisdictionNotFound "}) {
		t.Errorf("got %+v", got)
	}
	for what, do := range map[string]func() error{
		"finalise": func() error { _, err := e.Finalise(t.Context(), sale("DE", "DE", "EUR")); return err },
		"void":     func() error { _, err := e.Void(t.Context(), &tax.VoidRequest{}); return err },
		"lookup":   func() error { _, err := e.GetByReference(t.Context(), ""); return err },
	} {
		sdktest.Fails(t, what, do(), sdk.Validation)
	}
}

// Whose fault it is tells a host whether the line or the call is to blame.
func TestWhoseFault(t *testing.T) {
	f := newFar(t)
	for _, c := range []struct {
		what   string
		answer http.HandlerFunc
		want   sdk.Fault
	}{
		{"cut", cut, sdk.FaultNetwork},
		{"a gateway's 502", says(502, ""), sdk.FaultNetwork},
		{"a gateway's 503", says(503, ""), sdk.FaultNetwork},
		{"a gateway's 504", says(504, ""), sdk.FaultNetwork},
		{"a 500", says(500, ""), sdk.FaultProvider},
		{"a page", says(200, "<html>"), sdk.FaultProvider},
		{"not let in", says(401, ""), sdk.FaultCaller},
		{"a line over there", says(504, `{"class":"unknown_outcome","fault":"network","message":"no","retryable":true}`), sdk.FaultNetwork},
		{"a provider over there", says(504, `{"class":"unknown_outcome","fault":"provider","message":"no","retryable":true}`), sdk.FaultProvider},
		{"a plugin over there", says(500, `{"class":"internal","fault":"plugin","message":"no","retryable":false}`), sdk.FaultProvider},
		{"somebody over there", says(409, `{"class":"conflict","fault":"gremlins","message":"no","retryable":false}`), sdk.FaultProvider},
		{"the caller", says(400, `{"class":"validation","fault":"caller","message":"no","field":"date","retryable":false}`), sdk.FaultCaller},
	} {
		f.fail(fault{op: tax.OpFinalise, before: c.answer})
		_, err := f.open().Finalise(t.Context(), known())
		if err == nil || sdk.AsError(err).Fault != c.want {
			t.Errorf("%s: %+v, want the fault with the %s", c.what, err, c.want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	f := newFar(t)
	e := f.open()
	e.client.now = func() time.Time { return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		what   string
		answer http.HandlerFunc
		want   time.Duration
	}{
		{"seconds", says(429, "", "Retry-After", "7"), 7 * time.Second},
		{"a date", says(429, "", "Retry-After", "Thu, 26 Nov 2026 12:02:00 GMT"), 2 * time.Minute},
		{"a date that is over", says(429, "", "Retry-After", "Thu, 26 Nov 2026 11:02:00 GMT"), 0},
		{"none", says(429, ""), 0},
		{"nonsense", says(429, "", "Retry-After", "soon"), 0},
		{"never", says(429, "", "Retry-After", "2147483647"), sdk.MaxRetryAfter},
		{"in the error", says(503, `{"class":"unavailable","fault":"provider","message":"no","retryable":true,"retryAfter":"90s"}`), 90 * time.Second},
		{"in both", says(503, `{"class":"unavailable","fault":"provider","message":"no","retryable":true,"retryAfter":"9s"}`, "Retry-After", "60"), time.Minute},
		{"of a gateway", says(503, "", "Retry-After", "30"), 30 * time.Second},
	} {
		f.fail(fault{op: tax.OpEstimate, before: c.answer})
		_, err := e.Estimate(t.Context(), known())
		if err == nil {
			t.Fatalf("%s: it went well", c.what)
		}
		if got := time.Duration(sdk.AsError(err).RetryAfter); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

// Nobody listens: nothing was done, whatever was asked.
func TestNobodyIsThere(t *testing.T) {
	f := newFar(t)
	f.http.Close()
	e := f.open()
	for _, k := range calls {
		_, err := k.do(t.Context(), e)
		sdktest.Fails(t, k.op, err, sdk.Unavailable)
	}
}

// A certificate that is not trusted is found out before anything is sent.
func TestCertificates(t *testing.T) {
	f := newFar(t)
	secure := httptest.NewUnstartedServer(f)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	secure.StartTLS()
	defer secure.Close()
	e := configured(t, sdk.Settings{setURL: secure.URL + "/", setToken: theToken})
	_, err := e.Finalise(t.Context(), known())
	sdktest.Fails(t, "an authority that is not trusted", err, sdk.Unavailable)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, secure.Certificate().Raw)
	e = configured(t, sdk.Settings{setURL: secure.URL + "/", setToken: theToken, setCA: ca})
	if _, err := e.Finalise(t.Context(), known()); err != nil {
		t.Errorf("an authority that is trusted: %v", err)
	}
}

// An idle connection that the other side has closed is replaced, and nobody notices.
func TestAnIdleConnectionThatIsClosed(t *testing.T) {
	f := newFar(t)
	e := f.open()
	for _, k := range calls {
		if _, err := e.Estimate(t.Context(), known()); err != nil { // leaves a connection that idles
			t.Fatal(err)
		}
		f.fail(fault{op: k.op, before: cut})
		if _, err := k.do(t.Context(), e); err != nil {
			t.Errorf("%s: %v", k.op, err)
		}
	}
}

// It was sent on a connection that then broke, and again on another that did not come to be:
// the second says nothing about the first.
func TestTheLastTryIsNotTheOnlyOne(t *testing.T) {
	f := newFar(t)
	e := f.open()
	if _, err := e.Estimate(t.Context(), known()); err != nil {
		t.Fatal(err)
	}
	f.fail(fault{op: tax.OpFinalise, after: func(w http.ResponseWriter, r *http.Request) {
		if err := f.http.Listener.Close(); err != nil {
			t.Error(err)
		}
		cut(w, r)
	}})
	_, err := e.Finalise(t.Context(), known())
	sdktest.Fails(t, "finalise", err, sdk.UnknownOutcome)
	if f.count(tax.OpFinalise) != 1 || !strings.Contains(err.Error(), "dial") {
		t.Errorf("it was not tried on another connection, so this says nothing: %v", err)
	}
	if _, err := f.engine.GetByReference(t.Context(), "R1"); err != nil {
		t.Errorf("it was done: %v", err)
	}
}

// Who asked and leaves does not know what came of it.
func TestASlowAnswer(t *testing.T) {
	for _, k := range calls {
		f := newFar(t)
		if k.op != tax.OpFinalise {
			if _, err := f.open().Finalise(t.Context(), known()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, leave := context.WithCancel(t.Context())
		f.fail(fault{op: k.op, after: func(_ http.ResponseWriter, r *http.Request) {
			leave()
			<-r.Context().Done() // the connection ends with the call
		}})
		_, err := k.do(ctx, f.open())
		want := sdk.Unavailable
		if k.marks {
			want = sdk.UnknownOutcome
		}
		sdktest.Fails(t, k.op, err, want)
		_, err = k.do(ctx, f.open())
		sdktest.Fails(t, k.op+", by one who has left", err, sdk.Unavailable)
		if n := f.count(k.op); n > 2 || n == 2 && k.op != tax.OpFinalise {
			t.Errorf("%s: it arrived %d times", k.op, n)
		}
	}
}

// The timeout of the settings ends a call whose caller would wait for ever.
func TestTimeout(t *testing.T) {
	f := newFar(t)
	s := f.settings()
	s[setTimeout] = "0.2s"
	f.fail(fault{op: tax.OpFinalise, before: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }})
	_, err := configured(t, s).Finalise(context.WithoutCancel(t.Context()), known())
	sdktest.Fails(t, "finalise", err, sdk.UnknownOutcome, sdk.Unavailable) // the latter if there was no time to connect
}

// A redirect is not followed: token and document are for nobody else.
func TestRedirects(t *testing.T) {
	var reached atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer elsewhere.Close()
	f := newFar(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		f.fail(fault{op: tax.OpFinalise, before: says(status, "", "Location", elsewhere.URL+"/v1/finalise")})
		_, err := f.open().Finalise(t.Context(), known())
		sdktest.Fails(t, http.StatusText(status), err, sdk.UnknownOutcome)
		if !strings.Contains(sdk.AsError(err).Suggestion, "url") {
			t.Errorf("%d: nobody is told where to look: %+v", status, sdk.AsError(err))
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("it was followed %d times", n)
	}
}

// Neither log nor errors show secrets or what documents say.
func TestSecretsStayHere(t *testing.T) {
	f := newFar(t)
	var log bytes.Buffer
	e := New(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err := e.Configure(t.Context(), f.settings()); err != nil {
		t.Fatal(err)
	}
	d := known()
	d.Customer.Address.Name = "Erika Mustermann"
	var all strings.Builder
	for _, now := range []fault{{op: tax.OpFinalise}, {op: tax.OpFinalise, before: says(401, "no")}, {op: tax.OpFinalise, after: says(200, "{}")}, {op: tax.OpFinalise, before: cut}} {
		f.fail(now)
		if _, err := e.Finalise(t.Context(), d); err != nil {
			_, _ = io.WriteString(&all, err.Error()) // it is never an error
		}
	}
	all.WriteString(log.String())
	if !strings.Contains(all.String(), "finalise") {
		t.Fatalf("nothing was logged: %s", all.String())
	}
	for _, secret := range []string{theToken, "Mustermann"} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("%s is shown: %s", secret, all.String())
		}
	}
}

func writePEM(t *testing.T, name string, certificate []byte) {
	t.Helper()
	if err := os.WriteFile(name, pemOf(certificate), 0o600); err != nil {
		t.Fatal(err)
	}
}
