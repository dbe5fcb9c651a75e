package systemtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// sellLarge sells orders one after the other, large enough to fill files of the journal.
func (s *shop) sellLarge(t *testing.T, name string, n int) (ids []string) {
	t.Helper()
	text := make([]byte, 24<<10)
	for i := range text {
		text[i] = 'a' + byte(i%26)
	}
	for i := range n {
		id := fmt.Sprint(s.site.name, "-", name, "-", i)
		if err := s.sell(t.Context(), newOrder(id, fmt.Sprint("k", i%2), i, string(text))); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// holds says whether the agent's journal has an order.
func (s *site) holds(id string) bool {
	s.t.Helper()
	h := &history.History{}
	s.journal(h)
	for _, l := range h.Lines() {
		if l.ID == id {
			return true
		}
	}
	return false
}

// awaitNoMail waits until nothing waits for an agent at the control plane.
func (w *world) awaitNoMail(agent string) {
	w.t.Helper()
	until(w.t, "nothing waits for "+agent, func() string {
		if v := w.plane.agent(agent); v.MailboxEvents > 0 || v.MailboxBytes > 0 {
			return fmt.Sprintf("%+v", v)
		}
		return ""
	})
}

// TestForgottenAgent has an agent go for good, with orders that it had confirmed and not
// delivered, orders that wait for it at the control plane, and orders that wait at their
// sources.
func TestForgottenAgent(t *testing.T) {
	w := newWorld(t, nil, []string{"eu", "hq", "na"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "store", "na")}
	})
	eu, na := w.sites["eu"], w.sites["na"]
	eu.cfg.Journal.Segment, eu.cfg.Journal.Retain = 64<<10, time.Nanosecond
	for _, s := range w.sites {
		s.start()
	}
	sold := 0
	sell := func(name string, n int) (ids []string) {
		for _, from := range []string{"eu", "hq"} {
			ids = append(ids, w.shops[from].sellLarge(t, name, n)...)
		}
		sold += 2 * n
		w.awaitTaken("erp", sold) // whatever happens at na
		return ids
	}
	sell("first", 2)
	w.awaitTaken("store", 4)
	w.systemNamed("store").set(down)
	w.plane.awaitReported("na", 4)
	confirmed := sell("confirmed", 2)
	eu.awaitSent()
	w.sites["hq"].awaitSent()
	w.awaitNoMail("na")
	na.stop()
	waiting := sell("waiting", 3)
	eu.awaitSent()
	w.sites["hq"].awaitSent()
	w.plane.must("POST", "/agents/na/revoke", nil, nil)
	refused := sell("refused", 6)
	eu.awaitStatus("keeps what is refused", func(st agent.Status) string {
		if st.Queue.Outgoing < 6 {
			return fmt.Sprint(st.Queue.Outgoing)
		}
		return ""
	})
	if !eu.holds("eu-refused-0") {
		t.Error("an order that nobody has taken is let go")
	}

	w.plane.must("POST", "/agents/na/forget", nil, nil)
	after := sell("after", 6)
	eu.awaitSent()
	w.sites["hq"].awaitSent()
	w.awaitNoMail("na")
	until(t, "its sources let history go", func() string {
		if eu.holds("eu-refused-5") {
			return "it is held"
		}
		return ""
	})
	for _, source := range []string{"eu", "hq"} {
		w.plane.awaitException("na", "forgotten", fmt.Sprintf("%d events from %s for na were given up", 3+6+6, source),
			"2 that na had confirmed")
	}
	w.plane.awaitAudited("agent.revoke", "na")
	w.plane.awaitAudited("agent.forget", "na")
	// The counts of the exceptions are those of the orders that store has not taken.
	for _, list := range [][]string{confirmed, waiting, refused, after} {
		for _, id := range list {
			w.h.Add(history.Line{Kind: history.Lost, System: "store", Source: "/shops/" + id[:2], ID: id})
		}
	}
	w.settle(0)
}
