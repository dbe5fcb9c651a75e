package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

func revisionOf(n uint64) block.Revision { return block.Revision{Generation: 1, Number: n} }

// put has another revision come into force.
func (b *bench) put(t *testing.T, set *policy.Set) {
	t.Helper()
	b.rules.mu.Lock()
	b.rules.set = set
	b.rules.mu.Unlock()
	if b.Engine != nil {
		b.PolicyChanged()
	}
}

// moving is a policy in which erp-new takes the place of erp, and all routes lead to it.
func moving(number uint64) *policy.Set {
	set := newRules([]string{"erp", "erp-new"}).set
	set.Systems["erp-new"].Replaces = "erp"
	set.Routes = []*policy.Route{{Meta: policy.Meta{Name: "r-erp-new"}, To: []policy.Destination{{System: "erp-new"}}, OnExhausted: onPark}}
	set.Revision = revisionOf(number)
	return set
}

func still(number uint64, names ...string) *policy.Set {
	set := newRules(names).set
	set.Revision = revisionOf(number)
	return set
}

// A held system gets nothing, over restarts too, and then everything in order.
func TestHeldSystemWaitsForItsRelease(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	b := newBench(t, newRules(nil))
	b.put(t, still(1, "erp"))
	var want []expectation
	feed := func(n int) {
		for range n {
			id, key := fmt.Sprint("e", len(want)), fmt.Sprint("k", rnd.IntN(5))
			want = append(want, expectation{"erp-new", key, id})
			b.journal.append(makeItem(id, key, to("erp-new")...))
		}
	}
	b.run(t)
	b.put(t, moving(2))
	feed(40)
	for range 2 {
		await(t, "the events are known", func() bool { return b.of("erp-new").Pending == uint64(len(want)) })
		s := b.of("erp-new")
		if s.State != SystemHeld || !strings.Contains(s.Held, "takes the place of erp") || s.Delivered != 0 {
			t.Errorf("shown as %+v", s)
		}
		if h := b.Holding(); len(h) != 1 || h[0].System != "erp-new" || h[0].Replaces != "erp" || h[0].After != revisionOf(1) {
			t.Errorf("holding %+v", h)
		}
		if first := uint64(1); b.MinCursor() > first || b.Unsettled() > first {
			t.Errorf("history before %d and %d may go", b.MinCursor(), b.Unsettled())
		}
		b.stop()
		feed(10)
		b.run(t)
	}
	if err := b.Release(t.Context(), "erp-new", revisionOf(1)); err != nil { // of an earlier move
		t.Fatal(err)
	}
	if len(b.Holding()) != 1 || len(b.target.records()) != 0 {
		t.Fatal("released by the release of an earlier move")
	}
	for range 2 { // the second is a repeat
		if err := b.Release(t.Context(), "erp-new", revisionOf(2)); err != nil {
			t.Fatal(err)
		}
	}
	b.awaitSettled(t, len(want)-10)
	b.stop()
	b.put(t, moving(3)) // the document stands in later revisions as well
	b.run(t)
	feed(10)
	b.awaitSettled(t, len(want))
	if h := b.Holding(); len(h) != 0 {
		t.Errorf("holding %+v", h)
	}
	if err := checkHistory(b.target.records(), want, false); err != nil {
		t.Error(err)
	}
	await(t, "nothing is pending", func() bool { return b.Pending(t.Context(), "erp-new", b.journal.end()) == 0 })
}

func (j *journal) end() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.first + uint64(len(j.blocks))
}

func TestReleaseThatComesBeforeTheMove(t *testing.T) {
	b := newBench(t, newRules(nil))
	b.put(t, still(4, "erp"))
	b.run(t)
	if err := b.Release(t.Context(), "erp-new", revisionOf(5)); err != nil {
		t.Fatal(err)
	}
	b.stop() // it is kept
	b.run(t)
	b.put(t, moving(5))
	if h := b.Holding(); len(h) != 0 {
		t.Errorf("holding %+v", h)
	}
}

// A system that is moved back and forth is held for each move, and a late repeat of the
// first release does not end the second hold.
func TestEachMoveIsHeld(t *testing.T) {
	b := newBench(t, newRules(nil))
	held := func(want int) {
		t.Helper()
		if h := b.Holding(); len(h) != want {
			t.Errorf("holding %+v, want %d", h, want)
		}
	}
	b.run(t)
	b.put(t, moving(2))
	held(1)
	release := func(n uint64) {
		if err := b.Release(t.Context(), "erp-new", revisionOf(n)); err != nil {
			t.Fatal(err)
		}
	}
	release(2)
	held(0)
	b.put(t, still(3, "erp", "erp-new"))
	held(0)
	b.put(t, moving(4))
	held(1)
	release(2)
	held(1)
	b.stop()
	b.run(t)
	held(1)
	release(4)
	held(0)
	b.put(t, still(6, "erp")) // gone
	b.put(t, moving(7))
	held(1)
}

// What is pending for a system that is replaced goes to it as before, by the map that the
// last route had, though no route leads there any more and the agent is started anew.
func TestReplacedSystemGetsWhatIsPending(t *testing.T) {
	b := newBench(t, newRules(nil))
	before := still(1, "erp")
	m, err := expr.Compile(`{mapped: .orderId}`)
	if err != nil {
		t.Fatal(err)
	}
	before.Routes[0].To[0].Map = m
	before.Routes[0].OnExhausted = onSkip
	b.put(t, before)
	b.target.play(func(context.Context, Delivery) (Answer, error) { return Answer{}, &Failure{Class: Unavailable} })
	b.run(t)
	for i := range 10 {
		b.journal.append(makeItem(fmt.Sprint("e", i), fmt.Sprint("k", i%3), to("erp")...))
	}
	await(t, "attempts", func() bool { return len(b.target.records()) > 3 })
	b.put(t, moving(2))
	// What was not read yet is not counted; that it is not passed over is what counts.
	await(t, "all are pending for the old system", func() bool { return b.Pending(t.Context(), "erp", b.journal.end()) == 10 })
	b.stop()
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		switch {
		case !strings.Contains(string(d.Data), "mapped"):
			return Answer{}, fmt.Errorf("delivered as %s", d.Data)
		case d.Event.ID == "e5":
			return Answer{}, &Failure{Class: Rejected}
		}
		return Answer{Status: 200}, nil
	})
	b.run(t)
	await(t, "the old system has got it all", func() bool { return b.Pending(t.Context(), "erp", b.journal.end()) == 0 })
	if got := b.target.delivered("erp"); len(got) != 9 {
		t.Errorf("delivered %v", got)
	}
	letters := b.awaitDead(t, 1)
	if letters[0].OnExhausted != onSkip {
		t.Errorf("a dead letter of a route that skips: %+v", letters[0])
	}
}

// Pending counts what is parked and what a dead letter blocks; Unsettled minds what is
// parked, and passes a dead letter.
func TestPendingAndUnsettled(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}), func(c *Config) { c.ParkAfter = time.Millisecond })
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		switch {
		case d.Event.ID == "bad":
			return Answer{}, &Failure{Class: Rejected}
		case d.Key == "slow":
			return Answer{}, &Failure{Class: Unavailable}
		}
		return Answer{Status: 200}, nil
	})
	b.run(t)
	b.journal.append(makeItem("bad", "k", to("erp")...))
	slow := b.journal.append(makeItem("slow", "slow", to("erp")...))
	b.journal.append(makeItem("fine", "l", to("erp")...))
	await(t, "parked and dead", func() bool {
		s := b.of("erp")
		return s.Parked == 1 && s.DeadLetters == 1 && s.Delivered == 1 && b.MinCursor() == b.journal.end()
	})
	pending := func() uint64 { return b.Pending(t.Context(), "erp", b.journal.end()) }
	if n := pending(); n != 2 {
		t.Errorf("%d pending, want the parked one and the one that blocks its key", n)
	}
	await(t, "settled below the parked one", func() bool { return b.Unsettled() == slow })
	b.stop()
	b.run(t)
	await(t, "likewise after a restart", func() bool { return b.Unsettled() == slow })
	if n := pending(); n != 2 {
		t.Errorf("%d pending after a restart", n)
	}
	b.target.play(nil)
	await(t, "all is settled but the dead letter", func() bool { return b.Unsettled() == b.journal.end() && pending() == 1 })
	if err := b.Discard(t.Context(), Command{ID: "c", DeadLetter: b.awaitDead(t, 1)[0].ID}); err != nil {
		t.Fatal(err)
	}
	await(t, "nothing is pending", func() bool { return pending() == 0 })
	if n := b.Pending(t.Context(), "erp", b.journal.end()+1); n != 1 {
		t.Errorf("%d pending below a position that was not read", n)
	}
	if n := b.Pending(t.Context(), "nobody", 1); n != 0 {
		t.Errorf("%d pending for a system that is not known", n)
	}
}

// One key fills the window with events that fail always, so that only they are left to
// probe the system with: the breaker opens, and would stay open for good.
func TestFullWindowBehindAnOpenBreaker(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, func(s *policy.System, _ *policy.Route) {
		s.Delivery.Breaker = policy.Breaker{Failures: 1, Pause: 2 * time.Millisecond}
	}), func(c *Config) { c.Window, c.ParkAfter = 16, 5*time.Millisecond })
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		if d.Key == "stuck" {
			return Answer{}, &Failure{Class: Unavailable}
		}
		return Answer{Status: 200}, nil
	})
	for i := range 40 {
		b.journal.append(makeItem(fmt.Sprint("s", i), "stuck", to("erp")...))
	}
	b.journal.append(makeItem("a", "k", to("erp")...), makeItem("b", "k", to("erp")...))
	b.run(t)
	b.awaitDelivered(t, "erp", "a", "b")
	b.target.play(nil)
	await(t, "all", func() bool { return len(b.target.delivered("erp")) == 42 })
	got := slices.DeleteFunc(b.target.delivered("erp"), func(id string) bool { return id == "a" || id == "b" })
	for i, id := range got {
		if id != fmt.Sprint("s", i) {
			t.Fatalf("order of the stuck key: %v", got)
		}
	}
}

// begunWith is the policy of moving, as a control plane sends it that tells where the move began.
func begunWith(number, begun uint64) *policy.Set {
	set := moving(number)
	set.Begun = map[string]block.Revision{"erp-new": revisionOf(begun)}
	return set
}

// An agent that was away has missed that a move was taken back and made again. The release of
// the first does not end the second, whether it was heard of before or after.
func TestMoveThatBeganAgainMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(b *bench, release func(uint64))
		want bool // held
	}{
		{"seen and released", func(b *bench, release func(uint64)) {
			b.put(t, begunWith(2, 2))
			release(2)
			b.put(t, begunWith(3, 2)) // it goes on
		}, false},
		{"began again", func(b *bench, release func(uint64)) {
			b.put(t, begunWith(2, 2))
			release(2)
			b.put(t, begunWith(4, 4))
		}, true},
		{"began again, and is released", func(b *bench, release func(uint64)) {
			b.put(t, begunWith(2, 2))
			release(2)
			b.put(t, begunWith(4, 4))
			release(4)
			b.put(t, begunWith(5, 4))
		}, false},
		{"the first was never seen", func(b *bench, release func(uint64)) {
			b.put(t, begunWith(4, 4))
			release(2)
		}, true},
		{"its release came first", func(b *bench, release func(uint64)) {
			release(2)
			b.put(t, begunWith(4, 4))
		}, true},
		{"begun in a revision that was missed", func(b *bench, release func(uint64)) {
			b.put(t, begunWith(4, 3))
			release(3)
		}, false},
		{"nobody had told", func(b *bench, release func(uint64)) {
			b.put(t, moving(2))
			release(2)
			b.put(t, begunWith(3, 2))
		}, false},
		{"nobody had told, began again", func(b *bench, release func(uint64)) {
			b.put(t, moving(2))
			release(2)
			b.put(t, begunWith(4, 4))
		}, true},
		{"nobody tells any more", func(b *bench, release func(uint64)) {
			b.put(t, begunWith(2, 2))
			release(2)
			b.put(t, moving(3))
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, newRules(nil))
			b.put(t, still(1, "erp"))
			b.run(t)
			tt.do(b, func(n uint64) {
				if err := b.Release(t.Context(), "erp-new", revisionOf(n)); err != nil {
					t.Fatal(err)
				}
			})
			for range 2 {
				if h := b.Holding(); len(h) != 0 != tt.want {
					t.Errorf("holding %+v", h)
				}
				b.stop()
				b.run(t) // it is kept
			}
		})
	}
}

// A system was replaced while this agent was away, or before it had looked. It is told of the
// revision in between, whose route alone some events have, and keeps that over a restart; the
// older one, which is in force until the next, does not take it back.
func TestReplacedSystemAfterAMissedRevision(t *testing.T) {
	b := newBench(t, newRules(nil))
	b.put(t, still(1, "erp"))
	b.run(t)
	missed := still(2, "erp")
	missed.Routes[0].Name = "renamed"
	m, err := expr.Compile(`{mapped: .orderId}`)
	if err != nil {
		t.Fatal(err)
	}
	missed.Routes[0].To[0].Map = m
	b.Note(missed)
	b.PolicyChanged()
	b.journal.append(makeItem("e1", "k", block.Target{Agent: here, System: "erp", Route: "renamed"}))
	b.stop()
	b.run(t)
	await(t, "it waits", func() bool { return b.of("erp").Parked == 1 })
	if n := len(b.target.records()); n != 0 {
		t.Errorf("%d attempts by a revision that is not in force", n)
	}
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		if !strings.Contains(string(d.Data), "mapped") {
			return Answer{}, fmt.Errorf("delivered as %s", d.Data)
		}
		return Answer{Status: 200}, nil
	})
	b.put(t, moving(3))
	b.awaitDelivered(t, "erp", "e1")
}

// What a revision holds is held before it is in force: events that were routed by it are on
// their way, and the systems are attached later.
func TestAnnouncedRevisionHolds(t *testing.T) {
	b := newBench(t, newRules(nil))
	b.put(t, still(1, "erp", "erp-new"))
	b.run(t)
	before := still(2, "erp", "erp-new")
	before.Routes[0].Name = "renamed"
	b.Announce(before) // the next comes before anybody has looked
	b.Announce(begunWith(3, 3))
	if len(b.Holding()) != 1 {
		t.Error("it is not held at once")
	}
	b.PolicyChanged() // by the first
	b.journal.append(makeItem("new", "k", to("erp-new")...))
	b.journal.append(makeItem("old", "k", block.Target{Agent: here, System: "erp", Route: "renamed"}))
	await(t, "it is read", func() bool { return b.of("erp").Parked == 1 && b.of("erp-new").Pending == 1 })
	if h := b.Holding(); len(h) != 1 || h[0].After != revisionOf(2) || len(b.target.records()) != 0 {
		t.Errorf("holding %+v, attempts %+v", h, b.target.records())
	}
	b.put(t, begunWith(3, 3))
	b.awaitDelivered(t, "erp", "old")
	if got := b.target.delivered("erp-new"); len(got) != 0 || len(b.Holding()) != 1 {
		t.Errorf("delivered %v", got)
	}
	b.Announce(still(4, "erp")) // the system is gone, but not yet
	for range 2 {
		if len(b.Holding()) != 1 {
			t.Error("it is held no more, and still there")
		}
		b.PolicyChanged()
	}
	if err := b.Release(t.Context(), "erp-new", revisionOf(3)); err != nil {
		t.Fatal(err)
	}
	b.awaitDelivered(t, "erp-new", "new")
}
