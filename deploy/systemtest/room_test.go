package systemtest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

const (
	roomQuota  = 4 << 20
	roomOrder  = 32 << 10
	roomOrders = 200 // about one and a half journals
)

// TestSiteWithoutRoomHearsRevisionsAndCommands fills the journal of a site whose system is
// down. Its mail waits; a revision, a trace and the replay of a dead letter do not.
func TestSiteWithoutRoomHearsRevisionsAndCommands(t *testing.T) {
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq")}
	})
	hq, erp := w.sites["hq"], w.systems[0]
	hq.cfg.Journal.Quota, hq.cfg.Journal.Segment, hq.cfg.Journal.Retain = roomQuota, roomQuota/8, 0
	hq.cfg.Tuning.ParkAfter = time.Hour // what is parked would leave the journal
	full := w.fillMail(erp)
	sessions := scrape(t, hq.cfg.Ops.Listen, "crossdock_agent_sessions_total")

	bundle := policyFor([]string{"eu", "hq"}, w.systems)
	bundle["policy.yaml"] = "# once more\n" + bundle["policy.yaml"]
	w.plane.approve(bundle)
	hq.awaitRevision("1.2")
	w.checkTrace()
	erp.set(func(a attempt) reply {
		if a.id == "refused" {
			return reply{}
		}
		return down(a)
	})
	w.plane.replay(w.plane.deadLetters("state=open")[0].ID)
	w.awaitTaken("erp", 1)
	if again, err := hq.status(); err != nil || again.Queue.Received != full.Queue.Received || again.Link.NoRoom.IsZero() {
		t.Errorf("mail came meanwhile: %d received, then %d (%v)", full.Queue.Received, again.Queue.Received, err)
	}

	erp.set(nil) // nobody touches the agent: it has room when its orders are delivered
	w.awaitTaken("erp", roomOrders+1)
	hq.awaitStatus("has room again", func(s agent.Status) string {
		if !s.Link.NoRoom.IsZero() {
			return fmt.Sprintf("%.2f used", s.Queue.Level)
		}
		return ""
	})
	if n := scrape(t, hq.cfg.Ops.Listen, "crossdock_agent_sessions_total"); n != sessions {
		t.Errorf("%v sessions were opened, there was no reason to leave the first", n-sessions+1)
	}
	w.settle(0)
}

// fillMail starts the sites, has one order refused and more of the others wait than hq can
// keep.
func (w *world) fillMail(erp *system) agent.Status {
	w.t.Helper()
	eu, hq := w.sites["eu"], w.sites["hq"]
	eu.start()
	hq.start()
	erp.set(func(a attempt) reply {
		if a.id == "refused" {
			return reply{status: http.StatusUnprocessableEntity}
		}
		return down(a)
	})
	sell := func(o order) {
		if err := w.shops["eu"].sell(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
	sell(newOrder("refused", "dead", 0, ""))
	until(w.t, "the refused order is a dead letter", func() string {
		if n := len(w.plane.deadLetters("state=open")); n != 1 {
			return fmt.Sprint(n, " dead letters")
		}
		return ""
	})
	r := rand.New(rand.NewPCG(5, 6))
	for i := range roomOrders {
		sell(newOrder(fmt.Sprint("o-", i), fmt.Sprint("k", i%5), i, noise(r, roomOrder)))
	}
	hq.awaitStatus("has no room for mail", func(s agent.Status) string {
		if s.Link.NoRoom.IsZero() || !s.Link.Connected {
			return fmt.Sprintf("%.2f used, %d received, connected %v", s.Queue.Level, s.Queue.Received, s.Link.Connected)
		}
		return ""
	})
	eu.awaitSent()
	full, err := hq.status()
	if err != nil || full.Queue.Received >= roomOrders || full.Queue.Level < 0.95 {
		w.t.Errorf("%d received, %.2f used (%v)", full.Queue.Received, full.Queue.Level, err)
	}
	return full
}

// checkTrace: hq answers, and tells of what waits at its system.
func (w *world) checkTrace() {
	w.t.Helper()
	var trace struct {
		Complete bool
		Hops     []struct{ Agent, Hop string }
	}
	w.plane.must("GET", "/events?key=k0", nil, &trace)
	pending := 0
	for _, hop := range trace.Hops {
		if hop.Agent == "hq" && hop.Hop == "pending" {
			pending++
		}
	}
	if !trace.Complete || pending == 0 || pending >= roomOrders/5 {
		w.t.Errorf("trace: complete %v, %d orders of the key wait at hq", trace.Complete, pending)
	}
}
