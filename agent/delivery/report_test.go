package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// However many dead letters wait to be told again for their count, they are told ten in
// ReportEvery at most, and a single one within it.
func TestCountsAreToldAtABoundedPace(t *testing.T) {
	const every = time.Second
	r := newReporter(&Engine{cfg: Config{ReportEvery: every}})
	begun := time.Now()
	for i := range 200 {
		r.mark(fmt.Sprint(i), false)
		if at := r.dirty["0"]; at.Sub(begun) > every+every/2 {
			t.Fatalf("the first is told after %s", at.Sub(begun))
		}
	}
	soon := 0
	for _, at := range r.dirty {
		if at.Before(begun.Add(2 * every)) {
			soon++
		}
	}
	if soon > 11 {
		t.Errorf("%d are told in the first two seconds", soon)
	}
	r.mark("199", true)
	if r.dirty["199"].After(time.Now()) {
		t.Error("what is urgent waits")
	}
}

// lines is a slog.Handler's writer that a test can read.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// The log tells that a system went and that it came back, once each.
func TestReachIsLoggedWhenItChanges(t *testing.T) {
	out := &lines{}
	b := newBench(t, newRules([]string{"erp"}), func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(out, nil)) })
	b.target.play(func(context.Context, Delivery) (Answer, error) {
		return Answer{}, &Failure{Class: Unavailable, Err: fmt.Errorf("connection refused")}
	})
	b.journal.append(makeItem("a", "a", to("erp")...), makeItem("b", "b", to("erp")...))
	b.run(t)
	await(t, "several attempts", func() bool { return len(b.target.records()) > 6 })
	b.target.play(nil)
	b.awaitDelivered(t, "erp", "a", "b")
	await(t, "back", func() bool { return out.count("system is back") == 1 })
	if n := out.count("does not take events"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// A dead letter that was parked itself counts those that were parked behind it.
func TestParkedOnesBehindAParkedDeadLetterAreCounted(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}), func(c *Config) { c.ParkAfter = time.Millisecond })
	b.target.play(func(context.Context, Delivery) (Answer, error) {
		return Answer{}, &Failure{Class: Unavailable, Err: fmt.Errorf("connection refused")}
	})
	for i := range 3 {
		b.journal.append(makeItem(fmt.Sprint("k", i), "k", to("erp")...))
	}
	b.run(t)
	await(t, "all are parked, and none pending twice", func() bool {
		s := b.of("erp")
		return s.Parked == 3 && s.Pending == 0 && s.State == SystemRetrying
	})
	b.target.play(reject("k0"))
	dl := b.awaitDead(t, 1)[0]
	await(t, "two wait, and it is told", func() bool { return b.facts.last(dl.ID).Waiting == 2 })
}
