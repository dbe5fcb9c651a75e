package delivery

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

// httpTarget calls a real server, as a driver would.
func httpTarget(url string) func(context.Context, Delivery) (Answer, error) {
	return func(ctx context.Context, d Delivery) (Answer, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/"+d.System+"/"+d.Key, strings.NewReader(string(d.Event.Data)))
		if err != nil {
			return Answer{}, err
		}
		req.Header.Set("Idempotency-Key", d.IdempotencyKey)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return Answer{}, &Failure{Class: Unknown, Err: err}
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		f := &Failure{Status: resp.StatusCode, Body: body}
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			f.RetryAfter = time.Duration(s) * 5 * time.Millisecond // a short second
		}
		switch {
		case resp.StatusCode == 429:
			f.Class = Throttled
		case resp.StatusCode >= 500:
			f.Class = Unavailable
		case resp.StatusCode >= 400:
			f.Class = Rejected
		default:
			return Answer{Status: resp.StatusCode, Body: body}, nil
		}
		return Answer{}, f
	}
}

// TestOutcomes has one key of one system fail in each way, while another key and another
// system go on; then the fault ends.
func TestOutcomes(t *testing.T) {
	for name, fail := range map[string]func(w http.ResponseWriter, r *http.Request){
		"5xx": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"429": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
		},
		"hang": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"4xx": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(422)
			fmt.Fprint(w, "unknown article 7"+strings.Repeat("x", 2*MaxAnswer))
		},
	} {
		t.Run(name, func(t *testing.T) { testOutcome(t, name, fail) })
	}
}

func testOutcome(t *testing.T, name string, fail func(http.ResponseWriter, *http.Request)) {
	broken := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-broken:
		default:
			if r.URL.Path == "/erp/a" {
				_, _ = io.Copy(io.Discard, r.Body) // so that the server sees the client go
				fail(w, r)
			}
		}
	}))
	t.Cleanup(srv.Close)
	b := newBench(t, newRules([]string{"erp", "wms"}, func(s *policy.System, _ *policy.Route) { s.Delivery.Timeout = 300 * time.Millisecond }))
	b.target.play(httpTarget(srv.URL))
	for i := range 3 {
		b.journal.append(makeItem(fmt.Sprint("a", i), "a", to("erp", "wms")...), makeItem(fmt.Sprint("b", i), "b", to("erp")...))
	}
	b.run(t)
	b.awaitDelivered(t, "erp", "b0", "b1", "b2")
	b.awaitDelivered(t, "wms", "a0", "a1", "a2")
	if name == "4xx" {
		dl := b.awaitDead(t, 1)[0]
		if dl.Status != 422 || !strings.HasPrefix(dl.Answer, "unknown article 7") || len(dl.Answer) > MaxAnswer || dl.Attempts != 1 {
			t.Errorf("got %+v", dl)
		}
		await(t, "two wait behind it", func() bool { return b.facts.last(dl.ID).Waiting == 2 })
		close(broken)
		if err := b.Replay(t.Context(), Command{ID: "c1", DeadLetter: dl.ID, By: "eva"}); err != nil {
			t.Fatal(err)
		}
	} else {
		await(t, "several attempts", func() bool {
			n := 0
			for _, r := range b.target.records() {
				if r.id == "a0" && r.system == "erp" {
					n++
				}
			}
			return n >= 3
		})
		if got := b.awaitDead(t, 0); len(got) > 0 {
			t.Errorf("dead letters: %v", got)
		}
		close(broken)
	}
	b.awaitDelivered(t, "erp", "a0", "a1", "a2")
	b.stop()
	var want []expectation
	for i := range 3 {
		want = append(want, expectation{"erp", "a", fmt.Sprint("a", i)}, expectation{"wms", "a", fmt.Sprint("a", i)}, expectation{"erp", "b", fmt.Sprint("b", i)})
	}
	if err := checkHistory(b.target.records(), want, false); err != nil {
		t.Error(err)
	}
}

// TestRetryAfter has the system name a time that is far, and looks that nothing is sent
// for that key, while others are.
func TestRetryAfter(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}))
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		if d.Key == "a" {
			return Answer{}, &Failure{Class: Throttled, Status: 429, RetryAfter: 10 * time.Hour}
		}
		return Answer{}, nil
	})
	b.journal.append(makeItem("a0", "a", to("erp")...))
	b.run(t)
	await(t, "the first attempt", func() bool { return len(b.target.records()) == 1 })
	var want []string
	for i := range 50 { // the pauses of the route would end many times meanwhile
		want = append(want, fmt.Sprint("b", i))
		b.journal.append(makeItem(want[i], "b", to("erp")...))
	}
	b.awaitDelivered(t, "erp", want...)
	if n, _ := b.attempts("a0"); n != 1 {
		t.Errorf("a0 was tried %d times", n)
	}
}

func (b *bench) attempts(id string) (int, []string) { return b.target.attempts(id) }

// TestExhausted counts the attempts of a poison event at a system that works.
func TestExhausted(t *testing.T) {
	const limit = 4
	b := newBench(t, newRules([]string{"erp"}, func(_ *policy.System, r *policy.Route) { r.Retry.Attempts = limit }))
	b.target.play(func(context.Context, Delivery) (Answer, error) {
		return Answer{}, &Failure{Class: Unavailable, Status: 500}
	})
	b.journal.append(makeItem("a", "a", to("erp")...))
	b.run(t)
	dl := b.awaitDead(t, 1)[0]
	if n, _ := b.attempts("a"); n != limit || dl.Attempts != limit || dl.Status != 500 || !strings.Contains(dl.Cause, "gave up after 4 attempts") {
		t.Errorf("%d attempts, dead letter %+v", n, dl)
	}
}

// TestBreaker has a system fail as a whole: the breaker opens, single deliveries probe,
// nothing is read or counted, and all is delivered in order when the system is back.
func TestBreaker(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, func(s *policy.System, r *policy.Route) {
		s.Delivery.Breaker = policy.Breaker{Failures: 3, Pause: 2 * time.Millisecond}
		s.Delivery.Concurrency = 1
		r.Retry.Attempts = 5
	}), func(c *Config) { c.ParkAfter = time.Millisecond })
	b.target.play(func(context.Context, Delivery) (Answer, error) { return Answer{}, &Failure{Class: Unavailable} })
	var want []expectation
	for i := range 40 {
		id, key := fmt.Sprint("e", i), fmt.Sprint("k", i%4)
		want = append(want, expectation{"erp", key, id})
		b.journal.append(makeItem(id, key, to("erp")...))
	}
	b.run(t)
	await(t, "the breaker is seen open", func() bool { return b.of("erp").State == SystemOpen })
	await(t, "more probes than attempts are allowed", func() bool { return len(b.target.records()) > 60 })
	if s := b.of("erp"); s.DeadLetters != 0 {
		t.Errorf("an outage made dead letters: %+v", s)
	}
	b.target.play(nil)
	b.awaitSettled(t, len(want))
	await(t, "ok", func() bool { return b.of("erp").State == SystemOK })
	b.stop()
	if err := checkHistory(b.target.records(), want, false); err != nil {
		t.Error(err)
	}
}

// TestPoisonDoesNotHoldTheProbe: a key that always fails must not be the only one to probe.
func TestPoisonDoesNotHoldTheProbe(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, func(s *policy.System, r *policy.Route) {
		s.Delivery.Breaker = policy.Breaker{Failures: 1, Pause: 2 * time.Millisecond}
		r.Retry = policy.Retry{Initial: time.Microsecond, Max: time.Microsecond} // always ready to be the probe
	}))
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		if d.Key == "poison" {
			return Answer{}, &Failure{Class: Unavailable}
		}
		return Answer{}, nil
	})
	b.journal.append(makeItem("p", "poison", to("erp")...))
	b.run(t)
	await(t, "the breaker opens", func() bool { return b.of("erp").State == SystemOpen })
	for i := range 20 {
		b.journal.append(makeItem(fmt.Sprint("e", i), fmt.Sprint("k", i), to("erp")...))
	}
	b.awaitSettled(t, 20)
}

// TestMisconfigured waits without using up attempts, visibly, until it is repaired.
func TestMisconfigured(t *testing.T) {
	for class, state := range map[Class]string{Misconfigured: SystemMisconfigured, NoDriver: SystemNoDriver} {
		b := newBench(t, newRules([]string{"erp"}, func(_ *policy.System, r *policy.Route) { r.Retry.Attempts = 2 }))
		b.target.play(func(context.Context, Delivery) (Answer, error) { return Answer{}, &Failure{Class: class} })
		b.journal.append(makeItem("a", "a", to("erp")...))
		b.run(t)
		await(t, "the state is shown", func() bool { return b.of("erp").State == state })
		await(t, "more attempts than the limit", func() bool { n, _ := b.attempts("a"); return n > 5 })
		if s := b.of("erp"); s.DeadLetters != 0 || s.LastError == "" || s.Pending != 1 {
			t.Errorf("got %+v", s)
		}
		b.target.play(nil)
		b.awaitDelivered(t, "erp", "a")
		b.stop()
	}
}

// TestMap delivers the mapped data, and has a map's error name its route.
func TestMap(t *testing.T) {
	m, err := expr.Compile(`if .orderId == "bad" then error("no such thing") else {id: .orderId, n: .n} end`)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, newRules([]string{"erp"}, func(_ *policy.System, r *policy.Route) { r.To[0].Map = m }))
	got := make(chan string, 1)
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		got <- string(d.Data)
		return Answer{}, nil
	})
	b.journal.append(makeItem("a", "good", to("erp")...), makeItem("b", "bad", to("erp")...))
	b.run(t)
	if data := <-got; data != `{"id":"good","n":"<1>"}` {
		t.Errorf("delivered %s", data)
	}
	if dl := b.awaitDead(t, 1)[0]; !strings.Contains(dl.Cause, "route r-erp") || dl.EventID != "b" || dl.Attempts != 0 {
		t.Errorf("got %+v", dl)
	}
}

// TestFaults are dead letters at once, and nothing is sent.
func TestFaults(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}))
	routing := to("erp")
	routing[0].Fault = "when: not a boolean"
	lost := makeItem("b", "b", to("erp")...)
	lost.Fault = "checksum"
	broken := makeItem("c", "c", to("erp")...)
	broken.Event = []byte("{")
	b.journal.append(makeItem("a", "a", routing...), lost, broken)
	b.run(t)
	var causes []string
	for _, dl := range b.awaitDead(t, 3) {
		causes = append(causes, dl.Cause)
	}
	slices.Sort(causes)
	if len(b.target.records()) != 0 || causes[0] != "checksum" || !strings.Contains(causes[1], "cannot be read") || causes[2] != routing[0].Fault {
		t.Errorf("sent %d, causes %q", len(b.target.records()), causes)
	}
}

// TestShadow is one attempt to a sandbox, whatever comes of it, and none to others.
func TestShadow(t *testing.T) {
	b := newBench(t, newRules([]string{"box", "erp"}, func(s *policy.System, r *policy.Route) {
		s.Sandbox = s.Name == "box"
		r.To = append(r.To, policy.Destination{System: s.Name, Shadow: true})
	}))
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		if d.Shadow {
			return Answer{}, &Failure{Class: Unavailable}
		}
		return Answer{}, nil
	})
	both := func(system string) []block.Target {
		return []block.Target{{Agent: here, System: system, Route: "r-" + system}, {Agent: here, System: system, Route: "r-" + system, Shadow: true}}
	}
	pos := b.journal.append(makeItem("a", "k", both("box")...), makeItem("b", "k", both("erp")...))
	b.run(t)
	await(t, "two shadows and two live ones", func() bool {
		x, y := b.of("box"), b.of("erp")
		return x.Shadow == 1 && y.Shadow == 1 && x.Delivered == 1 && y.Delivered == 1
	})
	_, idem := b.attempts("a")
	if n, _ := b.attempts("b"); n != 1 || len(idem) != 2 || idem[0] == idem[1] {
		t.Errorf("%d attempts of b; keys of a: %q", n, idem)
	}
	await(t, "the cursors pass", func() bool { return b.MinCursor() == pos+1 })
	b.awaitDead(t, 0)
}

// TestThrottledSystem refuses everybody: nobody's attempts are used up.
func TestThrottledSystem(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, func(s *policy.System, r *policy.Route) {
		s.Delivery.Breaker.Failures = 2
		r.Retry.Attempts = 3
	}))
	b.target.play(func(context.Context, Delivery) (Answer, error) {
		return Answer{}, &Failure{Class: Throttled, Status: 429, RetryAfter: 2 * time.Millisecond}
	})
	for i := range 4 {
		b.journal.append(makeItem(fmt.Sprint("e", i), fmt.Sprint("k", i), to("erp")...))
	}
	b.run(t)
	await(t, "the state is shown", func() bool { return b.of("erp").State == SystemThrottled })
	await(t, "more attempts than allowed", func() bool { return len(b.target.records()) > 20 })
	if s := b.of("erp"); s.DeadLetters != 0 {
		t.Errorf("got %+v", s)
	}
	b.target.play(nil)
	b.awaitSettled(t, 4)
}

// TestStop lets an attempt finish that is under way, and cuts one that takes too long; the
// first is not repeated, the second is.
func TestStop(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}))
	begun, release := make(chan struct{}), make(chan struct{})
	b.target.play(func(ctx context.Context, _ Delivery) (Answer, error) {
		close(begun)
		select {
		case <-release:
			return Answer{}, nil
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	})
	b.journal.append(makeItem("a", "k", to("erp")...))
	b.run(t)
	<-begun
	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	await(t, "Run is told to stop", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.start == nil
	})
	close(release)
	<-stopped

	b.cfg.StopGrace = time.Millisecond
	begun = make(chan struct{})
	b.target.play(func(ctx context.Context, d Delivery) (Answer, error) {
		close(begun)
		<-ctx.Done()
		return Answer{}, ctx.Err()
	})
	b.journal.append(makeItem("b", "k", to("erp")...))
	b.run(t)
	<-begun
	b.stop()
	b.target.play(nil)
	b.run(t)
	b.awaitDelivered(t, "erp", "b")
	if n, _ := b.attempts("a"); n != 1 {
		t.Errorf("a was sent %d times", n)
	}
	if n, _ := b.attempts("b"); n != 2 {
		t.Errorf("b was sent %d times", n)
	}
}
