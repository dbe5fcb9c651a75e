package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// books is a running journal on its log.
type books struct {
	*journal.Journal
	log   *queue.Log
	close func()
}

func openBooks(t *testing.T, dir string, epoch uint64) *books {
	t.Helper()
	log, err := queue.Open(queue.Config{Dir: dir, Quota: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Config{Log: log, Self: "here", Epoch: epoch})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	b := &books{Journal: j, log: log}
	closed := false
	b.close = func() {
		if closed {
			return
		}
		closed = true
		cancel()
		if err := errors.Join(<-done, log.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(b.close)
	return b
}

func (b *books) add(t *testing.T, id string, to ...string) {
	t.Helper()
	in := journal.Admitted{Event: &event.Event{ID: id, Source: "/s", Type: "order.captured.v1", Data: []byte(`{}`)}, Key: "k"}
	for _, agent := range to {
		in.Targets = append(in.Targets, block.Target{Agent: agent, System: "erp", Route: "r"})
	}
	if _, err := b.Submit(t.Context(), []journal.Admitted{in}); err != nil {
		t.Fatal(err)
	}
}

// mail is a block of events first.. of a lane from there to here.
func mail(t *testing.T, epoch, first uint64, ids ...string) []byte {
	t.Helper()
	var items []block.Item
	for _, id := range ids {
		e := event.Event{ID: id, Source: "/there", Type: "order.captured.v1", Data: []byte(`{}`)}
		text, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, block.Item{Body: block.AppendBody(nil, "k", text), Head: block.Head{ID: e.Hash(), Key: block.KeyHash("k"),
			Type: e.Type, Targets: []block.Target{{Agent: "here", System: "erp", Route: "r"}}}})
	}
	text, err := block.Cut(block.Origin{Agent: "there", Epoch: epoch}, []block.Lane{{Agent: "here", First: first}}, items)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A server that was replaced begins with an empty journal, and the relay goes on where the
// former one stopped. It is asked anew in the next sessions; when nobody brings what lies
// between, that is told and noted, and what comes is taken.
func TestMailAfterLostMailIsTakenAndTheLossTold(t *testing.T) {
	b := openBooks(t, t.TempDir(), 2)
	in := &inbox{journal: b.Journal, facts: &facts{agent: "here", journal: b.Journal}}
	for range sessionsMissing - 1 {
		if err := in.Receive(t.Context(), mail(t, 1, 41, "a", "b"), time.Now()); !errors.Is(err, uplink.ErrGap) {
			t.Fatalf("taken at once: %v", err)
		}
	}
	for range 2 { // the second is a repeat
		if err := in.Receive(t.Context(), mail(t, 1, 41, "a", "b"), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Highwaters(); len(got) != 1 || got[0].Highwater != 42 {
		t.Errorf("high-waters %v", got)
	}
	gaps, err := b.Gaps(t.Context())
	if err != nil || len(gaps) != 1 || gaps[0].First != 1 || gaps[0].Last != 40 {
		t.Errorf("gaps %+v, %v", gaps, err)
	}
	told := 0
	if err := b.Scan(t.Context(), 0, func(item journal.ScanItem) bool {
		if strings.Contains(string(item.Event), "lost-mail/there/1/1") && strings.Contains(string(item.Event), "events 1 to 40") {
			told++
		}
		return true
	}); err != nil || told != 1 {
		t.Errorf("told %d times, %v", told, err)
	}
}

func TestOutboxRemembersWhatAnEarlierEpochTook(t *testing.T) {
	dir := t.TempDir()
	b := openBooks(t, dir, 1)
	o := newOutbox(b.Journal, b.log, 1)
	for _, id := range []string{"1", "2", "3"} {
		b.add(t, id, "there")
	}
	if o.pending() != 3 {
		t.Errorf("%d pending, want 3", o.pending())
	}
	o.Taken("there", 2)
	b.close()

	b = openBooks(t, dir, 2)
	o = newOutbox(b.Journal, b.log, 2)
	if got := o.Earlier("there"); got != 2 {
		t.Fatalf("earlier %d, want 2", got)
	}
	o.Taken("there", 0) // what the relay knows of the new epoch
	if got, err := o.needed(); o.Earlier("there") != 2 || err != nil || got != 3 {
		t.Errorf("earlier %d, needed from %d on, %v; want 2 and 3", o.Earlier("there"), got, err)
	}
	o.Taken("there", 2)
	if o.Earlier("there") != 0 {
		t.Error("the new epoch came as far, and the earlier one is not over")
	}
	o.Taken("there", 1) // the relay was restored: all must go again
	b.close()

	b = openBooks(t, dir, 2)
	o = newOutbox(b.Journal, b.log, 2)
	if got, err := o.needed(); o.Earlier("there") != 0 || err != nil || got != 2 {
		t.Errorf("earlier %d, needed from %d on, %v; want 0 and 2", o.Earlier("there"), got, err)
	}
}

func TestAlarmsAreToldOnceThoughTheJournalIsFullAtFirst(t *testing.T) {
	var told []string
	fails := 2
	done := make(chan struct{})
	a := newAlarms("here", slog.New(slog.DiscardHandler))
	a.report = func(_ context.Context, fact json.RawMessage) error {
		if fails--; fails >= 0 {
			return journal.ErrFull
		}
		told = append(told, string(fact))
		close(done)
		return nil
	}
	a.raise("journal-damage", "7", "positions 7 to 9")
	a.raise("journal-damage", "7", "positions 7 to 9")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx) }()
	for again := true; again; {
		select {
		case <-done:
			again = false
		case <-time.After(time.Millisecond):
			select {
			case a.wake <- struct{}{}: // another alarm elsewhere
			default:
			}
		}
	}
	cancel()
	if err := <-ended; err != nil || len(told) != 1 || !strings.Contains(told[0], `"id":"here/journal-damage/7"`) {
		t.Errorf("%v %v", told, err)
	}
}
