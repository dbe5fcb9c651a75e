package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// stored is a journal of some events, a few at each position, as a block brings them.
type stored struct{ items []delivery.Item }

const storedAtOnce = 64

func newStored(n int) *stored {
	s := &stored{}
	note := strings.Repeat("x", 800)
	for i := range n {
		key := fmt.Sprintf("O-%09d", i)
		ev := &event.Event{ID: fmt.Sprintf("evt-%09d", i), Source: "/shop", Type: "order.captured.v1", DataContentType: event.JSONType,
			Data: fmt.Appendf(nil, `{"orderId":%q,"note":%q,"lines":[{"lineId":"10","sku":"P1","quantity":"3"}]}`, key, note)}
		text, err := ev.Marshal()
		if err != nil {
			panic(err)
		}
		s.items = append(s.items, delivery.Item{Source: "eu", Pos: uint64(1 + i/storedAtOnce), Index: i % storedAtOnce, Key: key, Event: text,
			Head: block.Head{ID: ev.Hash(), Key: block.KeyHash(key), Type: ev.Type, System: "shop", Targets: []block.Target{{Agent: "eu", System: "erp", Route: "orders"}}}})
	}
	return s
}

func (s *stored) end() uint64 { return uint64(1 + (len(s.items)+storedAtOnce-1)/storedAtOnce) }

func (s *stored) ReadLocal(from uint64, maxEvents int) ([]delivery.Item, uint64, error) {
	at := min(int(max(from, 1)-1)*storedAtOnce, len(s.items))
	items := s.items[at:min(at+maxEvents, len(s.items))]
	return items, min(max(from, 1)+uint64((len(items)+storedAtOnce-1)/storedAtOnce), s.end()), nil
}

func (s *stored) Wait(ctx context.Context, pos uint64) error {
	if pos < s.end() {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// BenchmarkDelivery takes events of 1 KB from a journal in memory to a system over HTTP. An
// operation is one event.
func BenchmarkDelivery(b *testing.B) {
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprint("batch ", batch), func(b *testing.B) { benchmarkDelivery(b, batch) })
	}
}

func benchmarkDelivery(b *testing.B, batch int) {
	var bytes atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		bytes.Add(n)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	set, problems := policy.Compile(policy.Bundle{"policy.yaml": []byte(strings.NewReplacer("URL", server.URL, "BATCH", fmt.Sprint(batch)).Replace(`
apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: it, region: eu}
---
apiVersion: crossdock/v1
kind: Contract
metadata: {name: order.captured}
spec: {owner: it, authority: shop, key: .orderId, versions: [{version: 1.0.0, state: active, schema: order.json}]}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: shop}
spec: {owner: it, site: eu, role: shop, publishes: [order.captured], intake: {token: "env:SHOP"}}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: erp}
spec: {owner: it, site: eu, delivery: {batch: BATCH}, http: {url: "URL", hosts: [127.0.0.1], deliver: {path: /events}}}
---
apiVersion: crossdock/v1
kind: Route
metadata: {name: orders}
spec: {owner: it, from: {type: order.captured.v1}, to: [{system: erp}]}
`)), "order.json": []byte(`{"type":"object"}`)})
	if set == nil {
		b.Fatal(problems)
	}
	log := slog.New(slog.DiscardHandler)
	d := &drivers{site: "eu", log: log, open: map[string]*attached{}, ready: make(chan struct{}), options: systems.Options{Logger: log}}
	d.apply(b.Context(), set)
	close(d.ready)
	defer d.apply(context.Background(), nil)
	journal := newStored(b.N)
	e, err := delivery.Open(delivery.Config{Agent: "eu", Path: filepath.Join(b.TempDir(), "delivery.db"), Source: journal, Target: d,
		Policy: func() *policy.Set { return set }, FlushEvery: 10 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { ended <- e.Run(ctx) }()
	for e.MinCursor() < journal.end() {
		time.Sleep(time.Millisecond) // between looks; the cursor is stored at the latest after FlushEvery
	}
	b.StopTimer()
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(bytes.Load())/float64(b.N), "bytes/event")
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}
