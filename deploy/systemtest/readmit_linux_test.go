package systemtest

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// TestAgentsOfALostLifeComeBack restores a control plane from a backup that does not know
// one agent at all, and another one by the key and the epoch that it had before its disk
// was replaced. Both come back by what their certificates say, and nothing is lost either
// way; an agent that was revoked meanwhile stays out.
func TestAgentsOfALostLifeComeBack(t *testing.T) {
	c := startCluster(t, 1, clusterOptions{})
	n := c.nodes[0]
	w := worldOn(t, c.plane, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	w.systems = append(w.systems, newSystem(t, w.h, "store", "na"))
	w.plane.approve(policyFor([]string{"eu", "hq", "na"}, w.systems)) // a site whose agent is yet to come
	eu, hq := w.sites["eu"], w.sites["hq"]
	eu.start()
	hq.start()
	w.shops["eu"].sellAll(t, "before", 2, 3)
	w.awaitTaken("erp", 6)
	w.awaitTaken("wms", 6)
	w.plane.awaitReported("eu", 6)
	backup := filepath.Join(t.TempDir(), "crossdock.backup")
	if _, err := n.crossdock("", "cluster", "backup", "--out", backup); err != nil {
		t.Fatal(err)
	}

	na := newSite(t, c.plane, "na")
	w.sites["na"], w.shops["na"] = na, &shop{na, w.h}
	na.start()
	eu.stop()
	eu.putBack("")
	eu.lives = append(eu.lives, 1)
	eu.enrol(w.plane.joinToken("eu", ""))
	eu.start()
	for _, name := range []string{"eu", "hq", "na"} {
		w.shops[name].sellAll(t, name+"-lost-life", 2, 3)
	}
	for _, y := range w.systems {
		w.awaitTaken(y.name, 24)
	}

	n.stop()
	n.wipe()
	for _, name := range []string{"eu", "hq", "na"} {
		w.shops[name].sellAll(t, name+"-dark", 2, 3)
	}
	if _, err := n.crossdock("", "cluster", "restore", "--config", n.config, "--yes", backup); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.awaitReady()
	for _, name := range []string{"eu", "hq", "na"} {
		w.shops[name].sellAll(t, name+"-after", 2, 3)
	}
	for _, y := range w.systems {
		w.awaitTaken(y.name, 60)
	}
	for _, name := range []string{"eu", "na"} {
		w.plane.awaitException(name, "readmitted", "crossdock agents revoke "+name)
		w.plane.awaitAudited("agent.readmit", name)
	}
	w.settle(0)

	// The restored control plane decides from now on.
	w.plane.must("POST", "/agents/na/revoke", nil, nil)
	na.awaitStatus("is put out and told what to do", func(st agent.Status) string {
		if st.Link.Connected || st.Link.LastError == "" {
			return fmt.Sprintf("%+v", st.Link)
		}
		return ""
	})
}
