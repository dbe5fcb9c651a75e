package systemtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/protocol/policy"
)

var builtPlugins struct {
	sync.Once
	dir string
	err error
}

// pluginPrograms builds the plugins once for all tests: those that are shipped and need no
// line, and the courier of testdata under each of its names.
func pluginPrograms(t *testing.T) (dir string) {
	t.Helper()
	builtPlugins.Do(func() {
		b := &builtPlugins
		if b.dir, b.err = os.MkdirTemp("", "crossdock-plugins-"); b.err != nil {
			return
		}
		build := exec.Command("go", "build", "-trimpath", "-o", b.dir, "./plugins/carrier-zone", "./plugins/tax-table", "./deploy/systemtest/testdata/courier")
		build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("build: %w: %s", err, text)
		}
		for _, name := range []string{"live-tax", "babble"} {
			b.err = errors.Join(b.err, os.Link(filepath.Join(b.dir, "courier"), filepath.Join(b.dir, name)))
		}
	})
	if builtPlugins.err != nil {
		t.Fatal(builtPlugins.err)
	}
	return builtPlugins.dir
}

// usePlugins has the site find all plugin programs where it looks for them.
func (s *site) usePlugins() {
	s.t.Helper()
	s.cfg.Plugins.Dir = pluginPrograms(s.t)
}

// provider is the other side of couriers: it sells as often as it is asked, and counts. What
// else it does it does once for each reference.
type provider struct {
	url   string
	deeds *history.Purchases

	mu      sync.Mutex // guards what follows
	counter int
	sales   map[string][]string  // numbers, by reference
	marks   map[string]time.Time // by what was done and the reference
	behave  func(what, reference string, done bool) conduct
}

// conduct is how the provider answers; the zero one as it should.
type conduct int

const (
	fair   conduct = iota
	closed         // it says that it is down, and does nothing
	torn           // the connection breaks
)

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{deeds: &history.Purchases{}, sales: map[string][]string{}, marks: map[string]time.Time{}}
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	p.url = server.URL
	return p
}

// set changes how it behaves, before it does something and after it has done it; nil: well.
func (p *provider) set(behave func(what, reference string, done bool) conduct) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behave = behave
}

// away has the provider be down, or up again.
func (p *provider) away(is bool) {
	p.set(func(string, string, bool) conduct {
		if is {
			return closed
		}
		return fair
	})
}

func (p *provider) conduct(what, reference string, done bool) conduct {
	p.mu.Lock()
	behave := p.behave
	p.mu.Unlock()
	if behave == nil {
		return fair
	}
	return behave(what, reference, done)
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what, reference := strings.TrimPrefix(r.URL.Path, "/"), r.URL.Query().Get("reference")
	switch p.conduct(what, reference, false) {
	case closed:
		http.Error(w, "closed", http.StatusServiceUnavailable)
		return
	case torn:
		panic(http.ErrAbortHandler)
	}
	number, at := p.do(what, reference)
	switch p.conduct(what, reference, true) {
	case closed, torn:
		panic(http.ErrAbortHandler)
	}
	if number == "" {
		http.Error(w, "nothing of that reference", http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"Number": number, "At": at}) // who asked may be gone
}

// do does it; no number: there is nothing of that reference.
func (p *provider) do(what, reference string) (number string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch what {
	case "ship":
		p.counter++
		number = fmt.Sprintf("C%06d", p.counter)
		p.sales[reference] = append(p.sales[reference], number)
		site, _, _ := strings.Cut(reference, "-")
		p.deeds.Add(history.Purchase{Deed: history.Sold, Site: site, Reference: reference, Number: number})
	case "find":
		if sold := p.sales[reference]; len(sold) > 0 {
			number = sold[0]
		}
	default:
		name := what + " " + reference
		if p.marks[name].IsZero() {
			p.marks[name] = time.Now().UTC()
		}
		return name, p.marks[name]
	}
	return number, at
}

// sold gives the numbers under which a reference was bought: one, where all is well.
func (p *provider) sold(reference string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.sales[reference]...)
}

// did tells whether something was done under a reference.
func (p *provider) did(what, reference string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.marks[what+" "+reference].IsZero()
}

// plugin is one as a policy names it.
type plugin struct {
	name, kind, program string
	sites               string // with commas
	settings            string
	more                string // lines of the spec
}

// callsBundle adds to a policy what calls need: plugins, the contracts of what they leave, and
// the routes of that to one system.
func callsBundle(t *testing.T, bundle map[string]string, to string, plugins ...plugin) map[string]string {
	t.Helper()
	out := maps.Clone(bundle)
	examples, err := policy.ReadBundle(os.DirFS(filepath.Join("..", "examples", "calls")))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range examples {
		out[name] = string(text)
	}
	var b strings.Builder
	for _, p := range plugins {
		text, err := os.ReadFile(filepath.Join(pluginPrograms(t), p.program))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "apiVersion: crossdock/v1\nkind: Plugin\nmetadata: {name: %s}\nspec:\n  owner: it\n  kind: %s\n  sites: [%s]\n  program: %s\n"+
			"  sha256: {linux/amd64: %[5]x, linux/arm64: %[5]x}\n  settings: {%[6]s}\n%[7]s---\n", p.name, p.kind, p.sites, p.program, sha256.Sum256(text), p.settings, p.more)
	}
	for _, kind := range []string{"shipment.label-created", "shipment.voided", "shipment.manifested", "tax.provisional", "tax.finalised"} {
		fmt.Fprintf(&b, "apiVersion: crossdock/v1\nkind: Route\nmetadata: {name: %s}\nspec: {owner: it, from: {type: %s.v1}, to: [{system: %s}],"+
			" retry: {initial: 20ms, max: 200ms, attempts: 100000}}\n---\n", strings.ReplaceAll(kind, ".", "-"), kind, to)
	}
	out["plugins.yaml"] = b.String()
	return out
}

// learned is an event of a call as its system got it.
type learned struct {
	ID, Type, Subject, Documents string
	Data                         json.RawMessage
	key                          string
	site                         string // whose call it is
}

// papers is the system that the events of calls go to. It takes every one.
type papers struct {
	name, site, url string
	deeds           *history.Purchases

	mu  sync.Mutex // guards got
	got []learned
}

func newPapers(t *testing.T, name, site string, deeds *history.Purchases) *papers {
	t.Helper()
	p := &papers{name: name, site: site, deeds: deeds}
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	p.url = server.URL
	return p
}

func (p *papers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var one struct {
		learned
		Source string
	}
	if err := json.NewDecoder(r.Body).Decode(&one); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	one.key = r.Header.Get("Idempotency-Key")
	one.site = strings.TrimSuffix(strings.TrimPrefix(one.Source, "/sites/"), "/calls")
	if one.Type == "shipment.label-created.v1" {
		var label struct{ Shipment string }
		if err := json.Unmarshal(one.Data, &label); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.deeds.Add(history.Purchase{Deed: history.Learned, Site: one.site, Reference: one.Subject, Number: label.Shipment, Event: one.ID, Key: one.key})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, one.learned)
}

// of gives the events of a type about a reference, each once.
func (p *papers) of(kind, reference string) (out []learned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := map[string]bool{}
	for _, l := range p.got {
		if l.Type == kind && l.Subject == reference && !seen[l.ID] {
			seen[l.ID] = true
			out = append(out, l)
		}
	}
	return out
}

// await waits for the event of a type about a reference.
func (p *papers) await(t *testing.T, kind, reference string) (out learned) {
	t.Helper()
	until(t, fmt.Sprintf("%s learns of %s by %s", p.name, reference, kind), func() string {
		all := p.of(kind, reference)
		if len(all) == 0 {
			return "nothing came"
		}
		out = all[0]
		return ""
	})
	return out
}

// document of policy that has it get what it is to get.
func (p *papers) document() string {
	return fmt.Sprintf("---\napiVersion: crossdock/v1\nkind: System\nmetadata: {name: %s}\nspec: {owner: it, site: %s, delivery: {concurrency: %d, breaker: {failures: 100000, pause: 200ms}},"+
		" http: {url: '%s', hosts: [127.0.0.1], deliver: {path: /events}}}\n", p.name, p.site, concurrency, p.url)
}

// callAnswer is what intake answers to a call.
type callAnswer struct {
	status int
	id     string // of the call
	body   []byte
}

// problem reads a refusal.
func (a callAnswer) problem() (p struct {
	Code    string
	Failure struct{ Class string }
}) {
	_ = json.Unmarshal(a.body, &p) // what is none has no code
	return p
}

// call makes a call once; an error says that nobody answered.
func (s *site) call(path, key, body string) (out callAnswer, err error) {
	request, err := http.NewRequest(http.MethodPost, "http://"+s.cfg.Intake.Listen+"/v1/"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return out, err
	}
	request.Header.Set("Authorization", "Bearer "+shopToken)
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return out, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return callAnswer{answer.StatusCode, answer.Header.Get("Crossdock-Call"), text}, err
}

// read reads the answer.
func (a callAnswer) read(into any) error {
	if into == nil {
		return nil
	}
	return json.Unmarshal(a.body, into)
}

// mustCall makes a call that has to be answered with a status, and reads the answer.
func (s *site) mustCall(path, key, body string, status int, into any) callAnswer {
	s.t.Helper()
	a, err := s.call(path, key, body)
	if err != nil || a.status != status {
		s.t.Fatalf("%s at %s: %d %s, %v; want %d", path, s.name, a.status, a.body, err, status)
	}
	if err := a.read(into); err != nil {
		s.t.Fatal(err)
	}
	return a
}

// tryCall makes a call once that has to be done at once.
func (s *site) tryCall(path, key, body string, into any) (status int, err error) {
	a, err := s.call(path, key, body)
	if err != nil {
		return 0, err
	}
	if a.status != http.StatusOK {
		return a.status, errors.New(string(a.body))
	}
	return a.status, a.read(into)
}

// insist makes the same call again and again until it is done, as a careful program does.
func (s *site) insist(path, key, body string, into any) {
	s.t.Helper()
	until(s.t, fmt.Sprintf("%s of %s is done at %s", path, key, s.name), func() string {
		status, err := s.tryCall(path, key, body, into)
		switch {
		case err == nil:
			return ""
		case status/100 == 4:
			s.t.Fatalf("%s of %s: %d %v", path, key, status, err)
		}
		return err.Error()
	})
}

const (
	warehouse = `{"company":"Warehouse","lines":["Lagerstr. 1"],"city":"München","postalCode":"81241","country":"DE"}`
	customer  = `{"name":"Groß","lines":["Marienplatz 8"],"city":"München","postalCode":"80331","country":"DE"}`
)

// parcelOf is a shipment of one parcel today.
func parcelOf(reference, order string) string {
	return fmt.Sprintf(`{"reference":%q,"service":"parcel","date":%q,"order":%q,"from":%s,"to":%s,"parcels":[{"weight":{"value":"1.2","unit":"kg"}}]}`,
		reference, time.Now().Format(time.DateOnly), order, warehouse, customer)
}

// ship insists on a label.
func (s *site) ship(name, reference string) (out carrier.Shipped) {
	s.t.Helper()
	s.insist("carriers/"+name+"/ship", reference, parcelOf(reference, ""), &out)
	return out
}

// awaitPlugins waits until each of some plugins of the site is as wanted; none named: all.
func (s *site) awaitPlugins(state string, names ...string) {
	s.t.Helper()
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	s.awaitStatus("its plugins are "+state, func(st agent.Status) string {
		found := 0
		for _, p := range st.Plugins {
			if len(names) > 0 && !wanted[p.Plugin] {
				continue
			}
			found++
			if p.State != state {
				return fmt.Sprintf("%+v", p)
			}
		}
		if found == 0 || found < len(names) {
			return fmt.Sprintf("%+v", st.Plugins)
		}
		return ""
	})
}

// pluginNamed is a plugin as the site's agent shows it.
func (s *site) pluginNamed(name string) (out agent.PluginStatus) {
	st, err := s.status()
	if err != nil {
		return out
	}
	for _, p := range st.Plugins {
		if p.Plugin == name {
			return p
		}
	}
	return out
}
