package systemtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// The drills are what the runbooks tell a person to do, done by a program. The figures that
// they log stand in the runbooks.

// figure logs one that a runbook quotes.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("FIGURE "+format, args...)
}

// drillWorld is three nodes and two agents under load.
func drillWorld(t *testing.T) (*world, *cluster) {
	c := startCluster(t, 3, clusterOptions{})
	w := worldOn(t, c.plane, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	w.pace, w.kept = 5*time.Millisecond, []string{"eu", "hq"}
	for _, s := range w.sites {
		s.start()
	}
	return w, c
}

// wipe takes a node's machine away: a new one has an empty disk.
func (n *node) wipe() {
	n.c.t.Helper()
	if err := os.RemoveAll(n.data); err != nil {
		n.c.t.Fatal(err)
	}
}

// rejoin sets a new machine up under the name of a lost one.
func (n *node) rejoin() {
	n.c.t.Helper()
	n.join()
	n.start()
	n.awaitReady()
	until(n.c.t, n.name+" votes", func() string {
		for _, other := range n.c.plane.view().Nodes {
			if other.ID == n.name && other.Role == "voter" {
				return ""
			}
		}
		return "not yet"
	})
}

// longestPause is the longest time in which a system took nothing.
func (y *system) longestPause(from time.Time) (longest time.Duration) {
	last := from
	for _, a := range y.seen(func(a attempt) bool { return a.at.After(from) }) {
		longest = max(longest, a.at.Sub(last))
		last = a.at
	}
	return longest
}

// awaitChange waits until a change is made, and gives how long that took.
func (c *clerk) awaitChange(from time.Time) time.Duration {
	c.w.t.Helper()
	before := c.count()
	until(c.w.t, "a change is made", func() string {
		if c.count() == before {
			return "none"
		}
		return ""
	})
	return time.Since(from)
}

func TestDrillLeaderLost(t *testing.T) {
	w, c := drillWorld(t)
	clerk, stop := w.clerk(), w.trade(3)
	defer stop()
	w.more(50)
	leader := c.leader()
	began := time.Now()
	leader.kill()
	figure(t, "leader lost: changes are made again after %.1f s", clerk.awaitChange(began).Seconds())
	w.more(100)
	taken0 := taken(w.h, "erp")
	w.awaitTaken("erp", taken0+50)
	figure(t, "leader lost: the longest pause in the deliveries to a system was %.1f s", w.systemNamed("erp").longestPause(began.Add(-time.Second)).Seconds())

	// The machine does not come back: another takes its place and its name.
	began = time.Now()
	leader.wipe()
	if _, err := c.nodesBut(leader)[0].crossdock("", "cluster", "remove", leader.name); err != nil {
		t.Fatal(err)
	}
	leader.rejoin()
	figure(t, "leader lost: the new machine votes %.1f s after the dead one was removed", time.Since(began).Seconds())
	stop()
	clerk.end()
	w.settle(0)
	w.plane.awaitEqual()
	gone := clerk.missing()
	figure(t, "leader lost: orders lost 0; changes answered %d, missing %d", clerk.count(), len(gone))
	if len(gone) > 0 {
		t.Errorf("missing: %v", gone)
	}
}

// nodesBut lists the others.
func (c *cluster) nodesBut(away ...*node) (out []*node) {
next:
	for _, n := range c.nodes {
		for _, a := range away {
			if n == a {
				continue next
			}
		}
		out = append(out, n)
	}
	return out
}

func TestDrillOneSurvivor(t *testing.T) {
	w, c := drillWorld(t)
	clerk, stop := w.clerk(), w.trade(3)
	defer stop()
	w.more(50)
	survivor := c.follower(rand.New(rand.NewPCG(1, 1)))
	lost := c.nodesBut(survivor)
	for _, n := range lost {
		n.kill()
		n.wipe()
	}
	w.more(50) // the sites go on
	began := time.Now()
	survivor.kill()
	out, err := survivor.crossdock("", "cluster", "recover", "--config", survivor.config, "--yes")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	c.are(survivor) // the others are strangers until they join again
	survivor.start()
	survivor.awaitReady()
	figure(t, "one survivor: changes are made again %.1f s after the decision to recover", clerk.awaitChange(began).Seconds())
	before := taken(w.h, "erp")
	w.awaitTaken("erp", before+50)
	figure(t, "one survivor: orders flow again after %.1f s", time.Since(began).Seconds())
	for _, n := range lost {
		c.are(append(slices.Clone(c.nodes), n)...)
		n.rejoin()
	}
	figure(t, "one survivor: three nodes vote again after %.1f s", time.Since(began).Seconds())
	stop()
	clerk.end()
	w.settle(0)
	w.plane.awaitEqual()
	figure(t, "one survivor: orders lost 0; changes answered %d, missing %d", clerk.count(), len(clerk.missing()))
	if v := w.plane.view(); v.Generation != 2 {
		t.Errorf("the generation is %d, want 2", v.Generation)
	}
}

func TestDrillRestoreOnNewMachines(t *testing.T) {
	w, c := drillWorld(t)
	clerk, stop := w.clerk(), w.trade(3)
	defer stop()
	w.more(50)
	backup := filepath.Join(t.TempDir(), "crossdock.backup")
	taken0 := time.Now()
	if _, err := c.nodes[0].crossdock("", "cluster", "backup", "--out", backup); err != nil {
		t.Fatal(err)
	}
	if _, err := c.nodes[0].crossdock("", "cluster", "backup", "--verify", backup); err != nil {
		t.Fatal(err)
	}
	before := clerk.count()
	w.more(200) // agents get ahead of the backup
	for _, n := range c.nodes {
		n.kill()
		n.wipe()
	}
	after := clerk.count()
	w.more(50)
	began := time.Now()
	figure(t, "restore: the backup was %.1f s old; %d changes had been answered since", began.Sub(taken0).Seconds(), after-before)
	first, rest := c.nodes[0], c.nodes[1:]
	out, err := first.crossdock("", "cluster", "restore", "--config", first.config, "--yes", backup)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	c.are(first)
	first.start()
	first.awaitReady()
	figure(t, "restore: changes are made again %.1f s after the restore was begun", clerk.awaitChange(began).Seconds())
	n := taken(w.h, "erp")
	w.awaitTaken("erp", n+50)
	figure(t, "restore: orders flow again after %.1f s", time.Since(began).Seconds())
	for _, n := range rest {
		c.are(append(slices.Clone(c.nodes), n)...)
		n.rejoin()
	}
	figure(t, "restore: three nodes vote again after %.1f s", time.Since(began).Seconds())
	stop()
	clerk.end()
	w.settle(0)
	w.plane.awaitEqual()
	figure(t, "restore: orders lost 0; changes answered %d, missing %d", clerk.count(), len(clerk.missing()))
}

func TestDrillAgentReplaced(t *testing.T) {
	w := killWorld(t)
	eu := w.sites["eu"]
	w.shops["eu"].sellAll(t, "first", 4, 10)
	w.awaitTaken("erp", 40)
	w.awaitTaken("wms", 40)
	eu.awaitIdle()
	eu.child.kill(t)
	began := time.Now()
	eu.child = nil
	eu.putBack("")
	eu.lives = append(eu.lives, 1)
	eu.enrol(w.plane.joinToken("eu", ""))
	eu.startChild("", 0)
	eu.awaitReady()
	if err := w.shops["eu"].sell(t.Context(), newOrder("again", "k", 1, "")); err != nil {
		t.Fatal(err)
	}
	figure(t, "agent replaced: orders are accepted again %.1f s after the new machine was there", time.Since(began).Seconds())
	w.awaitTaken("erp", 41)
	figure(t, "agent replaced: and delivered elsewhere after %.1f s", time.Since(began).Seconds())
	w.settle(0)
	if n := accepted(w.h); n != 41 {
		t.Errorf("%s", fmt.Sprint(n, " orders"))
	}
}
