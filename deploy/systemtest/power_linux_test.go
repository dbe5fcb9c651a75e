package systemtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/crossdock/crossdock/deploy/systemtest/disk"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

const diskSize = 512 << 20

// onDisk moves what an agent keeps to a disk whose power can be cut.
func (s *site) onDisk(d *disk.Disk) {
	s.t.Helper()
	if err := os.CopyFS(d.Dir()+"/agent", os.DirFS(s.cfg.Data)); err != nil {
		s.t.Fatal(err)
	}
	s.cfg.Data = d.Dir() + "/agent"
	if err := os.Chmod(s.cfg.Data, 0o700); err != nil {
		s.t.Fatal(err)
	}
	syscall.Sync() // that much has been there for long
}

// TestPowerLossOfAnAgentLosesNothing cuts the power of an agent under load, and looks for
// every order that it answered for in its journal and at the systems.
func TestPowerLossOfAnAgentLosesNothing(t *testing.T) {
	cuts := count(t, "CROSSDOCK_CUTS", 6)
	disks := map[string]*disk.Disk{"eu": disk.New(t, diskSize), "hq": disk.New(t, diskSize)}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu"), newSystem(t, h, "crm", "hq")}
	})
	for name, s := range w.sites {
		s.onDisk(disks[name])
		s.startChild("", 0)
	}
	for _, s := range w.sites {
		s.awaitReady()
	}
	stop := w.trade(6)
	defer stop()
	for i := range cuts {
		w.more(1 + r.IntN(80))
		name := []string{"eu", "hq"}[i%2]
		time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond) // any moment, not only after an answer
		s := w.sites[name]
		disks[name].Cut()
		s.child.crash()
		disks[name].Restore()
		s.startChild("", 0)
	}
	w.more(50)
	stop()
	w.kept = []string{"eu", "hq"}
	w.settle(w.explained(cuts))
}

// TestPowerLossOfAnAgentWithoutSyncIsSeen is the control: an agent whose syncs do nothing must
// be caught by what the test above looks at.
func TestPowerLossOfAnAgentWithoutSyncIsSeen(t *testing.T) {
	if err := tryStrace(); err != nil {
		disk.Missing(t, fmt.Sprintf("only strace can keep an agent from syncing: %v", err))
	}
	d := disk.New(t, diskSize)
	w := newWorld(t, nil, []string{"eu"}, func(h *history.History) []*system { return []*system{newSystem(t, h, "wms", "eu")} })
	eu := w.sites["eu"]
	eu.onDisk(d)
	eu.startChild("", 0)
	eu.awaitReady()
	tracer := inject(t, eu.child.cmd.Process.Pid, "retval=0")
	w.shops["eu"].sellAll(t, "o", 4, 25)
	d.Cut()
	eu.child.crash()
	<-tracer.ended // what it held is gone
	d.Restore()
	eu.startChild("", 0)
	lost := 0
	until(t, "the agent is ready, or says that it cannot go on", func() string {
		if !eu.child.running() {
			lost = -1
			return ""
		}
		return eu.notReady()
	})
	if lost == 0 {
		h := w.h.Clone()
		eu.journal(h)
		for _, f := range history.Check(h.Lines(), history.Rules{Owed: func(string) []string { return nil }, Kept: []string{"eu"}, Repeats: 1 << 30}) {
			if f.Property == history.NoLoss {
				lost++
			}
		}
	}
	t.Logf("lost %d of %d (-1: it does not start any more)", lost, accepted(w.h))
	if lost == 0 {
		t.Error("nothing was synced and nothing was lost: a power loss of an agent is not seen by these tests")
	}
}

// powerWorld is a control plane on disks whose power can be cut, with two agents.
func powerWorld(t *testing.T, nodes int, sabotage string) (*world, *cluster, []*disk.Disk) {
	var disks []*disk.Disk
	var dirs []string
	for range nodes {
		d := disk.New(t, 2*diskSize)
		disks, dirs = append(disks, d), append(dirs, d.Dir())
	}
	c := startCluster(t, nodes, clusterOptions{dirs: dirs, sabotage: sabotage})
	w := worldOn(t, c.plane, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	for _, s := range w.sites {
		s.start()
	}
	syscall.Sync() // the cluster has stood for long
	return w, c, disks
}

func TestPowerLossOfTheControlPlaneLosesNothing(t *testing.T) {
	cuts := count(t, "CROSSDOCK_CUTS", 3)
	w, c, disks := powerWorld(t, 1, "")
	w.cutAll(c, disks, cuts, func(lost []string) {
		t.Fatalf("%d changes were answered and are gone: %v", len(lost), lost)
	})
	w.settle(0)
}

// TestPowerLossOfAllNodesLosesNothing cuts the power of three nodes at once: there is no
// other from which one could learn what it has lost.
func TestPowerLossOfAllNodesLosesNothing(t *testing.T) {
	cuts := count(t, "CROSSDOCK_CUTS", 3)
	w, c, disks := powerWorld(t, 3, "")
	w.kept = []string{"eu", "hq"}
	w.cutAll(c, disks, cuts, func(lost []string) {
		t.Fatalf("%d changes were answered and are gone: %v", len(lost), lost)
	})
	w.settle(0)
	c.plane.awaitEqual()
}

// TestPowerLossWithoutSyncIsSeen is the control: a control plane that does not sync must
// be caught by what the tests above look at.
func TestPowerLossWithoutSyncIsSeen(t *testing.T) {
	w, c, disks := powerWorld(t, 1, "fsync")
	n := c.nodes[0]
	clerk := w.clerk()
	until(t, "changes are made", func() string {
		if clerk.count() < 50 {
			return fmt.Sprint(clerk.count())
		}
		return ""
	})
	disks[0].Cut()
	n.crash()
	clerk.end()
	disks[0].Restore()
	n.start()
	lost := 0
	until(t, "the node is ready, or says that it cannot go on", func() string {
		if !n.run.running() {
			lost = -1
			return ""
		}
		return n.notReady()
	})
	if lost == 0 {
		lost = len(clerk.missing())
	}
	t.Logf("lost %d of %d (-1: it does not start any more)", lost, clerk.count())
	if lost == 0 {
		t.Error("nothing was synced and nothing was lost: a power loss is not seen by these tests")
	}
}

// cutAll cuts the power of all nodes at once, some times under load, and looks each time
// for every change that was answered.
func (w *world) cutAll(c *cluster, disks []*disk.Disk, cuts int, lost func([]string)) {
	w.t.Helper()
	seed := rand.Uint64()
	w.t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	stop := w.trade(3)
	defer stop()
	for range cuts {
		clerk := w.clerk()
		want := 1 + r.IntN(60)
		until(w.t, "changes are made", func() string {
			if n := clerk.count(); n < want {
				return fmt.Sprintf("%d of %d", n, want)
			}
			return ""
		})
		for _, d := range disks {
			d.Cut()
		}
		for _, n := range c.nodes {
			n.crash()
		}
		clerk.end()
		for i, n := range c.nodes {
			disks[i].Restore()
			n.start()
		}
		for _, n := range c.nodes {
			n.awaitReady()
		}
		if gone := clerk.missing(); len(gone) > 0 {
			lost(gone)
		}
		w.more(20)
	}
	stop()
}
