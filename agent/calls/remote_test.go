package calls

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxtest"
	"github.com/crossdock/crossdock/plugins/tax-remote/reference"
	"github.com/crossdock/crossdock/plugins/tax-remote/remote"
)

// pair is a site with the two engines that stand in for each other: the remote one over HTTP,
// and the site's own tables.
type pair struct {
	*rig
	inner  http.Handler
	engine tax.Engine                       // behind the remote one
	line   atomic.Pointer[http.HandlerFunc] // what is in place of the other side; nil: it is there
	asked  atomic.Int64
}

func newPair(t *testing.T) *pair {
	p := &pair{engine: newEngine(t)}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	p.inner = reference.Handler(p.engine, func(token string) bool { return token == "s3cret" }, log)
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.rig = newRig(t, func(r *rig) {
		plugin := taxtest.Pipe(t, remote.New(log))
		if err := plugin.Configure(t.Context(), sdk.Settings{"url": server.URL, "token": "s3cret"}); err != nil {
			t.Fatal(err)
		}
		r.host.engines["remote"], r.host.engines["table"] = plugin, taxtest.Pipe(t, newEngine(t))
		r.cfg.Policy = order{"remote", "table"}
	})
	return p
}

func (p *pair) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.asked.Add(1)
	if instead := p.line.Load(); instead != nil {
		(*instead)(w, r)
		return
	}
	p.inner.ServeHTTP(w, r)
}

// took has the other side do what is asked, and its answer lost.
func (p *pair) took(w http.ResponseWriter, r *http.Request) {
	p.inner.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func saying(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // whoever asked may be gone
	}
}

// While the remote engine does not say what it did, the tables stand in, and what they said is
// provisional. When the line is back, the remote engine has finalised once.
func TestTablesStandInForTheRemoteEngine(t *testing.T) {
	for what, line := range map[string]func(*pair) http.HandlerFunc{
		"cut": func(*pair) http.HandlerFunc {
			return func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		},
		"cut after it was done": func(p *pair) http.HandlerFunc { return p.took },
		"a gateway":             func(*pair) http.HandlerFunc { return saying(http.StatusBadGateway, "bad gateway") },
		"garbage":               func(*pair) http.HandlerFunc { return saying(http.StatusOK, "<html>") },
		"surely not done": func(*pair) http.HandlerFunc {
			return saying(http.StatusServiceUnavailable, `{"class":"unavailable","fault":"provider","message":"down","retryable":true}`)
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPair(t)
			down := line(p)
			p.line.Store(&down)
			estimate, _, err := p.tax(tax.OpEstimate, "", invoice)
			if err != nil || !estimate.Provisional || estimate.Source != "local" {
				t.Fatalf("estimate: %+v, %v", estimate, err)
			}
			r, a, err := p.tax(tax.OpFinalise, "k", invoice)
			if err != nil || a.State != Queued || !r.Provisional || !r.Final.IsZero() || r.Source != "local" || !r.Tax.Decimal.Equal(estimate.Tax.Decimal) {
				t.Fatalf("finalise: %+v, %+v, %v", r, a, err)
			}
			p.line.Store(nil)
			p.run()
			until(t, "the final event", func() bool { return len(p.out.ofType(TypeFinalised)) == 1 })
			v, err := p.Call("erp", a.ID)
			var final tax.Result
			if err != nil || v.State != Done || v.Engine != "table" || json.Unmarshal(v.Answer, &final) != nil {
				t.Fatalf("the call: %+v, %v", v, err)
			}
			kept, err := p.engine.GetByReference(t.Context(), "I-1")
			if err != nil || final.Provisional || final.Source != "live" || !final.Final.Equal(kept.Final) || !v.Difference.Tax.Decimal.IsZero() {
				t.Fatalf("final is %+v, kept %+v, %v", final, kept, err)
			}
		})
	}
}

// However long a gateway has nobody behind it, what was accepted waits. An engine that answers,
// and never with a result, does not hold up what comes behind.
func TestTheRemoteEngineIsAwayForLong(t *testing.T) {
	p := newPair(t)
	down := saying(http.StatusBadGateway, "bad gateway")
	p.line.Store(&down)
	_, a, err := p.tax(tax.OpFinalise, "k1", invoice)
	if err != nil || a.State != Queued {
		t.Fatalf("got %+v, %v", a, err)
	}
	p.run()
	until(t, "many tries", func() bool { return p.asked.Load() > 2*maxStrikes })
	if v, err := p.Call("erp", a.ID); err != nil || v.State != Queued {
		t.Fatalf("after many tries: %+v, %v", v, err)
	}
	p.line.Store(nil)
	until(t, "the final event", func() bool { return len(p.out.ofType(TypeFinalised)) == 1 })
	odd := saying(http.StatusOK, "<html>")
	p.line.Store(&odd)
	if _, a, err = p.tax(tax.OpFinalise, "k2", strings.Replace(invoice, "I-1", "I-2", 1)); err != nil || a.State != Queued {
		t.Fatalf("got %+v, %v", a, err)
	}
	until(t, "people to be told", func() bool { return p.out.told(alarmFailed) })
	if v, err := p.Call("erp", a.ID); err != nil || v.State != Retry {
		t.Fatalf("after many answers: %+v, %v", v, err)
	}
}

// What the remote engine refuses is not gone round: its word counts.
func TestTheRemoteEngineRefuses(t *testing.T) {
	p := newPair(t)
	if r, a, err := p.tax(tax.OpFinalise, "k1", invoice); err != nil || a.State != Done || r.Source != "live" || r.Provisional {
		t.Fatalf("finalise: %+v, %+v, %v", r, a, err)
	}
	var refusal *Refusal
	_, _, err := p.tax(tax.OpFinalise, "k2", strings.Replace(invoice, "100.00", "200.00", 1))
	if !errors.As(err, &refusal) || refusal.Failure == nil || refusal.Failure.Class != sdk.Duplicate {
		t.Errorf("other contents: %v", err)
	}
	_, _, err = p.tax(tax.OpEstimate, "", strings.Replace(invoice, "100.00", "-1.00", 1))
	if !errors.As(err, &refusal) || refusal.Failure == nil || refusal.Failure.Class != sdk.Validation || refusal.Failure.Field != "lines[0].amount" {
		t.Errorf("a negative amount: %v", err)
	}
}

// A remote engine that lets nobody in, or wants fewer calls, has done nothing. An estimate comes
// from the tables; a finalisation is for its caller to repeat.
func TestTheRemoteEngineTurnsAway(t *testing.T) {
	p := newPair(t)
	for status, class := range map[int]sdk.Class{http.StatusTooManyRequests: sdk.Throttled, http.StatusUnauthorized: sdk.Auth} {
		away := saying(status, "")
		p.line.Store(&away)
		if r, _, err := p.tax(tax.OpEstimate, "", invoice); err != nil || !r.Provisional {
			t.Errorf("%d: estimate: %+v, %v", status, r, err)
		}
		before := p.asked.Load()
		var refusal *Refusal
		if _, _, err := p.tax(tax.OpFinalise, "k", invoice); !errors.As(err, &refusal) || refusal.Failure == nil || refusal.Failure.Class != class {
			t.Errorf("%d: finalise: %v", status, err)
		}
		if n := p.asked.Load() - before; n != 1 {
			t.Errorf("%d: it was asked %d times", status, n)
		}
	}
	p.line.Store(nil)
	if r, a, err := p.tax(tax.OpFinalise, "k", invoice); err != nil || a.State != Done || r.Source != "live" {
		t.Errorf("the same again: %+v, %+v, %v", r, a, err)
	}
}
