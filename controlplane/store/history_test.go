package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

const eventsOfPush = 3

// sender is an agent that pushes without end, by way of one node after the other.
type sender struct {
	c     *cluster
	name  string
	acked atomic.Uint64 // answered as taken
	tally *tally
}

// tally is how the pushes of all senders went.
type tally struct {
	taken, unknown, unavailable atomic.Int64
}

func blockOf(t testing.TB, agent string, first uint64, size int) []byte {
	t.Helper()
	rnd := rand.NewChaCha8([32]byte{byte(first)})
	items := make([]block.Item, eventsOfPush)
	for i := range items {
		items[i] = block.Item{Head: block.Head{Type: "t", Occurred: time.UnixMilli(1), Received: time.UnixMilli(1)}, Body: make([]byte, size)}
		rnd.Read(items[i].Body) // not to be compressed away
		copy(items[i].Body, fmt.Sprintf("%s-%d", agent, first+uint64(i)))
	}
	text, err := block.Cut(block.Origin{Agent: agent, Epoch: 1}, []block.Lane{{Agent: "ho", First: first}}, items)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func pushOf(t testing.TB, agent string, first uint64, size int) *model.Push {
	t.Helper()
	return &model.Push{At: time.Now(), Agent: agent, Epoch: 1, Blocks: [][]byte{blockOf(t, agent, first, size)}}
}

// run pushes until ctx ends. After an unknown outcome it offers the same again: the lane
// says what became of the first.
func (s *sender) run(ctx context.Context, turn int) {
	for first := uint64(1); ctx.Err() == nil; turn++ {
		s.c.net.mu.Lock()
		w := s.c.net.nodes[threeNodes[turn%len(threeNodes)]]
		s.c.net.mu.Unlock()
		if w == nil {
			continue
		}
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		value, err := w.store.Apply(once, pushOf(s.c.T, s.name, first, 100))
		cancel()
		switch model.CodeOf(err) {
		case model.Unavailable:
			s.tally.unavailable.Add(1)
			time.Sleep(2 * time.Millisecond) // as an agent does
			continue
		default:
			if err != nil {
				s.tally.unknown.Add(1)
				continue
			}
		}
		lanes := value.(*model.PushResult).Lanes
		if len(lanes) != 1 || lanes[0].Full || lanes[0].Refused != "" {
			s.c.Errorf("%s: answer %+v", s.name, lanes)
			return
		}
		if lanes[0].Highwater < first-1 {
			s.c.Errorf("%s: the lane is at %d, and %d was acknowledged", s.name, lanes[0].Highwater, first-1)
			return
		}
		s.tally.taken.Add(1)
		first = lanes[0].Highwater + 1
		s.acked.Store(lanes[0].Highwater)
	}
}

// under runs senders while faults are done to the cluster, and checks all histories after.
func under(t *testing.T, faults func(c *cluster, more func())) *tally {
	t.Helper()
	c := newCluster(t, nil)
	agents := []string{"a1", "a2", "a3", "a4"}
	c.enrol(agents...)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var group sync.WaitGroup
	tally := &tally{}
	var senders []*sender
	for i, name := range agents {
		s := &sender{c: c, name: name, tally: tally}
		senders = append(senders, s)
		group.Go(func() { s.run(ctx, i) })
	}
	more := func() { // progress of every sender from now on
		c.Helper()
		for _, s := range senders {
			from := s.acked.Load()
			c.until(s.name+" goes on", func() bool { return s.acked.Load() >= from+4*eventsOfPush })
		}
	}
	more()
	faults(c, more)
	c.net.heal()
	more()
	stop()
	group.Wait()
	for _, id := range threeNodes {
		if c.up[id] == nil {
			c.start(id)
		}
	}
	c.awaitReady(threeNodes...)
	for _, r := range c.up {
		c.insist(r.cfg.NodeID+" is fresh", func() error { return r.Fresh(c.ctx()) })
		for _, s := range senders {
			checkLane(t, r, s.name, s.acked.Load())
		}
		if err := r.VerifyAudit(); err != nil {
			t.Error(err)
		}
	}
	c.agree()
	t.Logf("taken %d, unknown %d, unavailable %d", tally.taken.Load(), tally.unknown.Load(), tally.unavailable.Load())
	return tally
}

// checkLane reads what a node has for head office: everything acknowledged, each number
// once, in order.
func checkLane(t *testing.T, r *running, agent string, acked uint64) {
	t.Helper()
	next := uint64(1)
	for _, m := range allMail(r) {
		envelope, items, err := block.Open(m.Block)
		if err != nil {
			t.Fatal(err)
		}
		if envelope.Origin.Agent != agent {
			continue
		}
		lane, _ := envelope.Lane("ho")
		for i := range items {
			want := fmt.Sprintf("%s-%d", agent, next)
			if got := string(items[i].Body[:len(want)]); lane.First+uint64(i) != next || got != want {
				t.Fatalf("%s at %s: %s with number %d where %d belongs", agent, r.cfg.NodeID, got, lane.First+uint64(i), next)
			}
			next++
		}
	}
	if next-1 < acked {
		t.Errorf("%s at %s: acknowledged up to %d, there up to %d", agent, r.cfg.NodeID, acked, next-1)
	}
}

// allMail reads head office's mailbox page by page.
func allMail(r *running) (mail []model.Mail) {
	for after := uint64(0); ; after = mail[len(mail)-1].Position {
		page := r.Mail("ho", after, 1<<30)
		if len(page) == 0 {
			return mail
		}
		mail = append(mail, page...)
	}
}

func others(id string) (list []string) {
	for _, o := range threeNodes {
		if o != id {
			list = append(list, o)
		}
	}
	return list
}

// histories are what is done to a cluster under load; more waits for progress.
var histories = map[string]func(c *cluster, more func()){
	"leader killed": func(c *cluster, more func()) {
		for range 2 {
			id := c.leader().cfg.NodeID
			c.kill(id)
			more()
			c.start(id)
			c.awaitReady(id)
		}
	},
	"follower restarted": func(c *cluster, more func()) {
		for _, r := range c.followers() {
			c.kill(r.cfg.NodeID)
			more()
			c.start(r.cfg.NodeID)
			c.awaitReady(r.cfg.NodeID)
			more()
		}
	},
	"all restarted": func(c *cluster, more func()) {
		for _, id := range threeNodes {
			c.kill(id)
		}
		for _, id := range threeNodes {
			c.start(id)
		}
		more()
	},
	"leader cut off both ways": func(c *cluster, more func()) {
		for range 2 {
			id := c.leader().cfg.NodeID
			c.net.isolate(id, others(id)...)
			c.leaderOtherThan(id)
			c.net.heal()
			more()
		}
	},
	"leader cut off one way": func(c *cluster, more func()) {
		id := c.leader().cfg.NodeID
		for _, o := range others(id) {
			c.net.set(id, o, fault{cut: true})
		}
		c.leaderOtherThan(id)
		c.net.heal()
		more()
	},
	"leader hears nothing": func(c *cluster, more func()) {
		id := c.leader().cfg.NodeID
		for _, o := range others(id) {
			c.net.set(o, id, fault{cut: true})
		}
		c.leaderOtherThan(id)
		c.net.heal()
		more()
	},
	"leader passed around": func(c *cluster, more func()) {
		for range 6 {
			from := c.leader()
			if err := from.Transfer(c.ctx(), ""); err != nil {
				c.Logf("transfer: %v", err) // it goes on
			}
			more()
		}
	},
	"slow line": func(c *cluster, more func()) {
		id := c.followers()[0].cfg.NodeID
		for _, o := range others(id) {
			c.net.set(o, id, fault{delay: 5 * time.Millisecond})
		}
		more()
	},
}

func TestHistories(t *testing.T) {
	for name, faults := range histories {
		t.Run(name, func(t *testing.T) { under(t, faults) })
	}
}

// An answer that is lost on its way back is unknown to the sender; its lane tells.
func TestLostAnswers(t *testing.T) {
	tally := under(t, func(c *cluster, more func()) {
		for range 5 {
			c.net.mu.Lock()
			for _, from := range threeNodes {
				for _, to := range threeNodes {
					c.net.loses[[2]string{from, to}] = 1
				}
			}
			c.net.mu.Unlock()
			more()
		}
	})
	if tally.unknown.Load() == 0 {
		t.Error("no answer was lost")
	}
}
