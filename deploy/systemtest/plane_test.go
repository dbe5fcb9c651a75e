package systemtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
)

// patience is how long a test waits for what should be there in a moment. A machine under
// load may take its time; a test that fails has waited so long for nothing.
const patience = 2 * time.Minute

// comes waits for a channel to be closed.
func comes(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-time.After(patience):
		return false
	}
}

// until looks again and again until it sees what it waits for. look gives "" then, and
// before what is missing.
func until(t *testing.T, what string, look func() (missing string)) {
	t.Helper()
	untilWithin(t, patience, what, look)
}

func untilWithin(t *testing.T, patience time.Duration, what string, look func() (missing string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		began := time.Now()
		missing := look()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s: %s", what, missing)
		}
		time.Sleep(max(20*time.Millisecond, time.Since(began))) // a look that is costly leaves room for what it waits for
	}
}

// plane is a control plane in this process, reached through its doors.
type plane struct {
	t         *testing.T
	addresses controlplane.Addresses
	client    *http.Client
	token     string
	author    string            // token of who proposes policy; empty: the administrator
	approver  string            // token of who approves it; empty: the administrator
	tokens    map[string]string // that were shown, by what they are
	log       string
	nodes     func() []doors // of several nodes, those that should answer; nil: this one alone
}

// nowhere is an address at which nobody answers.
const nowhere = "127.0.0.1:9"

// doors are where one of several nodes listens.
type doors struct{ API, Sync string }

func startPlane(t *testing.T, change func(*controlplane.Config)) *plane {
	t.Helper()
	config := controlplane.NewConfig()
	config.Data, config.Approvals = t.TempDir(), model.ApprovalsSingle
	config.Sync.Listen, config.API.Listen, config.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	config.Sync.Advertise = []string{nowhere} // agents are told of no way around their lines
	if change != nil {
		change(&config)
	}
	p := &plane{t: t, log: filepath.Join(t.TempDir(), "controlplane.log")}
	node, err := controlplane.New(config, logTo(t, p.log), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	select {
	case <-node.Ready():
	case err := <-ended:
		cancel()
		t.Fatalf("the control plane did not begin: %v", err)
	case <-time.After(patience):
		cancel()
		t.Fatal("the control plane is not ready")
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the control plane ended with %v", err)
		}
	})
	p.addresses = node.Addresses()
	p.present(config.Data, patience)
	return p
}

// present reads what a node has left for its administrator.
func (p *plane) present(data string, wait time.Duration) {
	p.t.Helper()
	files := controlplane.FilesIn(data)
	p.token = strings.TrimSpace(read(p.t, files.AdminToken))
	p.tokens = map[string]string{"the administrator's token": p.token}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(read(p.t, files.Authority))) {
		p.t.Fatal("no authority")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}
	p.t.Cleanup(transport.CloseIdleConnections)
	p.client = &http.Client{Transport: transport, Timeout: wait}
}

// syncs are the addresses that an agent is told.
func (p *plane) syncs() (out []string) {
	if p.nodes == nil {
		return []string{p.addresses.Sync}
	}
	for _, d := range p.nodes() {
		out = append(out, d.Sync)
	}
	return out
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// logTo writes a log to a file, whose end is shown when the test has failed.
func logTo(t *testing.T, file string) *slog.Logger {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		showTail(t, file)
	})
	return slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func showTail(t *testing.T, file string) {
	t.Helper()
	const most = 4 << 10
	if text, err := os.ReadFile(file); err == nil && t.Failed() {
		t.Logf("%s: …%s", filepath.Base(file), text[max(0, len(text)-most):])
	}
}

// call asks the API and gives the status and the raw answer. Of several nodes it asks one
// after the other until one has decided, under the same key, as a careful program does.
func (p *plane) call(method, path string, in any) (int, []byte) {
	p.t.Helper()
	var body []byte
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			p.t.Fatal(err)
		}
		body = text
	}
	key, deadline := rand.Text(), time.Now().Add(patience)
	if p.nodes == nil {
		status, text, err := p.ask(p.addresses.API, method, path, key, body)
		if err != nil {
			p.t.Fatal(err)
		}
		return status, text
	}
	for {
		var status int
		var text []byte
		err := errors.New("no node runs")
		for _, d := range p.nodes() {
			if status, text, err = p.ask(d.API, method, path, key, body); err == nil && status < 500 && status != http.StatusTooManyRequests {
				return status, text
			}
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s %s: no node decides: %d %s %v", method, path, status, text, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// try asks each node once; a status of 0 means that none has answered.
func (p *plane) try(method, path string, in any) (status int, text []byte) {
	body, err := json.Marshal(in)
	if err != nil {
		panic(err) // what tests send always marshals
	}
	key := rand.Text()
	for _, d := range p.nodes() {
		if status, text, err = p.ask(d.API, method, path, key, body); err == nil && status < 500 {
			return status, text
		}
	}
	return 0, nil
}

// ask makes one call to one node.
func (p *plane) ask(base, method, path, key string, body []byte) (int, []byte, error) {
	status, text, _, err := p.askAs(p.token, base, method, path, key, body)
	return status, text, err
}

// askAs makes one call to one node as somebody. What is stale may be older than what was
// answered before.
func (p *plane) askAs(token, base, method, path, key string, body []byte) (status int, text []byte, stale bool, err error) {
	request, err := http.NewRequestWithContext(context.Background(), method, base+"/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, false, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if method != http.MethodGet {
		request.Header.Set("Idempotency-Key", key)
	}
	answer, err := p.client.Do(request)
	if err != nil {
		return 0, nil, false, err
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(answer.Body)
	return answer.StatusCode, text, answer.Header.Get(api.StaleHeader) != "", err
}

// as is the control plane as somebody else sees it; with no token, as before.
func (p *plane) as(token string) *plane {
	other := *p
	other.token = cmp.Or(token, p.token)
	return &other
}

// hire makes somebody with roles, and gives their token.
func (p *plane) hire(name string, roles ...string) (token string) {
	p.t.Helper()
	var created struct{ Token string }
	p.must("POST", "/principals", map[string]any{"name": name, "roles": roles}, &created)
	p.tokens["the token of "+name] = created.Token
	return created.Token
}

// must asks and wants success.
func (p *plane) must(method, path string, in, out any) {
	p.t.Helper()
	status, text := p.call(method, path, in)
	if status >= 300 {
		p.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			p.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
}

// approve puts a bundle in force.
func (p *plane) approve(bundle map[string]string) {
	p.t.Helper()
	if status, text := p.tryApprove(bundle, nil); status >= 300 {
		p.t.Fatalf("approve: %d %s", status, text)
	}
}

// tryApprove proposes a bundle and approves it, for some sites first or for all.
func (p *plane) tryApprove(bundle map[string]string, canary []string) (status int, answer []byte) {
	p.t.Helper()
	var revision struct {
		Number uint64
		Digest string
	}
	p.as(p.author).must("POST", "/revisions", map[string]any{"bundle": bundle, "note": "test"}, &revision)
	in := map[string]any{"digest": revision.Digest}
	if canary != nil {
		in["canary"] = canary
	}
	return p.as(p.approver).call("POST", fmt.Sprintf("/revisions/%d/approve", revision.Number), in)
}

// joinToken mints a token for a site.
func (p *plane) joinToken(site, lifetime string) string {
	p.t.Helper()
	var created struct{ Token string }
	in := map[string]any{"site": site}
	if lifetime != "" {
		in["lifetime"] = lifetime
	}
	p.must("POST", "/tokens", in, &created)
	p.tokens["the join token of "+site] = created.Token
	return created.Token
}

// nodeToken mints a token for another node.
func (p *plane) nodeToken(node string) string {
	p.t.Helper()
	var created struct{ Token string }
	p.must("POST", "/tokens", map[string]any{"node": node}, &created)
	p.tokens["the join token of "+node] = created.Token
	return created.Token
}

// agentView is what the control plane knows of an agent.
type agentView struct {
	Connected     bool
	Epoch         uint64
	MailboxEvents uint64
	MailboxBytes  int64
	Revoked       *time.Time
	Status        struct {
		Delivered uint64
		At        time.Time
	}
}

func (p *plane) agent(name string) (v agentView) {
	p.t.Helper()
	p.must("GET", "/agents/"+name, nil, &v)
	return v
}

// deadLetter is one as the control plane shows it.
type deadLetter struct {
	ID, Agent, System, Route, EventID, Source, Key, Cause, Answer, State, OnExhausted string
	Status, Attempts, Waiting                                                         int
}

func (p *plane) deadLetters(query string) (out []deadLetter) {
	p.t.Helper()
	var list struct{ Items []deadLetter }
	p.must("GET", "/deadletters?"+query, nil, &list)
	return list.Items
}

func (p *plane) replay(id string) {
	p.t.Helper()
	p.must("POST", "/deadletters/"+url.PathEscape(id)+"/replay", map[string]any{"reason": "repaired"}, nil)
}

// metric sums the samples whose name and labels hold all of the parts.
func (p *plane) metric(parts ...string) float64 { return scrape(p.t, p.addresses.Ops, parts...) }

func scrape(t *testing.T, address string, parts ...string) (sum float64) {
	t.Helper()
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
lines:
	for line := range strings.Lines(string(text)) {
		for _, part := range parts {
			if !strings.Contains(line, part) || strings.HasPrefix(line, "#") {
				continue lines
			}
		}
		fields := strings.Fields(line)
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			t.Fatalf("metric %q: %v", line, err)
		}
		sum += value
	}
	return sum
}
