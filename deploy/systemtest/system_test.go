package systemtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

const orderCaptured = "order.captured.v1"

// attempt is what a system gets.
type attempt struct {
	key, id     string
	idempotency string
	trace       string // traceparent of the request
	number      int    // of this event at this system, from 1
	company     int    // further events in the request
	at          time.Time
}

// reply is what a system does about it; the zero reply takes it.
type reply struct {
	status  int // 0: 200
	body    string
	header  map[string]string
	hang    bool // never answers
	silence bool // takes it, and the answer is lost
}

// system is one that takes deliveries.
type system struct {
	name    string
	site    string
	from    []string // sites whose orders it gets; none: all
	onDead  string   // park or skip
	timeout string
	batch   int // events that a request may carry; 0: one, which is not in the batch format
	url     string

	stands   string // name of the system in the history, where several take turns as one; empty: its own
	replaces string // system whose place it takes
	unrouted bool   // nothing is sent to it any more
	route    string // name of the route to it; empty: to-NAME

	mu       sync.Mutex // guards what follows
	behave   func(attempt) reply
	attempts []attempt
	numbers  map[string]int
}

func newSystem(t *testing.T, h *history.History, name, site string) *system {
	t.Helper()
	y := &system{name: name, site: site, numbers: map[string]int{}, timeout: "10s", onDead: "park"}
	released := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { y.serve(h, w, r, released) }))
	t.Cleanup(func() {
		close(released)
		server.CloseClientConnections()
		server.Close()
	})
	y.url = server.URL
	return y
}

// known is its name in the history.
func (y *system) known() string {
	if y.stands != "" {
		return y.stands
	}
	return y.name
}

// set changes how it behaves from now on; nil: it takes everything.
func (y *system) set(behave func(attempt) reply) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.behave = behave
}

// seen gives the attempts so far that fit.
func (y *system) seen(fits func(attempt) bool) (out []attempt) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, a := range y.attempts {
		if fits(a) {
			out = append(out, a)
		}
	}
	return out
}

func ofKey(key string) func(attempt) bool { return func(a attempt) bool { return a.key == key } }

// message is one event as it came to a system, alone or in a batch.
type message struct {
	attempt
	source string
	data   []byte
	body   []byte // the whole event, and in a batch its part
}

// messages reads what came; a system takes either single events or batches.
func (y *system) messages(r *http.Request, body []byte) (out []message, err error) {
	parts := []json.RawMessage{body}
	batch := strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents-batch+json")
	if batch != (y.batch > 1) {
		return nil, fmt.Errorf("%s came to %s, which takes %d events a request", r.Header.Get("Content-Type"), y.name, max(y.batch, 1))
	}
	if batch {
		if err := json.Unmarshal(body, &parts); err != nil {
			return nil, err
		}
		if len(parts) == 0 || len(parts) > y.batch {
			return nil, fmt.Errorf("a batch of %d events, where %d may come", len(parts), y.batch)
		}
	}
	for _, part := range parts {
		event := struct {
			ID, Source, IdempotencyKey, CrossdockKey string
			Data                                     json.RawMessage
		}{IdempotencyKey: r.Header.Get("Idempotency-Key"), CrossdockKey: r.Header.Get("Crossdock-Key")}
		var data bytes.Buffer
		if err := errors.Join(json.Unmarshal(part, &event), json.Compact(&data, event.Data)); err != nil {
			return nil, err
		}
		out = append(out, message{source: event.Source, data: data.Bytes(), body: part,
			attempt: attempt{key: event.CrossdockKey, id: event.ID, idempotency: event.IdempotencyKey, company: len(parts) - 1, trace: r.Header.Get("traceparent"), at: time.Now()}})
	}
	return out, nil
}

// serve takes all events of a request, or does none of them: what it decides about one it
// has to answer for all.
func (y *system) serve(h *history.History, w http.ResponseWriter, r *http.Request, released <-chan struct{}) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it did not arrive, so it was no attempt
	}
	messages, err := y.messages(r, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var answer reply
	var ends []func(bool)
	for i := range messages {
		m := &messages[i]
		ends = append(ends, h.Begin(history.Line{System: y.known(), Source: m.source, ID: m.id, Key: m.key, Idempotency: m.idempotency,
			Data: history.Hash(m.data), Body: history.Hash(m.body)}))
		if one := y.decide(&m.attempt); one.status != 0 || one.hang || one.silence {
			answer = one
		}
	}
	end := func(done bool) {
		for _, end := range ends {
			end(done)
		}
	}
	switch {
	case answer.hang:
		end(false) // the decision; the agent leaves when it likes
		select {
		case <-r.Context().Done():
		case <-released:
		}
		return
	case answer.silence:
		end(true)
		panic(http.ErrAbortHandler)
	}
	if answer.status == 0 {
		answer.status = http.StatusOK
	}
	end(answer.status < 300)
	for name, value := range answer.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.body) // the agent may be gone
}

func (y *system) decide(a *attempt) (out reply) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.numbers[a.id]++
	a.number = y.numbers[a.id]
	y.attempts = append(y.attempts, *a)
	if y.behave != nil {
		out = y.behave(*a)
	}
	return out
}

// owed is the test's own reading of the policy that it writes.
func owed(systems []*system) func(site string) []string {
	return func(site string) (out []string) {
		for _, y := range systems {
			if !y.unrouted && (len(y.from) == 0 || slices.Contains(y.from, site)) {
				out = append(out, y.known())
			}
		}
		return out
	}
}

// policyFor writes a small policy: a shop at each site, the systems, a route to each.
func policyFor(sites []string, systems []*system) map[string]string {
	var b strings.Builder
	doc := func(kind, name, spec string) {
		fmt.Fprintf(&b, "apiVersion: crossdock/v1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n---\n", kind, name, spec)
	}
	for _, s := range sites {
		doc("Site", s, fmt.Sprintf("{owner: it, region: %s}", s))
		doc("System", "shop-"+s, fmt.Sprintf("{owner: it, site: %s, role: shop, publishes: [order.captured, order.legacy],"+
			" intake: {token: 'file:shop-%s', rate: 100000, burst: 100000}}", s, s))
	}
	for _, c := range []struct{ name, state string }{{"order.captured", "active"}, {"order.legacy", "retired"}} {
		doc("Contract", c.name, fmt.Sprintf("{owner: it, authority: shop, key: .orderId,"+
			" versions: [{version: 1.0.0, state: %s, schema: schemas/order.json}]}", c.state))
	}
	for _, y := range systems {
		replaces := ""
		if y.replaces != "" {
			replaces = " replaces: " + y.replaces + ","
		}
		doc("System", y.name, fmt.Sprintf("{owner: it, site: %s,%s delivery: {concurrency: %d, batch: %d, timeout: %s, breaker: {failures: 100000, pause: 200ms}},"+
			" http: {url: '%s', hosts: [127.0.0.1], deliver: {path: /events}}}", y.site, replaces, concurrency, max(y.batch, 1), y.timeout, y.url))
		if y.unrouted {
			continue
		}
		when := ""
		if len(y.from) > 0 {
			list, err := json.Marshal(y.from)
			if err != nil {
				panic(err) // strings always marshal
			}
			when = fmt.Sprintf(", when: '.site as $s | %s | any(. == $s)'", list)
		}
		doc("Route", cmp.Or(y.route, "to-"+y.name), fmt.Sprintf("{owner: it, from: {type: %s}, to: [{system: %s%s}],"+
			" retry: {initial: 20ms, max: 200ms, attempts: 100000}, onExhausted: %s}", orderCaptured, y.name, when, y.onDead))
	}
	return map[string]string{"policy.yaml": b.String(), "schemas/order.json": `{"type":"object","required":["orderId"],
		"properties":{"orderId":{"type":"string"},"number":{"type":"integer"},"text":{"type":"string"}},"additionalProperties":false}`}
}

// concurrency of deliveries to each system.
const concurrency = 4

// shop is a system that publishes orders at a site, and never gives one up.
type shop struct {
	site *site
	h    *history.History
}

// order is one event of a shop.
type order struct {
	id, key string
	data    []byte
}

func newOrder(id, key string, number int, text string) order {
	data, err := json.Marshal(struct {
		OrderID string `json:"orderId"`
		Number  int    `json:"number"`
		Text    string `json:"text,omitempty"`
	}{key, number, text})
	if err != nil {
		panic(err) // such a struct always marshals
	}
	return order{id, key, data}
}

// problem is how an agent refuses.
type problem struct {
	Status       int
	Code, Detail string
	Title        string
}

func (s *shop) source() string { return "/shops/" + s.site.name }

// post offers an order once: a position, or a refusal, or an error when nobody answered.
func (s *shop) post(o order) (position uint64, refused *problem, err error) {
	s.h.Add(history.Line{Kind: history.Offered, Agent: s.site.name, Source: s.source(), ID: o.id, Key: o.key, Data: history.Hash(o.data)})
	envelope := map[string]any{"specversion": "1.0", "id": o.id, "source": s.source(), "type": orderCaptured, "data": json.RawMessage(o.data)}
	text, err := json.Marshal(envelope)
	if err != nil {
		return 0, nil, err
	}
	status, answer, err := s.send("application/cloudevents+json", text)
	if err != nil {
		return 0, nil, err
	}
	if status != http.StatusAccepted {
		refused = &problem{}
		if err := json.Unmarshal(answer, refused); err != nil {
			return 0, nil, fmt.Errorf("status %d with %q: %w", status, answer, err)
		}
		return 0, refused, nil
	}
	var receipt struct{ Position uint64 }
	if err := json.Unmarshal(answer, &receipt); err != nil {
		return 0, nil, err
	}
	s.h.Add(history.Line{Kind: history.Accepted, Agent: s.site.name, Source: s.source(), ID: o.id, Key: o.key, Position: s.site.now(receipt.Position)})
	return receipt.Position, nil, nil
}

func (s *shop) send(contentType string, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.site.cfg.Intake.Listen+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Authorization", "Bearer "+shopToken)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

// sell offers an order until it is accepted. A refusal that a repeat cannot change is an
// error.
func (s *shop) sell(ctx context.Context, o order) error {
	for {
		_, refused, err := s.post(o)
		switch {
		case err == nil && refused == nil:
			return nil
		case refused != nil && refused.Status < 500 && refused.Status != http.StatusTooManyRequests:
			return fmt.Errorf("order %s: %+v", o.id, *refused)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("order %s: %w (%+v)", o.id, errors.Join(ctx.Err(), err), refused)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// sellAll sells n orders for each of some keys, the keys side by side and each in order.
func (s *shop) sellAll(t *testing.T, name string, keys, n int) {
	t.Helper()
	var all sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for k := range keys {
		all.Go(func() {
			for i := range n {
				if err := s.sell(ctx, newOrder(fmt.Sprintf("%s-%d-%d", name, k, i), fmt.Sprint("k", k), i, "")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
