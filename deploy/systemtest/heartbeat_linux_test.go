//go:build chaos

package systemtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pressed is what TestWithoutHeartbeatGuard and TestWithHeartbeatGuard do to a cluster: the
// leader is pressed with commands, its main loop now and then gets no processor, and it is
// paused until the others have elected another. In a paused leader the lease is the first
// thing to run out, and ends its leadership before it hears of the new one; the loop that
// stands still lets it hear first.
var pressed = []string{"CROSSDOCK_TIMEOUT=" + pressedTimeout.String(), "CROSSDOCK_PRESS=24", "CROSSDOCK_STALL=300ms"}

const (
	pressedTimeout = 300 * time.Millisecond
	pressedPauses  = 20 // of a round
)

// TestWithoutHeartbeatGuard is the control of all that is said about equal states: with the
// guard against heartbeats that pass the main loop taken away, pauses of the leader must
// make the nodes' states differ. It fails when they never do.
func TestWithoutHeartbeatGuard(t *testing.T) {
	report := newReport(t, "heartbeat")
	defer report.save()
	r := rand.New(rand.NewPCG(report.Seed, 3))
	for range count(t, "RUNS", 40) {
		if why := report.pausesUnderPress(r, "heartbeat"); why != "" {
			report.Diverged = report.Rounds
			return
		}
	}
	t.Errorf("the states never differed in %d rounds: either the guard is not needed or this test cannot see it", report.Rounds)
}

// TestWithHeartbeatGuard is the control of the control: the same, with the guard.
func TestWithHeartbeatGuard(t *testing.T) {
	report := newReport(t, "guard")
	defer report.save()
	r := rand.New(rand.NewPCG(report.Seed, 3))
	for range count(t, "RUNS", 5) {
		if why := report.pausesUnderPress(r, ""); why != "" {
			report.Diverged = report.Rounds
			t.Errorf("the states differ: %s", why)
			return
		}
	}
}

// pausesUnderPress is one round on a cluster of its own. It tells how the states came to
// differ, if they did.
func (c *chaosReport) pausesUnderPress(r *rand.Rand, sabotage string) (why string) {
	c.Rounds++
	x := startCluster(c.t, 3, clusterOptions{sabotage: sabotage, env: pressed})
	defer func() {
		c.Did[didPause] += x.did[didPause]
		x.end()
		x.nodes = nil // ended; nothing is left to do at the end of the test
	}()
	paused, elected := 0, 0
	for paused < pressedPauses && x.differ() == "" {
		n := x.leader()
		n.pause(3*pressedTimeout + time.Duration(r.Int64N(int64(pressedTimeout))))
		paused++
		time.Sleep(5*pressedTimeout/3 + time.Duration(r.Int64N(int64(pressedTimeout)))) // the next is paused at any moment
		if x.differ() == "" && x.leader() != n {
			elected++
		}
	}
	for _, n := range x.nodes {
		if err := os.WriteFile(filepath.Join(n.data, "rest"), nil, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	why, entries := x.compare()
	c.t.Logf("seed %d round %d: %d pauses, after %d another led, %d entries; differ: %q", c.Seed, c.Rounds, paused, elected, entries, why)
	if why == "" && (elected < pressedPauses/4 || entries < 20*pressedPauses) {
		c.t.Errorf("the leader was not pressed or not paused for long enough: %d elections, %d entries", elected, entries)
	}
	return why
}

// differ says how a node or the cluster has stopped because the states differ.
func (c *cluster) differ() string {
	for _, n := range c.nodes {
		if text, err := os.ReadFile(filepath.Join(n.data, "diverged")); err == nil {
			return fmt.Sprintf("%s has stopped: %s", n.name, text)
		}
	}
	return c.plane.view().Verdict.Halted
}

// compare waits until the nodes have come to rest, with how many entries, and says how
// their states differ.
func (c *cluster) compare() (why string, entries uint64) {
	until(c.t, "the nodes have come to rest", func() string {
		if why = c.differ(); why != "" {
			return ""
		}
		v := c.plane.view()
		for _, n := range v.Nodes {
			entries = n.Applied
			if !n.Ready || n.Hash == "" || n.Applied != v.Nodes[0].Applied {
				return fmt.Sprintf("%+v", v.Nodes)
			}
			if n.Hash != v.Nodes[0].Hash {
				why = fmt.Sprintf("%+v", v.Nodes)
			}
		}
		return ""
	})
	return why, entries
}
