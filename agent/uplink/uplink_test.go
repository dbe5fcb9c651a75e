package uplink

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// Whatever the line does to the calls, every lane gets exactly its events in order.
func TestLanesStayDenseOverABadLine(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s, r := newSite(), newRelay()
			random := rand.New(rand.NewPCG(seed, 7))
			_, link := start(t, s, r, transport.Faults{Seed: seed, Drop: 0.05, LoseAnswer: 0.05, Duplicate: 0.2, Delay: 0.4, MaxDelay: 3 * time.Millisecond})
			destinations := []string{"a", "b", "c"}
			for i := range 300 {
				var to []string
				for _, d := range destinations {
					if random.IntN(3) > 0 {
						to = append(to, d)
					}
				}
				s.add(to...)
				if i%100 == 50 {
					link.Cut()
				}
			}
			for _, d := range destinations {
				want := s.lane(d)
				r.await(t, "lane "+d, func() bool { return len(r.taken[d]) >= len(want) })
				r.set(func() {
					if !slices.Equal(r.taken[d], want) {
						t.Errorf("lane %s got %v, want %v", d, r.taken[d], want)
					}
				})
			}
		})
	}
}

func TestFullMailboxHoldsBackItsOwnLaneOnly(t *testing.T) {
	s, r := newSite(), newRelay()
	r.room["away"] = 4
	start(t, s, r, transport.Faults{})
	for range 200 {
		s.add("away", "here")
		s.add("here")
	}
	r.await(t, "the other lane to be served", func() bool { return len(r.taken["here"]) == 400 })
	r.set(func() {
		if n := len(r.taken["away"]); n > 4 {
			t.Errorf("the full mailbox took %d", n)
		}
		delete(r.room, "away")
	})
	want := s.lane("away")
	r.await(t, "the held lane to drain", func() bool { return len(r.taken["away"]) == len(want) })
	r.set(func() {
		if !slices.Equal(r.taken["away"], want) {
			t.Errorf("got %v, want %v", r.taken["away"], want)
		}
	})
}

func TestOldCopyOfTheJournalSendsNothing(t *testing.T) {
	s, r := newSite(), newRelay()
	r.taken["a"] = []string{"1", "2", "3"} // taken from a journal that this one is an old copy of
	s.add("a")
	u, _ := startWith(t, s, r, transport.Faults{}, func(c *Config) { c.BeginEpoch = nil }) // nobody could begin an epoch
	r.await(t, "the refusal to be shown", func() bool { return u.State().LastError != "" })
	s.add("a")
	if got := u.State().LastError; got == "" {
		t.Error("no error shown")
	}
	r.set(func() {
		if len(r.taken["a"]) != 3 {
			t.Errorf("sent on an old copy: %v", r.taken["a"])
		}
	})
}

func delivery(mailbox uint64, text string) *syncpb.PullResponse {
	return &syncpb.PullResponse{Item: &syncpb.PullResponse_Delivery{Delivery: &syncpb.Delivery{Mailbox: mailbox, Block: []byte(text)}}}
}

func TestMailWaitsForRoomAndIsAcknowledgedAfterTheCommit(t *testing.T) {
	for _, protocol := range []uint32{1, 2} {
		s, r := newSite(), newRelay()
		s.fullFor, r.protocol = 20, protocol
		r.mail = []*syncpb.PullResponse{delivery(1, "one"), delivery(2, "two"),
			{Item: &syncpb.PullResponse_Delivery{Delivery: &syncpb.Delivery{Mailbox: 3, Source: "x", Gap: &syncpb.Gap{First: 4, Last: 9}}}}}
		start(t, s, r, transport.Faults{})
		r.await(t, "the acknowledgement", func() bool { return r.acked == 3 })
		s.mu.Lock()
		if want := []string{"one", "two", "gap x 4-9"}; !slices.Equal(s.received, want) {
			t.Errorf("by version %d: got %v, want %v", protocol, s.received, want)
		}
		s.mu.Unlock()
	}
}

func TestCommandIsAnsweredThoughAnAnswerIsLost(t *testing.T) {
	s, r := newSite(), newRelay()
	r.mail = []*syncpb.PullResponse{{Item: &syncpb.PullResponse_Command{Command: &syncpb.Command{Id: "c1", Kind: "trace", Arguments: []byte(`{"a":1}`)}}}}
	r.loseAcks = 2
	start(t, s, r, transport.Faults{})
	r.await(t, "the answer", func() bool { return r.answers["c1"] != nil })
	r.set(func() {
		if got := string(r.answers["c1"].Result); got != `{"a":1}` {
			t.Errorf("got %s", got)
		}
	})
}

func TestRevisionIsOfferedAndARefusalKeepsTheSession(t *testing.T) {
	s, r := newSite(), newRelay()
	offer := func(n uint64) *syncpb.PullResponse {
		return &syncpb.PullResponse{Item: &syncpb.PullResponse_Policy{Policy: &syncpb.PolicyRevision{Revision: &syncpb.Revision{Generation: 1, Number: n}}}}
	}
	r.mail = []*syncpb.PullResponse{offer(4), delivery(1, "after")}
	u, link := start(t, s, r, transport.Faults{})
	r.await(t, "the mail behind the revision", func() bool { return r.acked == 1 })
	if got := s.Held(); got != (block.Revision{Generation: 1, Number: 4}) {
		t.Errorf("held %v", got)
	}
	s.mu.Lock()
	s.refuse = fmt.Errorf("does not compile")
	s.mu.Unlock()
	r.set(func() { r.mail = []*syncpb.PullResponse{offer(5), delivery(2, "after")} })
	link.Cut()
	r.await(t, "the mail behind the refused revision", func() bool { return r.acked == 2 })
	if !u.State().Connected {
		t.Errorf("a refused revision ended the session: %s", u.State().LastError)
	}
}

// What was in force while the agent was away is noted before the newest revision comes, which
// tells where its moves began.
func TestFormerRevisionIsNoted(t *testing.T) {
	s, r := newSite(), newRelay()
	number := func(n uint64) *syncpb.Revision { return &syncpb.Revision{Generation: 1, Number: n} }
	r.mail = []*syncpb.PullResponse{
		{Item: &syncpb.PullResponse_Former{Former: &syncpb.PolicyRevision{Revision: number(4), Bundle: []byte("former"), Digest: []byte("d")}}},
		{Item: &syncpb.PullResponse_Policy{Policy: &syncpb.PolicyRevision{Revision: number(7), Moves: []*syncpb.MoveBegin{{System: "new", Revision: number(6)}}}}},
		delivery(1, "after"),
	}
	start(t, s, r, transport.Faults{})
	r.await(t, "the mail behind them", func() bool { return r.acked == 1 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.offered) != 2 {
		t.Fatalf("heard of %+v", s.offered)
	}
	if f := s.offered[0]; f.Number.Number != 4 || string(f.Bundle) != "former" || string(f.Digest) != "d" {
		t.Errorf("former %+v", f)
	}
	if got := s.offered[1].Begun; len(got) != 1 || got["new"] != (block.Revision{Generation: 1, Number: 6}) || s.revision.Number != 7 {
		t.Errorf("begun %+v, in force %s", got, s.revision)
	}
}

// A revision that the disk did not take is offered again, and holds back nothing meanwhile.
func TestRevisionThatCouldNotBeStored(t *testing.T) {
	s, r := newSite(), newRelay()
	s.refuse = fmt.Errorf("%w: no space left", ErrNotKept)
	r.mail = []*syncpb.PullResponse{
		{Item: &syncpb.PullResponse_Policy{Policy: &syncpb.PolicyRevision{Revision: &syncpb.Revision{Generation: 1, Number: 4}}}}, delivery(1, "after")}
	start(t, s, r, transport.Faults{})
	r.await(t, "the mail behind it", func() bool { return r.acked == 1 })
	if got := s.Held(); got.Number != 0 {
		t.Errorf("held %v", got)
	}
	var reports int
	r.set(func() { reports = r.status })
	s.mu.Lock()
	s.refuse = nil
	s.mu.Unlock()
	r.await(t, "the revision", func() bool { return s.Held().Number == 4 && r.status > reports })
	r.set(func() {
		if r.hellos != 1 {
			t.Errorf("%d sessions", r.hellos)
		}
	})
}

func TestSilentStreamIsLeft(t *testing.T) {
	s, r := newSite(), newRelay()
	r.silent = true
	u, _ := start(t, s, r, transport.Faults{})
	r.await(t, "the silence to be noticed", func() bool { return u.State().LastError == errSilent.Error() })
	r.set(func() { r.silent, r.mail = false, []*syncpb.PullResponse{delivery(1, "late")} })
	r.await(t, "mail after the silence", func() bool { return r.acked == 1 })
}

func TestNewEpochDoesNotSendTwice(t *testing.T) {
	s, r := newSite(), newRelay()
	for range 10 {
		s.add("a", "b")
	}
	s.earlier = map[string]uint64{"a": 7} // b was taken by nobody yet
	start(t, s, r, transport.Faults{Seed: 3, Duplicate: 0.3, Delay: 0.5, MaxDelay: 3 * time.Millisecond})
	for range 5 {
		s.add("a", "b")
	}
	want := append(slices.Repeat([]string{"gap"}, 7), s.lane("a")[7:]...)
	r.await(t, "both lanes", func() bool { return len(r.taken["a"]) >= len(want) && len(r.taken["b"]) >= 15 })
	r.set(func() {
		if !slices.Equal(r.taken["a"], want) || !slices.Equal(r.taken["b"], s.lane("b")) {
			t.Errorf("got %v and %v, want %v", r.taken["a"], r.taken["b"], want)
		}
	})
}

// hasty asks for a renewal at once, whatever it got, as a clock that is ahead makes it.
type hasty struct {
	forever
	asked atomic.Int64
	fails bool
}

func (*hasty) RenewAt() time.Time { return time.Now().Add(-time.Hour) }
func (h *hasty) Request() ([]byte, error) {
	h.asked.Add(1)
	if h.fails {
		return nil, errors.New("no request today")
	}
	return []byte("request"), nil
}

func TestRenewalNeitherSpinsNorEndsTheSession(t *testing.T) {
	for _, fails := range []bool{false, true} {
		s, r := newSite(), newRelay()
		id := &hasty{fails: fails}
		r.mail = []*syncpb.PullResponse{delivery(1, "one")}
		u, _ := startWith(t, s, r, transport.Faults{}, func(c *Config) { c.Identity = id })
		r.await(t, "mail", func() bool { return r.acked == 1 })
		time.Sleep(50 * time.Millisecond)
		if n := id.asked.Load(); n != 1 {
			t.Errorf("asked %d times in a moment (failing: %v)", n, fails)
		}
		if !u.State().Connected {
			t.Errorf("the session ended: %s", u.State().LastError)
		}
	}
}

// A session that ends at once each time is not opened hundreds of times a second.
func TestSessionsThatFailAtOnceAreSpacedOut(t *testing.T) {
	s, r := newSite(), newRelay()
	r.taken["a"] = []string{"1", "2"} // more than this journal gave
	startWith(t, s, r, transport.Faults{}, func(c *Config) { c.ReconnectMin, c.ReconnectMax, c.BeginEpoch = 2*time.Millisecond, time.Minute, nil })
	time.Sleep(400 * time.Millisecond)
	r.set(func() {
		if r.hellos < 2 || r.hellos > 20 {
			t.Errorf("%d sessions", r.hellos)
		}
	})
}

// What a full mailbox refuses is asked about with one block at a time.
func TestFullLaneIsProbedWithOneBlock(t *testing.T) {
	s, r := newSite(), newRelay()
	r.room["away"] = 4
	for range 200 {
		s.add("away", "here")
	}
	start(t, s, r, transport.Faults{})
	r.await(t, "the other lane", func() bool { return len(r.taken["here"]) == 200 })
	var rejected, full int
	r.await(t, "what was under way when the mailbox filled up to be answered", func() bool {
		if r.rejected != rejected {
			rejected, full = r.rejected, r.full
		}
		return r.full >= full+5
	})
	r.set(func() { rejected, full = r.rejected, r.full })
	time.Sleep(100 * time.Millisecond) // some twenty tries
	r.set(func() {
		if r.rejected != rejected {
			t.Errorf("%d blocks were sent behind a refused one", r.rejected-rejected)
		}
		if n := r.full - full; n == 0 || n > 40 {
			t.Errorf("asked %d times, want about 20", n)
		}
		delete(r.room, "away")
	})
	want := s.lane("away")
	r.await(t, "the lane to drain", func() bool { return slices.Equal(r.taken["away"], want) })
}

func TestFencedAgentSaysSo(t *testing.T) {
	s, r := newSite(), newRelay()
	r.epoch = 2
	s.add("a")
	u, _ := start(t, s, r, transport.Faults{})
	r.await(t, "the refusal to be shown", func() bool {
		return strings.Contains(u.State().LastError, "has a later epoch") && u.State().Fenced != ""
	})
}
