package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
)

// TestOrder runs random events over random failures, parks, restarts, rates and sizes of
// requests, and has the history judged.
func TestOrder(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { testOrder(t, seed) })
	}
}

func testOrder(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	systems := []string{"erp", "wms", "crm"}
	breaker := policy.Breaker{Failures: 3 + rnd.IntN(20), Pause: 2 * time.Millisecond}
	batch := []int{1, 2, 5, 64}[seed%4]
	b := newBench(t, newRules(systems, func(s *policy.System, _ *policy.Route) {
		s.Delivery.Breaker, s.Delivery.Batch = breaker, batch
	}), func(c *Config) {
		c.Window = 16 + rnd.IntN(100)
		if seed%3 != 0 {
			c.ParkAfter = time.Duration(1+rnd.IntN(4)) * time.Millisecond
		}
	})
	var mu sync.Mutex
	b.target.playWhole(func(_ context.Context, ds []Delivery) (Answer, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(ds) > 1 && rnd.IntN(4) == 0 {
			return Answer{}, &Failure{Class: Rejected, Status: 422}
		}
		switch rnd.IntN(8) {
		case 0:
			return Answer{}, &Failure{Class: Unavailable, Status: 503}
		case 1:
			return Answer{}, &Failure{Class: Throttled, Status: 429, RetryAfter: time.Millisecond}
		case 2:
			return Answer{}, errors.New("connection reset")
		}
		return Answer{Status: 200}, nil
	})
	gen := rand.New(rand.NewPCG(seed, 2)) // the target's draws run beside
	var want []expectation
	feed := func(positions int) {
		for range positions {
			var items []Item
			for range 1 + gen.IntN(4) {
				id, key := fmt.Sprint("e", len(want)), fmt.Sprint("k", gen.IntN(8))
				var targets []block.Target
				for _, s := range systems {
					if gen.IntN(2) == 0 {
						targets = append(targets, to(s)...)
						want = append(want, expectation{s, key, id})
					}
				}
				items = append(items, makeItem(id, key, targets...))
			}
			b.journal.append(items...)
		}
	}
	feed(30)
	b.run(t)
	feed(30)
	b.awaitSettled(t, len(want)/2)
	b.stop()
	b.run(t) // a clean stop repeats nothing
	feed(20)
	b.awaitSettled(t, len(want))
	b.stop()
	if err := checkHistory(b.target.records(), want, false); err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, ids := range b.target.requests() {
		most = max(most, len(ids))
	}
	if most > batch || batch > 1 && most == 1 {
		t.Errorf("requests of up to %d events, where %d may go together", most, batch)
	}
}

func (b *bench) awaitSettled(t *testing.T, n int) {
	t.Helper()
	await(t, fmt.Sprint(n, " delivered"), func() bool {
		sum := uint64(0)
		for _, s := range b.Status() {
			sum += s.Delivered
		}
		return sum >= uint64(n)
	})
}

// TestCheckHistory has the judge find each kind of wrong.
func TestCheckHistory(t *testing.T) {
	want := []expectation{{"erp", "k", "1"}, {"erp", "k", "2"}, {"erp", "l", "3"}}
	good := []attemptRecord{
		{"erp", "k", "1", "i1", 1, 2, false}, {"erp", "k", "1", "i1", 3, 4, true},
		{"erp", "l", "3", "i3", 5, 8, true}, {"erp", "k", "2", "i2", 6, 7, true},
	}
	if err := checkHistory(good, want, false); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(h []attemptRecord) []attemptRecord{
		"removed": func(h []attemptRecord) []attemptRecord { return h[:3] },
		"doubled": func(h []attemptRecord) []attemptRecord {
			return append(h, attemptRecord{"erp", "k", "2", "i2", 9, 10, true})
		},
		"swapped":    func(h []attemptRecord) []attemptRecord { h[1].id, h[3].id = "2", "1"; return h },
		"overlap":    func(h []attemptRecord) []attemptRecord { h[1].end = 7; return h },
		"invented":   func(h []attemptRecord) []attemptRecord { h[2].key = "m"; return h },
		"other key":  func(h []attemptRecord) []attemptRecord { h[1].idempotency = "i9"; return h },
		"shared key": func(h []attemptRecord) []attemptRecord { h[2].idempotency = "i1"; return h },
	} {
		if checkHistory(spoil(slices.Clone(good)), want, false) == nil {
			t.Errorf("%s: not found", name)
		}
	}
}

// TestKeysInParallel has every key wait for all the others.
func TestKeysInParallel(t *testing.T) {
	const n = 4
	b := newBench(t, newRules([]string{"erp"}, func(s *policy.System, _ *policy.Route) { s.Delivery.Concurrency = n }))
	var mu sync.Mutex
	inside, most, all, once := 0, 0, make(chan struct{}), sync.Once{}
	b.target.play(func(ctx context.Context, _ Delivery) (Answer, error) {
		mu.Lock()
		inside++
		if most = max(most, inside); inside == n {
			once.Do(func() { close(all) })
		}
		mu.Unlock()
		<-all
		mu.Lock()
		defer mu.Unlock()
		inside--
		return Answer{}, nil
	})
	for i := range 3 * n {
		b.journal.append(makeItem(fmt.Sprint("e", i), fmt.Sprint("k", i), to("erp")...))
	}
	b.run(t)
	<-all
	mu.Lock()
	defer mu.Unlock()
	if most != n {
		t.Errorf("%d in flight at the barrier, want %d", most, n)
	}
	b.target.play(nil)
}

// TestWindow has one stuck key and more events behind it than the window holds: the window
// fills and no further, and parking lets the cursor pass.
func TestWindow(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}))
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		if d.Key == "stuck" {
			return Answer{}, &Failure{Class: Unavailable}
		}
		return Answer{}, nil
	})
	const n = MaxWindow + 3008
	stuck := b.journal.append(makeItem("s", "stuck", to("erp")...))
	for i := 0; i < n; i += 100 {
		items := make([]Item, 100)
		for k := range items {
			items[k] = makeItem(fmt.Sprint("e", i+k), fmt.Sprint("k", k), to("erp")...)
		}
		b.journal.append(items...)
	}
	b.run(t)
	await(t, "the window is full", func() bool { return b.of("erp").Delivered >= MaxWindow-2 })
	if s := b.of("erp"); s.Window > MaxWindow || s.Delivered >= MaxWindow || s.Cursor != stuck || b.MinCursor() != stuck {
		t.Errorf("got %+v, MinCursor %d; want the cursor and the journal held at %d", s, b.MinCursor(), stuck)
	}
	b.stop()
	b.cfg.ParkAfter = time.Millisecond
	b.run(t)
	await(t, "the cursor passes the stuck key", func() bool {
		s := b.of("erp")
		return s.Delivered == n && s.Parked == 1 && b.MinCursor() == b.journal.first+uint64(len(b.journal.blocks))
	})
	b.target.play(nil)
	b.awaitDelivered(t, "erp", "s")
	var want []expectation
	for _, r := range b.target.records() {
		if r.ok {
			want = append(want, expectation{"erp", r.key, r.id})
		}
	}
	if err := checkHistory(b.target.records(), want, false); err != nil || len(want) != n+1 {
		t.Errorf("%d delivered, want %d: %v", len(want), n+1, err)
	}
}

// A delivery whose time to be parked passes while an attempt is under way is parked after
// it; it is not tried again at once, and again, and never parked.
func TestParkingTimePassesDuringAnAttempt(t *testing.T) {
	const parkAfter = 20 * time.Millisecond
	b := newBench(t, newRules([]string{"erp"}), func(c *Config) { c.ParkAfter = parkAfter })
	b.target.play(func(ctx context.Context, d Delivery) (Answer, error) {
		if d.Attempt == 2 {
			select { // the passing of the time is what this test is about
			case <-time.After(2 * parkAfter):
			case <-ctx.Done():
			}
		}
		return Answer{}, &Failure{Class: Unavailable}
	})
	b.journal.append(makeItem("s", "stuck", to("erp")...))
	b.run(t)
	await(t, "the delivery is parked", func() bool { return b.of("erp").Parked == 1 })
}
