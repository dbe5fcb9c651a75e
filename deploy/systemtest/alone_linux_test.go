package systemtest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// startProgram runs the agent's real program, with more lines of its configuration; it ends with the test.
func (s *site) startProgram(more ...string) (run *program) {
	s.t.Helper()
	config := filepath.Join(s.t.TempDir(), "agent.yaml")
	text := fmt.Sprintf("data: %q\ncontrolplane: {addresses: [%q]}\nintake: {listen: %q}\nops: {listen: %q}\nplugins: {dir: %q}\n",
		s.cfg.Data, s.cfg.ControlPlane.Addresses[0], s.cfg.Intake.Listen, s.cfg.Ops.Listen, s.cfg.Plugins.Dir) + strings.Join(more, "")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	run = launch(s.t, s.log+".program", nil, nil, filepath.Join(programs(s.t), "crossdock-agent"), "run", "--config", config)
	s.t.Cleanup(func() {
		run.signal(syscall.SIGTERM)
		if !comes(run.ended) {
			s.t.Errorf("the agent at %s does not end", s.name)
			run.signal(syscall.SIGKILL)
		}
		showTail(s.t, s.log+".program")
	})
	until(s.t, s.name+" is ready", func() string {
		if !run.running() {
			s.t.Fatalf("the agent at %s ended by itself: %v\n%s", s.name, run.cmd.ProcessState, read(s.t, s.log+".program"))
		}
		return s.notReady()
	})
	return run
}

// lonely is a site with plugins of all kinds, and one that learns of what it does. All
// programs are the real ones.
type lonely struct {
	t        *testing.T
	plane    *plane
	eu, hq   *site
	provider *provider
	papers   *papers
}

const lonelyRange = "---\napiVersion: crossdock/v1\nkind: NumberRange\nmetadata: {name: tracking}\n" +
	"spec: {owner: it, format: plain, prefix: XT, width: 9, from: 1, to: 999999999, sites: [eu], block: 20, low: 10}\n"

func newLonely(t *testing.T, life string) *lonely {
	c := startCluster(t, 1, clusterOptions{env: []string{"CROSSDOCK_AGENT_LIFE=" + life}, advertise: nowhere})
	l := &lonely{t: t, plane: c.plane, provider: newProvider(t)}
	l.papers = newPapers(t, "papers", "hq", l.provider.deeds)
	book := newZoneBook(t)
	bundle := policyFor([]string{"eu", "hq"}, nil)
	bundle["policy.yaml"] = strings.Replace(bundle["policy.yaml"], "{owner: it, region: eu}", "{owner: it, region: eu, tax: [live, table]}", 1) +
		strings.TrimPrefix(lonelyRange, "---\n") + l.papers.document()
	l.plane.approve(callsBundle(t, bundle, "papers",
		plugin{name: "zone", kind: "carrier", program: "carrier-zone", sites: "eu", settings: fmt.Sprintf("tables: %s, state: %s", book.tables, book.state)},
		plugin{name: "table", kind: "tax", program: "tax-table", sites: "eu", settings: "state: " + filepath.Join(t.TempDir(), "tax")},
		plugin{name: "courier", kind: "carrier", program: "courier", sites: "eu", settings: fmt.Sprintf("provider: %q", l.provider.url)},
		plugin{name: "live", kind: "tax", program: "live-tax", sites: "eu", settings: fmt.Sprintf("provider: %q", l.provider.url)}))
	for name, s := range map[string]**site{"eu": &l.eu, "hq": &l.hq} {
		*s = newSite(t, l.plane, name)
		(*s).line = startLine(t, c.nodes[0].sync)
		(*s).cfg.ControlPlane.Addresses = []string{(*s).line.Addr()}
		(*s).usePlugins()
	}
	return l
}

// awaitLabel waits until the label of a shipment is at the other site, byte for byte.
func (l *lonely) awaitLabel(s carrier.Shipped) {
	l.t.Helper()
	event := l.papers.await(l.t, "shipment.label-created.v1", s.Reference)
	sum := sha256.Sum256(s.Documents[0].Data)
	if name := hex.EncodeToString(sum[:]); !strings.Contains(event.Documents, name) {
		l.t.Fatalf("the event of %s names the documents %q, want %s", s.Reference, event.Documents, name)
	} else if status, _, got := l.hq.documents(http.MethodGet, "/"+name, nil); status != http.StatusOK || !bytes.Equal(got, s.Documents[0].Data) {
		l.t.Errorf("the label of %s at hq: %d, %d bytes of %d", s.Reference, status, len(got), len(s.Documents[0].Data))
	}
}

// callState is a call as its system sees it.
func (s *site) callState(id string) (out struct {
	State      string
	Difference *struct{ Tax string }
	Answer     tax.Result
}) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.cfg.Intake.Listen+"/v1/calls/"+id, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+shopToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&out); err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("call %s: %s, %v", id, response.Status, err)
	}
	return out
}

// awaitDone waits until a call that waited is done.
func (s *site) awaitDone(id string) {
	s.t.Helper()
	until(s.t, "call "+id+" is done", func() string {
		if st := s.callState(id).State; st != "done" {
			return st
		}
		return ""
	})
}

// invoiceOf is a sale of one line within Germany.
func invoiceOf(reference string) string {
	return fmt.Sprintf(`{"reference":%q,"kind":"sale","date":%q,"currency":"EUR","seller":{"address":%[3]s},"customer":{"address":%[3]s},"shipFrom":%[3]s,"shipTo":%[3]s,`+
		`"lines":[{"id":"1","quantity":"1","amount":"100.00"}]}`, reference, time.Now().Format(time.DateOnly), `{"country":"DE","postalCode":"80331"}`)
}

// awaitExpired waits until the certificate of a site has ended.
func (s *site) awaitExpired() {
	s.t.Helper()
	until(s.t, "the certificate has ended", func() string {
		id, err := identity.Open(s.cfg.IdentityDir())
		if err != nil {
			return err.Error()
		}
		if left := time.Until(id.Certificate().NotAfter); left > -time.Second {
			return left.String()
		}
		return ""
	})
}

// TestSiteCallsWhileTheLineIsCut has a site buy labels whose paper arrives at another one. Cut
// off for longer than its certificate lives, and started anew meanwhile, it goes on with rates,
// labels, dispatch, manifest and taxes from what it has; when the line is back, what was
// provisional is finalised, what waited is done, and numbers and labels are known elsewhere.
func TestSiteCallsWhileTheLineIsCut(t *testing.T) {
	t.Parallel() // it waits most of the time
	l := newLonely(t, "5s")
	eu := l.eu
	l.hq.startProgram()
	run := eu.startProgram()
	eu.awaitPlugins("running", "zone", "table", "courier", "live")
	eu.awaitNumbers(20)

	l.awaitLabel(eu.ship("zone", "eu-first"))
	l.awaitLabel(eu.ship("courier", "eu-bought"))
	var result tax.Result
	eu.mustCall("tax/finalise", "i-first", invoiceOf("i-first"), http.StatusOK, &result)
	if result.Provisional || result.Tax.Decimal.String() != "25" {
		t.Fatalf("the live engine says %+v", result)
	}

	eu.line.Cut()
	l.provider.away(true)
	run.signal(syscall.SIGTERM)
	<-run.ended
	eu.awaitExpired()
	eu.startProgram()
	eu.awaitPlugins("running", "zone", "table", "courier", "live")
	var rates carrier.Rates
	eu.mustCall("carriers/zone/rate", "", parcelOf("", ""), http.StatusOK, &rates)
	var dark []carrier.Shipped
	for i := range 4 {
		dark = append(dark, eu.ship("zone", fmt.Sprint("eu-dark-", i)))
	}
	manifest := fmt.Sprintf(`{"reference":"M-dark","date":%q,"from":%s,"shipments":["eu-dark-0","eu-dark-1"]}`, time.Now().Format(time.DateOnly), warehouse)
	eu.mustCall("carriers/zone/void", "v-dark", `{"reference":"eu-dark-2"}`, http.StatusOK, nil)
	eu.mustCall("carriers/zone/manifest", "m-dark", manifest, http.StatusOK, nil)
	owed := eu.mustCall("tax/finalise", "i-dark", invoiceOf("i-dark"), http.StatusOK, &result)
	if !result.Provisional || result.Tax.Decimal.String() != "19" || owed.id == "" {
		t.Fatalf("the table stands in with %+v, call %q", result, owed.id)
	}
	given := eu.mustCall("carriers/courier/void", "v-bought", `{"reference":"eu-bought"}`, http.StatusAccepted, nil)
	if a := eu.mustCall("carriers/courier/ship", "eu-not", parcelOf("eu-not", ""), http.StatusServiceUnavailable, nil); a.problem().Code != "provider-unavailable" {
		t.Errorf("without a provider: %s", a.body)
	}
	if st, err := eu.status(); err != nil || st.Link.Connected || st.Calls.Queued != 2 {
		t.Errorf("in the dark: %+v, connected %v, %v", st.Calls, st.Link.Connected, err)
	}

	eu.line.Restore()
	l.provider.away(false)
	eu.awaitDone(owed.id)
	eu.awaitDone(given.id)
	if c := eu.callState(owed.id); c.Difference == nil || c.Difference.Tax != "6" || c.Answer.Provisional {
		t.Errorf("the finalised tax is %+v", c)
	}
	if !l.provider.did("void", "eu-bought") || len(l.provider.sold("eu-not")) > 0 {
		t.Error("the void that waited was not done, or what was refused was bought")
	}
	for _, s := range dark {
		l.awaitLabel(s)
	}
	l.papers.await(t, "shipment.manifested.v1", "M-dark")
	l.papers.await(t, "tax.provisional.v1", "i-dark")
	l.papers.await(t, "tax.finalised.v1", "i-dark")
	l.papers.await(t, "shipment.voided.v1", "eu-dark-2")
	l.papers.await(t, "shipment.voided.v1", "eu-bought")
	l.awaitLabel(eu.ship("courier", "eu-not")) // under the same key: it was surely not done
	l.reconciled(append(dark, eu.ship("zone", "eu-first")), len(dark)+1)
}

// reconciled: the control plane knows of the numbers that were used, each was used for one
// parcel, and the provider was paid once for each label.
func (l *lonely) reconciled(own []carrier.Shipped, used int) {
	l.t.Helper()
	for by := map[string]string{}; len(own) > 0; own = own[1:] {
		tracking := own[0].Parcels[0].Tracking
		if other := by[tracking]; other != "" || !strings.HasPrefix(tracking, "XT") {
			l.t.Errorf("%s has the number %s, which %s has", own[0].Reference, tracking, cmp.Or(other, "no range"))
		}
		by[tracking] = own[0].Reference
	}
	until(l.t, "the control plane knows what was used", func() string {
		r := l.plane.pallets()
		if len(r.Leases) != 1 || r.Leases[0].Agent != "eu" || r.Leases[0].Used != uint64(used) {
			return fmt.Sprintf("%+v, want %d used", r, used)
		}
		return ""
	})
	var view struct{ Recoveries uint64 }
	l.plane.must("GET", "/agents/eu", nil, &view)
	if view.Recoveries == 0 {
		l.t.Error("the renewal with an expired certificate is not counted")
	}
	for _, reference := range []string{"eu-bought", "eu-not"} {
		if sold := l.provider.sold(reference); len(sold) != 1 {
			l.t.Errorf("%s was bought as %q", reference, sold)
		}
	}
	for _, p := range l.provider.deeds.List() {
		if p.Deed == history.Learned && len(l.papers.of("shipment.label-created.v1", p.Reference)) != 1 {
			l.t.Errorf("%s has several events", p.Reference)
		}
	}
	l.eu.awaitStatus("owes nothing", func(st agent.Status) string {
		if c := st.Calls; c.Queued+c.Unknown+c.Begun+c.Leaving+len(c.Unpublished) > 0 || st.Queue.Outgoing > 0 {
			return fmt.Sprintf("%+v, %d to send", c, st.Queue.Outgoing)
		}
		return ""
	})
}
