package systemtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// diagnosis is what the doctor says of a site, by finding.
type diagnosis map[string]doctor.Finding

func (s *site) diagnose(found agent.Found) diagnosis {
	out := diagnosis{}
	for _, f := range agent.Examine(s.t.Context(), s.cfg, found) {
		out[f.ID] = f
	}
	return out
}

// door asks the running agent as its operators do.
func (s *site) door(method, path string, into any) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.cfg.Ops.Listen+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(s.t, filepath.Join(s.cfg.Data, "ops.token"))))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %s", method, path, answer.Status)
	}
	if into == nil {
		return
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
}

func (d diagnosis) want(t *testing.T, id string, level doctor.Level, words ...string) {
	t.Helper()
	f, there := d[id]
	if !there || f.Level != level {
		t.Errorf("%s: %+v, want level %s", id, f, level)
	}
	for _, word := range words {
		if !strings.Contains(f.Seen+"\n"+f.Todo, word) {
			t.Errorf("%s does not say %q: %+v", id, word, f)
		}
	}
}

// TestDoctorSeesWhatTheAgentSees looks at an agent that works over an address that it was
// told of, is then put out, and is at last without a control plane.
func TestDoctorSeesWhatTheAgentSees(t *testing.T) {
	door := freeDoor(t)
	w := newWorld(t, func(c *controlplane.Config) {
		c.Sync.Listen, c.Sync.Advertise = door, []string{door}
	}, []string{"eu"}, func(*history.History) []*system { return nil })
	eu := w.sites["eu"]
	if err := os.Remove(filepath.Join(eu.cfg.Data, "secrets", "shop-eu")); err != nil {
		t.Fatal(err)
	}
	gone := freePort(t)
	again := eu.cfg
	again.ControlPlane.Addresses = append([]string{gone}, eu.cfg.ControlPlane.Addresses...)
	eu.cfg.Reread = func() (agent.Config, error) { return again, nil }
	eu.start()
	eu.awaitLink("quic")
	eu.awaitStatus("says that the shop cannot post", func(s agent.Status) string {
		for _, y := range s.Systems {
			if y.System == "shop-eu" && strings.Contains(y.Intake, filepath.Join(eu.cfg.Data, "secrets", "shop-eu")) {
				return ""
			}
		}
		return fmt.Sprintf("%+v", s.Systems)
	})
	d := eu.diagnose(agent.Found{Running: true})
	d.want(t, "system-shop-eu", doctor.Fail, "shop-eu", "30 s")
	for _, id := range []string{"certificate", "link-quic", "link-tcp", "clock", "ops-port", "policy"} {
		d.want(t, id, doctor.OK)
	}

	// What a reload has brought is looked at by the agent itself, too.
	eu.door("POST", "/v1/reload", nil)
	var r doctor.Report
	eu.door("GET", "/v1/doctor", &r)
	d = diagnosis{}
	for _, f := range r.Findings {
		d[f.ID] = f
	}
	d.want(t, "link-tcp", doctor.OK)
	d.want(t, "addresses", doctor.Warn, gone, "controlplane.addresses")

	eu.cfg.ControlPlane.Addresses = []string{gone}
	d = eu.diagnose(agent.Found{Running: true})
	d.want(t, "link-quic", doctor.OK, door)
	d.want(t, "link-tcp", doctor.OK, door)
	d.want(t, "clock", doctor.OK)
	d.want(t, "addresses", doctor.Warn, gone, "controlplane.addresses")

	w.plane.must("POST", "/agents/eu/revoke", nil, nil)
	eu.awaitStatus("is put out", func(s agent.Status) string {
		if s.Link.Connected {
			return "still connected"
		}
		return ""
	})
	eu.stop()
	d = eu.diagnose(agent.Found{})
	d.want(t, "certificate", doctor.Fail, "has revoked this agent", "crossdock token create --site eu at the control plane")
	d.want(t, "link-tcp", doctor.Fail, "is revoked", "see certificate")
	d.want(t, "link-quic", doctor.Warn, "see certificate")
	d.want(t, "ops-port", doctor.OK, "not running")
}
