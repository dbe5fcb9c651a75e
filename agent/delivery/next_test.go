package delivery

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/policy"
)

// While a system cannot be reached, its status says when the next attempt is, and the hops of
// what waits say what went wrong, how often, and the same.
func TestWhatWaitsSaysForWhat(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, func(s *policy.System, r *policy.Route) {
		s.Delivery.Breaker = policy.Breaker{Failures: 2, Pause: time.Hour}
		r.Retry = policy.Retry{Initial: time.Microsecond, Max: time.Microsecond}
	}))
	b.target.play(func(context.Context, Delivery) (Answer, error) {
		return Answer{}, &Failure{Class: Unavailable, Err: errors.New("connection refused")}
	})
	b.journal.append(makeItem("a", "k", to("erp")...))
	before := time.Now()
	b.run(t)
	next := func() time.Time { return b.of("erp").NextTry }
	await(t, "the next attempt is told", func() bool { return b.of("erp").State == SystemOpen && !next().IsZero() })
	if got := next(); got.Before(before.Add(time.Hour)) || got.After(time.Now().Add(time.Hour+time.Second)) {
		t.Errorf("next try at %s, and the breaker's pause of an hour began after %s", got, before)
	}
	b.journal.append(makeItem("b", "k", to("erp")...)) // behind it, and not even read
	hops := func(pos uint64) Hop {
		list, err := b.Hops(pos, 0)
		if err != nil || len(list) != 1 || list[0].State != StatePending {
			t.Fatalf("hops = %+v, %v", list, err)
		}
		return list[0]
	}
	stands := "erp is open, next try " + next().Format(time.RFC3339)
	if h := hops(1); h.Attempts != 2 || !strings.Contains(h.Detail, "connection refused; "+stands) {
		t.Errorf("got %+v, want 2 attempts and %q", h, stands)
	}
	if h := hops(2); h.Attempts != 0 || !strings.HasPrefix(h.Detail, stands+"; its last error: ") {
		t.Errorf("got %+v, want no attempt and %q", h, stands)
	}
}

// What waits in a copy of its own, or failed for good, says why as well.
func TestParkedAndDeadSayWhy(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, func(_ *policy.System, r *policy.Route) {
		r.Retry = policy.Retry{Initial: time.Hour, Max: time.Hour}
	}), func(c *Config) { c.ParkAfter = time.Millisecond })
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		if d.Key == "dead" {
			return Answer{}, &Failure{Class: Rejected, Status: 422}
		}
		return Answer{}, &Failure{Class: Unavailable, Err: errors.New("connection refused")}
	})
	b.journal.append(makeItem("a", "parked", to("erp")...))
	b.journal.append(makeItem("b", "dead", to("erp")...))
	b.run(t)
	b.awaitDead(t, 1)
	await(t, "the other is parked", func() bool {
		list, err := b.Hops(1, 0)
		return err == nil && slices.ContainsFunc(list, func(h Hop) bool { return h.State == StateParked })
	})
	for pos, want := range map[uint64]string{1: "connection refused", 2: "422"} {
		if list, err := b.Hops(pos, 0); err != nil || len(list) != 1 || list[0].Attempts != 1 || !strings.Contains(list[0].Detail, want) {
			t.Errorf("hops of %d = %+v, %v, want one attempt and %q", pos, list, err, want)
		}
	}
}
