package journal_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

var _ journal.Log = (*queue.Log)(nil)

func TestMain(m *testing.M) {
	// Each step of the model costs an fsync; -rapid.checks on the command line has the last word.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// fataler is what rapid.T and testing.TB have in common here.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// site is a journal on a real queue, running.
type site struct {
	*journal.Journal
	log  *queue.Log
	stop func()
}

type options struct {
	queue   queue.Config
	journal journal.Config
	wrap    func(journal.Log) journal.Log
}

func start(t fataler, o options) *site {
	t.Helper()
	log, err := queue.Open(o.queue)
	if err != nil {
		t.Fatal(err)
	}
	cfg := o.journal
	cfg.Log = log
	if o.wrap != nil {
		cfg.Log = o.wrap(log)
	}
	if cfg.Self == "" {
		cfg.Self = "ham"
	}
	if cfg.Epoch == 0 {
		cfg.Epoch = 1
	}
	j, err := journal.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	return &site{Journal: j, log: log, stop: func() {
		cancel()
		if err := errors.Join(<-done, log.Close()); err != nil {
			t.Fatal(err)
		}
	}}
}

func started(t *testing.T, o options) *site {
	t.Helper()
	if o.queue.Dir == "" {
		o.queue.Dir = t.TempDir()
	}
	s := start(t, o)
	t.Cleanup(s.stop)
	return s
}

// admitted makes an event for agents.
func admitted(id, key, data string, agents ...string) journal.Admitted {
	a := journal.Admitted{
		Event:    &event.Event{ID: id, Source: "/shop", Type: "order.captured.v1", Data: []byte(data), Time: time.UnixMilli(1e12).UTC()},
		Key:      key,
		System:   "shop",
		Revision: block.Revision{Generation: 1, Number: 3},
	}
	for _, agent := range agents {
		a.Targets = append(a.Targets, block.Target{Agent: agent, System: "sys-" + agent, Route: "r"})
	}
	return a
}

func data(n int) string { return fmt.Sprintf(`{"n":%d}`, n) }

func submit(t fataler, s *site, events ...journal.Admitted) []journal.Receipt {
	t.Helper()
	receipts, err := s.Submit(context.Background(), events)
	if err != nil {
		t.Fatal(err)
	}
	return receipts
}

func history(t fataler, s *site) []journal.ScanItem {
	t.Helper()
	var out []journal.ScanItem
	if err := s.Scan(context.Background(), 0, func(i journal.ScanItem) bool { out = append(out, i); return true }); err != nil {
		t.Fatal(err)
	}
	return out
}

// inbound makes a block of events first..first+count-1 of a lane to this agent.
func inbound(t fataler, source string, epoch, first uint64, count int, to ...string) []byte {
	t.Helper()
	if len(to) == 0 {
		to = []string{"ham"}
	}
	var lanes []block.Lane
	for _, agent := range to {
		lanes = append(lanes, block.Lane{Agent: agent, First: first})
	}
	var items []block.Item
	for i := range count {
		n := first + uint64(i)
		e := event.Event{ID: fmt.Sprintf("%s-%d-%d", source, epoch, n), Source: "/" + source, Type: "stock.moved.v1", Data: []byte(data(int(n)))}
		text, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("k%d", n%3)
		items = append(items, block.Item{
			Head: block.Head{ID: e.Hash(), Key: block.KeyHash(key), Type: e.Type, System: "wms", Targets: []block.Target{{Agent: "ham", System: "erp", Route: "r"}}},
			Body: block.AppendBody(nil, key, text),
		})
	}
	text, err := block.Cut(block.Origin{Agent: source, Epoch: epoch}, lanes, items)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// drain cuts everything that the lanes in want lack, opens it and gives it per lane.
func drain(t fataler, s *site, want map[string]uint64, from uint64, maxBlocks int) (lanes map[string][]block.Item, gaps []journal.Gap) {
	t.Helper()
	next := map[string]uint64{}
	lanes = map[string][]block.Item{}
	for dest, n := range want {
		next[dest] = max(n, 1)
	}
	for from < s.Next() {
		cuts, to, err := s.Cut(next, from, maxBlocks)
		var seek *journal.SeekError
		if errors.As(err, &seek) {
			if from, err = s.Seek(seek.Destination, seek.Want); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if to <= from && len(cuts) == 0 {
			t.Fatalf("cut from %d makes no progress", from)
		}
		from = to
		for _, c := range cuts {
			if g := c.Gap; g != nil {
				if g.First != next[g.Destination] {
					t.Fatalf("gap %+v, want one from %d on", *g, next[g.Destination])
				}
				next[g.Destination] = g.Last + 1
				gaps = append(gaps, *g)
				continue
			}
			envelope, items, err := block.Open(c.Block)
			if err != nil {
				t.Fatal(err)
			}
			if envelope.Origin != (block.Origin{Agent: "ham", Epoch: 1}) || envelope.Count != c.Count || !slices.Equal(envelope.To, c.Lanes) {
				t.Fatalf("block of %+v, cut says %d events for %v", envelope, c.Count, c.Lanes)
			}
			for _, l := range envelope.To {
				if l.First != next[l.Agent] {
					t.Fatalf("block for %s begins with %d, want %d", l.Agent, l.First, next[l.Agent])
				}
				next[l.Agent] += uint64(len(items))
				lanes[l.Agent] = append(lanes[l.Agent], items...)
			}
		}
	}
	return lanes, gaps
}

func tempDir(t fataler) (string, func()) {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		t.Fatal(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}
