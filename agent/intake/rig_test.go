package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// journal is a model of the real one: a slice, and the rule for repeats and conflicts.
type journal struct {
	mu    sync.Mutex
	items []Admitted
	calls int
	full  bool
	fail  error
	hold  chan struct{} // if set, a commit waits for it
	came  chan struct{} // if set, told when a commit waits
}

var _ Journal = (*journal)(nil)

func (j *journal) Submit(ctx context.Context, events []Admitted) ([]Receipt, error) {
	if j.hold != nil {
		j.came <- struct{}{}
		select {
		case <-j.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls++
	if j.full {
		return nil, fmt.Errorf("journal: %w", ErrFull)
	}
	if j.fail != nil {
		return nil, j.fail
	}
	out := make([]Receipt, len(events))
	for i, e := range events {
		out[i] = j.take(e)
	}
	return out, nil
}

func (j *journal) take(e Admitted) Receipt {
	for pos, old := range j.items {
		if old.Event.Hash() != e.Event.Hash() {
			continue
		}
		if string(old.Data) != string(e.Data) {
			return Receipt{Err: fmt.Errorf("journal: %w", ErrConflict)}
		}
		return Receipt{Pos: uint64(pos + 1), Repeat: true}
	}
	if e.RepeatOnly {
		return Receipt{Err: fmt.Errorf("journal: %w", ErrNew)}
	}
	j.items = append(j.items, e)
	return Receipt{Pos: uint64(len(j.items))}
}

func (j *journal) held() []Admitted {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.items
}

type secrets struct {
	mu    sync.Mutex
	texts map[string]string
	fault error // of every read

	former string // of file:shop.token; empty: none
	until  time.Time
}

func (s *secrets) Former(ref string) ([]byte, time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []byte(s.former), s.until, ref == "file:shop.token" && s.former != ""
}

func (s *secrets) keep(former string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.former, s.until = former, until
}

func (s *secrets) set(ref, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[ref] = text
}

func (s *secrets) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
}

func (s *secrets) Resolve(ref string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return nil, s.fault
	}
	text, ok := s.texts[ref]
	if !ok {
		return nil, errors.New("no such secret: " + ref)
	}
	return []byte(text), nil
}

type holder struct{ p atomic.Pointer[policy.Set] }

func (h *holder) Policy() *policy.Set { return h.p.Load() }

// toERP routes everything to one system, so that a test sees the decision arrive.
type toERP struct{}

func (toERP) Decide(context.Context, *event.Event, any, *policy.System) []block.Target {
	return []block.Target{{Agent: "hq", System: "erp", Route: "all"}}
}

const testPolicy = `apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: it, region: eu}
---
apiVersion: crossdock/v1
kind: Site
metadata: {name: hq}
spec: {owner: it, region: global}
---
apiVersion: crossdock/v1
kind: Contract
metadata: {name: order.captured}
spec:
  owner: orders
  authority: shop
  key: .orderId
  compatibility: none
  versions:
    - {version: 1.0.0, state: deprecated, sunset: 2027-06-30, schema: order-1.0.json}
    - {version: 1.1.0, state: active, schema: order-1.1.json}
    - {version: 2.0.0, state: retired, schema: order-1.0.json}
    - {version: 3.0.0, state: draft, schema: order-1.0.json}
---
apiVersion: crossdock/v1
kind: Contract
metadata: {name: stock.counted}
spec:
  owner: stock
  authority: wms
  key: .sku
  compatibility: none
  versions:
    - {version: 1.0.0, state: active, schema: any.json}
---
apiVersion: crossdock/v1
kind: Contract
metadata: {name: tag.made}
spec:
  owner: logistics
  authority: agent
  key: .reference
  compatibility: none
  versions:
    - {version: 1.0.0, state: active, schema: tag.json}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: shop}
spec:
  owner: orders
  site: eu
  role: shop
  publishes: [order.captured]
  intake: {token: "file:shop.token", rate: 10, burst: 20}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: wms}
spec:
  owner: stock
  site: eu
  role: wms
  publishes: [stock.counted]
  intake: {token: "file:wms.token"}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: shop-hq}
spec:
  owner: orders
  site: hq
  role: shop
  publishes: [order.captured]
  intake: {token: "file:shop-hq.token"}
`

const orderSchema = `{"type":"object","required":["orderId"%s],"properties":{
	"orderId":{"type":"string"},
	"channel":{"type":"string"},
	"lines":{"type":"array","items":{"type":"object","required":["qty"],"properties":{
		"qty":{"type":"string","pattern":"^[0-9]+$"}}}}}}`

func compilePolicy(t testing.TB) *policy.Set {
	t.Helper()
	set, problems := policy.Compile(policy.Bundle{
		"policy.yaml":    []byte(testPolicy),
		"order-1.0.json": []byte(fmt.Sprintf(orderSchema, "")),
		"order-1.1.json": []byte(fmt.Sprintf(orderSchema, `,"lines"`)),
		"tag.json":       []byte(`{"properties":{"reference":{"type":"string"}}}`),
		"any.json":       []byte(`{"properties":{"slow":{"pattern":"^(a+)+$"}}}`),
	})
	if set == nil {
		t.Fatal(problems)
	}
	set.Revision = block.Revision{Generation: 1, Number: 7}
	return set
}

// clock is moved by hand.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// rig is a service with its parts, behind a real HTTP server.
type rig struct {
	*Service
	journal *journal
	policy  *holder
	secrets *secrets
	numbers *pool
	desk    *desk
	shelf   *shelf
	clock   *clock
	url     string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{journal: &journal{}, numbers: &pool{}, desk: &desk{}, shelf: &shelf{}, policy: &holder{}, clock: &clock{}, secrets: &secrets{texts: map[string]string{
		"file:shop.token": "shop-secret\n", "file:wms.token": "wms-secret", "file:shop-hq.token": "hq-secret",
	}}}
	r.clock.advance(time.Hour * 24 * 365 * 56)
	r.policy.p.Store(compilePolicy(t))
	var err error
	r.Service, err = New(Config{Site: "eu"}, Parts{
		Policy: r.policy, Journal: r.journal, Secrets: r.secrets, Numbers: r.numbers, Calls: r.desk, Documents: r.shelf, Now: r.clock.now,
		NewRouter: func(*policy.Set) Router { return toERP{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r.Handler())
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) problem(t testing.TB) Problem {
	t.Helper()
	var p Problem
	if got := a.header.Get("Content-Type"); got != problemType {
		t.Fatalf("content type %q, want %q; body %s", got, problemType, a.body)
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// send posts a body; headers come as name, value, name, value.
func (r *rig) send(t testing.TB, body string, headers ...string) *answer {
	t.Helper()
	return r.do(t, http.MethodPost, "/v1/events", body, headers...)
}

func (r *rig) do(t testing.TB, method, path, body string, headers ...string) *answer {
	t.Helper()
	q, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer shop-secret")
	seen := map[string]bool{}
	for i := 0; i < len(headers); i += 2 {
		name, value := headers[i], headers[i+1]
		if value == "" && !seen[name] {
			q.Header.Del(name)
			continue
		}
		if seen[name] {
			q.Header.Add(name, value)
		} else {
			q.Header.Set(name, value)
		}
		seen[name] = true
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &answer{resp.StatusCode, resp.Header, text}
}

const goodData = `{"orderId":"A-1","lines":[{"qty":"2"}]}`

func structured(id, data string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/eu/shop","type":"order.captured.v1","data":%s}`, id, data)
}

func binaryHeaders(id string, more ...string) []string {
	return append([]string{
		"Content-Type", "application/json", "ce-specversion", "1.0", "ce-id", id,
		"ce-source", "/eu/shop", "ce-type", "order.captured.v1",
	}, more...)
}
