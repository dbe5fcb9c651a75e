package systemtest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// world is a control plane with sites and systems, and the history of what happens in it.
type world struct {
	t         *testing.T
	plane     *plane
	h         *history.History
	ops       *history.Operations // of clerks and desks
	judged    int                 // of those, from the first on
	sites     map[string]*site
	shops     map[string]*shop
	systems   []*system
	clerks    int                                              // that have worked here
	trades    int                                              // that were begun here
	unhurried time.Duration                                    // of a clerk between two changes
	pace      time.Duration                                    // of each key's orders while shops trade; 0: as fast as they are taken
	broken    map[string]int                                   // findings when it was last settled, by the property that they break
	kept      []string                                         // agents whose journals must hold at the end what they accepted
	extend    func(bundle map[string]string) map[string]string // of every policy; nil: as it is
	pressed   []string                                         // of those, whose disk was full: what is delivered they may have let go
}

// newWorld brings up a control plane, enrols the sites and puts a policy in force. It does
// not start the agents.
func newWorld(t *testing.T, change func(*controlplane.Config), sites []string, systems func(h *history.History) []*system) *world {
	t.Helper()
	return worldOn(t, startPlane(t, change), sites, systems)
}

// worldOn is a world on a control plane that runs already.
func worldOn(t *testing.T, p *plane, sites []string, systems func(h *history.History) []*system) *world {
	t.Helper()
	w := &world{t: t, plane: p, h: &history.History{}, ops: history.NewOperations(), sites: map[string]*site{}, shops: map[string]*shop{}}
	w.systems = systems(w.h)
	w.plane.approve(policyFor(sites, w.systems))
	for _, name := range sites {
		w.sites[name] = newSite(t, w.plane, name)
		w.shops[name] = &shop{w.sites[name], w.h}
	}
	return w
}

// bundle is the policy of this world.
func (w *world) bundle(sites []string) map[string]string {
	bundle := policyFor(sites, w.systems)
	if w.extend != nil {
		bundle = w.extend(bundle)
	}
	return bundle
}

func (w *world) rules(repeats int) history.Rules {
	stands := map[string]string{}
	for _, y := range w.systems {
		stands[y.known()] = y.site
	}
	return history.Rules{Owed: owed(w.systems), Repeats: repeats, Kept: w.kept, Pressed: w.pressed, Stands: stands}
}

// awaitDelivered waits until everything that was accepted so far has reached its systems.
func (w *world) awaitDelivered() {
	w.t.Helper()
	awaitDelivered(w.t, w.h, w.rules(1<<30))
}

func awaitDelivered(t *testing.T, h *history.History, rules history.Rules) {
	rules.Kept = nil // nobody has looked into the journals yet
	t.Helper()
	until(t, "every order is delivered", func() string {
		for _, f := range history.Check(h.Lines(), rules) {
			if f.Property == history.NoLoss {
				return f.String()
			}
		}
		return ""
	})
}

// settle waits until all is at rest, looks into the journals, and judges the history. It can
// be done again after more has happened.
func (w *world) settle(repeats int) {
	w.t.Helper()
	w.awaitDelivered()
	h := w.h.Clone()
	for _, s := range w.sites {
		if s.stop == nil && s.child == nil {
			continue
		}
		s.awaitIdle()
		s.journal(h)
	}
	for _, d := range w.plane.deadLetters("state=open") {
		h.Add(history.Line{Kind: history.Dead, System: w.systemNamed(d.System).known(), Source: d.Source, ID: d.EventID, Key: d.Key})
	}
	w.broken = map[string]int{}
	for _, f := range judge(w.t, h, w.rules(repeats)) {
		w.broken[string(f.Property)]++
	}
}

// judge reports the faults of a history, and keeps it for whoever must understand them.
func judge(t *testing.T, h *history.History, rules history.Rules) (faults []history.Fault) {
	t.Helper()
	const shown = 10
	faults = history.Check(h.Lines(), rules)
	for i, f := range faults {
		if i == shown {
			t.Errorf("and %d more", len(faults)-shown)
			break
		}
		t.Error(f)
	}
	if len(faults) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "crossdock-history-")
	if err != nil {
		t.Error(err)
		return faults
	}
	file := filepath.Join(dir, "history.jsonl")
	if err := h.Save(file); err != nil {
		t.Error(err)
	}
	t.Logf("the history is in %s", file)
	return faults
}

// taken counts the orders that a system has taken.
func taken(h *history.History, system string) (n int) {
	done := map[string]bool{}
	for _, l := range h.Lines() {
		if l.Kind == history.Ended && l.Done && l.System == system && !done[l.ID] {
			done[l.ID] = true
			n++
		}
	}
	return n
}

// accepted counts the orders that agents have accepted.
func accepted(h *history.History) int { return h.Count(history.Accepted) }
