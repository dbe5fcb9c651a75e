package systemtest

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// spans is an OpenTelemetry collector: it takes OTLP over HTTP and keeps what came.
type spans struct {
	url string

	mu  sync.Mutex // guards what follows
	all []*otlp.Span
}

func newSpans(t *testing.T) *spans {
	t.Helper()
	c := &spans{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			t.Error(err)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *spans) take(r *http.Request) error {
	if r.URL.Path != "/v1/traces" {
		return fmt.Errorf("traces came to %s", r.URL.Path)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return err
		}
		if body, err = io.ReadAll(unpacked); err != nil {
			return err
		}
	}
	var request collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.all = append(c.all, scope.Spans...)
		}
	}
	return nil
}

// of gives the spans of a trace by their names; a hop but an attempt that came twice is an error.
func (c *spans) of(t *testing.T, trace string) map[string]*otlp.Span {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]*otlp.Span{}
	for _, s := range c.all {
		if hex.EncodeToString(s.TraceId) != trace {
			continue
		}
		if found[s.Name] != nil && !strings.HasPrefix(s.Name, "deliver to ") {
			t.Errorf("two spans %q in one trace", s.Name)
		}
		found[s.Name] = s
	}
	return found
}

// TestTraceFollowsAnEventOverAllHops has a collector receive the way of an event from a shop at
// one site to a system at another, which refuses it once, below the span that the shop named.
func TestTraceFollowsAnEventOverAllHops(t *testing.T) {
	c := newSpans(t)
	var erp *system
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		erp = newSystem(t, h, "erp", "hq")
		return []*system{erp}
	})
	for _, s := range w.sites {
		s.cfg.Tracing.Endpoint, s.cfg.Tracing.Sample = c.url, 0
		s.start()
	}
	erp.set(func(a attempt) reply {
		if a.number == 1 {
			return reply{status: http.StatusServiceUnavailable}
		}
		return reply{}
	})
	const trace, producer = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	send := func(id, parent string) {
		text, err := json.Marshal(map[string]any{"specversion": "1.0", "id": id, "source": "/shops/eu", "type": orderCaptured, "traceparent": parent,
			"data": map[string]any{"orderId": "T-1"}})
		if err != nil {
			t.Fatal(err)
		}
		if status, answer, err := w.shops["eu"].send("application/cloudevents+json", text); err != nil || status != http.StatusAccepted {
			t.Fatalf("%d %s %v", status, answer, err)
		}
	}
	send("unsampled", "00-11f7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	send("sampled", "00-"+trace+"-"+producer+"-01")
	until(t, "the second attempt is made", func() string {
		if n := len(erp.seen(func(a attempt) bool { return a.id == "sampled" })); n < 2 {
			return fmt.Sprintf("%d attempts", n)
		}
		return ""
	})
	for _, s := range w.sites {
		s.stop() // what is left is sent
	}
	found := c.of(t, trace)
	names := map[string]string{"accept " + orderCaptured: "", "push to the relay": "accept " + orderCaptured, "relay to hq": "push to the relay"}
	for name, parent := range names {
		s := found[name]
		want := producer
		if parent != "" && found[parent] != nil {
			want = hex.EncodeToString(found[parent].SpanId)
		}
		switch {
		case s == nil:
			t.Errorf("no span %q among %d", name, len(found))
		case hex.EncodeToString(s.ParentSpanId) != want:
			t.Errorf("span %q hangs below %x, want %s", name, s.ParentSpanId, want)
		case s.EndTimeUnixNano < s.StartTimeUnixNano:
			t.Errorf("span %q ends before it begins", name)
		}
	}
	if s := c.of(t, "11f7651916cd43dd8448eb211c80319c"); len(s) != 0 {
		t.Errorf("an event that is not to be sampled left %d spans", len(s))
	}
	c.judgeAttempts(t, trace, erp)
}

// judgeAttempts wants a span of each attempt, and the system told of it.
func (c *spans) judgeAttempts(t *testing.T, trace string, erp *system) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	told := map[string]bool{}
	for _, a := range erp.seen(func(a attempt) bool { return a.id == "sampled" }) {
		told[a.trace] = true
	}
	attempts, failed := 0, 0
	for _, s := range c.all {
		if hex.EncodeToString(s.TraceId) != trace || !strings.HasPrefix(s.Name, "deliver to erp") {
			continue
		}
		attempts++
		if s.Status != nil && s.Status.Code == otlp.Status_STATUS_CODE_ERROR {
			failed++
		}
		if !told[fmt.Sprintf("00-%s-%x-01", trace, s.SpanId)] {
			t.Errorf("the system was not told the span %x of its request, but %v", s.SpanId, told)
		}
	}
	if attempts != 2 || failed != 1 {
		t.Errorf("%d spans of attempts, %d failed; want 2 and 1", attempts, failed)
	}
}
