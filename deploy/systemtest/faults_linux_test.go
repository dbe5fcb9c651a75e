package systemtest

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

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
	c     *cluster
	r     *rand.Rand
	disks []*disk.Disk // of the nodes; nil: this machine has none whose power can be cut

	inspector *inspector
}

// newTrouble has three nodes and two agents, all of them processes.
func newTrouble(t *testing.T, seed uint64, o clusterOptions) *trouble {
	x := &trouble{r: rand.New(rand.NewPCG(seed, 1))}
	for range 3 {
		d, err := disk.Try(t, 2*diskSize)
		if err != nil {
			t.Logf("the power of no node is cut: %v", err)
			break
		}
		x.disks, o.dirs = append(x.disks, d), append(o.dirs, d.Dir())
	}
	o.dual = true
	c := startCluster(t, 3, o)
	w := worldOn(t, c.plane, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	w.pace, w.kept = 5*time.Millisecond, []string{"eu", "hq"}
	for _, s := range w.sites {
		s.startChild("", 0)
	}
	for _, s := range w.sites {
		s.awaitReady()
	}
	x.world, x.c = w, c
	x.inspector = newInspector(x)
	syscall.Sync() // that much has stood for long
	return x
}

func (x *trouble) wait(least, most time.Duration) {
	time.Sleep(least + time.Duration(x.r.Int64N(int64(most-least))))
}

// fault is one that can happen to a control plane of several nodes and its agents. It ends
// with everything running again.
type fault struct {
	name string
	do   func(x *trouble)
}

var faults = []fault{
	{"kill-leader", func(x *trouble) { x.restart(x.c.leader()) }},
	{"kill-follower", func(x *trouble) { x.restart(x.c.follower(x.r)) }},
	{"kill-all", func(x *trouble) {
		for _, n := range x.c.nodes {
			n.kill()
		}
		for _, n := range x.c.nodes {
			n.start()
		}
	}},
	{"kill-two", func(x *trouble) { // no majority for a while
		first := x.c.follower(x.r)
		second := x.c.leader()
		first.kill()
		second.kill()
		x.wait(100*time.Millisecond, 3*time.Second)
		first.start()
		second.start()
	}},
	{"pause-leader", func(x *trouble) {
		for range 3 {
			x.c.leader().pause(500*time.Millisecond + time.Duration(x.r.Int64N(int64(2500*time.Millisecond))))
			x.wait(0, 500*time.Millisecond)
		}
	}},
	{"pause-follower", func(x *trouble) { x.c.follower(x.r).pause(time.Duration(x.r.Int64N(int64(4 * time.Second)))) }},
	{"transfer", func(x *trouble) {
		for range 3 {
			x.transfer()
			x.wait(1900*time.Millisecond, 2*time.Second)
		}
	}},
	{"cut-power-of-all", func(x *trouble) { x.cutPower(0, 1, 2) }},
	{"cut-power-of-one", func(x *trouble) { x.cutPower(x.r.IntN(3)) }},
	{"freeze-disk-of-leader", func(x *trouble) {
		n := x.c.leader()
		d := x.diskOf(n)
		x.c.set(n, false)
		x.c.did[didFreeze]++
		d.Freeze()
		x.wait(0, 12*time.Second)
		n.run.signal(syscall.SIGKILL) // it hangs in the disk, or has ended itself
		d.Thaw()
		<-n.run.ended
		n.start()
	}},
	{"fill-disk-of-leader", func(x *trouble) {
		n := x.c.leader()
		d := x.diskOf(n)
		x.c.did[didFill]++
		d.Fill()
		x.wait(0, 8*time.Second)
		n.crash() // it may have ended itself
		d.Empty()
		n.start()
	}},
	{"kill-agent", func(x *trouble) {
		s := x.sites[[]string{"eu", "hq"}[x.r.IntN(2)]]
		s.child.kill(x.t)
		s.startChild("", 0)
		x.c.did[didKillAgent]++
	}},
}

func (x *trouble) diskOf(n *node) *disk.Disk {
	for i := range x.disks {
		if x.c.nodes[i] == n {
			return x.disks[i]
		}
	}
	return nil
}

// cutPower takes the power from some nodes at once and gives it back.
func (x *trouble) cutPower(nodes ...int) {
	for _, i := range nodes {
		x.c.did[didCutPower]++
		x.disks[i].Cut()
	}
	for _, i := range nodes {
		x.c.nodes[i].crash()
	}
	for _, i := range nodes {
		x.disks[i].Restore()
		x.c.nodes[i].start()
	}
}

func (x *trouble) restart(n *node) {
	n.kill()
	x.wait(0, 4*time.Second)
	n.start()
}

// transfer has another node lead. While a node is away that may fail; the next one follows.
func (x *trouble) transfer() {
	switch status, text := x.plane.try("POST", "/cluster/transfer", map[string]any{}); status / 100 {
	case 2:
		x.c.did[didTransfer]++
	case 4:
		x.t.Errorf("transfer: %d %s", status, text)
	}
}

// round lets some faults happen under load, one after the other, and judges what came of
// it: nothing lost, doubled or out of order, and one state on all nodes.
func (x *trouble) round(faults iter.Seq[fault]) {
	x.t.Helper()
	x.inspector.begin()
	clerk := x.world.clerk()
	stop := x.trade(3)
	defer stop()
	for f := range faults {
		x.more(1 + x.r.IntN(30))
		f.do(x)
	}
	x.inspector.cameBack()
	x.c.awaitReady()
	x.more(30)
	stop()
	clerk.end()
	x.inspector.lastOrder()
	x.settle(x.explained(x.c.did[didKillAgent]))
	x.plane.awaitEqual()
	if gone := clerk.missing(); len(gone) > 0 {
		x.t.Errorf("%d changes were answered and are gone: %v", len(gone), gone)
	}
	if clerk.count() == 0 {
		x.t.Error("no change came through")
	}
	x.inspector.judge()
}

func TestThreeNodesUnderFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	x := newTrouble(t, seed, clusterOptions{})
	for _, names := range []string{"kill-leader", "kill-follower", "kill-all", "pause-leader", "transfer kill-agent"} {
		began := time.Now()
		x.round(slices.Values(slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
			return !slices.Contains(strings.Fields(names), f.name)
		})))
		t.Logf("%s: %d orders, %.1fs", names, accepted(x.h), time.Since(began).Seconds())
		if t.Failed() {
			return
		}
	}
}

// TestBadDiskOfTheLeader: a leader whose disk is full or hangs makes way for another, and
// agents keep what they have.
func TestBadDiskOfTheLeader(t *testing.T) {
	w, c, disks := powerWorld(t, 3, "")
	w.pace, w.kept = 5*time.Millisecond, []string{"eu", "hq"}
	for _, trouble := range []struct {
		name      string
		begin     func(*disk.Disk)
		end       func(*disk.Disk)
		unmovable bool // a process that hangs in the disk goes when that lets it
	}{
		{"full", (*disk.Disk).Fill, (*disk.Disk).Empty, false},
		{"hanging", (*disk.Disk).Freeze, (*disk.Disk).Thaw, true},
	} {
		stop := w.trade(3)
		w.more(20)
		leader := c.leader()
		d := disks[slices.Index(c.nodes, leader)]
		began := time.Now()
		c.set(leader, !trouble.unmovable)
		trouble.begin(d)
		until(t, "another node leads", func() string {
			if v := c.plane.view(); v.LeaderNode == leader.name || v.LeaderNode == "" {
				return fmt.Sprintf("%q leads", v.LeaderNode)
			}
			return ""
		})
		before := taken(w.h, "erp")
		w.awaitTaken("erp", before+20)
		t.Logf("%s: orders flow again after %.1f s", trouble.name, time.Since(began).Seconds())
		leader.run.signal(syscall.SIGKILL)
		trouble.end(d)
		<-leader.run.ended
		leader.start()
		c.awaitReady()
		stop()
		w.settle(0)
		c.plane.awaitEqual()
		if t.Failed() {
			return
		}
	}
}
