package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/protocol/event"
)

// fill submits n events, three of four to nyc and every second to tok as well.
func fill(t fataler, s *site, n int) {
	for i := range n {
		agents := []string{"nyc", "tok"}
		switch i % 4 {
		case 1:
			agents = []string{"nyc"}
		case 3:
			agents = []string{"ham"}
		}
		submit(t, s, admitted(fmt.Sprint("event-", i), fmt.Sprint(i%5), data(i), agents...))
	}
}

func logFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(names) < 3 {
		t.Fatalf("files %v %v, want several", names, err)
	}
	return names
}

func TestDamagedRecordBecomesAGapOfItsLanesOnly(t *testing.T) {
	dir := t.TempDir()
	o := options{queue: queue.Config{Dir: dir}}
	s := start(t, o)
	fill(t, s, 40)
	s.stop()
	path, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	b, err := os.ReadFile(path[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{`"event-17"`, `"event-39"`} { // 17 goes to nyc only
		at := bytes.Index(b, []byte(id))
		if at < 0 {
			t.Fatalf("%s is not in the file", id)
		}
		for ; at >= 0; at = bytes.Index(b, []byte(id)) {
			b[at] ^= 1
		}
	}
	if err := os.WriteFile(path[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	var reported []uint64
	o.journal.OnDamage = func(first, last uint64, err error) { reported = append(reported, first, last) }
	s = start(t, o)
	defer s.stop()
	for _, from := range []uint64{0, 5, 18, 19, 30} {
		for _, blocks := range []int{1, 100} {
			lanes, gaps := drain(t, s, map[string]uint64{"nyc": 1, "tok": 1}, from, blocks)
			if len(lanes["nyc"]) != 29 || len(lanes["tok"]) != 20 {
				t.Fatalf("from %d: %d and %d events, want 29 and 20", from, len(lanes["nyc"]), len(lanes["tok"]))
			}
			if len(gaps) != 1 || gaps[0].Destination != "nyc" || gaps[0].First != 14 || gaps[0].Last != 14 || gaps[0].Cause == "" {
				t.Fatalf("from %d: gaps %+v, want number 14 to nyc", from, gaps)
			}
		}
	}
	if !slices.Equal(reported, []uint64{18, 18, 40, 40}) {
		t.Fatalf("reported %v, want each damaged record once", reported)
	}
	items, next, err := s.ReadLocal(0, 100)
	if err != nil || len(items) != 9 || next != s.Next() {
		t.Fatalf("%d local events up to %d (%v), want 9", len(items), next, err)
	}
}

func TestLostNewestFileNeverGivesANumberTwice(t *testing.T) {
	dir := t.TempDir()
	o := options{queue: queue.Config{Dir: dir, SegmentBytes: 32 << 10, Quota: 8 << 20}}
	s := start(t, o)
	fill(t, s, 400)
	before := s.Outbound()
	s.stop()
	names := logFiles(t, dir)
	if err := os.WriteFile(names[len(names)-1], []byte("gone"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second start finds nothing settled by an append
		s = start(t, o)
		for dest, n := range s.Outbound() {
			if n < before[dest] {
				t.Fatalf("lane to %s goes on at %d, %d was given before", dest, n, before[dest])
			}
		}
		s.stop()
	}
	s = start(t, o)
	submit(t, s, admitted("after", "k", "1", "nyc", "tok"))
	s.stop()
	s = start(t, o)
	defer s.stop()
	lanes, gaps := drain(t, s, map[string]uint64{"nyc": 1, "tok": 1}, 0, 10)
	for _, dest := range []string{"nyc", "tok"} {
		items := lanes[dest]
		if e := items[len(items)-1]; !bytes.Contains(e.Body, []byte(`"after"`)) {
			t.Errorf("lane to %s ends with %s", dest, e.Body)
		}
	}
	if len(gaps) != 2 || s.Highest("nyc") <= before["nyc"]+1 {
		t.Errorf("gaps %+v, lane at %d, was at %d", gaps, s.Highest("nyc"), before["nyc"])
	}
}

func TestTrimmedHistoryIsAGap(t *testing.T) {
	o := options{queue: queue.Config{Dir: t.TempDir(), SegmentBytes: 32 << 10, Quota: 8 << 20}}
	s := start(t, o)
	defer s.stop()
	fill(t, s, 400)
	if dropped, err := s.Trim(200, time.Time{}); err != nil || dropped == 0 {
		t.Fatalf("trimmed %d, %v", dropped, err)
	}
	lanes, gaps := drain(t, s, map[string]uint64{"nyc": 1}, 0, 10)
	if len(gaps) != 1 || gaps[0].First != 1 || int(gaps[0].Last)+len(lanes["nyc"]) != int(s.Highest("nyc")) {
		t.Fatalf("gaps %+v and %d events of %d", gaps, len(lanes["nyc"]), s.Highest("nyc"))
	}
	if _, _, err := s.Cut(map[string]uint64{"nyc": 300}, s.First(), 10); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Cut(map[string]uint64{"nyc": gaps[0].Last + 1}, s.Next()-1, 10); !errors.Is(err, journal.ErrSeek) {
		t.Fatalf("a cut from behind the wanted number: %v, want ErrSeek", err)
	}
	if _, err := s.Get(journal.Ref{Pos: 1}); !errors.Is(err, journal.ErrNotHeld) {
		t.Fatalf("get of a trimmed event: %v", err)
	}
}

func TestSeekFindsEveryNumber(t *testing.T) {
	s := started(t, options{})
	var batch []journal.Admitted
	for i := range 3000 {
		batch = append(batch, admitted(fmt.Sprint(i), "", data(i), []string{"nyc", "tok"}[i%2]))
	}
	for chunk := range slices.Chunk(batch, 100) {
		submit(t, s, chunk...)
	}
	for _, n := range []uint64{0, 1, 2, 700, 1023, 1024, 1025, 1026, 1499, 1500} {
		pos, err := s.Seek("tok", n)
		if err != nil {
			t.Fatal(err)
		}
		item, err := s.Get(journal.Ref{Pos: pos})
		if err != nil {
			t.Fatal(err)
		}
		if len(item.Numbers) != 1 || item.Numbers[0].Agent != "tok" || item.Numbers[0].Seq != max(n, 1) {
			t.Fatalf("seek of %d gives %v", n, item.Numbers)
		}
	}
	if pos, err := s.Seek("tok", 1501); err != nil || pos != s.Next() {
		t.Fatalf("seek of the next number: %d %v, want %d", pos, err, s.Next())
	}
}

func TestHooksStandBeforeAndAfterTheCommit(t *testing.T) {
	var steps []string
	o := options{queue: queue.Config{Dir: t.TempDir()}}
	o.journal.Hook = func(step string) { steps = append(steps, step) }
	s := start(t, o)
	submit(t, s, admitted("1", "", "1"))
	submit(t, s, admitted("1", "", "1")) // nothing to commit
	s.stop()
	if !slices.Equal(steps, []string{"before-commit", "after-commit"}) {
		t.Fatalf("%v", steps)
	}
}

func TestScanFindsAKeyAcceptedAndReceived(t *testing.T) {
	s := started(t, options{})
	submit(t, s, admitted("a", "k1", "1", "nyc"), admitted("b", "k2", "2", "nyc"))
	if _, err := s.Receive(t.Context(), inbound(t, "nyc", 1, 1, 5), time.UnixMilli(77)); err != nil {
		t.Fatal(err)
	}
	var got []string
	hash := history(t, s)[0].Head.Key
	err := s.Scan(t.Context(), hash, func(i journal.ScanItem) bool {
		e, err := event.Unmarshal(i.Event)
		if err != nil || i.Received.IsZero() || i.Source == "nyc" && i.Relayed.UnixMilli() != 77 {
			t.Errorf("%+v %v", i, err)
		}
		got = append(got, e.ID)
		return len(got) < 3
	})
	if want := []string{"a", "nyc-1-1", "nyc-1-4"}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v %v, want %v", got, err, want)
	}
}

func TestRefText(t *testing.T) {
	if got := (journal.Ref{Pos: 4711, Index: 12}).String(); got != "4711.12" {
		t.Fatal(got)
	}
}
