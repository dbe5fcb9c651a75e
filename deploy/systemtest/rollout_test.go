package systemtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// awaitRevision waits until an agent runs a revision.
func (s *site) awaitRevision(want string) {
	s.t.Helper()
	s.awaitStatus("runs revision "+want, func(st agent.Status) string {
		if st.Policy.Revision != want {
			return fmt.Sprintf("%q, refused %q", st.Policy.Revision, st.Policy.Refused)
		}
		return ""
	})
}

func rolloutWorld(t *testing.T) *world {
	w := newWorld(t, nil, []string{"eu", "hq", "na"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq")}
	})
	for _, s := range w.sites {
		s.start()
	}
	return w
}

// again is the world's policy once more, with a difference that changes nothing.
func (w *world) again(note string) map[string]string {
	bundle := policyFor([]string{"eu", "hq", "na"}, w.systems)
	bundle["policy.yaml"] = "# " + note + "\n" + bundle["policy.yaml"]
	return bundle
}

func TestCanaryGoesFirst(t *testing.T) {
	w := rolloutWorld(t)
	stop := w.trade(2)
	defer stop()
	for _, s := range w.sites {
		s.awaitRevision("1.1")
	}
	if status, text := w.plane.tryApprove(w.again("two"), []string{"na"}); status != http.StatusOK {
		t.Fatalf("canary: %d %s", status, text)
	}
	w.sites["na"].awaitRevision("1.2")
	w.more(30)
	if status, text := w.plane.tryApprove(w.again("three"), nil); status != http.StatusConflict || !strings.Contains(string(text), "canary") {
		t.Errorf("another approval beside a canary: %d %s", status, text)
	}
	for _, name := range []string{"eu", "hq"} {
		if st, err := w.sites[name].status(); err != nil || st.Policy.Revision != "1.1" {
			t.Errorf("%s runs %q, it is no canary site", name, st.Policy.Revision)
		}
	}
	w.plane.must("POST", "/revisions/2/promote", nil, nil)
	for _, s := range w.sites {
		s.awaitRevision("1.2")
	}

	// The next one is taken back: the site gets the old content under a new number.
	status, text := w.plane.tryApprove(w.again("four"), []string{"na"})
	if status != http.StatusOK {
		t.Fatalf("canary: %d %s", status, text)
	}
	w.sites["na"].awaitRevision("1.4")
	w.plane.must("POST", "/revisions/4/withdraw", map[string]any{"reason": "errors rose"}, nil)
	for _, s := range w.sites {
		s.awaitRevision("1.5")
	}
	stop()
	w.settle(0)
}

// TestRevisionsReachASiteThatWasAway approves some while a line is cut: the site comes to
// the newest, and its orders of the meantime go by what it held.
func TestRevisionsReachASiteThatWasAway(t *testing.T) {
	w := rolloutWorld(t)
	eu := w.sites["eu"]
	eu.awaitRevision("1.1")
	eu.line.Cut()
	w.shops["eu"].sellAll(t, "away", 2, 5)
	for n := range 3 {
		w.plane.approve(w.again(fmt.Sprint("revision ", n+2)))
	}
	w.sites["hq"].awaitRevision("1.4")
	w.shops["eu"].sellAll(t, "away-still", 2, 5)
	if st, err := eu.status(); err != nil || st.Policy.Revision != "1.1" {
		t.Errorf("a site that is cut off runs %q", st.Policy.Revision)
	}
	eu.stop()
	eu.start() // in an outage, from what it holds
	w.shops["eu"].sellAll(t, "away-restarted", 2, 5)
	eu.line.Restore()
	eu.awaitRevision("1.4")
	w.shops["eu"].sellAll(t, "back", 2, 5)
	w.awaitTaken("erp", 40)
	w.settle(0)
}

// moveView is a move as the control plane shows it.
type moveView struct {
	System, State string
	Waiting       []string
}

// move is the only one that there is.
func (p *plane) move() moveView {
	p.t.Helper()
	var list struct{ Items []moveView }
	p.must("GET", "/systems/moves", nil, &list)
	if len(list.Items) != 1 {
		p.t.Fatalf("moves: %+v", list)
	}
	return list.Items[0]
}

// TestMovedSystemKeepsTheOrderOfItsKeys moves a warehouse system to another site while it
// has trouble and while a site that still sends to the old one is away.
func TestMovedSystemKeepsTheOrderOfItsKeys(t *testing.T) {
	sites := []string{"eu", "hq", "na"}
	w := newWorld(t, nil, sites, func(h *history.History) []*system {
		old := newSystem(t, h, "wms-old", "eu")
		old.stands = "wms"
		return []*system{old}
	})
	old := w.systems[0]
	for _, s := range w.sites {
		s.start()
	}
	w.pace = 10 * time.Millisecond
	stop := w.trade(2)
	defer stop()
	w.more(60)
	old.set(func(a attempt) reply {
		if a.key == bad {
			return reply{status: http.StatusServiceUnavailable}
		}
		return reply{}
	})
	hq := w.sites["hq"]
	hq.line.Cut() // what it accepts meanwhile still goes to the old system
	w.more(30)

	moved := newSystem(t, w.h, "wms-new", "na")
	moved.stands, moved.replaces = "wms", "wms-old"
	old.unrouted = true
	w.systems = []*system{old, moved}
	w.plane.approve(policyFor(sites, w.systems))
	w.sites["na"].awaitRevision("1.2")
	w.sites["eu"].awaitRevision("1.2")
	w.more(60)
	if m := w.plane.move(); m.System != "wms-new" || m.State != "flushing" {
		t.Errorf("move = %+v, want one that waits for hq", m)
	}
	if n := len(moved.seen(func(attempt) bool { return true })); n > 0 {
		t.Errorf("the new system got %d orders while the old one has some to come", n)
	}
	hq.line.Restore()
	hq.awaitRevision("1.2")
	until(t, "the move drains", func() string {
		if m := w.plane.move(); m.State != "draining" {
			return fmt.Sprintf("%+v", m)
		}
		return ""
	})
	if n := len(moved.seen(func(attempt) bool { return true })); n > 0 {
		t.Errorf("the new system got %d orders while the old one is not done", n)
	}
	old.set(nil)
	until(t, "the move is done", func() string {
		if m := w.plane.move(); m.State != "released" {
			return fmt.Sprintf("%+v", m)
		}
		return ""
	})
	w.more(30)
	stop()
	w.settle(0)
	if n := len(moved.seen(func(attempt) bool { return true })); n < 60 {
		t.Errorf("the new system got only %d orders", n)
	}
}

// TestMoveIsReleasedByWord: an operator ends a move whose old system never comes back.
func TestMoveIsReleasedByWord(t *testing.T) {
	w := newWorld(t, nil, []string{"eu"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "wms-old", "eu")}
	})
	old := w.systems[0]
	old.set(down)
	w.sites["eu"].start()
	w.shops["eu"].sellAll(t, "old", 2, 5)
	moved := newSystem(t, w.h, "wms-new", "eu") // at the same site
	moved.replaces, old.unrouted = "wms-old", true
	w.systems = []*system{old, moved}
	w.plane.approve(policyFor([]string{"eu"}, w.systems))
	w.sites["eu"].awaitRevision("1.2")
	w.shops["eu"].sellAll(t, "new", 2, 5)
	until(t, "the move drains", func() string {
		if m := w.plane.move(); m.State != "draining" {
			return fmt.Sprintf("%+v", m)
		}
		return ""
	})
	if n := taken(w.h, "wms-new"); n > 0 {
		t.Errorf("the new system took %d orders before its release", n)
	}
	w.plane.must("POST", "/systems/wms-new/release", nil, nil)
	w.awaitTaken("wms-new", 10)
	if n := taken(w.h, "wms-old"); n > 0 {
		t.Errorf("the old system took %d orders, it is down", n)
	}
}
