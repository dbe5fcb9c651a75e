package systemtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// authority is one as the control plane shows it.
type authority struct {
	ID, State string
	Agents    int
}

func (p *plane) authorities() []authority {
	p.t.Helper()
	var cluster struct{ Authorities []authority }
	p.must("GET", "/cluster", nil, &cluster)
	return cluster.Authorities
}

// awaitRenewed waits until no more than so many agents have a certificate of an authority.
func (p *plane) awaitRenewed(id string, most int) {
	p.t.Helper()
	until(p.t, fmt.Sprintf("at most %d agents have a certificate of the old authority", most), func() string {
		for _, a := range p.authorities() {
			if a.ID == id && a.Agents > most {
				return fmt.Sprintf("%+v", a)
			}
		}
		return ""
	})
}

// rotate replaces the authority from the beginning to the end, while one agent is away.
func (w *world) rotate(away *site) {
	w.t.Helper()
	p := w.plane
	old := p.authorities()[0]
	var next authority
	p.must("POST", "/cluster/authorities", nil, &next)
	w.more(20)
	p.must("POST", "/cluster/authorities/"+next.ID+"/activate", nil, nil)
	p.awaitRenewed(old.ID, 1)
	status, text := p.call("DELETE", "/cluster/authorities/"+old.ID, nil)
	if status != http.StatusConflict || !strings.Contains(string(text), "certificate of "+away.name+" is of authority") {
		w.t.Errorf("the trust is ended while an agent depends on it: %d %s", status, text)
	}
	away.start()
	p.awaitRenewed(old.ID, 0)
	p.must("DELETE", "/cluster/authorities/"+old.ID, nil, nil)
	if all := p.authorities(); len(all) != 1 || all[0].ID != next.ID || all[0].State != "active" {
		w.t.Errorf("authorities: %+v", all)
	}
	p.awaitAudited("authority.add", next.ID)
	p.awaitAudited("authority.activate", next.ID)
	p.awaitAudited("authority.remove", old.ID)
}

// TestAuthorityIsReplacedToTheEnd goes all steps of a rotation while shops sell: the trust
// in the old authority ends when the last agent has a certificate of the new one, and not
// before. A copy of an agent that has only the old one is refused, and loses nothing.
func TestAuthorityIsReplacedToTheEnd(t *testing.T) {
	t.Parallel() // it waits most of the time
	p, _ := startNodes(t, func(c *controlplane.Config) { c.AgentLife = 6 * time.Second })
	w := worldOn(t, p, []string{"eu", "hq", "na"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq")}
	})
	w.pace = 10 * time.Millisecond
	na := w.sites["na"]
	na.start()
	w.shops["na"].sellAll(t, "first", 2, 3)
	na.awaitSent()
	position := na.last()
	na.stop()
	image := na.image()
	w.sites["eu"].start()
	w.sites["hq"].start()
	stop := w.tradeAt(2, "eu", "hq")
	defer stop()

	w.rotate(na)
	for _, s := range w.sites { // new sessions, on new connections
		s.stop()
		s.start()
	}
	w.more(20)

	na.awaitSent()
	na.stop()
	na.putBack(image)
	na.lives = append(na.lives, position+1)
	na.start()
	na.awaitStatus("is refused and told what to do", func(st agent.Status) string {
		if st.Link.Connected || !strings.Contains(st.Link.LastError, "is not of this cluster's authority") || !strings.Contains(st.Link.LastError, "enrol again") {
			return fmt.Sprintf("connected %v, %q", st.Link.Connected, st.Link.LastError)
		}
		return ""
	})
	w.shops["na"].sellAll(t, "refused", 2, 3)
	na.stop()
	na.enrol(p.joinToken("na", ""))
	na.start()
	w.shops["na"].sellAll(t, "after", 2, 3)
	stop()
	w.settle(0)
}
