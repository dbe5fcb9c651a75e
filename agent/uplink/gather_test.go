package uplink

import (
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/transport"
)

// pushing is a site whose first push is not answered yet.
func pushing(t *testing.T) (*site, *relay) {
	t.Helper()
	s, r := newSite(), newRelay()
	r.hold = make(chan struct{})
	u, _ := newUplink(s, r, transport.Faults{}, func(c *Config) { c.PushPause, c.CallTimeout, c.StatusEvery = time.Hour, time.Minute, time.Hour })
	run(t, u)
	s.add("a")
	r.await(t, "the first push", func() bool { return len(r.pushes) == 1 })
	return s, r
}

// What comes while a push is under way goes together when that is answered.
func TestEventsGoTogetherBehindAPush(t *testing.T) {
	const more = 20
	s, r := pushing(t)
	for range more {
		s.add("a")
	}
	r.await(t, "the pusher waits for a full block", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.awaited >= block.MaxEvents
	})
	close(r.hold)
	r.await(t, "all events", func() bool { return len(r.taken["a"]) == 1+more })
	r.set(func() {
		if len(r.pushes) != 2 {
			t.Errorf("pushes with blocks of %v events, want two pushes", r.pushes)
		}
	})
}

// A full block waits for nothing, neither the answer nor the pause.
func TestFullBlockDoesNotWait(t *testing.T) {
	s, r := pushing(t)
	for range block.MaxEvents {
		s.add("a")
	}
	r.await(t, "a push beside the first", func() bool { return len(r.pushes) > 1 })
	close(r.hold)
	r.await(t, "all events", func() bool { return len(r.taken["a"]) == 1+block.MaxEvents })
}

// An answer that does not come keeps no event longer than the pause.
func TestPauseBehindAPushEnds(t *testing.T) {
	s, r := newSite(), newRelay()
	r.hold = make(chan struct{})
	u, _ := newUplink(s, r, transport.Faults{}, func(c *Config) { c.PushPause, c.CallTimeout = time.Millisecond, time.Minute })
	run(t, u)
	s.add("a")
	r.await(t, "the first push", func() bool { return len(r.pushes) == 1 })
	s.add("a")
	r.await(t, "the second, beside it", func() bool { return len(r.pushes) == 2 })
	close(r.hold)
	r.await(t, "both events", func() bool { return len(r.taken["a"]) == 2 })
}
