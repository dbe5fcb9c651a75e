package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/calls"
	"github.com/crossdock/crossdock/agent/documents"
	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/numbers"
	"github.com/crossdock/crossdock/agent/routing"
	"github.com/crossdock/crossdock/plugins/carrier-zone/zone"
	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxtest"
	"github.com/crossdock/crossdock/plugins/tax-table/table"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

const callingSite = `apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: it, region: eu}
---
apiVersion: crossdock/v1
kind: NumberRange
metadata: {name: tracking}
spec: {owner: it, format: plain, prefix: XT, width: 9, from: 1, to: 999999999, sites: [eu], block: 20}
---
apiVersion: crossdock/v1
kind: Contract
metadata: {name: stock.counted}
spec: {owner: it, authority: wms, key: .sku, compatibility: none, versions: [{version: 1.0.0, state: active, schema: stock.json}]}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: wms}
spec: {owner: it, site: eu, role: wms, publishes: [stock.counted], intake: {token: "file:wms.token"}, http: {url: "http://wms.example", deliver: {path: /events}}}
---
apiVersion: crossdock/v1
kind: Route
metadata: {name: labels}
spec:
  owner: it
  from: {type: shipment.label-created.v1}
  to: [{system: wms}]
`

// site is the part of an agent that has to do with calls, with real plugins behind a pipe.
type site struct {
	*Agent
	t    *testing.T
	url  string
	away atomic.Bool // the tax engine that is asked first
}

// firstThenSecond is a site with two tax engines.
type firstThenSecond struct{}

func (firstThenSecond) TaxOrder() []string { return []string{"first", "second"} }

// inProcess are plugins of a site by their names.
type inProcess struct {
	site    *site
	carrier carrier.Carrier
	engines map[string]tax.Engine
}

func (p inProcess) Carrier(name string) (carrier.Carrier, error) {
	if name != "zone" {
		return nil, sdk.Errorf(sdk.NotSupported, "this site has no plugin %q", name)
	}
	return p.carrier, nil
}

func (p inProcess) Tax(name string) (tax.Engine, error) {
	if name == "first" && p.site.away.Load() {
		return nil, sdk.Errorf(sdk.Unavailable, "plugin %s does not run", name)
	}
	return p.engines[name], nil
}

type wmsToken struct{}

func (wmsToken) Resolve(string) ([]byte, error) { return []byte("s3cret"), nil }

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func callingPolicy(t *testing.T) *policy.Set {
	t.Helper()
	bundle := must[policy.Bundle](t)(policy.ReadBundle(os.DirFS("../deploy/examples/calls")))
	bundle["site.yaml"], bundle["stock.json"] = []byte(callingSite), []byte(`{"type":"object"}`)
	set, problems := policy.Compile(bundle)
	if set == nil {
		t.Fatal(problems)
	}
	return set
}

func (s *site) engine() tax.Engine {
	e := must[*table.Engine](s.t)(table.New(slog.New(slog.DiscardHandler)))
	s.t.Cleanup(func() { e.Close() })
	p := taxtest.Pipe(s.t, e)
	if err := p.Configure(s.t.Context(), sdk.Settings{"state": s.t.TempDir()}); err != nil {
		s.t.Fatal(err)
	}
	return p
}

func newSite(t *testing.T) *site {
	t.Helper()
	set := callingPolicy(t)
	s := &site{t: t, Agent: &Agent{}}
	z := zone.New(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { z.Close() })
	c := carriertest.Pipe(t, z)
	if err := c.Configure(t.Context(), sdk.Settings{"tables": must[string](t)(filepath.Abs("../plugins/carrier-zone/zone/testdata/tables")), "state": t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	s.numbers = must[*numbers.Store](t)(numbers.Open(numbers.Config{Path: filepath.Join(t.TempDir(), "numbers.db"), Site: "eu", Epoch: 1, Policy: func() *policy.Set { return set }}))
	t.Cleanup(func() { s.numbers.Close() })
	for _, w := range must[[]numbers.Request](t)(s.numbers.Wanted()) {
		if err := s.numbers.Leased(w.Range, w.ID, 1, w.Want); err != nil {
			t.Fatal(err)
		}
	}
	s.journal = openBooks(t, t.TempDir(), 1).Journal
	config := calls.DefaultConfig()
	config.Path, config.Site, config.Epoch = filepath.Join(t.TempDir(), callsFile), "eu", 1
	config.PauseMin, config.PauseMax = time.Millisecond, 5*time.Millisecond
	config.Plugins = inProcess{s, c, map[string]tax.Engine{"first": s.engine(), "second": s.engine()}}
	config.Policy, config.Numbers, config.Events = firstThenSecond{}, shipmentNumbers{s.numbers}, ownEvents{s.Agent}
	config.Alarm = func(kind, what, text string) { t.Errorf("%s %s: %s", kind, what, text) }
	s.calls = must[*calls.Service](t)(calls.Open(config))
	s.intake = must[*intake.Service](t)(intake.New(intake.Config{Site: "eu"}, intake.Parts{Policy: fixed{set}, Journal: submitter{journal: s.journal}, Secrets: wmsToken{},
		Calls: caller{s.calls}, NewRouter: func(set *policy.Set) intake.Router { return routing.New(set, "eu") }}))
	server := httptest.NewServer(s.intake.Handler())
	s.url = server.URL
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.calls.Run(ctx) }()
	t.Cleanup(func() {
		server.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.calls.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type fixed struct{ set *policy.Set }

func (f fixed) Policy() *policy.Set { return f.set }

// post makes a call, which has to be answered with a status, and reads what came.
func (s *site) post(path, key, body string, status int, into any) *http.Response {
	s.t.Helper()
	request := must[*http.Request](s.t)(http.NewRequest(http.MethodPost, s.url+path, strings.NewReader(body)))
	request.Header.Set("Authorization", "Bearer s3cret")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	answer := must[*http.Response](s.t)(http.DefaultClient.Do(request))
	defer answer.Body.Close()
	text := must[[]byte](s.t)(io.ReadAll(answer.Body))
	if answer.StatusCode != status {
		s.t.Fatalf("%s: got %d %s, want %d", path, answer.StatusCode, text, status)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			s.t.Fatal(err)
		}
	}
	return answer
}

// A site ships, voids, hands over and taxes with the plugins that there are, and every event
// satisfies the contract that is shipped as an example.
func TestSiteCallsPlugins(t *testing.T) {
	s := newSite(t)
	today := time.Now().Format(time.DateOnly)
	shipment := func(reference, service string) string {
		return fmt.Sprintf(`{"reference":%q,"service":%q,"date":%q,"order":"SO-1","from":{"company":"Warehouse","lines":["Lagerstr. 1"],"city":"München","postalCode":"81241","country":"DE"},`+
			`"to":{"name":"Groß","lines":["Marienplatz 8"],"city":"München","postalCode":"80331","country":"DE"},"parcels":[{"weight":{"value":"1.2","unit":"kg"}}]}`, reference, service, today)
	}
	var rates carrier.Rates
	s.post("/v1/carriers/zone/rate", "", shipment("", ""), http.StatusOK, &rates)
	var shipped, again carrier.Shipped
	s.post("/v1/carriers/zone/ship", "k1", shipment("R1", "parcel"), http.StatusOK, &shipped)
	s.post("/v1/carriers/zone/ship", "k1", shipment("R1", "parcel"), http.StatusOK, &again)
	s.post("/v1/carriers/zone/ship", "k2", shipment("R2", "parcel"), http.StatusOK, nil)
	if shipped.Parcels[0].Tracking != "XT000000001" || again.Parcels[0].Tracking != "XT000000001" || len(shipped.Documents) == 0 {
		t.Fatalf("got %+v, then %+v", shipped, again)
	}
	s.post("/v1/carriers/zone/ship", "k3", shipment("R3", "teleport"), http.StatusUnprocessableEntity, nil)
	s.post("/v1/carriers/none/ship", "k3", shipment("R3", "parcel"), http.StatusNotFound, nil)
	s.post("/v1/carriers/zone/void", "k4", `{"reference":"R1"}`, http.StatusOK, nil)
	place := `{"company":"Warehouse","lines":["Lagerstr. 1"],"city":"München","postalCode":"81241","country":"DE"}`
	s.post("/v1/carriers/zone/pickup", "k5", fmt.Sprintf(`{"action":"book","reference":"P1","place":%s,"date":%q,"ready":"10:00","close":"18:00","parcels":1}`, place,
		time.Now().AddDate(0, 0, 1).Format(time.DateOnly)), http.StatusOK, nil)
	s.post("/v1/carriers/zone/manifest", "k6", fmt.Sprintf(`{"reference":"M1","date":%q,"from":%s,"shipments":["R2"]}`, today, place), http.StatusOK, nil)

	invoice := fmt.Sprintf(`{"reference":"I1","kind":"sale","date":%q,"currency":"EUR","seller":{"address":{"country":"DE","postalCode":"80331"}},"customer":{"address":{"country":"DE","postalCode":"80331"}},`+
		`"shipFrom":{"country":"DE","postalCode":"80331"},"shipTo":{"country":"DE","postalCode":"80331"},"lines":[{"id":"1","quantity":"1","amount":"100.00"}]}`, today)
	s.away.Store(true)
	var result tax.Result
	if s.post("/v1/tax/finalise", "k7", invoice, http.StatusOK, &result); !result.Provisional {
		t.Fatalf("got %+v", result)
	}
	s.away.Store(false)
	for end := time.Now().Add(20 * time.Second); result.Provisional; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it stays provisional")
		}
		s.post("/v1/tax/finalise", "k7", invoice, http.StatusOK, &result)
	}
	s.post("/v1/tax/void", "k8", `{"reference":"I1","reason":"test"}`, http.StatusOK, nil)
	for end := time.Now().Add(20 * time.Second); s.calls.Status().Leaving > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("events do not leave")
		}
	}
	if st := s.calls.Status(); len(st.Unpublished) > 0 || st.Kept != 8 {
		t.Fatalf("got %+v", st)
	}
	s.checkEvents()
}

// checkEvents wants the events in the journal, and those of labels on their way to the WMS.
func (s *site) checkEvents() {
	s.t.Helper()
	got := map[string]int{}
	err := s.journal.Scan(s.t.Context(), 0, func(item journal.ScanItem) bool {
		got[item.Head.Type]++
		for _, target := range item.Head.Targets {
			got[item.Head.Type+" to "+target.System]++
		}
		return true
	})
	want := map[string]int{calls.TypeLabel: 2, calls.TypeLabel + " to wms": 2, calls.TypeVoided: 1, calls.TypePickup: 1, calls.TypeManifested: 1,
		calls.TypeProvisional: 1, calls.TypeFinalised: 1, calls.TypeTaxVoided: 1}
	if err != nil || !maps.Equal(got, want) {
		s.t.Fatalf("got %v, %v, want %v", got, err, want)
	}
}

// A label that is gone before its event could leave holds back that label only.
func TestEventLeavesWithoutALostPaper(t *testing.T) {
	s := newSite(t)
	s.log = slog.New(slog.DiscardHandler)
	s.documents = must[*documents.Store](t)(documents.Open(documents.Config{Dir: filepath.Join(t.TempDir(), "documents"), Agent: "here", Quota: 1 << 20}))
	set := callingPolicy(t)
	s.intake = must[*intake.Service](t)(intake.New(intake.Config{Site: "eu"}, intake.Parts{Policy: fixed{set}, Journal: submitter{journal: s.journal},
		Secrets: wmsToken{}, Documents: shelf{s.documents}, NewRouter: func(set *policy.Set) intake.Router { return routing.New(set, "eu") }}))
	kept := must[documents.Reference](t)(s.documents.Put(t.Context(), "application/pdf", strings.NewReader("label")))
	e := &event.Event{ID: "c1.done", Source: "/sites/eu/calls", Type: calls.TypeVoided, Time: time.Now(), DataContentType: event.JSONType,
		Data: []byte(`{"reference":"R","call":"c1","carrier":"zone","accepted":true}`)}
	if err := (ownEvents{s.Agent}).Publish(t.Context(), e, []string{strings.Repeat("0", 64), kept.SHA256}); err != nil {
		t.Fatal(err)
	}
	var named []string
	err := s.journal.Scan(t.Context(), 0, func(item journal.ScanItem) bool {
		named = append(named, must[*event.Event](t)(event.Unmarshal(item.Event)).Extensions[documents.Attribute])
		return true
	})
	if err != nil || !slices.Equal(named, []string{kept.SHA256}) {
		t.Errorf("got %q, %v", named, err)
	}
}

// The repeat of an event is answered as the event was, though its paper is gone by now.
func TestARepeatOutlivesItsPaper(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(t.TempDir(), "documents")
	s.documents = must[*documents.Store](t)(documents.Open(documents.Config{Dir: dir, Agent: "here", Quota: 1 << 20}))
	set := callingPolicy(t)
	s.intake = must[*intake.Service](t)(intake.New(intake.Config{Site: "eu"}, intake.Parts{Policy: fixed{set}, Journal: submitter{"here", s.journal, s.documents, nil},
		Secrets: wmsToken{}, Documents: shelf{s.documents}, NewRouter: func(set *policy.Set) intake.Router { return routing.New(set, "eu") }}))
	kept := must[documents.Reference](t)(s.documents.Put(t.Context(), "application/pdf", strings.NewReader("label")))
	publish := func(id string) error {
		return s.intake.Publish(t.Context(), &event.Event{ID: id, Source: "/sites/eu/calls", Type: calls.TypeVoided, Time: time.Unix(1, 0), DataContentType: event.JSONType,
			Data: []byte(`{"reference":"R","call":"c1","carrier":"zone","accepted":true}`), Extensions: map[string]string{documents.Attribute: kept.SHA256}})
	}
	if err := publish("1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "whole", kept.SHA256[:2], kept.SHA256)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.documents.Get(kept.SHA256); !errors.Is(err, documents.ErrUnknown) {
		t.Fatal(err)
	}
	if err := publish("1"); err != nil {
		t.Errorf("the repeat: %v", err)
	}
	if err := publish("2"); !errors.Is(err, intake.ErrNoDocument) {
		t.Errorf("another one: %v", err)
	}
}
