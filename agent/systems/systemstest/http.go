package systemstest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Pages of the HTTP foreign system's snapshot at /records.
const (
	HTTPRecords  = 7
	httpPageSize = 3
)

// HTTP is a foreign system that speaks HTTP on the loopback interface:
//
//	POST /deliver, POST /command      an effect, by Idempotency-Key or webhook-id, or many in a batch
//	GET  /orders/...                  a query
//	GET  /records                     a snapshot: {"items": [...], "next": "..."}
//	GET  /feed, POST /confirm         events to publish
type HTTP struct {
	mu          sync.Mutex
	address     string
	server      *http.Server
	effects     []Effect
	offered     int
	feed        []string // events, oldest first
	fault       Fault
	afterEffect func()
	requests    []*http.Request
	stop        chan struct{}
}

var _ Foreign = (*HTTP)(nil)

// NewHTTP starts one; it ends with the test.
func NewHTTP(t *testing.T) *HTTP {
	t.Helper()
	h := &HTTP{address: "127.0.0.1:0", stop: make(chan struct{})}
	h.start(t)
	t.Cleanup(func() { close(h.stop); h.server.Close() })
	return h
}

// URL is the base address.
func (h *HTTP) URL() string { return "http://" + h.address }

func (h *HTTP) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	h.address = listener.Addr().String()
	h.server = &http.Server{Handler: http.HandlerFunc(h.serve)}
	go h.server.Serve(listener)
}

// Requests gives the headers of all requests so far, with their URLs.
func (h *HTTP) Requests() []*http.Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

// Effects is Foreign.
func (h *HTTP) Effects() []Effect {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.effects)
}

// Offer is Foreign.
func (h *HTTP) Offer(_ *testing.T, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		h.offered++
		h.feed = append(h.feed, fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"foreign","type":"order.captured.v1","data":{"n":%d}}`, h.offered, h.offered))
	}
}

// OfferRaw puts any text into the feed.
func (h *HTTP) OfferRaw(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.feed = append(h.feed, text)
}

// Unconfirmed is Foreign.
func (h *HTTP) Unconfirmed(*testing.T) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.feed)
}

// Fault is Foreign. It has them all.
func (h *HTTP) Fault(t *testing.T, f Fault) bool {
	h.mu.Lock()
	was := h.fault
	h.fault = f
	h.mu.Unlock()
	if was == f {
		return true
	}
	if was == Refuse {
		h.start(t)
	}
	if f == Refuse {
		h.server.Close()
	}
	return true
}

// AfterEffect is Foreign.
func (h *HTTP) AfterEffect(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.afterEffect = f
}

func (h *HTTP) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	h.mu.Lock()
	fault := h.fault
	h.requests = append(h.requests, r.Clone(context.WithoutCancel(r.Context())))
	h.mu.Unlock()
	switch fault {
	case Fail:
		http.Error(w, "a thread died", http.StatusInternalServerError)
	case Throttle:
		w.Header().Set("Retry-After", "7")
		http.Error(w, "slowly", http.StatusTooManyRequests)
	case Reject:
		http.Error(w, "no such customer", http.StatusUnprocessableEntity)
	case Deny:
		http.Error(w, "who are you", http.StatusUnauthorized)
	case Hang:
		select {
		case <-r.Context().Done():
		case <-h.stop:
		}
	default:
		h.answer(w, r, body, fault == Cut)
	}
}

func (h *HTTP) answer(w http.ResponseWriter, r *http.Request, body []byte, cut bool) {
	path := r.URL.Path
	switch {
	case path == "/deliver" || path == "/command":
		cut = h.effect(r, body) || cut
		if !cut {
			fmt.Fprintf(w, `{"taken":true}`)
		}
	case cut:
	case path == "/confirm":
		h.confirm(w, body)
	case path == "/feed":
		h.mu.Lock()
		text := "[" + strings.Join(h.feed, ",") + "]"
		h.mu.Unlock()
		io.WriteString(w, text)
	case path == "/records":
		h.page(w, r)
	case strings.HasPrefix(path, "/orders/"):
		fmt.Fprintf(w, `{"path":%q,"query":%q}`, r.URL.EscapedPath(), r.URL.RawQuery)
	default:
		http.NotFound(w, r)
	}
	if cut {
		panic(http.ErrAbortHandler) // the connection breaks without an answer
	}
}

// effect records one, and says whether somebody wants its answer lost.
func (h *HTTP) effect(r *http.Request, body []byte) bool {
	effects := []Effect{{Key: cmp.Or(r.Header.Get("Idempotency-Key"), r.Header.Get("Webhook-Id")), Body: string(body)}}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents-batch+json") {
		effects = batchEffects(body)
	}
	h.mu.Lock()
	h.effects = append(h.effects, effects...)
	after := h.afterEffect
	h.afterEffect = nil
	h.mu.Unlock()
	if after == nil {
		return false
	}
	after()
	return true
}

// batchEffects are those of each event in a batch, by its idempotencykey.
func batchEffects(body []byte) (out []Effect) {
	var events []json.RawMessage
	if err := json.Unmarshal(body, &events); err != nil {
		return []Effect{{Body: err.Error()}}
	}
	for _, text := range events {
		var e struct{ IdempotencyKey string }
		if err := json.Unmarshal(text, &e); err != nil {
			e.IdempotencyKey = err.Error()
		}
		out = append(out, Effect{Key: e.IdempotencyKey, Body: string(text)})
	}
	return out
}

func (h *HTTP) confirm(w http.ResponseWriter, body []byte) {
	var c struct {
		IDs     []string `json:"ids"`
		Refused []struct {
			ID string `json:"id"`
		} `json:"refused"`
	}
	if err := json.Unmarshal(body, &c); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	done := c.IDs
	for _, r := range c.Refused {
		done = append(done, r.ID)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.feed = slices.DeleteFunc(h.feed, func(text string) bool {
		var e struct {
			ID string `json:"id"`
		}
		return json.Unmarshal([]byte(text), &e) == nil && slices.Contains(done, e.ID)
	})
	w.WriteHeader(http.StatusNoContent)
}

func (h *HTTP) page(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("from"))
	page := struct {
		Items []map[string]int `json:"items"`
		Next  *string          `json:"next"`
	}{Items: []map[string]int{}}
	for i := from; i < min(from+httpPageSize, HTTPRecords); i++ {
		page.Items = append(page.Items, map[string]int{"id": i})
	}
	if from+httpPageSize < HTTPRecords {
		next := fmt.Sprintf("/records?from=%d", from+httpPageSize)
		page.Next = &next
	}
	json.NewEncoder(w).Encode(page)
}
