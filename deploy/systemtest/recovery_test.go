package systemtest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// exception is one as the control plane shows it.
type exception struct{ ID, Agent, Kind, Text string }

func (p *plane) exceptions() (out []exception) {
	p.t.Helper()
	var list struct{ Items []exception }
	p.must("GET", "/exceptions", nil, &list)
	return list.Items
}

// awaitException waits until a person is told something about an agent, in words that hold
// all of some.
func (p *plane) awaitException(agent string, words ...string) {
	p.t.Helper()
	until(p.t, fmt.Sprintf("an exception about %s says %q", agent, words), func() string {
		all := p.exceptions()
		for _, e := range all {
			if e.Agent == agent && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(e.Kind+" "+e.Text, w) }) {
				return ""
			}
		}
		return fmt.Sprintf("%+v", all)
	})
}

// awaitReported waits until the control plane knows that an agent is done with so many
// deliveries: up to there nothing is sent to it again.
func (p *plane) awaitReported(agent string, delivered uint64) {
	p.t.Helper()
	more, last := 15, time.Time{} // reports after it has counted them: it notes every second what is done
	until(p.t, agent+" has told what it has done", func() string {
		status := p.agent(agent).Status
		if status.Delivered >= delivered && !status.At.Equal(last) {
			more, last = more-1, status.At
		}
		if more > 0 {
			return fmt.Sprintf("%d deliveries, want %d, and %d more reports", status.Delivered, delivered, more)
		}
		return ""
	})
}

// image copies what an agent that is stopped keeps.
func (s *site) image() string {
	s.t.Helper()
	if s.stop != nil {
		s.t.Fatal("an image of an agent that runs")
	}
	dir := filepath.Join(s.t.TempDir(), "image")
	if err := os.CopyFS(dir, os.DirFS(s.cfg.Data)); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// putBack replaces what a stopped agent keeps by an image; nothing: an empty disk, on which
// only the systems' tokens are.
func (s *site) putBack(image string) {
	s.t.Helper()
	list, err := os.ReadDir(s.cfg.Data)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range list {
		if err := os.RemoveAll(filepath.Join(s.cfg.Data, e.Name())); err != nil {
			s.t.Fatal(err)
		}
	}
	if image == "" {
		s.secret("shop-"+s.name, shopToken)
		return
	}
	if err := os.CopyFS(s.cfg.Data, os.DirFS(image)); err != nil {
		s.t.Fatal(err)
	}
}

// last is the position of the newest thing in the agent's journal.
func (s *site) last() (position uint64) {
	s.t.Helper()
	h := &history.History{}
	s.journal(h)
	for _, l := range h.Lines() {
		position = max(position, l.Position)
	}
	return position
}

func recoveryWorld(t *testing.T) *world {
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	for _, s := range w.sites {
		s.start()
	}
	return w
}

func down(attempt) reply { return reply{status: http.StatusServiceUnavailable} }

// awaitSent waits until an agent has nothing left to send.
func (s *site) awaitSent() {
	s.t.Helper()
	s.awaitStatus("has sent everything", func(st agent.Status) string {
		if !st.Link.Connected || st.Queue.Outgoing > 0 {
			return fmt.Sprintf("connected %v, %d events to send", st.Link.Connected, st.Queue.Outgoing)
		}
		return ""
	})
}

// TestAgentFromAnOldImage puts an agent back to an image from before much was sent: what
// the image believes unsent comes again and is dropped, and what is new goes on.
func TestAgentFromAnOldImage(t *testing.T) {
	w := recoveryWorld(t)
	eu := w.sites["eu"]
	w.shops["eu"].sellAll(t, "first", 3, 5)
	w.awaitTaken("erp", 15)
	eu.line.Cut()
	w.shops["eu"].sellAll(t, "unsent-in-the-image", 3, 5)
	w.awaitTaken("wms", 30)
	eu.awaitStatus("has delivered what is here", func(st agent.Status) string {
		for _, y := range st.Systems {
			if y.Pending > 0 || y.InFlight > 0 {
				return fmt.Sprintf("%+v", y)
			}
		}
		return ""
	})
	position := eu.last()
	eu.stop()
	image := eu.image()
	eu.line.Restore()
	eu.start()
	w.shops["eu"].sellAll(t, "not-in-the-image", 3, 5)
	w.awaitTaken("erp", 45)
	eu.awaitIdle()
	eu.stop()

	eu.putBack(image)
	eu.lives = append(eu.lives, position+1)
	eu.start()
	w.shops["eu"].sellAll(t, "after", 3, 5)
	w.awaitTaken("erp", 60)
	w.plane.awaitException("eu", "old-copy")
	w.settle(0)
}

// TestAgentOnAFreshDisk loses all that an agent keeps. It enrols again; what others had
// sent to it and what it had not delivered comes again from them.
func TestAgentOnAFreshDisk(t *testing.T) {
	w := recoveryWorld(t)
	eu := w.sites["eu"]
	w.shops["eu"].sellAll(t, "first", 3, 5)
	w.shops["hq"].sellAll(t, "hq-first", 3, 5)
	w.awaitTaken("erp", 30)
	w.awaitTaken("wms", 30)
	w.plane.awaitReported("eu", 30)
	w.systemNamed("wms").set(down)
	w.shops["hq"].sellAll(t, "undelivered", 3, 5)
	w.sites["hq"].awaitSent()
	until(t, "eu has acknowledged all", func() string {
		if n := w.plane.agent("eu").MailboxEvents; n > 0 {
			return fmt.Sprint(n)
		}
		return ""
	})
	eu.stop()

	eu.putBack("")
	eu.lives = append(eu.lives, 1)
	eu.enrol(w.plane.joinToken("eu", ""))
	w.systemNamed("wms").set(nil)
	eu.start()
	w.shops["eu"].sellAll(t, "after", 3, 5)
	w.awaitTaken("wms", 60)
	w.settle(0)
}

// TestDestinationBehindItsAcknowledgements puts an agent back that had acknowledged what it
// had not delivered: its sources send that again.
func TestDestinationBehindItsAcknowledgements(t *testing.T) {
	w := recoveryWorld(t)
	hq := w.sites["hq"]
	w.shops["eu"].sellAll(t, "first", 3, 5)
	w.awaitTaken("erp", 15)
	w.plane.awaitReported("hq", 15)
	position := hq.last()
	hq.stop()
	image := hq.image()
	hq.start()
	w.systemNamed("erp").set(down)
	w.shops["eu"].sellAll(t, "acknowledged", 3, 5)
	w.sites["eu"].awaitSent()
	until(t, "hq has acknowledged all", func() string {
		if n := w.plane.agent("hq").MailboxEvents; n > 0 {
			return fmt.Sprint(n)
		}
		return ""
	})
	hq.stop()

	hq.putBack(image)
	hq.lives = append(hq.lives, position+1)
	w.systemNamed("erp").set(nil)
	hq.start()
	w.shops["eu"].sellAll(t, "after", 3, 5)
	w.awaitTaken("erp", 45)
	w.plane.awaitException("hq", "behind")
	w.settle(0)
}

// TestClonedAgent runs two copies of one agent: the second is fenced, goes on locally, and
// everybody is told.
func TestClonedAgent(t *testing.T) {
	w := recoveryWorld(t)
	eu := w.sites["eu"]
	w.shops["eu"].sellAll(t, "first", 2, 5)
	w.awaitTaken("erp", 10)
	eu.awaitIdle()
	eu.stop()
	image := eu.image()
	eu.start()
	w.shops["eu"].sellAll(t, "second", 2, 5)
	w.awaitTaken("erp", 20)

	clone := bareSite(t, "eu", image)
	clone.cfg.ControlPlane.Addresses = eu.cfg.ControlPlane.Addresses
	clone.start()
	w.plane.awaitException("eu", "old-copy")
	fenced := func() (out []*site) {
		for _, s := range []*site{eu, clone} {
			if st, err := s.status(); err == nil && st.Link.Fenced != "" {
				out = append(out, s)
			}
		}
		return out
	}
	until(t, "one of the two is fenced and says so", func() string {
		if n := len(fenced()); n != 1 {
			return fmt.Sprintf("%d are", n)
		}
		return ""
	})
	fenced()[0].diagnose(agent.Found{}).want(t, "fenced", doctor.Fail, "in epoch 1", "agents allow")
	// The other one goes on; the fenced one still takes orders and delivers them here.
	good, outcast := eu, clone
	if fenced()[0] == eu {
		good, outcast = clone, eu
	}
	h := &history.History{} // the two give positions of their own: this part is judged by arrival only
	before := taken(w.h, "erp")
	(&shop{good, h}).sellAll(t, "good", 2, 5)
	w.awaitTaken("erp", before+10)
	here := taken(w.h, "wms")
	(&shop{outcast, h}).sellAll(t, "outcast", 2, 5)
	w.awaitTaken("wms", here+10)
	if got := taken(w.h, "erp"); got != before+10 {
		t.Errorf("erp got %d orders of an agent that is fenced", got-before-10)
	}
}

// awaitAudited waits until the record tells of something that was done to something.
func (p *plane) awaitAudited(action, object string) {
	p.t.Helper()
	until(p.t, action+" of "+object+" is in the record", func() string {
		var list struct {
			Items []struct{ Action, Object string }
		}
		p.must("GET", "/audit?limit=500", nil, &list)
		for _, e := range list.Items {
			if e.Action == action && e.Object == object {
				return ""
			}
		}
		return fmt.Sprintf("%d entries", len(list.Items))
	})
}
