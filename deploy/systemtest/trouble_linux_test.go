package systemtest

import (
	"errors"
	"iter"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/crossdock/crossdock/deploy/demo/line"
	"github.com/crossdock/crossdock/deploy/systemtest/disk"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

func (c *cluster) named(name string) *node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// leader waits until a node leads.
func (c *cluster) leader() *node {
	c.t.Helper()
	return c.named(c.plane.leaderNode())
}

// follower is a node that does not lead, by chance.
func (c *cluster) follower(r *rand.Rand) *node {
	c.t.Helper()
	leader := c.leader()
	for {
		if n := c.nodes[r.IntN(len(c.nodes))]; n != leader {
			return n
		}
	}
}

// awaitReady waits until all nodes serve.
func (c *cluster) awaitReady() {
	c.t.Helper()
	for _, n := range c.nodes {
		n.awaitReady()
	}
}

// trouble is a world on a cluster in which faults happen.
type trouble struct {
	*world
	c       *cluster
	r       *rand.Rand
	lacks   map[need]error          // what this machine does not have, and why
	disks   []*disk.Disk            // of the nodes; nil: this machine has none whose power can be cut
	atSite  map[string]*disk.Disk   // of the agents, likewise
	walls   *walls                  // between the nodes, likewise
	lines   map[string][]*line.Line // from each agent to each node
	crashes int                     // of agents: each explains some deliveries of what was taken already
	untold  atomic.Int64            // deliveries that were taken and whose answers were lost

	market    *market
	inspector *inspector
}

// need is something that a fault takes and not every machine has.
type need string

const (
	needDisks  need = "disks whose power can be cut"
	needWalls  need = "walls between nodes"
	needStrace need = "strace"
	needHaste  need = "programs that were built here, with the tag chaos"
)

// Where all things are equal, an order comes every few milliseconds: enough to meet every
// moment of a fault, and few enough to be looked at again in each round.
const tradePace = 15 * time.Millisecond

// hasty are the nodes' settings that let happen in minutes what takes hours otherwise. Only
// programs built with the tag chaos heed them.
var hasty = []string{"CROSSDOCK_SNAPSHOT=262144", "CROSSDOCK_AGENT_LIFE=90s"}

// newTrouble has three nodes and two agents, all of them processes.
func newTrouble(t *testing.T, seed uint64) *trouble {
	x := &trouble{r: rand.New(rand.NewPCG(seed, 1)), lacks: map[need]error{}, atSite: map[string]*disk.Disk{}, lines: map[string][]*line.Line{}}
	o := clusterOptions{advertise: nowhere, env: hasty, dual: true}
	x.equip(t, &o)
	x.c = startCluster(t, 3, o)
	x.world = worldOn(t, x.c.plane, siteNames, func(h *history.History) []*system {
		all := []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
		for _, y := range all {
			y.timeout = "3s" // one that hangs is not waited for until the round is over
		}
		return all
	})
	x.pace, x.kept = tradePace, siteNames
	x.market = newMarket(x)
	for _, name := range siteNames {
		s := x.sites[name]
		s.cfg.Tuning.Silence, s.cfg.Tuning.RetryQUIC = silence, 200*time.Millisecond
		s.cfg.ControlPlane.Addresses = nil
		for _, n := range x.c.nodes {
			l := startLine(t, n.sync)
			x.lines[name] = append(x.lines[name], l)
			s.cfg.ControlPlane.Addresses = append(s.cfg.ControlPlane.Addresses, l.Addr())
		}
		if x.atSite[name] != nil {
			s.onDisk(x.atSite[name])
		}
		s.startChild("", 0)
	}
	for _, s := range x.sites {
		s.awaitReady()
	}
	x.market.mend()
	x.inspector = newInspector(x)
	syscall.Sync() // that much has stood for long
	return x
}

var siteNames = []string{"eu", "hq"}

// equip finds out what this machine has.
func (x *trouble) equip(t *testing.T, o *clusterOptions) {
	var disks []*disk.Disk
	for range 3 + len(siteNames) {
		d, err := disk.Try(t, 2*diskSize)
		if err != nil {
			x.lacks[needDisks] = err
			break
		}
		disks = append(disks, d)
	}
	if x.lacks[needDisks] == nil {
		x.disks = disks[:3]
		for _, d := range x.disks {
			o.dirs = append(o.dirs, d.Dir())
		}
		for i, name := range siteNames {
			x.atSite[name] = disks[3+i]
		}
	}
	if walls, err := tryWalls(t); err != nil {
		x.lacks[needWalls] = err
	} else {
		x.walls, o.walls = walls, walls
	}
	if err := tryStrace(); err != nil {
		x.lacks[needStrace] = err
	}
	if os.Getenv("CROSSDOCK_BIN") != "" {
		x.lacks[needHaste] = errors.New("those in CROSSDOCK_BIN need not be")
	}
	for what, err := range x.lacks {
		t.Logf("faults that need %s do not happen: %v", what, err)
	}
}

func (x *trouble) wait(least, most time.Duration) {
	time.Sleep(least + time.Duration(x.r.Int64N(int64(most-least))))
}

// chance is true so often.
func (x *trouble) chance(percent int) bool { return x.r.IntN(100) < percent }

// round lets some faults happen under load, one after the other, and judges what came of
// it: nothing lost, doubled or out of order, and one state on all nodes.
func (x *trouble) round(faults iter.Seq[fault]) {
	x.t.Helper()
	x.inspector.begin()
	clerk := x.world.clerk()
	stop := x.trade(3)
	defer stop()
	closeMarket := x.market.open()
	defer closeMarket()
	for f := range faults {
		x.more(1 + x.r.IntN(30))
		f.do(x)
	}
	x.inspector.cameBack()
	x.c.awaitReady()
	x.more(30)
	until(x.t, "a change comes through", func() string { // one may have waited all the time for a node that did not answer
		if clerk.count() == 0 {
			return "none"
		}
		return ""
	})
	x.market.mend()
	x.market.more(4)
	stop()
	closeMarket()
	clerk.end()
	x.inspector.lastOrder()
	x.market.settle()
	x.settle(x.explained(x.crashes) + int(x.untold.Load()))
	x.plane.awaitEqual()
	if gone := clerk.missing(); len(gone) > 0 {
		x.t.Errorf("%d changes were answered and are gone: %v", len(gone), gone)
	}
	x.market.judge()
	x.inspector.judge()
}
