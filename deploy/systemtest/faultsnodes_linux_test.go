package systemtest

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/crossdock/crossdock/deploy/systemtest/disk"
)

// nodeFaults are crashes and pauses of nodes.
var nodeFaults = []fault{
	{name: "kill-leader", do: func(x *trouble) { x.restart(x.c.leader()) }},
	{name: "kill-follower", do: func(x *trouble) { x.restart(x.c.follower(x.r)) }},
	{name: "kill-all", do: func(x *trouble) {
		for _, n := range x.c.nodes {
			n.kill()
		}
		for _, n := range x.c.nodes {
			n.start()
		}
	}},
	{name: "kill-two", do: func(x *trouble) { // no majority for a while
		second := x.c.leader()
		others := slices.DeleteFunc(slices.Clone(x.c.nodes), func(n *node) bool { return n == second })
		first := others[x.r.IntN(len(others))] // whoever leads by now
		first.kill()
		second.kill()
		x.wait(100*time.Millisecond, 3*time.Second)
		first.start()
		second.start()
	}},
	{name: "kill-nodes", do: func(x *trouble) { // one upon the other, some of them while they start
		for range 5 + x.r.IntN(6) {
			n := x.c.nodes[x.r.IntN(len(x.c.nodes))]
			if x.chance(70) {
				n.awaitReady()
			}
			n.kill()
			x.wait(0, 300*time.Millisecond)
			n.start()
			x.wait(0, 500*time.Millisecond)
		}
	}},
	{name: "pause-leader", do: func(x *trouble) {
		for range 3 {
			x.c.leader().pause(500*time.Millisecond + time.Duration(x.r.Int64N(int64(2500*time.Millisecond))))
			x.wait(0, 500*time.Millisecond)
		}
	}},
	{name: "pause-follower", do: func(x *trouble) { x.c.follower(x.r).pause(time.Duration(x.r.Int64N(int64(4 * time.Second)))) }},
	{name: "transfer", do: func(x *trouble) {
		for range 3 {
			x.transfer()
			x.wait(1900*time.Millisecond, 2*time.Second)
		}
	}},
	{name: "snapshot-to-one-behind", do: (*trouble).leaveBehind, needs: []need{needHaste}},
}

// nodeDiskFaults are those of the nodes' disks.
var nodeDiskFaults = []fault{
	{name: "cut-power-of-all", do: func(x *trouble) { x.cutPower(0, 1, 2) }, needs: []need{needDisks}},
	{name: "cut-power-of-one", do: func(x *trouble) { x.cutPower(x.r.IntN(3)) }, needs: []need{needDisks}},
	{name: "cut-power-of-nodes", do: func(x *trouble) { // one upon the other; what one has lost it has from the others
		for range 3 + x.r.IntN(4) {
			x.c.awaitReady()
			x.wait(0, 300*time.Millisecond)
			if x.chance(30) {
				x.cutPower(0, 1, 2)
			} else {
				x.cutPower(x.r.IntN(3))
			}
		}
	}, needs: []need{needDisks}},
	{name: "freeze-disk-of-leader", do: func(x *trouble) {
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
	}, needs: []need{needDisks}},
	{name: "slow-disk-of-leader", do: func(x *trouble) { x.slow(x.diskOf(x.c.leader())) }, needs: []need{needDisks}},
	{name: "slow-disk-of-follower", do: func(x *trouble) { x.slow(x.diskOf(x.c.follower(x.r))) }, needs: []need{needDisks}},
	{name: "fill-disk-of-leader", do: func(x *trouble) {
		n := x.c.leader()
		d := x.diskOf(n)
		x.c.did[didFill]++
		d.Fill()
		x.wait(0, 5*time.Second)
		n.crash() // it may have ended itself
		d.Empty()
		n.start()
	}, needs: []need{needDisks}},
	{name: "sync-error-at-leader", do: func(x *trouble) { x.syncErrorAt(x.c.leader()) }, needs: []need{needStrace}},
	{name: "sync-error-at-follower", do: func(x *trouble) { x.syncErrorAt(x.c.follower(x.r)) }, needs: []need{needStrace}},
}

func (x *trouble) restart(n *node) {
	n.kill()
	x.wait(0, 3*time.Second)
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

// leaveBehind stops a follower until the others have nothing but a snapshot of what it
// missed.
func (x *trouble) leaveBehind() {
	f := x.c.follower(x.r)
	f.kill()
	for _, n := range x.c.nodes {
		if n == f {
			continue
		}
		taken := func() float64 { return scrape(x.t, n.op, "crossdock_store_snapshots_total") }
		before := taken()
		// It takes one after so many entries, which come as fast as the shops sell.
		untilWithin(x.t, 5*patience, n.name+" takes a snapshot", func() string {
			if now := taken(); now < before+1 {
				return fmt.Sprint(now)
			}
			return ""
		})
	}
	f.start()
	f.awaitReady()
	until(x.t, f.name+" gets a snapshot", func() string {
		if n := scrape(x.t, f.op, "crossdock_store_restores_total"); n < 1 {
			return fmt.Sprint(n)
		}
		return ""
	})
	x.c.did[didInstall]++
}

func (x *trouble) diskOf(n *node) *disk.Disk {
	for i := range x.disks {
		if x.c.nodes[i] == n {
			return x.disks[i]
		}
	}
	return nil
}

// slow has a disk stand still again and again: a sync takes up to some hundred milliseconds.
func (x *trouble) slow(d *disk.Disk) {
	x.c.did[didSlow]++
	for range 5 + x.r.IntN(6) {
		d.Freeze()
		x.wait(50*time.Millisecond, 400*time.Millisecond)
		d.Thaw()
		x.wait(0, 50*time.Millisecond)
	}
}

// cutPower takes the power from some nodes at once and gives it back.
func (x *trouble) cutPower(nodes ...int) {
	for _, i := range nodes {
		x.c.did[didCutPower]++
		x.c.did[didCutNode]++
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

// syncErrorAt lets a sync of a node fail. It must end itself: what it has answered since the
// last good sync it may have lost.
func (x *trouble) syncErrorAt(n *node) {
	x.c.set(n, false)
	failSync(x.t, n.run.cmd.Process.Pid, n.run.ended, n.name)
	x.c.did[didSyncError]++
	n.start()
}

// wallFaults are those of the network between nodes.
var wallFaults = []fault{
	{name: "split-leader", do: func(x *trouble) {
		x.split(func(leader *node, others []*node) {
			x.walls.between(leader, others[0])
			x.walls.between(leader, others[1])
		})
	}, needs: []need{needWalls}},
	{name: "split-follower", do: func(x *trouble) {
		x.split(func(leader *node, others []*node) {
			x.walls.between(others[0], leader)
			x.walls.between(others[0], others[1])
		})
	}, needs: []need{needWalls}},
	{name: "split-two", do: func(x *trouble) { // both see the third
		x.split(func(leader *node, others []*node) { x.walls.between(leader, others[0]) })
	}, needs: []need{needWalls}},
	{name: "split-one-way", do: func(x *trouble) {
		deaf := x.chance(50) // or not heard
		x.split(func(leader *node, others []*node) {
			for _, o := range others {
				if deaf {
					x.walls.drop(o, leader, 100)
				} else {
					x.walls.drop(leader, o, 100)
				}
			}
		})
	}, needs: []need{needWalls}},
	{name: "lossy-nodes", do: func(x *trouble) { // one node sends badly
		n := x.c.nodes[x.r.IntN(len(x.c.nodes))]
		for _, o := range x.c.nodes {
			if o != n {
				x.walls.drop(n, o, 20)
			}
		}
		x.c.did[didLossy]++
		x.wait(time.Second, 4*time.Second)
		x.walls.fall()
	}, needs: []need{needWalls}},
}

// split puts walls between nodes for some seconds: some fall before anybody notices, some
// do not.
func (x *trouble) split(put func(leader *node, others []*node)) {
	leader := x.c.leader()
	var others []*node
	for _, n := range x.c.nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	x.r.Shuffle(2, func(i, j int) { others[i], others[j] = others[j], others[i] })
	put(leader, others)
	x.c.did[didSplit]++
	x.wait(500*time.Millisecond, 6*time.Second)
	x.walls.fall()
}
