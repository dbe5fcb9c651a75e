package systemtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// TestRevocationReachesEveryNode revokes an agent at one node while it is connected to
// another. What it accepts afterwards reaches no other site.
func TestRevocationReachesEveryNode(t *testing.T) {
	p, _ := startNodes(t, nil)
	names := []string{"eu", "hq", "na"}
	w := worldOn(t, p, names, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq")}
	})
	all := p.nodes()
	for i, name := range names {
		w.sites[name].cfg.ControlPlane.Addresses = []string{all[i].Sync}
		w.sites[name].start()
	}
	for _, name := range names {
		w.sites[name].awaitStatus("is connected", func(s agent.Status) string {
			if !s.Link.Connected {
				return s.Link.LastError
			}
			return ""
		})
	}
	p.nodes = func() []doors { return all[:1] }
	p.must("POST", "/agents/na/revoke", nil, nil)
	w.sites["na"].awaitStatus("is put out", func(s agent.Status) string {
		if s.Link.Connected {
			return "still connected"
		}
		return ""
	})
	p.nodes = func() []doors { return all }
	w.h.Add(history.Line{Kind: history.Out, Agent: "na"})
	w.shops["na"].sellAll(t, "out", 2, 5) // it works on for its site, and nobody else gets any of that
	w.shops["eu"].sellAll(t, "after", 2, 5)
	w.awaitTaken("erp", 10)
	rules := w.rules(0)
	rules.Partial = true
	judge(t, w.h, rules)
	if st, err := w.sites["na"].status(); err != nil || st.Link.Connected || st.Link.LastError == "" {
		t.Errorf("the revoked agent: %v, %+v", err, st.Link)
	}
}

// TestAuthorityIsReplacedUnderLoad goes the three steps of a rotation while shops sell.
func TestAuthorityIsReplacedUnderLoad(t *testing.T) {
	p, _ := startNodes(t, nil)
	w := worldOn(t, p, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq")}
	})
	for _, s := range w.sites {
		s.start()
	}
	stop := w.trade(2)
	defer stop()
	w.more(20)
	type authority struct{ ID, State string }
	var next authority
	p.must("POST", "/cluster/authorities", nil, &next)
	w.more(20)
	p.must("POST", "/cluster/authorities/"+next.ID+"/activate", nil, nil)
	w.more(20)
	var cluster struct{ Authorities []authority }
	p.must("GET", "/cluster", nil, &cluster)
	states := map[string]int{}
	for _, a := range cluster.Authorities {
		states[a.State]++
	}
	if fmt.Sprint(states) != fmt.Sprint(map[string]int{"active": 1, "retired": 1}) {
		t.Errorf("authorities: %+v", cluster.Authorities)
	}
	// Agents come again with certificates of the old one.
	for _, s := range w.sites {
		s.stop()
		s.start()
	}
	w.more(20)
	stop()
	w.settle(0)

	// And one enrols that knows only the new one.
	eu := w.sites["eu"]
	eu.stop()
	eu.putBack("")
	eu.enrol(p.joinToken("eu", ""))
	eu.start()
	eu.awaitStatus("is connected", func(s agent.Status) string {
		if !s.Link.Connected {
			return s.Link.LastError
		}
		return ""
	})
}

// TestCertificatesAreRenewedUnderLoad has certificates of seconds: they are renewed many
// times while shops sell, and nobody notices.
func TestCertificatesAreRenewedUnderLoad(t *testing.T) {
	t.Parallel() // it waits most of the time
	w := newWorld(t, func(c *controlplane.Config) { c.AgentLife = 6 * time.Second }, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq")}
	})
	w.pace = 10 * time.Millisecond
	for _, s := range w.sites {
		s.start()
	}
	stop := w.trade(2)
	defer stop()
	for range 3 {
		st, err := w.sites["eu"].status()
		if err != nil {
			t.Fatal(err)
		}
		w.sites["eu"].awaitStatus("has a new certificate", func(now agent.Status) string {
			if !now.Certificate.After(st.Certificate) || !now.Link.Connected {
				return fmt.Sprintf("good until %v, connected %v %s", now.Certificate, now.Link.Connected, now.Link.LastError)
			}
			return ""
		})
	}
	w.more(30)
	stop()
	w.settle(0)
}

// TestAgentIsBackAfterItsCertificatesLife: an outage longer than the certificate. The agent
// renews by the key that it registered; the renewal is counted on both sides.
func TestAgentIsBackAfterItsCertificatesLife(t *testing.T) {
	t.Parallel() // it waits most of the time
	w := newWorld(t, func(c *controlplane.Config) { c.AgentLife = 4 * time.Second }, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq")}
	})
	for _, s := range w.sites {
		s.cfg.Tuning.Silence = silence
		s.start()
	}
	eu := w.sites["eu"]
	w.shops["eu"].sellAll(t, "first", 2, 5)
	w.awaitTaken("erp", 10)
	eu.line.Cut()
	w.shops["eu"].sellAll(t, "dark", 2, 5)
	eu.stop()
	until(t, "the certificate has ended", func() string {
		id, err := identity.Open(eu.cfg.IdentityDir())
		if err != nil {
			return err.Error()
		}
		if left := time.Until(id.Certificate().NotAfter); left > -time.Second {
			return left.String()
		}
		return ""
	})
	eu.start()
	w.shops["eu"].sellAll(t, "expired", 2, 5)
	eu.line.Restore()
	w.awaitTaken("erp", 30)
	w.settle(0)
	var view struct{ Recoveries uint64 }
	w.plane.must("GET", "/agents/eu", nil, &view)
	if view.Recoveries == 0 {
		t.Error("the renewal with an expired certificate is not counted")
	}
}
