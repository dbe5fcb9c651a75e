package systemtest

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// trace is what crossdock events trace says.
type trace struct {
	Complete bool
	Hops     []struct{ Agent, Event, Hop, Peer, System string }
	Agents   []struct {
		Agent    string
		Answered bool
	}
}

// trace follows a key, asked at this node.
func (n *node) trace(key string) (out trace) {
	n.c.t.Helper()
	text, err := n.crossdock("", "events", "trace", key, "-o", "json")
	if wrong := json.Unmarshal([]byte(text), &out); wrong != nil {
		n.c.t.Fatal(wrong, err)
	}
	if err != nil && len(out.Hops) > 0 { // it fails where no agent that answered knows the key, and says so in full
		n.c.t.Fatal(err)
	}
	return out
}

// hops lists them in one form, sorted.
func (t *trace) hops() (out []string) {
	for _, h := range t.Hops {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s by %s %s%s", h.Event, h.Hop, h.Agent, h.Peer, h.System)))
	}
	slices.Sort(out)
	return out
}

// wayOf is every hop of an order from eu to systems at hq and na. When the relay took it is
// told by those that got it from there.
func wayOf(id string) []string {
	return []string{
		id + " accepted by eu shop-eu", id + " relayed by hq hq", id + " relayed by na na", id + " received by hq eu", id + " received by na eu",
		id + " delivered by hq erp", id + " delivered by na store",
	}
}

// awaitKnown waits until the agent knows where all nodes are.
func (s *site) awaitKnown(c *cluster) {
	s.t.Helper()
	until(s.t, s.name+" knows all nodes", func() string {
		known := read(s.t, filepath.Join(s.cfg.IdentityDir(), "known.json"))
		for _, n := range c.nodes {
			if !strings.Contains(known, n.sync) {
				return known
			}
		}
		return ""
	})
}

// TestTraceAtEveryNode asks each of three nodes for the way of a key, with each agent
// connected to another node; then with one agent gone, and with one node gone.
func TestTraceAtEveryNode(t *testing.T) {
	c := startCluster(t, 3, clusterOptions{})
	names := []string{"eu", "hq", "na"}
	w := worldOn(t, c.plane, names, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "store", "na")}
	})
	for i, name := range names {
		w.sites[name].cfg.ControlPlane.Addresses = []string{c.nodes[i].sync}
		w.sites[name].start()
	}
	for i, name := range names {
		w.sites[name].awaitStatus("is connected to "+c.nodes[i].name, func(st agent.Status) string {
			if !st.Link.Connected || st.Link.Node != c.nodes[i].name {
				return fmt.Sprintf("%+v", st.Link)
			}
			return ""
		})
	}
	for _, s := range w.sites { // before one of them goes
		s.awaitKnown(c)
	}
	w.shops["eu"].sellAll(t, "o", 2, 2)
	w.awaitTaken("erp", 4)
	w.awaitTaken("store", 4)
	want := append(wayOf("o-1-0"), wayOf("o-1-1")...)
	slices.Sort(want)
	for _, n := range c.nodes {
		until(t, n.name+" knows every hop", func() string {
			got := n.trace("k1")
			if !got.Complete || !slices.Equal(got.hops(), want) {
				return fmt.Sprintf("complete %v, %q, agents %+v", got.Complete, got.hops(), got.Agents)
			}
			return ""
		})
	}

	// An agent that is away is named, and the others still tell.
	w.sites["na"].stop()
	for _, n := range c.nodes {
		until(t, n.name+" names who is missing", func() string {
			got := n.trace("k1")
			away := slices.ContainsFunc(got.Agents, func(a struct {
				Agent    string
				Answered bool
			}) bool {
				return a.Agent == "na" && !a.Answered
			})
			if got.Complete || !away || len(got.Hops) != len(want)-6 {
				return fmt.Sprintf("complete %v, %d hops, %+v", got.Complete, len(got.Hops), got.Agents)
			}
			return ""
		})
	}
	w.sites["na"].start()

	// A node that is gone takes its agents along to the others, which find them there.
	gone := c.nodes[0]
	gone.kill()
	for _, n := range c.nodesBut(gone) {
		until(t, n.name+" knows every hop without "+gone.name, func() string {
			got := n.trace("k1")
			if !got.Complete || !slices.Equal(got.hops(), want) {
				return fmt.Sprintf("complete %v, %q, agents %+v", got.Complete, got.hops(), got.Agents)
			}
			return ""
		})
	}
	w.settle(0)
}
