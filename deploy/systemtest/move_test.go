package systemtest

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

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

func (p *plane) awaitMove(state string) {
	p.t.Helper()
	until(p.t, "the move is "+state, func() string {
		if m := p.move(); m.State != state {
			return fmt.Sprintf("%+v", m)
		}
		return ""
	})
}

// count is how many attempts there were.
func (y *system) count() int { return len(y.seen(func(attempt) bool { return true })) }

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
	if n := moved.count(); n > 0 {
		t.Errorf("the new system got %d orders while the old one has some to come", n)
	}
	hq.line.Restore()
	hq.awaitRevision("1.2")
	w.plane.awaitMove("draining")
	if n := moved.count(); n > 0 {
		t.Errorf("the new system got %d orders while the old one is not done", n)
	}
	old.set(nil)
	w.plane.awaitMove("released")
	w.more(30)
	stop()
	w.settle(0)
	if n := moved.count(); n < 60 {
		t.Errorf("the new system got only %d orders", n)
	}
}

// TestMoveOfASystemWhoseSiteWasAway: orders for the old system were routed by a revision that
// its agent has never had, for the next one came before it was back; or that it had for a
// moment only.
func TestMoveOfASystemWhoseSiteWasAway(t *testing.T) {
	for _, stopped := range []bool{true, false} {
		t.Run(fmt.Sprint("stopped ", stopped), func(t *testing.T) { moveBehindTheBackOf(t, stopped) })
	}
}

func moveBehindTheBackOf(t *testing.T, stopped bool) {
	sites := []string{"eu", "na"}
	w := newWorld(t, nil, sites, func(h *history.History) []*system {
		old := newSystem(t, h, "wms-old", "eu")
		old.stands = "wms"
		return []*system{old}
	})
	old, eu, na := w.systems[0], w.sites["eu"], w.sites["na"]
	eu.start()
	na.start()
	na.awaitRevision("1.1")
	eu.awaitRevision("1.1")
	w.shops["na"].sellAll(t, "first", 2, 5)
	w.awaitTaken("wms", 10)
	if stopped {
		eu.stop()
	} else {
		eu.line.Cut() // the stream outlives it: both revisions come one upon the other
	}
	old.route = "renamed"
	w.plane.approve(policyFor(sites, w.systems))
	na.awaitRevision("1.2")
	w.shops["na"].sellAll(t, "renamed", 2, 5)
	moved := newSystem(t, w.h, "wms-new", "na")
	moved.stands, moved.replaces = "wms", "wms-old"
	old.unrouted = true
	w.systems = []*system{old, moved}
	w.plane.approve(policyFor(sites, w.systems))
	na.awaitRevision("1.3")
	w.shops["na"].sellAll(t, "moved", 2, 5)
	if stopped {
		eu.start()
	} else {
		eu.line.Restore()
	}
	eu.awaitRevision("1.3")
	w.settle(0)
	if n := moved.count(); n != 10 {
		t.Errorf("the new system got %d orders, want 10", n)
	}
}

// TestMoveThatIsTakenBackAndMadeAgain while the new system's site is away: the site knows it as
// moved and released, and must not take the second move for the first.
func TestMoveThatIsTakenBackAndMadeAgain(t *testing.T) {
	sites := []string{"eu", "na"}
	w := newWorld(t, nil, sites, func(h *history.History) []*system {
		old := newSystem(t, h, "wms-old", "eu")
		old.stands = "wms"
		return []*system{old}
	})
	old, eu, na := w.systems[0], w.sites["eu"], w.sites["na"]
	moved := newSystem(t, w.h, "wms-new", "na")
	moved.stands = "wms"
	move := func(there bool) {
		old.unrouted, moved.unrouted, moved.replaces = there, !there, ""
		if there {
			moved.replaces = "wms-old"
		}
		w.systems = []*system{old, moved}
		w.plane.approve(policyFor(sites, w.systems))
	}
	eu.start()
	na.start()
	move(true)
	eu.awaitRevision("1.2")
	na.awaitRevision("1.2")
	w.plane.awaitMove("released")
	w.shops["eu"].sellAll(t, "there", 2, 5)
	w.awaitTaken("wms", 10)
	na.stop()
	move(false)
	eu.awaitRevision("1.3")
	old.set(down)
	w.shops["eu"].sellAll(t, "back", 2, 5)
	move(true)
	eu.awaitRevision("1.4")
	w.shops["eu"].sellAll(t, "again", 2, 5)
	na.start()
	na.awaitRevision("1.4")
	na.awaitStatus("has the orders", func(st agent.Status) string {
		if st.Queue.Received < 20 {
			return fmt.Sprint(st.Queue.Received, " received")
		}
		return ""
	})
	na.awaitStatus("holds the new system", func(st agent.Status) string {
		for _, y := range st.Systems {
			if y.System == "wms-new" && y.Held == "" {
				return string(y.State)
			}
		}
		return ""
	})
	if n := moved.count(); n != 10 {
		t.Errorf("the new system got %d orders while the old one has some to come", n-10)
	}
	old.set(nil)
	w.plane.awaitMove("released")
	w.settle(0)
	if n := moved.count(); n != 20 {
		t.Errorf("the new system got %d orders, want 20", n)
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
	w.plane.awaitMove("draining")
	if n := taken(w.h, "wms-new"); n > 0 {
		t.Errorf("the new system took %d orders before its release", n)
	}
	w.plane.must("POST", "/systems/wms-new/release", nil, nil)
	w.awaitTaken("wms-new", 10)
	if n := taken(w.h, "wms-old"); n > 0 {
		t.Errorf("the old system took %d orders, it is down", n)
	}
}
