package systemtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crossdock/crossdock/deploy/systemtest/disk"
)

// fault is one that can happen to a control plane of several nodes, its agents, the lines
// between them and the systems behind. It ends with everything running again.
type fault struct {
	name  string
	do    func(x *trouble)
	needs []need
	slow  bool // takes a minute: it happens in long rounds, and when it is named
}

// faults are all that can happen. The README beside says which row of the fault matrix each
// of them stands for.
var faults = slices.Concat(nodeFaults, nodeDiskFaults, wallFaults, agentFaults, agentDiskFaults, lineFaults, systemFaults, pluginFaults)

// What is counted of that.
const (
	didKillNode    = "node-kills"
	didKillAgent   = "agent-kills"
	didCutPower    = "power-cuts" // of one node or one agent each
	didCutNode     = "power-cuts-of-nodes"
	didCutAgent    = "power-cuts-of-agents"
	didPause       = "pauses"
	didTransfer    = "transfers" // that came off
	didFreeze      = "disk-freezes"
	didSlow        = "disk-slowings"
	didFill        = "disk-fills"
	didSyncError   = "sync-errors" // that a process has met, and ended
	didSplit       = "splits"      // between nodes, of one way or both
	didLossy       = "lossy-spells"
	didInstall     = "snapshot-installs"
	didCutLine     = "line-cuts"
	didWeather     = "bad-weathers"
	didBlockUDP    = "udp-blocks"     // through which an agent came by TCP
	didRebind      = "rebindings"     // of a flow each
	didMisbehave   = "bad-answers"    // of systems: none, an error, or one that got lost
	didPoison      = "poison-events"  // refused by a system, and replayed
	didRefuse      = "refused-events" // by an agent, for what is in them
	didReplace     = "authorities-replaced"
	didKillPlugin  = "plugin-kills"
	didHangPlugin  = "plugin-hangs"
	didCrashBuying = "crashes-in-purchases" // of a plugin or an agent
	didRenew       = "certificates-renewed"
)

// faultNamed finds a fault by name.
func faultNamed(name string) (fault, bool) {
	i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
	if i < 0 {
		return fault{}, false
	}
	return faults[i], true
}

func TestThreeNodesUnderFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	x := newTrouble(t, seed)
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
