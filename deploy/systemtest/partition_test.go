package systemtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// startNodes runs three nodes of one control plane in this process, whose ways to each
// other can be cut.
func startNodes(t *testing.T, change func(*controlplane.Config)) (*plane, *split) {
	t.Helper()
	s := &split{}
	p := &plane{t: t}
	var all []doors
	p.nodes = func() []doors { return all }
	var first controlplane.Config
	for i := range 3 {
		config := controlplane.NewConfig()
		config.Node, config.Data, config.Approvals = fmt.Sprint("node-", i+1), filepath.Join(t.TempDir(), "data"), model.ApprovalsSingle
		config.Sync.Listen, config.API.Listen, config.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
		config.Cluster.Listen = freePort(t)
		config.Dial = s.dialer(config.Node)
		if change != nil {
			change(&config)
		}
		log := logTo(t, filepath.Join(t.TempDir(), config.Node+".log"))
		if i == 0 {
			first = config
		} else if err := controlplane.Join(t.Context(), config, p.nodeToken(config.Node), first.Cluster.Listen, log); err != nil {
			t.Fatal(err)
		}
		node, err := controlplane.New(config, log, nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, run(t, node))
		if i == 0 {
			p.present(config.Data, 10*time.Second)
		}
	}
	return p, s
}

// run serves a node until the test ends, and waits until it is ready.
func run(t *testing.T, node *controlplane.ControlPlane) doors {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a node ended with %v", err)
		}
	})
	select {
	case <-node.Ready():
	case <-time.After(patience):
		t.Fatal("the node is not ready")
	}
	at := node.Addresses()
	return doors{API: at.API, Sync: at.Sync}
}

// nodesBut names the other two.
func nodesBut(name string) (out []string) {
	for i := range 3 {
		if other := fmt.Sprint("node-", i+1); other != name {
			out = append(out, other)
		}
	}
	return out
}

// TestPartitionsLoseNothing cuts nodes off from each other under load: the leader from all,
// a follower from all, one direction only, and two nodes that both see the third. Meanwhile
// policy is changed, at nodes on both sides.
func TestPartitionsLoseNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	p, s := startNodes(t, nil)
	w := worldOn(t, p, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	w.pace, w.kept = 5*time.Millisecond, []string{"eu", "hq"}
	office := newOffice(w)
	for _, site := range w.sites {
		site.start()
	}
	for i, c := range []struct {
		name string
		cut  func(leader string, others []string)
	}{
		{"leader away", func(leader string, others []string) {
			for _, o := range others {
				s.set(leader, o, true)
				s.set(o, leader, true)
			}
		}},
		{"leader not heard", func(leader string, others []string) {
			for _, o := range others {
				s.set(leader, o, true)
			}
		}},
		{"leader deaf", func(leader string, others []string) {
			for _, o := range others {
				s.set(o, leader, true)
			}
		}},
		{"follower away", func(leader string, others []string) {
			for _, o := range []string{leader, others[1]} {
				s.set(others[0], o, true)
				s.set(o, others[0], true)
			}
		}},
		{"leader and one follower apart", func(leader string, others []string) {
			s.set(leader, others[0], true)
			s.set(others[0], leader, true)
		}},
	} {
		began := time.Now()
		clerk, endDesks := w.clerk(), office.open(i, r, 2)
		stop := w.trade(2)
		w.more(1 + r.IntN(20))
		leader := p.leaderNode()
		c.cut(leader, nodesBut(leader))
		time.Sleep(3*time.Second + time.Duration(r.Int64N(int64(5*time.Second)))) // some end before anybody notices, some do not
		w.more(10)                                                                // agents take orders whatever happens up there
		s.heal()
		stop()
		clerk.end()
		endDesks()
		w.settle(0)
		p.awaitEqual()
		if gone := clerk.missing(); len(gone) > 0 {
			t.Errorf("%s: %d changes were answered and are gone: %v", c.name, len(gone), gone)
		}
		for _, f := range w.linear() {
			t.Errorf("%s: %v", c.name, f)
		}
		t.Logf("%s (%s led): %d orders, %d operations, %.1fs", c.name, leader, accepted(w.h), w.judged, time.Since(began).Seconds())
		if t.Failed() {
			return
		}
	}
}
