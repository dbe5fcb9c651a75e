package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"pgregory.net/rapid"
)

// accepted is one event that the model knows to be in the journal.
type accepted struct {
	id, key, data string
	agents        []string
}

type model struct {
	events  []accepted
	byID    map[string]int
	inbound map[string]uint64 // high-water by source
}

func TestJournalAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, remove := tempDir(rt)
		defer remove()
		o := options{queue: queue.Config{Dir: dir, SegmentBytes: 64 << 10}}
		s := start(rt, o)
		m := &model{byID: map[string]int{}, inbound: map[string]uint64{}}
		rt.Repeat(map[string]func(*rapid.T){
			"submit":  func(rt *rapid.T) { m.submit(rt, s) },
			"receive": func(rt *rapid.T) { m.receive(rt, s) },
			"cut":     func(rt *rapid.T) { m.cut(rt, s) },
			"reopen":  func(rt *rapid.T) { s.stop(); s = start(rt, o) },
		})
		m.check(rt, s)
		s.stop()
		s = start(rt, o)
		m.check(rt, s)
		s.stop()
	})
}

// submit sends one batch, with new events, repeats and conflicts.
func (m *model) submit(rt *rapid.T, s *site) {
	var batch []journal.Admitted
	var wantErr []error
	var wantRepeat []bool
	for range rapid.IntRange(1, 20).Draw(rt, "events") {
		n := len(m.events)
		a := accepted{id: fmt.Sprint(n), key: rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(rt, "key"), data: data(n)}
		a.agents = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"ham", "nyc", "tok", block.Control}), rapid.ID[string]).Draw(rt, "agents")
		kind := rapid.IntRange(0, 9).Draw(rt, "kind")
		var err error
		switch {
		case kind == 0 && n > 0:
			a = m.events[rapid.IntRange(0, n-1).Draw(rt, "again")]
		case kind == 1 && n > 0:
			a = m.events[rapid.IntRange(0, n-1).Draw(rt, "other")]
			a.data, err = `"other"`, journal.ErrConflict
		default:
			m.byID[a.id] = n
			m.events = append(m.events, a)
		}
		batch = append(batch, admitted(a.id, a.key, a.data, a.agents...))
		wantErr = append(wantErr, err)
		wantRepeat = append(wantRepeat, kind == 0 && n > 0)
	}
	for i, r := range submit(rt, s, batch...) {
		if !errors.Is(r.Err, wantErr[i]) || r.Repeat != wantRepeat[i] {
			rt.Fatalf("receipt %+v, want repeat %v, error %v", r, wantRepeat[i], wantErr[i])
		}
		if r.Err != nil {
			continue
		}
		item, err := s.Get(journal.Ref{Pos: r.Pos})
		if err != nil {
			rt.Fatal(err)
		}
		if e, err := event.Unmarshal(item.Event); err != nil || e.ID != batch[i].Event.ID || !bytes.Equal(e.Data, batch[i].Event.Data) {
			rt.Fatalf("receipt says %d, there is %s %v, want %s", r.Pos, item.Event, err, batch[i].Event.ID)
		}
	}
}

func (m *model) receive(rt *rapid.T, s *site) {
	source := rapid.SampledFrom([]string{"nyc", "tok"}).Draw(rt, "source")
	highwater := m.inbound[source]
	first := rapid.Uint64Range(1, highwater+3).Draw(rt, "first")
	count := rapid.IntRange(1, 5).Draw(rt, "count")
	last := first + uint64(count) - 1
	got, err := s.Receive(context.Background(), inbound(rt, source, 7, first, count), time.UnixMilli(5))
	var gap *journal.GapError
	switch {
	case first > highwater+1:
		if !errors.As(err, &gap) || gap.Want != highwater+1 {
			rt.Fatalf("block %d..%d above %d: %+v %v, want a gap", first, last, highwater, got, err)
		}
		return
	case err != nil:
		rt.Fatal(err)
	case got.Duplicate != (last <= highwater) || got.Highwater != max(last, highwater) || got.Count != int(max(last, highwater)-highwater):
		rt.Fatalf("block %d..%d above %d: %+v", first, last, highwater, got)
	}
	m.inbound[source] = got.Highwater
}

// cut takes all lanes from any numbers, and compares with a cut of everything.
func (m *model) cut(rt *rapid.T, s *site) {
	whole, _ := drain(rt, s, map[string]uint64{"nyc": 1, "tok": 1, block.Control: 1}, 0, 1<<30)
	want := map[string]uint64{}
	for dest, highest := range s.Outbound() {
		if rapid.Bool().Draw(rt, "take") {
			want[dest] = rapid.Uint64Range(1, highest+1).Draw(rt, "want")
		}
	}
	from := rapid.Uint64Range(0, s.Next()).Draw(rt, "from")
	lanes, gaps := drain(rt, s, want, from, rapid.IntRange(1, 3).Draw(rt, "blocks"))
	if len(gaps) > 0 {
		rt.Fatalf("gaps in a sound journal: %v", gaps)
	}
	for dest, number := range want {
		same := slices.EqualFunc(lanes[dest], whole[dest][number-1:], func(a, b block.Item) bool {
			return a.ID == b.ID && bytes.Equal(a.Body, b.Body)
		})
		// Nothing is cut from the very end on, whatever the lanes want.
		if !same && from < s.Next() {
			rt.Fatalf("lane to %s from %d: %d events, want %d", dest, number, len(lanes[dest]), len(whole[dest])-int(number)+1)
		}
	}
}

// check compares the whole journal with the model.
func (m *model) check(rt *rapid.T, s *site) {
	numbers, keys := map[string]uint64{}, map[string]int{}
	seen, received := map[string]bool{}, map[string]uint64{}
	for _, item := range history(rt, s) {
		e, err := event.Unmarshal(item.Event)
		if err != nil {
			rt.Fatal(err)
		}
		if item.Source != "ham" {
			received[item.Source]++
			if want := fmt.Sprintf("%s-7-%d", item.Source, received[item.Source]); e.ID != want {
				rt.Fatalf("received %s, want %s", e.ID, want)
			}
			continue
		}
		n := m.byID[e.ID]
		a := m.events[n]
		if seen[e.ID] || a.data != string(e.Data) || a.key != item.Key {
			rt.Fatalf("%s is there twice or with other content: %s, want %+v", e.ID, item.Event, a)
		}
		seen[e.ID] = true
		if last, ok := keys[a.key]; ok && a.key != "" && last > n {
			rt.Fatalf("key %q: event %d comes after %d", a.key, n, last)
		}
		keys[a.key] = n
		lanes := slices.DeleteFunc(slices.Clone(a.agents), func(d string) bool { return d == "ham" })
		if len(item.Numbers) != len(lanes) {
			rt.Fatalf("event for %v has numbers %v", a.agents, item.Numbers)
		}
		for _, number := range item.Numbers {
			numbers[number.Agent]++
			if number.Seq != numbers[number.Agent] || !slices.Contains(lanes, number.Agent) {
				rt.Fatalf("event for %v has numbers %v, the lane is at %d", a.agents, item.Numbers, numbers[number.Agent])
			}
		}
	}
	if len(seen) != len(m.events) || !maps.Equal(received, positive(m.inbound)) || !maps.Equal(numbers, s.Outbound()) {
		rt.Fatalf("%d events, want %d; received %v, want %v; lanes %v, marks %v", len(seen), len(m.events), received, m.inbound, numbers, s.Outbound())
	}
	m.checkLocal(rt, s)
}

func (m *model) checkLocal(rt *rapid.T, s *site) {
	var got []string
	for at := uint64(0); at < s.Next(); {
		items, next, err := s.ReadLocal(at, 3)
		if err != nil || next <= at {
			rt.Fatalf("read from %d: next %d, %v", at, next, err)
		}
		for _, i := range items {
			got = append(got, journal.Ref{Pos: i.Pos, Index: i.Index}.String())
		}
		at = next
	}
	var want []string
	for _, i := range history(rt, s) {
		if len(i.Head.TargetsAt("ham")) > 0 {
			want = append(want, journal.Ref{Pos: i.Pos, Index: i.Index}.String())
		}
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("local events %v, want %v", got, want)
	}
}

func positive(m map[string]uint64) map[string]uint64 {
	out := maps.Clone(m)
	maps.DeleteFunc(out, func(_ string, n uint64) bool { return n == 0 })
	return out
}

// counting counts appends, and holds them while told to.
type counting struct {
	journal.Log
	appends atomic.Int64
	gate    chan struct{}
}

func (c *counting) Append(records [][]byte, marks map[string]uint64) (uint64, error) {
	c.appends.Add(1)
	if c.gate != nil {
		<-c.gate
	}
	return c.Log.Append(records, marks)
}

func TestManyCallersShareOneCommit(t *testing.T) {
	c := &counting{gate: make(chan struct{})}
	s := started(t, options{wrap: func(l journal.Log) journal.Log { c.Log = l; return c }})
	const callers = 200
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for _, r := range submit(t, s, admitted(fmt.Sprint(i), "", data(i), "nyc")) {
				if r.Err != nil {
					t.Error(r.Err)
				}
			}
		})
	}
	for c.appends.Load() == 0 { // the first is being written; the others gather
		time.Sleep(time.Millisecond)
	}
	close(c.gate)
	wg.Wait()
	if got := c.appends.Load(); got > callers/4 {
		t.Fatalf("%d appends for %d callers that came together", got, callers)
	}
	if got := len(history(t, s)); got != callers || s.Stats().Commits != uint64(c.appends.Load()) {
		t.Fatalf("%d events, stats %+v", got, s.Stats())
	}
}

// What is taken only as a repeat leaves nothing behind if it is none.
func TestRepeatOnly(t *testing.T) {
	s := started(t, options{})
	again := func(id, text string) journal.Admitted {
		a := admitted(id, "k", text, "ham")
		a.RepeatOnly = true
		return a
	}
	first := submit(t, s, admitted("1", "k", data(1), "ham"))
	got := submit(t, s, again("1", data(1)), again("1", data(2)), again("2", data(1)))
	if !got[0].Repeat || got[0].Err != nil || got[0].Pos != first[0].Pos {
		t.Errorf("the repeat: %+v", got[0])
	}
	if !errors.Is(got[1].Err, journal.ErrConflict) || !errors.Is(got[2].Err, journal.ErrNew) {
		t.Errorf("got %+v and %+v", got[1], got[2])
	}
	if held := history(t, s); len(held) != 1 {
		t.Errorf("%d events are held", len(held))
	}
}

func TestRepeatsInOneCommitAndAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	s := start(t, options{queue: queue.Config{Dir: dir}})
	got := submit(t, s, admitted("1", "k", `{"a": 1}`, "nyc"), admitted("1", "k", `{"a":1}`, "nyc"), admitted("1", "k", `{"a":2}`, "nyc"))
	if got[0].Repeat || got[0].Err != nil || !got[1].Repeat || got[1].Pos != got[0].Pos || !errors.Is(got[2].Err, journal.ErrConflict) {
		t.Fatalf("in one commit: %+v", got)
	}
	s.stop()
	s = start(t, options{queue: queue.Config{Dir: dir}})
	defer s.stop()
	again := submit(t, s, admitted("1", "k", `{"a":1}`, "nyc"), admitted("1", "k", `[]`, "nyc"), admitted("2", "k", `[]`, "nyc"))
	if !again[0].Repeat || again[0].Pos != got[0].Pos || !errors.Is(again[1].Err, journal.ErrConflict) || again[2].Repeat {
		t.Fatalf("after a restart: %+v", again)
	}
	if s.Highest("nyc") != 2 {
		t.Fatalf("lane is at %d, want 2", s.Highest("nyc"))
	}
}

func TestWindowForgetsTheOldest(t *testing.T) {
	s := started(t, options{journal: journal.Config{Window: 2}})
	for i := range 4 {
		submit(t, s, admitted(fmt.Sprint(i), "", data(i)))
	}
	got := submit(t, s, admitted("3", "", data(3)), admitted("0", "", data(0)))
	if !got[0].Repeat || got[1].Repeat {
		t.Fatalf("newest and oldest again: %+v", got)
	}
}

func TestOneRefusedEventDoesNotStopTheOthers(t *testing.T) {
	s := started(t, options{})
	bad := admitted("", "k", data(1), "nyc")
	long := admitted("2", strings.Repeat("k", journal.MaxKey+1), data(1), "nyc")
	got := submit(t, s, bad, long, admitted("3", "k", data(3), "nyc"))
	if !errors.Is(got[0].Err, event.ErrInvalid) || !errors.Is(got[1].Err, journal.ErrInvalid) || got[2].Err != nil || got[2].Pos != 1 {
		t.Fatalf("%+v", got)
	}
	if _, err := s.Submit(t.Context(), make([]journal.Admitted, journal.MaxCommitEvents+1)); !errors.Is(err, journal.ErrLimit) {
		t.Fatalf("too many events: %v", err)
	}
}

func TestGroupsMakeLongBlocksAndKeepKeyOrder(t *testing.T) {
	s := started(t, options{})
	var batch []journal.Admitted
	for i := range 300 {
		dest := []string{"nyc", "tok"}[i%2]
		batch = append(batch, admitted(fmt.Sprint(i), fmt.Sprintf("k%d", i), data(i), dest))
	}
	submit(t, s, batch...)
	cuts, _, err := s.Cut(map[string]uint64{"nyc": 1, "tok": 1}, 0, 100)
	if err != nil || len(cuts) != 2 {
		t.Fatalf("%d blocks for two sets of destinations (%v), want 2", len(cuts), err)
	}
}

// leveled lets a test say how full the log is.
type leveled struct {
	journal.Log
	level float64
}

func (l *leveled) Level() float64 { return l.level }

func TestLevels(t *testing.T) {
	kinds := map[string]func(s *site) error{
		"submit": func(s *site) error {
			_, err := s.Submit(t.Context(), []journal.Admitted{admitted("a", "", "1", "nyc")})
			return err
		},
		"receive": func(s *site) error {
			_, err := s.Receive(t.Context(), inbound(t, "nyc", 1, 1, 1), time.Now())
			return err
		},
		"control": func(s *site) error {
			_, err := s.Submit(t.Context(), []journal.Admitted{admitted("f", "", "1", block.Control)})
			return err
		},
		"gap": func(s *site) error { _, err := s.ReceiveGap(t.Context(), "nyc", 1, 1, 1, "lost"); return err },
	}
	for _, tc := range []struct {
		level float64
		full  []string
	}{
		{0.89, nil},
		{0.90, []string{"submit"}},
		{0.95, []string{"submit", "receive"}},
		{0.98, []string{"submit", "receive", "control", "gap"}},
	} {
		for kind, call := range kinds {
			s := start(t, options{queue: queue.Config{Dir: t.TempDir()}, wrap: func(l journal.Log) journal.Log { return &leveled{l, tc.level} }})
			err := call(s)
			if want := slices.Contains(tc.full, kind); errors.Is(err, journal.ErrFull) != want || !want && err != nil {
				t.Errorf("%s at %v: %v, want full %v", kind, tc.level, err, want)
			}
			s.stop()
		}
	}
}

func TestReceiveRefuses(t *testing.T) {
	s := started(t, options{})
	good := inbound(t, "nyc", 5, 1, 3)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	if _, err := s.Receive(t.Context(), flipped, time.Now()); !errors.Is(err, journal.ErrCorrupt) {
		t.Errorf("flipped bit: %v", err)
	}
	if _, err := s.Receive(t.Context(), inbound(t, "nyc", 5, 1, 3, "tok"), time.Now()); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("block for another agent: %v", err)
	}
	if got, err := s.Receive(t.Context(), good, time.Now()); err != nil || got != (journal.Received{Highwater: 3, Count: 3}) {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := s.Receive(t.Context(), inbound(t, "nyc", 4, 1, 1), time.Now()); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("older epoch: %v", err)
	}
	if got, err := s.Receive(t.Context(), inbound(t, "nyc", 6, 1, 1), time.Now()); err != nil || got.Highwater != 1 {
		t.Errorf("newer epoch: %+v %v", got, err)
	}
	want := []journal.Inbound{{Source: "nyc", Epoch: 5, Highwater: 3}, {Source: "nyc", Epoch: 6, Highwater: 1}}
	if got := s.Highwaters(); !slices.Equal(got, want) {
		t.Errorf("high-waters %v, want %v", got, want)
	}
}

func TestReceiveGapMovesTheLaneAndLeavesARecord(t *testing.T) {
	s := started(t, options{})
	if got, err := s.ReceiveGap(t.Context(), "nyc", 1, 1, 4, "damaged at the source"); err != nil || got.Highwater != 4 || got.Duplicate {
		t.Fatalf("%+v %v", got, err)
	}
	if got, err := s.ReceiveGap(t.Context(), "nyc", 1, 3, 4, "again"); err != nil || !got.Duplicate {
		t.Fatalf("a gap again: %+v %v", got, err)
	}
	if _, err := s.ReceiveGap(t.Context(), "nyc", 1, 9, 9, "too far"); !errors.Is(err, journal.ErrGap) {
		t.Fatalf("a gap behind a gap: %v", err)
	}
	if got, err := s.Receive(t.Context(), inbound(t, "nyc", 1, 3, 5), time.Now()); err != nil || got.Count != 3 || got.Highwater != 7 {
		t.Fatalf("a block over the end of the gap: %+v %v", got, err)
	}
	items, _, err := s.ReadLocal(0, 100)
	if err != nil || len(items) != 3 || items[0].Index != 2 {
		t.Fatalf("%d events (%v), want those beyond the gap", len(items), err)
	}
	gaps, err := s.Gaps(t.Context())
	if err != nil || len(gaps) != 1 || gaps[0].Last != 4 || gaps[0].Cause != "damaged at the source" {
		t.Fatalf("gap records %+v %v", gaps, err)
	}
}

func TestStoppedJournalAnswers(t *testing.T) {
	s := start(t, options{queue: queue.Config{Dir: t.TempDir()}})
	s.stop()
	if _, err := s.Submit(t.Context(), []journal.Admitted{admitted("1", "", "1")}); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("submit after the end: %v", err)
	}
}

// failing fails its appends in a given way.
type failing struct {
	journal.Log
	err error
}

func (f *failing) Append(records [][]byte, marks map[string]uint64) (uint64, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Log.Append(records, marks)
}

func TestFullLogRefusesAndGoesOn(t *testing.T) {
	f := &failing{err: queue.ErrFull}
	s := started(t, options{wrap: func(l journal.Log) journal.Log { f.Log = l; return f }})
	if _, err := s.Submit(t.Context(), []journal.Admitted{admitted("1", "", "1", "nyc")}); !errors.Is(err, journal.ErrFull) {
		t.Fatalf("%v, want ErrFull", err)
	}
	if s.Highest("nyc") != 0 {
		t.Fatal("a number was given to an event that was not committed")
	}
	f.err = nil
	if got := submit(t, s, admitted("1", "", "1", "nyc")); got[0].Repeat || got[0].Err != nil || s.Highest("nyc") != 1 {
		t.Fatalf("after space returned: %+v, lane at %d", got, s.Highest("nyc"))
	}
}

func TestFailedLogEndsTheJournal(t *testing.T) {
	log, err := queue.Open(queue.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	j, err := journal.Open(journal.Config{Log: &failing{log, queue.ErrFatal}, Self: "ham"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- j.Run(t.Context()) }()
	if receipts, err := j.Submit(t.Context(), []journal.Admitted{admitted("1", "", "1")}); !errors.Is(err, queue.ErrFatal) || receipts != nil {
		t.Fatalf("%v %v, want the log's error and no receipt", receipts, err)
	}
	if err := <-done; !errors.Is(err, queue.ErrFatal) {
		t.Fatalf("Run ended with %v", err)
	}
}

// counted counts the reads of a log.
type counted struct {
	journal.Log
	reads *int
}

func (c counted) Each(from uint64, maxRecords, maxBytes int, fn func(pos, last uint64, data []byte, damage error)) error {
	*c.reads++
	return c.Log.Each(from, maxRecords, maxBytes, fn)
}

// A site that only sends does not read again what it sent when it looks for events of its
// own, and misses none that comes later.
func TestReadLocalPassesOverWhatIsForOthers(t *testing.T) {
	reads := 0
	s := started(t, options{wrap: func(l journal.Log) journal.Log { return counted{l, &reads} }})
	for i := range 5 {
		submit(t, s, admitted(fmt.Sprint("away-", i), "k", data(i), "eggs"))
	}
	before := reads
	items, next, err := s.ReadLocal(0, 10)
	if err != nil || len(items) != 0 || next != s.Next() || reads != before {
		t.Errorf("%d items, next %d of %d, %d reads, %v; want none of each, and the end", len(items), next, s.Next(), reads-before, err)
	}
	here := submit(t, s, admitted("here", "k", data(9), "ham"))[0].Pos
	submit(t, s, admitted("away", "k", data(10), "eggs"))
	for _, from := range []uint64{0, here} {
		if items, _, err := s.ReadLocal(from, 10); err != nil || len(items) != 1 || items[0].Pos != here {
			t.Errorf("read from %d: %v, %v; want the event at %d", from, items, err, here)
		}
	}
}
