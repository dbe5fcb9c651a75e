package journal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// sent makes a block of named events of a lane from nyc to this agent.
func sent(t fataler, epoch, first uint64, ids ...string) []byte {
	t.Helper()
	var items []block.Item
	for _, id := range ids {
		e := event.Event{ID: id, Source: "/nyc", Type: "stock.moved.v1", Data: []byte(`{}`)}
		text, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		key, _, _ := strings.Cut(id, "-")
		items = append(items, block.Item{
			Head: block.Head{ID: e.Hash(), Key: block.KeyHash(key), Type: e.Type, System: "wms", Targets: []block.Target{{Agent: "ham", System: "erp", Route: "r"}}},
			Body: block.AppendBody(nil, key, text),
		})
	}
	text, err := block.Cut(block.Origin{Agent: "nyc", Epoch: epoch}, []block.Lane{{Agent: "ham", First: first}}, items)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func take(t fataler, s *site, text []byte) journal.Received {
	t.Helper()
	got, err := s.Receive(context.Background(), text, time.UnixMilli(1))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// local lists the ids of what this site has to deliver, in order.
func local(t fataler, s *site) (ids []string) {
	t.Helper()
	for at, end := uint64(0), s.Next(); at < end; {
		items, next, err := s.ReadLocal(at, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range items {
			e, err := event.Unmarshal(i.Event)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, e.ID)
		}
		at = next
	}
	return ids
}

// A restored source sends again what its copy does not know as sent, between events that
// are new: only those count, for every reader, before and after a restart.
func TestEventsOfAnEarlierEpochAreDroppedWhereverTheyStand(t *testing.T) {
	o := options{queue: queue.Config{Dir: t.TempDir()}}
	s := start(t, o)
	take(t, s, sent(t, 1, 1, "k-1", "k-2", "k-3"))
	submit(t, s, admitted("mine", "k", "1", "ham"))
	take(t, s, sent(t, 1, 4, "k-4", "k-5"))
	if _, err := s.ReceiveGap(t.Context(), "nyc", 2, 1, 2, "taken in an earlier epoch"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is a repeat, after a restart
		got := take(t, s, sent(t, 2, 3, "k-3", "n-1", "k-5", "n-2"))
		if got.Highwater != 6 || !got.Duplicate && (got.Count != 2 || got.Known != 2) {
			t.Errorf("%+v", got)
		}
		s.stop()
		s = start(t, o)
	}
	if got := take(t, s, sent(t, 2, 5, "k-5", "n-2", "n-3", "k-1")); got.Count != 1 || got.Known != 1 {
		t.Errorf("a block that reaches back: %+v", got)
	}
	want := []string{"k-1", "k-2", "k-3", "mine", "k-4", "k-5", "n-1", "n-2", "n-3"}
	if got := local(t, s); !slices.Equal(got, want) {
		t.Errorf("to deliver %v, want %v", got, want)
	}
	if got := history(t, s); len(got) != len(want) {
		t.Errorf("%d events in the history, want %d", len(got), len(want))
	}
	if got := s.Stats(); got.Received != 8 {
		t.Errorf("%d counted as received, want 8", got.Received)
	}
	exported := 0
	if err := s.log.Export(0, func(r queue.Record) error {
		items, err := journal.Events(r.Pos, r.Data)
		exported += len(items)
		return err
	}); err != nil || exported != len(want) {
		t.Errorf("%d exported, %v, want %d", exported, err, len(want))
	}
	s.stop()
}

// Blocks of two epochs that are committed together are compared too.
func TestKnownWithinOneCommit(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(begun); <-release })
	s := started(t, options{journal: journal.Config{Hook: func(step string) {
		if step == "before-commit" {
			once()
		}
	}}})
	go func() { _, _ = s.Submit(context.Background(), []journal.Admitted{admitted("first", "k", "1", "ham")}) }()
	<-begun
	var wait sync.WaitGroup
	for i, text := range [][]byte{sent(t, 1, 1, "k-1", "k-2"), sent(t, 2, 1, "k-2", "n-1")} {
		wait.Go(func() { take(t, s, text) })
		for s.Waiting() != i+1 { // until it waits behind the commit
			time.Sleep(time.Millisecond)
		}
	}
	close(release)
	wait.Wait()
	if got, want := local(t, s), []string{"first", "k-1", "k-2", "n-1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTheNewestAreRemembered(t *testing.T) {
	s := started(t, options{journal: journal.Config{Known: 2}})
	take(t, s, sent(t, 1, 1, "k-1", "k-2", "k-3"))
	if got := take(t, s, sent(t, 2, 1, "k-1", "k-2", "k-3")); got.Known != 2 || got.Count != 1 {
		t.Errorf("%+v, want the two newest known", got)
	}
}

// cut is a log that ends at its nth append: before it or behind it.
type severed struct {
	journal.Log
	left   int
	behind bool
}

var errSevered = errors.New("power is off")

func (l *severed) Append(records [][]byte, marks map[string]uint64) (uint64, error) {
	if l.left--; l.left > 0 {
		return l.Log.Append(records, marks)
	}
	if l.left == 0 && l.behind {
		if _, err := l.Log.Append(records, marks); err != nil {
			return 0, err
		}
	}
	return 0, errSevered
}

// Whatever append the power goes off at, the same mail again gives the same deliveries.
func TestPowerCutAroundTheBeginningOfAnEpoch(t *testing.T) {
	mail := [][]byte{
		sent(t, 1, 1, "k-1", "k-2"), sent(t, 1, 3, "k-3", "k-4"), sent(t, 2, 1, "k-3", "n-1", "k-4"), sent(t, 2, 4, "k-2", "n-2"),
		sent(t, 5, 1, "n-1", "m-1", "k-1"), sent(t, 5, 4, "m-2", "n-2"),
	}
	for n := 1; n <= len(mail); n++ {
		for _, behind := range []bool{false, true} {
			dir := t.TempDir()
			log, err := queue.Open(queue.Config{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			j, err := journal.Open(journal.Config{Log: &severed{log, n, behind}, Self: "ham", Epoch: 1})
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- j.Run(context.Background()) }()
			for _, text := range mail {
				if _, err = j.Receive(t.Context(), text, time.Now()); err != nil {
					break
				}
			}
			if !errors.Is(err, errSevered) || !errors.Is(<-ended, errSevered) {
				t.Fatal(err)
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			s := start(t, options{queue: queue.Config{Dir: dir}})
			again := n - 1
			if behind {
				again = max(0, n-2) // one is a repeat
			}
			for _, text := range mail[again:] {
				take(t, s, text)
			}
			if got, want := local(t, s), []string{"k-1", "k-2", "k-3", "k-4", "n-1", "n-2", "m-1", "m-2"}; !slices.Equal(got, want) {
				t.Errorf("cut at append %d, behind it %v: %v, want %v", n, behind, got, want)
			}
			s.stop()
		}
	}
}

// The ids are let go with the history that they stand in: an event that is not held can
// come again, and nothing is kept in memory for it.
func TestKnownGoesWithItsHistory(t *testing.T) {
	s := started(t, options{queue: queue.Config{SegmentBytes: 32 << 10, Quota: 8 << 20}})
	take(t, s, sent(t, 1, 1, "k-1", "k-2"))
	fill(t, s, 200)
	take(t, s, sent(t, 2, 1, "k-2"))
	fill2 := func() {
		for i := range 200 {
			submit(t, s, admitted(fmt.Sprint("more-", i), "k", data(i), "nyc"))
		}
	}
	fill2()
	if s.Remembered() != 2 {
		t.Fatalf("%d ids remembered, want 2", s.Remembered())
	}
	since := s.log.Mark("since/nyc/2")
	if since != 202 {
		t.Fatalf("epoch 2 is marked to begin at %d, want 202", since)
	}
	if _, err := s.Trim(s.Next(), time.Time{}); err != nil || s.First() <= since {
		t.Fatalf("trimmed to %d, %v", s.First(), err)
	}
	if s.Remembered() != 0 {
		t.Errorf("%d ids remembered of history that is gone", s.Remembered())
	}
	if got := take(t, s, sent(t, 2, 2, "k-1")); got.Count != 1 || s.Remembered() != 0 {
		t.Errorf("%+v, %d ids remembered", got, s.Remembered())
	}
}

// copyDir makes an image of a stopped site's data.
func copyDir(t fataler, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestRestoredSource runs a source that is restored from an image, again and again, against
// a model: the receiver gets each event once, in the order in which it first came.
func TestRestoredSource(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { restoredSource(t, rand.New(rand.NewPCG(seed, 3))) })
	}
}

func restoredSource(t *testing.T, rnd *rand.Rand) {
	root := t.TempDir()
	receiver := options{queue: queue.Config{Dir: filepath.Join(root, "ham")}}
	r := start(t, receiver)
	dir, epoch, event := filepath.Join(root, "0"), uint64(1), 0
	var model []string // what the receiver has to deliver
	known := map[string]bool{}
	sentBefore := map[string]bool{} // ids that it was given, to be handed in again after a loss
	for life := range 4 {
		o := options{queue: queue.Config{Dir: dir}, journal: journal.Config{Self: "nyc", Epoch: 1}}
		s := start(t, o)
		s.SetEpoch(epoch)
		base := uint64(0)
		if life > 0 { // up to here this copy knows that all was taken
			base = rnd.Uint64N(s.Highest("ham") + 1)
			if base > 0 {
				if _, err := r.ReceiveGap(t.Context(), "nyc", epoch, 1, base, "taken in an earlier epoch"); err != nil {
					t.Fatal(err)
				}
			}
		}
		next := base + 1
		image := filepath.Join(root, fmt.Sprint(life+1))
		steps := 4 + rnd.IntN(8)
		imageAt := rnd.IntN(steps)
		for step := range steps {
			var batch []journal.Admitted
			for range 1 + rnd.IntN(6) {
				id := fmt.Sprint("e-", event)
				if event++; rnd.IntN(4) == 0 && len(sentBefore) > 0 { // the shop hands in again
					id = fmt.Sprint("e-", rnd.IntN(event))
				}
				sentBefore[id] = true
				batch = append(batch, admitted(id, fmt.Sprint("k", len(id)%3), `{"same":1}`, "ham"))
			}
			submit(t, s, batch...)
			if step == imageAt {
				s.stop()
				copyDir(t, dir, image)
				s = start(t, o)
				s.SetEpoch(epoch)
			}
			if rnd.IntN(3) > 0 {
				next = carry(t, s, r, next, rnd, func(id string) {
					if !known[id] {
						known[id] = true
						model = append(model, id)
					}
				})
			}
			if rnd.IntN(4) == 0 {
				r.stop()
				r = start(t, receiver)
			}
		}
		s.stop()
		dir, epoch = image, epoch+1
	}
	if got := local(t, r); !slices.Equal(got, model) {
		t.Errorf("delivered\n%v, want\n%v", got, model)
	}
	r.stop()
}

// carry takes blocks of a lane from s to r, not always all, and some twice.
func carry(t *testing.T, s, r *site, next uint64, rnd *rand.Rand, arrived func(id string)) uint64 {
	pos, err := s.Seek("ham", next)
	if err != nil {
		t.Fatal(err)
	}
	cuts, _, err := s.Cut(map[string]uint64{"ham": next}, pos, 1+rnd.IntN(4))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cuts {
		if c.Gap != nil {
			t.Fatalf("gap %+v", *c.Gap)
		}
		for range 1 + rnd.IntN(2) {
			take(t, r, c.Block)
		}
		_, items, err := block.Open(c.Block)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			_, text, err := block.SplitBody(item.Body)
			if err != nil {
				t.Fatal(err)
			}
			e, err := event.Unmarshal(text)
			if err != nil {
				t.Fatal(err)
			}
			arrived(e.ID)
		}
		next += uint64(c.Count)
	}
	return next
}

// FuzzRecord reads any bytes as a record of a log, and one that was written by each version.
func FuzzRecord(f *testing.F) {
	text := sent(f, 2, 1, "k-1", "k-2", "k-3")
	stamps := make([]byte, 16)
	f.Add(append([]byte{'E'}, block.AppendEntry(nil, &block.Entry{})...))
	f.Add(slices.Concat([]byte{'B'}, stamps, text))
	f.Add(slices.Concat([]byte{'P', 0, 2}, stamps, text))
	f.Add(slices.Concat([]byte{'K', 0, 0, 0, 1, 2}, stamps, text))
	f.Add(slices.Concat([]byte{'K', 0, 1, 0, 200}, text))
	f.Add([]byte(`G{"source":"nyc","epoch":1,"first":1,"last":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := journal.Events(1, data)
		if err != nil && !errors.Is(err, journal.ErrCorrupt) {
			t.Fatal(err)
		}
		if len(items) > block.MaxEvents {
			t.Fatalf("%d events of one record", len(items))
		}
	})
}

func TestRecordsOfEveryVersionAreRead(t *testing.T) {
	text := sent(t, 2, 1, "k-1", "k-2", "k-3")
	stamps := make([]byte, 16)
	for name, tc := range map[string]struct {
		data []byte
		want int
	}{
		"whole":   {slices.Concat([]byte{'B'}, stamps, text), 3},
		"partial": {slices.Concat([]byte{'P', 0, 2}, stamps, text), 1},
		"known":   {slices.Concat([]byte{'K', 0, 0, 0, 1, 2}, stamps, text), 2},
		"both":    {slices.Concat([]byte{'K', 0, 1, 0, 1, 4}, stamps, text), 1},
	} {
		if items, err := journal.Events(1, tc.data); err != nil || len(items) != tc.want {
			t.Errorf("%s: %d events, %v, want %d", name, len(items), err, tc.want)
		}
	}
}

// unmarked is a log whose marks of epochs are lost, or were never written.
type unmarked struct{ journal.Log }

func (l unmarked) Marks(prefix string) map[string]uint64 {
	if prefix == "since/" {
		return nil
	}
	return l.Log.Marks(prefix)
}

// Without the mark all history is looked at, and still only earlier epochs count.
func TestKnownWithoutTheMark(t *testing.T) {
	o := options{queue: queue.Config{Dir: t.TempDir()}, wrap: func(l journal.Log) journal.Log { return unmarked{l} }}
	s := start(t, o)
	take(t, s, sent(t, 1, 1, "k-1"))
	take(t, s, sent(t, 2, 1, "n-1"))
	s.stop()
	s = start(t, o)
	defer s.stop()
	if got := take(t, s, sent(t, 2, 2, "n-1", "k-1", "n-2")); got.Known != 1 || got.Count != 2 {
		t.Errorf("%+v, want k-1 known", got)
	}
}
