package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// An agent without room still hears of revisions and commands, and of nothing else; what it
// could not take comes when it has room, in order.
func TestNoRoomHoldsBackMailOnly(t *testing.T) {
	s, r := newSite(), newRelay()
	s.fullFor = -1
	for i := range uint64(50) {
		r.mail = append(r.mail, delivery(i+1, fmt.Sprint(i+1)))
	}
	u, _ := start(t, s, r, transport.Faults{})
	r.await(t, "the agent to say that it has no room", func() bool { return r.noRoom && !u.State().NoRoom.IsZero() })
	var sent int
	r.set(func() {
		sent = r.sent
		r.mail = append(r.mail, delivery(51, "51"),
			&syncpb.PullResponse{Item: &syncpb.PullResponse_Policy{Policy: &syncpb.PolicyRevision{Revision: &syncpb.Revision{Generation: 1, Number: 7}}}},
			&syncpb.PullResponse{Item: &syncpb.PullResponse_Command{Command: &syncpb.Command{Id: "c", Kind: "trace"}}})
	})
	r.await(t, "the answer to a command", func() bool { return r.answers["c"] != nil })
	if got := s.Held(); got != (block.Revision{Generation: 1, Number: 7}) {
		t.Errorf("revision held: %v", got)
	}
	r.set(func() {
		if r.sent != sent || r.acked != 0 {
			t.Errorf("%d pieces of mail sent while there was no room, %d acknowledged", r.sent-sent, r.acked)
		}
	})
	s.mu.Lock()
	s.fullFor = 0
	s.mu.Unlock()
	r.await(t, "all mail", func() bool { return r.acked == 51 })
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, text := range s.received {
		if text != fmt.Sprint(i+1) {
			t.Fatalf("mail %d is %s", i+1, text)
		}
	}
	if st := u.State(); !st.NoRoom.IsZero() || !st.Connected {
		t.Errorf("state %+v", st)
	}
}

// narrow is an inbox that runs out of room at any time, and takes each piece after the one
// before.
type narrow struct {
	*site
	t *testing.T

	mu   sync.Mutex
	dice *rand.Rand
	full int
	last int
	came int // pieces that could not be taken
}

func (n *narrow) Receive(_ context.Context, text []byte, _ time.Time) error {
	number, err := strconv.Atoi(string(text))
	if err != nil {
		n.t.Error(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dice.IntN(8) == 0 {
		n.full = 1 + n.dice.IntN(3)
	}
	switch {
	case number <= n.last:
		return nil // its acknowledgement was lost
	case number > n.last+1:
		n.t.Errorf("mail %d after %d", number, n.last)
		return ErrGap
	case n.full > 0:
		n.full--
		n.came++
		return fmt.Errorf("%w: 95 %% is used", ErrFull)
	}
	n.last = number
	return nil
}

// However often the room ends, and whatever the line does, no mail is passed over.
func TestMailOfManyTurns(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			const pieces = 200
			s, r := newSite(), newRelay()
			inbox := &narrow{site: s, t: t, dice: rand.New(rand.NewPCG(seed, 11))}
			for i := range uint64(pieces) {
				r.mail = append(r.mail, delivery(i+1, fmt.Sprint(i+1)))
			}
			_, link := startWith(t, s, r, transport.Faults{Seed: seed, Drop: 0.02, LoseAnswer: 0.02, Duplicate: 0.2, Delay: 0.4, MaxDelay: 3 * time.Millisecond},
				func(c *Config) { c.Inbox, c.StatusEvery, c.FullRetry = inbox, 10*time.Millisecond, time.Millisecond })
			for _, n := range []uint64{50, 120} {
				r.await(t, "mail", func() bool { return r.acked >= n })
				link.Cut()
			}
			r.await(t, "all mail", func() bool { return r.acked == pieces })
			inbox.mu.Lock()
			defer inbox.mu.Unlock()
			if inbox.last != pieces || inbox.came == 0 {
				t.Errorf("taken up to %d; %d times without room", inbox.last, inbox.came)
			}
		})
	}
}

// Commands of one kind may wait for a disk that is full. Nothing waits behind them.
func TestCommandsThatHangHoldBackNothing(t *testing.T) {
	s, r := newSite(), newRelay()
	command := func(id, kind string) *syncpb.PullResponse {
		return &syncpb.PullResponse{Item: &syncpb.PullResponse_Command{Command: &syncpb.Command{Id: id, Kind: kind}}}
	}
	for i := range 2 * maxCommands {
		r.mail = append(r.mail, command(fmt.Sprint("r", i), "replay"))
	}
	r.mail = append(r.mail, command("t", "trace"), delivery(1, "one"))
	space := make(chan struct{})
	startWith(t, s, r, transport.Faults{}, func(c *Config) {
		c.Command = func(ctx context.Context, _, kind string, _ []byte) ([]byte, error) {
			if kind == "trace" {
				return nil, nil
			}
			select {
			case <-space:
				return nil, nil
			case <-ctx.Done():
				return nil, errors.New("the session is over")
			}
		}
	})
	r.await(t, "mail, and the answer of another kind", func() bool { return r.acked == 1 && r.answers["t"] != nil })
	r.set(func() {
		if len(r.answers) != 1 {
			t.Errorf("answers %v", r.answers)
		}
	})
	close(space)
	r.await(t, "all answers", func() bool { return len(r.answers) == 2*maxCommands+1 })
}
