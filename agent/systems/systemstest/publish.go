package systemstest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/event"
)

// journal stands in for the agent's journal: it keeps what it took, by source and id.
type journal struct {
	t      *testing.T
	mu     sync.Mutex
	taken  map[[16]byte]string
	rounds int
	before func(round int) error // an error: these are not taken
	after  func(round int) error // an error: they are taken, and the driver does not hear of it
}

func (j *journal) emit(_ context.Context, events []*event.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rounds++
	if j.before != nil {
		if err := j.before(j.rounds); err != nil {
			return err
		}
	}
	for _, e := range events {
		text, err := e.Marshal()
		if err != nil {
			j.t.Errorf("an event that is none: %v", err)
			continue
		}
		if had, ok := j.taken[e.Hash()]; ok && had != string(text) {
			j.t.Errorf("event %s came again with another content:\n%s\n%s", e.ID, had, text)
		}
		j.taken[e.Hash()] = string(text)
	}
	if j.after != nil {
		return j.after(j.rounds)
	}
	return nil
}

func (j *journal) ids() [][16]byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Keys(j.taken))
}

func (j *journal) seen() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rounds
}

// run publishes into j until the condition holds, then stops the driver.
func (f Fixture) run(t *testing.T, j *journal, what string, holds func() bool) {
	t.Helper()
	if j.taken == nil {
		j.t, j.taken = t, map[[16]byte]string{}
	}
	d := f.Open(t)
	defer d.Close()
	p, err := systems.As[systems.Publisher](d, systems.OpPublish)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Publish(ctx, j.emit) }()
	await(t, what, holds)
	cancel()
	if err := soon(t, "publish, when its context ended,", func() error { return <-done }); err != nil {
		t.Errorf("publish ended with %v, want nil when its context ended", err)
	}
}

func (f Fixture) publish(t *testing.T) {
	drained := func() bool { return f.Foreign.Unconfirmed(t) == 0 }
	t.Run("gives every event and confirms it", func(t *testing.T) {
		f.Foreign.Offer(t, 3)
		j := &journal{}
		f.run(t, j, "all events confirmed", drained)
		if got := len(j.ids()); got != 3 {
			t.Errorf("got %d events, want 3", got)
		}
		f.Foreign.Offer(t, 1)
		again := &journal{}
		f.run(t, again, "one more confirmed", drained)
		if got := len(again.ids()); got != 1 {
			t.Errorf("a new driver gave %d events, want only the one that was not confirmed", got)
		}
	})
	t.Run("repeats what was not taken", func(t *testing.T) {
		f.Foreign.Offer(t, 3)
		j := &journal{before: func(round int) error {
			if round > 2 {
				return nil
			}
			if f.Foreign.Unconfirmed(t) != 3 {
				t.Error("events were confirmed before the journal took them")
			}
			return errors.New("the queue is full")
		}}
		f.run(t, j, "all events confirmed", drained)
		if got := len(j.ids()); got != 3 {
			t.Errorf("got %d events, want 3", got)
		}
	})
	t.Run("killed between effect and acknowledgement", f.publishKilled)
	f.with(t, Refuse, func(t *testing.T) {
		j := &journal{}
		healed := false
		f.run(t, j, "the events that were there after the system came back", func() bool {
			if !healed {
				f.Foreign.Fault(t, None)
				f.Foreign.Offer(t, 2)
				healed = true
			}
			return drained()
		})
		if got := len(j.ids()); got != 2 {
			t.Errorf("got %d events, want 2", got)
		}
	})
}

// publishKilled stops the driver when the journal has the events and the driver has not
// heard of it. The next driver must give the same events, with the same ids.
func (f Fixture) publishKilled(t *testing.T) {
	f.Foreign.Offer(t, 3)
	first := &journal{after: func(int) error { return context.Canceled }}
	f.run(t, first, "the journal took all", func() bool { return len(first.ids()) == 3 && first.seen() > 0 })
	if got := f.Foreign.Unconfirmed(t); got != 3 {
		t.Fatalf("%d events wait for confirmation, want 3: the driver was killed before it", got)
	}
	second := &journal{t: t, taken: maps.Clone(first.taken)}
	f.run(t, second, "all events confirmed", func() bool { return f.Foreign.Unconfirmed(t) == 0 })
	if got := len(second.ids()); got != 3 {
		t.Errorf("the journal holds %d events, want the same 3", got)
	}
	if second.seen() == 0 {
		t.Error("events were confirmed and never given again")
	}
}
