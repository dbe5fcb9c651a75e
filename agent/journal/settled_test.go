package journal_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/protocol/block"
)

func TestSettledFollowsDeliveryAndARestart(t *testing.T) {
	o := options{queue: queue.Config{Dir: t.TempDir()}, journal: journal.Config{Window: 4}}
	s := start(t, o)
	take(t, s, inbound(t, "nyc", 1, 1, 3))                                       // position 1
	take(t, s, inbound(t, "tok", 7, 1, 2))                                       // 2
	submit(t, s, admitted("mine", "k", "1", "ham"))                              // 3
	take(t, s, inbound(t, "nyc", 1, 4, 5))                                       // 4
	take(t, s, inbound(t, "nyc", 2, 1, 1))                                       // 5
	submit(t, s, admitted("mine-too", "k", "1", "ham"))                          // 6
	if _, err := s.ReceiveGap(t.Context(), "nyc", 2, 2, 9, "lost"); err != nil { // 7
		t.Fatal(err)
	}
	lanes := func(numbers ...uint64) (out []journal.Inbound) {
		for i, l := range []journal.Inbound{{Source: "nyc", Epoch: 1}, {Source: "nyc", Epoch: 2}, {Source: "tok", Epoch: 7}} {
			if l.Highwater = numbers[i]; l.Highwater > 0 {
				out = append(out, l)
			}
		}
		return out
	}
	for _, tc := range []struct {
		below uint64
		want  []journal.Inbound
	}{
		{1, nil}, {2, lanes(3, 0, 0)}, {4, lanes(3, 0, 2)}, {5, lanes(8, 0, 2)}, {1, lanes(8, 0, 2)}, {7, lanes(8, 1, 2)}, {8, lanes(8, 9, 2)},
	} {
		if got := s.Settled(tc.below); !slices.Equal(got, tc.want) {
			t.Errorf("settled below %d: %v, want %v", tc.below, got, tc.want)
		}
	}
	s.stop()
	s = start(t, o) // it reads from position 4 on
	defer s.stop()
	for _, tc := range []struct {
		below uint64
		want  []journal.Inbound
	}{
		{3, nil}, {4, lanes(3, 0, 2)}, {5, lanes(8, 0, 2)}, {8, lanes(8, 9, 2)},
	} {
		if got := s.Settled(tc.below); !slices.Equal(got, tc.want) {
			t.Errorf("after a restart, settled below %d: %v, want %v", tc.below, got, tc.want)
		}
	}
}

// A system that is held for days must not make the list of what is not settled endless.
func TestSettledIsBounded(t *testing.T) {
	s := started(t, options{})
	for n := range uint64(5000) {
		if _, err := s.ReceiveGap(t.Context(), "nyc", 1, n+1, n+1, "x"); err != nil {
			t.Fatal(err)
		}
	}
	for _, below := range []uint64{1, 2500, 5001} {
		got := uint64(0)
		if l := s.Settled(below); len(l) > 0 {
			got = l[0].Highwater
		}
		if got >= below || got+4 < below {
			t.Errorf("settled below %d: %d", below, got)
		}
	}
}

func TestFlushed(t *testing.T) {
	o := options{queue: queue.Config{Dir: t.TempDir()}, journal: journal.Config{Window: 2}}
	s := start(t, o)
	defer func() { s.stop() }()
	revision := func(n uint64) block.Revision { return block.Revision{Generation: 1, Number: n} }
	accept := func(id string, n uint64, to string) error {
		a := admitted(id, "k", "1", to)
		a.Revision = revision(n)
		got, err := s.Submit(t.Context(), []journal.Admitted{a})
		if err != nil {
			return err
		}
		return got[0].Err
	}
	check := func(held, taken, want uint64) {
		t.Helper()
		got, err := s.Flushed(revision(held), func() (uint64, error) { return taken, nil })
		if err != nil || want == 0 && got != (block.Revision{}) || want > 0 && got != revision(want) {
			t.Errorf("with %d in force, taken below %d: flushed %v %v, want %d", held, taken, got, err, want)
		}
	}
	check(1, 1, 1)
	for i, n := range []uint64{1, 1, 2, 3} { // positions 1 to 4
		if err := accept(fmt.Sprint("a", i), n, "nyc"); err != nil {
			t.Fatal(err)
		}
	}
	check(3, 1, 1)
	check(3, 2, 1)
	check(3, 3, 2)
	if err := accept("late", 1, "nyc"); !errors.Is(err, journal.ErrOutdated) {
		t.Errorf("an event of a revision that is flushed: %v", err)
	}
	if err := accept("still", 2, "ham"); err != nil { // 5
		t.Error(err)
	}
	fact := admitted("fact", "k", "1", block.Control)
	fact.Revision = block.Revision{} // no policy decided about it
	if got := submit(t, s, fact); got[0].Err != nil {
		t.Errorf("a fact: %v", got[0].Err)
	}
	check(3, 4, 3)
	check(4, 4, 3)
	check(4, 4, 3)
	check(4, 5, 4)
	if _, err := s.Flushed(revision(4), func() (uint64, error) { t.Error("asked in vain"); return 0, nil }); err != nil {
		t.Error(err)
	}
	failed := errors.New("the disk")
	if err := accept("b", 4, "nyc"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Flushed(revision(5), func() (uint64, error) { return 0, failed }); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	s.stop()
	s = start(t, o)
	check(5, 2, 0) // what is to be sent lies before what was read at the start
	check(5, s.Next()-1, 4)
	check(5, s.Next(), 5)
}

// A restored control plane asks for numbers that were taken long ago: they go again as far
// as they are held, and what is not held any more is a gap that says why.
func TestLaneGoesBack(t *testing.T) {
	o := options{queue: queue.Config{Dir: t.TempDir(), SegmentBytes: 32 << 10, Quota: 8 << 20}, journal: journal.Config{Window: 8}}
	s := start(t, o)
	fill(t, s, 400)
	s.stop()
	s = start(t, o) // its index holds the last few numbers only
	defer s.stop()
	back := func(number uint64) ([]block.Item, []journal.Gap) {
		t.Helper()
		pos, err := s.Seek("nyc", number)
		if err != nil {
			t.Fatal(err)
		}
		lanes, gaps := drain(t, s, map[string]uint64{"nyc": number}, pos, 3)
		return lanes["nyc"], gaps
	}
	all := int(s.Highest("nyc"))
	for _, number := range []uint64{300, 17, 1} {
		if items, gaps := back(number); len(items) != all-int(number)+1 || len(gaps) != 0 {
			t.Errorf("back to %d: %d events and gaps %v", number, len(items), gaps)
		}
	}
	if _, err := s.Trim(200, time.Time{}); err != nil {
		t.Fatal(err)
	}
	items, gaps := back(1)
	if len(gaps) != 1 || gaps[0].First != 1 || int(gaps[0].Last)+len(items) != all || gaps[0].Cause != "no longer held in the source's journal: its history was let go after it had been taken" {
		t.Errorf("%d events and gaps %+v", len(items), gaps)
	}
}

func TestBlocksCarryTheEpochInForce(t *testing.T) {
	s := started(t, options{})
	submit(t, s, admitted("1", "k", "1", "nyc"))
	s.SetEpoch(6)
	submit(t, s, admitted("2", "k", "1", "nyc"))
	cuts, _, err := s.Cut(map[string]uint64{"nyc": 1}, 1, 10)
	if err != nil || len(cuts) != 1 {
		t.Fatal(cuts, err)
	}
	e, err := block.ParseEnvelope(cuts[0].Block)
	if err != nil || e.Origin.Epoch != 6 || e.Count != 2 || cuts[0].Lanes[0].First != 1 {
		t.Errorf("%+v %v", e, err)
	}
}
