package systemtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// silence is the agent's shortest patience with a stream that still serves a quiet link:
// a little more than the control plane's beat.
const silence = 12 * time.Second

func outageWorld(t *testing.T) *world {
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	for _, s := range w.sites {
		s.cfg.Tuning.Silence, s.cfg.Tuning.RetryQUIC = silence, 200*time.Millisecond
		s.start()
	}
	return w
}

// awaitTaken waits until a system has taken as many orders.
func (w *world) awaitTaken(system string, n int) {
	w.t.Helper()
	until(w.t, system+" takes orders", func() string {
		if got := taken(w.h, system); got < n {
			return fmt.Sprintf("%d, want %d", got, n)
		}
		return ""
	})
}

// TestSiteWorksAloneWhileTheLineIsCut cuts the line until both ends have given the session
// up, and restarts the agent in the dark.
func TestSiteWorksAloneWhileTheLineIsCut(t *testing.T) {
	t.Parallel() // it waits most of the time
	w := outageWorld(t)
	eu := w.sites["eu"]
	w.shops["eu"].sellAll(t, "before", 3, 5)
	w.awaitTaken("erp", 15)

	eu.line.Cut()
	w.shops["eu"].sellAll(t, "cut", 3, 5)
	w.awaitTaken("wms", 30)
	eu.awaitStatus("knows that it is alone", func(s agent.Status) string {
		if s.Link.Connected {
			return "still connected"
		}
		return ""
	})
	until(t, "the control plane knows it too", func() string {
		if w.plane.agent("eu").Connected {
			return "still connected"
		}
		return ""
	})

	eu.stop()
	eu.start() // ready: it runs by the revision that it holds
	w.shops["eu"].sellAll(t, "dark", 3, 5)
	w.awaitTaken("wms", 45)
	w.shops["hq"].sellAll(t, "elsewhere", 2, 3) // the others do not notice
	w.awaitTaken("erp", 15+6)
	if got := taken(w.h, "erp"); got != 15+6 {
		t.Errorf("erp has %d orders, a line that is cut let some through", got)
	}
	eu.awaitStatus("waits with its orders", func(s agent.Status) string {
		if s.Link.Connected || s.Queue.Outgoing != 30 {
			return fmt.Sprintf("connected %v, %d events to send, want 30", s.Link.Connected, s.Queue.Outgoing)
		}
		return ""
	})

	eu.line.Restore()
	w.awaitTaken("erp", 45+6)
	w.settle(0)
}

// TestWithoutUDPTheSessionMovesToTCPAndBack has a firewall drop UDP in the middle of a
// session, and let it through again.
func TestWithoutUDPTheSessionMovesToTCPAndBack(t *testing.T) {
	t.Parallel() // it waits most of the time
	w := outageWorld(t)
	eu := w.sites["eu"]
	eu.awaitLink("quic")
	w.shops["eu"].sellAll(t, "quic", 2, 5)
	w.awaitTaken("erp", 10)

	eu.line.BlockUDP(true)
	w.shops["eu"].sellAll(t, "blocked", 2, 5)
	eu.awaitLink("tcp")
	w.awaitTaken("erp", 20)
	eu.awaitStatus("says why", func(s agent.Status) string {
		if s.Link.Reason == "" {
			return "no reason"
		}
		return ""
	})

	// An agent that starts behind such a firewall finds its way too.
	eu.stop()
	eu.start()
	eu.awaitLink("tcp")
	w.shops["eu"].sellAll(t, "started", 2, 5)
	w.awaitTaken("erp", 30)

	eu.line.BlockUDP(false)
	eu.awaitLink("quic")
	w.shops["eu"].sellAll(t, "back", 2, 5)
	w.awaitTaken("erp", 40)
	w.settle(0)
}
