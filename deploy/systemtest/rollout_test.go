package systemtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

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
