package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

// batches has a system take so many events a request, one request at a time.
func batches(n int, change ...rule) rule {
	return func(s *policy.System, r *policy.Route) {
		s.Delivery.Batch, s.Delivery.Concurrency = n, 1
		for _, c := range change {
			c(s, r)
		}
	}
}

// fill puts one event of each of n keys into the journal before anything runs, so that all
// are ready at once. They are e0, e1 ... of k0, k1 ...
func (b *bench) fill(n int) (want []expectation) {
	var items []Item
	for i := range n {
		id, key := fmt.Sprint("e", i), fmt.Sprint("k", i)
		items = append(items, makeItem(id, key, to("erp")...))
		want = append(want, expectation{"erp", key, id})
	}
	b.journal.append(items...)
	return want
}

// requests lists the ids of each request so far.
func (s *target) requests() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

func (s *target) playWhole(whole func(ctx context.Context, ds []Delivery) (Answer, error)) {
	s.mu.Lock()
	s.whole = whole
	s.mu.Unlock()
}

func idsOf(ds []Delivery) (ids []string) {
	for _, d := range ds {
		ids = append(ids, d.Event.ID)
	}
	return ids
}

// TestBatch takes what is ready in as few requests as it may, one event of a key in each.
func TestBatch(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, batches(4)))
	want := b.fill(10)
	b.journal.append(makeItem("later", "k0", to("erp")...))
	b.run(t)
	b.awaitSettled(t, 11)
	b.stop()
	for i, first := range [][]string{{"e0", "e1", "e2", "e3"}, {"e4", "e5", "e6", "e7"}} {
		if got := b.target.requests()[i]; !slices.Equal(got, first) {
			t.Errorf("request %d: %v, want %v", i+1, got, first)
		}
	}
	for _, ids := range b.target.requests() {
		if len(ids) > 4 || slices.Contains(ids, "e0") && slices.Contains(ids, "later") {
			t.Errorf("request of %v", ids)
		}
	}
	if err := checkHistory(b.target.records(), append(want, expectation{"erp", "k0", "later"}), false); err != nil {
		t.Error(err)
	}
}

// TestPoisonInABatch: a refusal of many says nothing of one. They are judged one by one,
// and only the one at fault is a dead letter, though no attempt may be made twice.
func TestPoisonInABatch(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, batches(8, func(_ *policy.System, r *policy.Route) { r.Retry.Attempts = 1 })))
	want := b.fill(20)
	b.target.playWhole(func(_ context.Context, ds []Delivery) (Answer, error) {
		if slices.Contains(idsOf(ds), "e5") {
			return Answer{}, &Failure{Class: Rejected, Status: 422, Body: []byte("customer unknown")}
		}
		return Answer{Status: 200}, nil
	})
	b.run(t)
	b.awaitSettled(t, 19)
	dl := b.awaitDead(t, 1)[0]
	if dl.EventID != "e5" || dl.Attempts != 2 || dl.Status != 422 || dl.Answer != "customer unknown" {
		t.Errorf("got %+v", dl)
	}
	b.stop()
	for _, ids := range b.target.requests()[1:] {
		if slices.Contains(ids, "e5") && len(ids) > 1 {
			t.Errorf("after it was refused with others, e5 went with others again: %v", ids)
		}
	}
	want = slices.DeleteFunc(want, func(x expectation) bool { return x.id == "e5" })
	if err := checkHistory(b.target.records(), want, false); err != nil {
		t.Error(err)
	}
}

// TestFailingOverOne: a system that fails whenever a certain event is there, and does not
// say so. The others of its batches must not be given up with it.
func TestFailingOverOne(t *testing.T) {
	for _, attempts := range []int{1, 2, 3, 9} {
		b := newBench(t, newRules([]string{"erp"}, batches(8, func(_ *policy.System, r *policy.Route) { r.Retry.Attempts = attempts })))
		b.fill(20)
		b.target.playWhole(func(_ context.Context, ds []Delivery) (Answer, error) {
			if slices.Contains(idsOf(ds), "e5") {
				return Answer{}, &Failure{Class: Unavailable, Status: 500}
			}
			return Answer{Status: 200}, nil
		})
		b.run(t)
		b.awaitSettled(t, 19)
		dl := b.awaitDead(t, 1)[0]
		if n, _ := b.attempts("e5"); dl.EventID != "e5" || n != max(attempts, 2) {
			t.Errorf("%d attempts allowed, %d made: %+v", attempts, n, dl)
		}
		requests := b.target.requests()
		alone := 0
		for _, ids := range requests {
			if slices.Equal(ids, []string{"e5"}) {
				alone++
			}
		}
		if company := max(attempts, 2) - alone; company > maxCompany {
			t.Errorf("%d attempts allowed: e5 went %d times with others", attempts, company)
		}
		b.stop()
	}
}

// TestPoisonThatOpensTheBreaker: a breaker that opens at each failure leaves no failure to
// count against an event, but one that fails with its company must be set apart all the same.
func TestPoisonThatOpensTheBreaker(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, batches(8, func(s *policy.System, _ *policy.Route) {
		s.Delivery.Breaker = policy.Breaker{Failures: 1, Pause: time.Millisecond}
	})))
	b.fill(8)
	const tries = 12
	n, done := 0, make(chan struct{})
	b.target.playWhole(func(_ context.Context, ds []Delivery) (Answer, error) {
		for i := range 4 { // of other keys, so that there is company at any time
			b.journal.append(makeItem(fmt.Sprint("n", n, ".", i), fmt.Sprint("n", n, ".", i), to("erp")...))
		}
		n++
		i := slices.Index(idsOf(ds), "e5")
		if i < 0 {
			return Answer{}, nil
		}
		if ds[i].Attempt == tries {
			close(done)
		}
		return Answer{}, &Failure{Class: Unavailable, Status: 500}
	})
	b.run(t)
	<-done
	b.stop()
	company := 0
	for _, ids := range b.target.requests() {
		if slices.Contains(ids, "e5") && len(ids) > 1 {
			company++
		}
	}
	if company > maxCompany {
		t.Errorf("of %d times, e5 went %d with others, want at most %d", tries, company, maxCompany)
	}
}

// TestFaultInABatch: what cannot be sent is left out of the request, and the others go.
func TestFaultInABatch(t *testing.T) {
	m, err := expr.Compile(`if .orderId == "k2" then error("no such thing") else {id: .orderId} end`)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, newRules([]string{"erp"}, batches(10, func(_ *policy.System, r *policy.Route) { r.To[0].Map = m })))
	b.fill(5)
	b.run(t)
	b.awaitSettled(t, 4)
	if dl := b.awaitDead(t, 1)[0]; dl.EventID != "e2" || dl.Attempts != 0 || !strings.Contains(dl.Cause, "no such thing") {
		t.Errorf("got %+v", dl)
	}
	if got := b.target.requests(); len(got) != 1 || !slices.Equal(got[0], []string{"e0", "e1", "e3", "e4"}) {
		t.Errorf("requests: %v", got)
	}
	b.stop()

	all := newBench(t, newRules([]string{"erp"}, batches(10, func(_ *policy.System, r *policy.Route) { r.To[0].Map = m })))
	all.journal.append(makeItem("x", "k2", to("erp")...))
	all.run(t)
	all.awaitDead(t, 1)
	await(t, "nothing is under way", func() bool { return all.of("erp").InFlight == 0 })
	if got := all.target.requests(); len(got) != 0 {
		t.Errorf("a request without an event was made: %v", got)
	}
}

// TestBreakerCountsRequests, not the events that they carry.
func TestBreakerCountsRequests(t *testing.T) {
	with := func(pause time.Duration) *rules {
		return newRules([]string{"erp"}, batches(10, func(s *policy.System, _ *policy.Route) {
			s.Delivery.Breaker = policy.Breaker{Failures: 3, Pause: pause}
		}))
	}
	b := newBench(t, with(time.Hour))
	want := b.fill(10)
	b.target.play(func(context.Context, Delivery) (Answer, error) { return Answer{}, &Failure{Class: Unavailable} })
	b.run(t)
	await(t, "the breaker is seen open", func() bool { return b.of("erp").State == SystemOpen })
	if got := b.target.requests(); len(got) != 3 || len(got[0]) != 10 {
		t.Errorf("open after the requests %v, want 3, the first of 10", got)
	}
	b.target.play(nil)
	b.put(t, with(time.Millisecond).set)
	b.awaitSettled(t, 10)
	b.stop()
	if err := checkHistory(b.target.records(), want, false); err != nil {
		t.Error(err)
	}
}

// TestProbeIsOneEvent, though all are ready when the pause is over.
func TestProbeIsOneEvent(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, batches(10, func(s *policy.System, _ *policy.Route) {
		s.Delivery.Breaker = policy.Breaker{Failures: 1, Pause: 20 * time.Millisecond}
	})))
	b.fill(10)
	b.target.playWhole(func(_ context.Context, ds []Delivery) (Answer, error) {
		if len(ds) == 10 && ds[0].Attempt == 1 {
			return Answer{}, &Failure{Class: Unavailable}
		}
		return Answer{}, nil
	})
	b.run(t)
	b.awaitSettled(t, 10)
	if got := b.target.requests(); len(got[0]) != 10 || len(got[1]) != 1 {
		t.Errorf("requests %v, want all, and then one to probe", got)
	}
}

// TestRateCountsEvents, whatever request they go in.
func TestRateCountsEvents(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, batches(100, func(s *policy.System, _ *policy.Route) { s.Delivery.Rate = 100 })))
	b.fill(15)
	b.run(t)
	b.awaitSettled(t, 15)
	if got := b.target.requests()[0]; len(got) != 10 {
		t.Errorf("%d events at once, want 10: a tenth of a second's", len(got))
	}
}

// TestBatchBytes bounds a request by what it carries, too.
func TestBatchBytes(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, batches(100)))
	var items []Item
	for i := range 12 {
		ev := &event.Event{ID: fmt.Sprint("e", i), Source: "shop", Type: "order.captured.v1", Data: fmt.Appendf(nil, `"%s"`, strings.Repeat("x", 200<<10))}
		text, err := ev.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint("k", i)
		items = append(items, Item{Source: here, Key: key, Event: text, Head: block.Head{ID: ev.Hash(), Key: block.KeyHash(key), Type: ev.Type, System: "shop", Targets: to("erp")}})
	}
	b.journal.append(items...)
	b.run(t)
	b.awaitSettled(t, 12)
	var sizes []int
	for _, ids := range b.target.requests() {
		sizes = append(sizes, len(ids))
	}
	if most := MaxBatchBytes / len(items[0].Event); !slices.Equal(sizes, []int{most, most, 12 - 2*most}) {
		t.Errorf("requests of %v events, want at most %d", sizes, most)
	}
}

// TestBatchBytesOfMaps: what a map makes of an event counts, too. What has no room goes in
// the next request, in its turn, and was not tried.
func TestBatchBytesOfMaps(t *testing.T) {
	const each = 200_000
	m, err := expr.Compile(fmt.Sprintf(`[limit(%d; repeat("0123456789"))] | join("")`, each/10))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, newRules([]string{"erp"}, batches(8, func(_ *policy.System, r *policy.Route) { r.To[0].Map = m })))
	b.fill(12)
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		if d.Attempt != 1 || len(d.Data) < each {
			t.Errorf("%s: attempt %d, %d bytes", d.Event.ID, d.Attempt, len(d.Data))
		}
		return Answer{}, nil
	})
	b.run(t)
	b.awaitSettled(t, 12)
	want := [][]string{{"e0", "e1", "e2", "e3", "e4"}, {"e5", "e6", "e7", "e8", "e9"}, {"e10", "e11"}}
	if got := b.target.requests(); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("requests %v, want %v", got, want)
	}
}

// TestLeftForWantOfTime: a flight whose time is over before the second map begins takes the
// first alone.
func TestLeftForWantOfTime(t *testing.T) {
	f := &flight{system: "erp", timeout: 1} // half of it is over at once
	for i := range 3 {
		item := makeItem(fmt.Sprint("e", i), fmt.Sprint("k", i))
		f.orders = append(f.orders, order{job: &job{Key: item.Key}, event: item.Event, dest: &policy.Destination{}})
	}
	to := &target{}
	if res := attempt(t.Context(), &Config{Target: to}, f); res.failure != nil || res.fault != "" {
		t.Errorf("got %+v", res)
	}
	if got := to.requests(); len(got) != 1 || !slices.Equal(got[0], []string{"e0"}) || f.sent != 1 {
		t.Errorf("requests %v, want e0 alone", got)
	}
	for i := range f.orders {
		if o := &f.orders[i]; o.left != (i > 0) || o.fault != "" {
			t.Errorf("e%d: left %v, fault %q", i, o.left, o.fault)
		}
	}
}

// TestShadowAndLiveGoApart: a system must not have to look at each event of a request to
// know whether to act. A shadow that was refused with others is judged alone, as all are.
func TestShadowAndLiveGoApart(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, batches(10, func(s *policy.System, r *policy.Route) {
		s.Sandbox = true
		r.To = append(r.To, policy.Destination{System: "erp", Shadow: true})
	})))
	var live, shadow []Item
	for i := range 6 {
		target := to("erp")
		live = append(live, makeItem(fmt.Sprint("l", i), fmt.Sprint("k", i), target...))
		target = to("erp")
		target[0].Shadow = true
		shadow = append(shadow, makeItem(fmt.Sprint("s", i), fmt.Sprint("k", i), target...))
	}
	b.journal.append(append(append(append([]Item{}, live[:3]...), shadow...), live[3:]...)...)
	var mu sync.Mutex
	taken := map[string]bool{}
	b.target.playWhole(func(_ context.Context, ds []Delivery) (Answer, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, d := range ds {
			if d.Shadow != ds[0].Shadow {
				t.Errorf("shadow and live in one request: %v", idsOf(ds))
			}
		}
		if slices.Contains(idsOf(ds), "s1") {
			return Answer{}, &Failure{Class: Rejected}
		}
		for _, id := range idsOf(ds) {
			taken[id] = true
		}
		return Answer{}, nil
	})
	b.run(t)
	await(t, "all are settled", func() bool { s := b.of("erp"); return s.Delivered == 6 && s.Shadow == 6 })
	mu.Lock()
	defer mu.Unlock()
	if len(taken) != 11 || taken["s1"] {
		t.Errorf("taken: %v", taken)
	}
	if got := b.target.requests()[1]; len(got) != 6 {
		t.Errorf("the shadows went as %v, want together", got)
	}
}

// TestStopInMidBatch has the agent leave while a request is under way: nobody knows what
// came of it, so all of it goes again under the same keys, and counts for nothing.
func TestStopInMidBatch(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, batches(10, func(_ *policy.System, r *policy.Route) { r.Retry.Attempts = 1 })))
	want := b.fill(10)
	b.cfg.StopGrace = time.Millisecond
	begun := make(chan struct{})
	b.target.playWhole(func(ctx context.Context, _ []Delivery) (Answer, error) {
		close(begun)
		<-ctx.Done()
		return Answer{}, ctx.Err()
	})
	b.run(t)
	<-begun
	b.stop()
	b.target.playWhole(nil)
	b.run(t)
	b.awaitSettled(t, 10)
	b.awaitDead(t, 0)
	b.stop()
	if err := checkHistory(b.target.records(), want, false); err != nil || len(b.target.records()) != 20 {
		t.Errorf("%d attempts, want each twice: %v", len(b.target.records()), err)
	}
}

// TestBatchOfAnotherRevision: the next request is of the size that the policy in force says.
func TestBatchOfAnotherRevision(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, batches(5)))
	b.fill(5)
	var once sync.Once
	b.target.playWhole(func(context.Context, []Delivery) (Answer, error) {
		failed := false
		once.Do(func() {
			b.put(t, newRules([]string{"erp"}, batches(1)).set)
			failed = true
		})
		if failed {
			return Answer{}, errors.New("away")
		}
		return Answer{}, nil
	})
	b.run(t)
	b.awaitSettled(t, 5)
	for i, ids := range b.target.requests() {
		if want := map[bool]int{true: 5, false: 1}[i == 0]; len(ids) != want {
			t.Errorf("request %d has %v, want %d", i+1, ids, want)
		}
	}
}

// TestNotSent: a request that the target would not send, as the policy has changed meanwhile,
// is nobody's failure. What was in it goes as the policy says by then.
func TestNotSent(t *testing.T) {
	with := func(n int) *rules {
		return newRules([]string{"erp"}, batches(n, func(s *policy.System, r *policy.Route) {
			s.Delivery.Breaker = policy.Breaker{Failures: 1, Pause: time.Hour}
			r.Retry.Attempts = 1
		}))
	}
	b := newBench(t, with(8))
	b.fill(8)
	refused := 0
	b.target.playWhole(func(_ context.Context, ds []Delivery) (Answer, error) {
		if len(ds) > 1 {
			if refused++; refused == maxCompany+1 {
				b.put(t, with(1).set)
			}
			return Answer{}, fmt.Errorf("%d at once: %w", len(ds), ErrNotSent)
		}
		if ds[0].Attempt != 1 {
			t.Errorf("%s: attempt %d", ds[0].Event.ID, ds[0].Attempt)
		}
		return Answer{}, nil
	})
	b.run(t)
	b.awaitSettled(t, 8)
	b.awaitDead(t, 0)
	if refused <= maxCompany {
		t.Errorf("refused %d times", refused)
	}
}
