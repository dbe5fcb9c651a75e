package uplink

import (
	"fmt"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// receivedNow counts the mail that is committed.
func (s *site) receivedNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.received)
}

// Mail that comes together is acknowledged together; what is told at once takes along what
// is committed by then.
func TestMailIsAcknowledgedTogether(t *testing.T) {
	const burst = 50
	s, r := newSite(), newRelay()
	u, _ := newUplink(s, r, transport.Faults{}, func(c *Config) { c.AckPause, c.StatusEvery = time.Hour, time.Hour })
	run(t, u)
	r.await(t, "the first status", func() bool { return r.status == 1 })
	for i := range uint64(burst) {
		r.set(func() { r.mail = append(r.mail, delivery(i+1, fmt.Sprint(i+1))) })
	}
	r.await(t, "the mail", func() bool { return s.receivedNow() == burst })
	r.set(func() {
		if r.acks != 1 || r.acked != 0 {
			t.Errorf("%d calls while mail waits for more, up to %d", r.acks, r.acked)
		}
		r.mail = append(r.mail, &syncpb.PullResponse{Item: &syncpb.PullResponse_Command{Command: &syncpb.Command{Id: "c", Kind: "trace"}}})
	})
	r.await(t, "the answer to a command", func() bool { return r.answers["c"] != nil })
	r.set(func() {
		if r.acks != 2 || r.acked != burst {
			t.Errorf("%d calls, up to %d; want 2 and %d", r.acks, r.acked, burst)
		}
	})
}

// When the pause is over, mail is acknowledged with one call, and nothing is told twice.
func TestAcknowledgedAfterThePause(t *testing.T) {
	s, r := newSite(), newRelay()
	u, _ := newUplink(s, r, transport.Faults{}, func(c *Config) { c.AckPause, c.StatusEvery = time.Millisecond, time.Hour })
	run(t, u)
	for i := range uint64(5) {
		r.set(func() { r.mail = append(r.mail, delivery(i+1, fmt.Sprint(i+1))) })
		r.await(t, "the acknowledgement", func() bool { return r.acked == i+1 })
	}
	r.set(func() {
		if r.acks > 6 {
			t.Errorf("%d calls for five pieces of mail and a status", r.acks)
		}
	})
}
