package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func small(dir string) Config { return Config{Dir: dir, SegmentBytes: 64 << 10, Quota: 64 << 20} }

func records(n int, what string) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, "%s-%d", what, i)
	}
	return out
}

func mustAppend(t testing.TB, l *Log, recs [][]byte, marks map[string]uint64) uint64 {
	t.Helper()
	first, err := l.Append(recs, marks)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

func all(t testing.TB, l *Log) []Record {
	t.Helper()
	var out []Record
	if err := l.Export(0, func(r Record) error { out = append(out, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// model is what the log should be: the records still held, and numbers.
type model struct {
	first   uint64
	records [][]byte
	marks   map[string]uint64
	cursors map[string]uint64
}

func TestLogAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "queue")
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		cfg := Config{Dir: dir, SegmentBytes: 32 << 10, Quota: 8 << 20}
		l, err := Open(cfg)
		if err != nil {
			rt.Fatal(err)
		}
		m := &model{first: 1, marks: map[string]uint64{}, cursors: map[string]uint64{}}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) { m.append(rt, l) },
			"read":   func(rt *rapid.T) { m.read(rt, l) },
			"trim":   func(rt *rapid.T) { m.trim(rt, l) },
			"cursor": func(rt *rapid.T) {
				name := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "cursor")
				m.cursors[name] = rapid.Uint64Range(0, 1000).Draw(rt, "at")
				l.SaveCursor(name, m.cursors[name])
			},
			"reopen": func(rt *rapid.T) {
				if err := l.Close(); err != nil {
					rt.Fatal(err)
				}
				if l, err = Open(cfg); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) { m.check(rt, l) },
		})
		if err := l.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

func (m *model) next() uint64 { return m.first + uint64(len(m.records)) }

func (m *model) append(rt *rapid.T, l *Log) {
	var recs [][]byte
	for range rapid.IntRange(0, 40).Draw(rt, "records") {
		size := rapid.SampledFrom([]int{0, 1, 30, 300, 5000}).Draw(rt, "size")
		recs = append(recs, bytes.Repeat([]byte{byte(len(m.records) + len(recs))}, size))
	}
	marks := map[string]uint64{}
	if rapid.Bool().Draw(rt, "mark") {
		marks[rapid.SampledFrom([]string{"out/x", "out/y", "in/z/1"}).Draw(rt, "name")] = rapid.Uint64().Draw(rt, "value")
	}
	first, err := l.Append(recs, marks)
	if err != nil {
		rt.Fatal(err)
	}
	if first != m.next() {
		rt.Fatalf("appended at %d, want %d", first, m.next())
	}
	m.records = append(m.records, recs...)
	maps.Copy(m.marks, marks)
}

func (m *model) read(rt *rapid.T, l *Log) {
	from := rapid.Uint64Range(0, m.next()+2).Draw(rt, "from")
	count := rapid.IntRange(1, 100).Draw(rt, "count")
	limit := rapid.IntRange(1, 20000).Draw(rt, "bytes")
	got, err := l.Read(from, count, limit)
	if err != nil {
		rt.Fatal(err)
	}
	at, size := max(from, m.first), 0
	for i, r := range got {
		if r.Err != nil || r.Pos != at || r.Last != at || !bytes.Equal(r.Data, m.records[at-m.first]) {
			rt.Fatalf("record %d of read from %d: %d..%d %q %v, want position %d", i, from, r.Pos, r.Last, r.Data, r.Err, at)
		}
		if i > 0 && size >= limit {
			rt.Fatalf("read goes on after %d bytes, the limit was %d", size, limit)
		}
		size += len(r.Data)
		at++
	}
	if at < m.next() && len(got) < count && size < limit {
		rt.Fatalf("read from %d stops at %d after %d records and %d bytes, the log ends at %d", from, at, len(got), size, m.next())
	}
}

func (m *model) trim(rt *rapid.T, l *Log) {
	before := rapid.Uint64Range(0, m.next()).Draw(rt, "before")
	held := l.Usage().Records
	dropped, err := l.Trim(before, time.Time{})
	if err != nil {
		rt.Fatal(err)
	}
	first := l.First()
	if dropped > 0 && first > before || first < m.first || first-m.first != dropped || l.Usage().Records != held-dropped {
		rt.Fatalf("trim before %d dropped %d, first went from %d to %d", before, dropped, m.first, first)
	}
	m.records = m.records[dropped:]
	m.first = first
}

func (m *model) check(rt *rapid.T, l *Log) {
	if l.First() != m.first && len(m.records) > 0 || l.Next() != m.next() {
		rt.Fatalf("log holds %d..%d, want %d..%d", l.First(), l.Next(), m.first, m.next())
	}
	if got := l.Marks(""); !maps.Equal(got, m.marks) {
		rt.Fatalf("marks %v, want %v", got, m.marks)
	}
	for name, want := range m.cursors {
		if got := l.Cursor(name); got != want {
			rt.Fatalf("cursor %s is %d, want %d", name, got, want)
		}
	}
	if u := l.Usage(); u.Records != uint64(len(m.records)) {
		rt.Fatalf("%d records counted, want %d", u.Records, len(m.records))
	}
}

func TestTrimKeepsWhatIsYoungAndTheNewestFile(t *testing.T) {
	cfg := small(t.TempDir())
	now := time.Unix(1e9, 0)
	cfg.Now = func() time.Time { return now }
	l := open(t, cfg)
	for range 12 {
		mustAppend(t, l, [][]byte{make([]byte, 40<<10)}, nil)
		now = now.Add(time.Hour)
	}
	if got, err := l.Trim(l.Next(), time.Unix(1e9, 0)); err != nil || got != 0 {
		t.Fatalf("trimmed %d, %v of files that are too young", got, err)
	}
	if _, err := l.Trim(l.Next(), time.Unix(1e9, 0).Add(5*time.Hour)); err != nil || l.First() == 1 || l.First() > 6 {
		t.Fatalf("after a trim by age the log begins at %d (%v), want 2 to 6", l.First(), err)
	}
	if _, err := l.Trim(l.Next(), time.Time{}); err != nil || l.Next() != 13 || l.First() >= 13 {
		t.Fatalf("after a trim of all the log holds %d..%d (%v)", l.First(), l.Next(), err)
	}
	names, err := filepath.Glob(filepath.Join(cfg.Dir, "*"+suffix))
	if err != nil || len(names) != 1 {
		t.Fatalf("files after the trim: %v %v, want one", names, err)
	}
}

func TestSecondOpenNamesTheDirectory(t *testing.T) {
	cfg := small(t.TempDir())
	open(t, cfg)
	if _, err := Open(cfg); !errors.Is(err, ErrInUse) || !bytes.Contains([]byte(err.Error()), []byte(cfg.Dir)) {
		t.Fatalf("second open: %v, want ErrInUse that names %s", err, cfg.Dir)
	}
	if _, err := Inspect(cfg.Dir); !errors.Is(err, ErrInUse) {
		t.Fatalf("inspect of a running agent's directory: %v, want ErrInUse", err)
	}
}

// A directory that was removed under the log, or stands for another one, is told, and one that
// was put back is the log's again.
func TestGone(t *testing.T) {
	cfg := small(filepath.Join(t.TempDir(), "journal"))
	l := open(t, cfg)
	mustAppend(t, l, records(1, "a"), nil)
	aside := cfg.Dir + ".aside"
	check := func(when string, want error) {
		t.Helper()
		if err := l.Gone(); !errors.Is(err, want) || err != nil && !bytes.Contains([]byte(err.Error()), []byte(cfg.Dir)) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
	}
	check("at first", nil)
	if err := os.Rename(cfg.Dir, aside); err != nil {
		t.Skipf("SKIPPED: this system moves no directory with open files: %v", err)
	}
	check("with nothing there", ErrGone)
	other := open(t, cfg)
	check("with another log there", ErrGone)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(cfg.Dir), os.Rename(aside, cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	check("put back", nil)
	if err := os.RemoveAll(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	check("removed", ErrGone)
	if got := all(t, l); len(got) != 1 || got[0].Err != nil {
		t.Errorf("what was read so far is not read any more: %v", got)
	}
}

// unknown is a file of which the system does not say which it is.
type unknown struct{ os.FileInfo }

// What is not known to be another file is none: else a running log would be called gone.
func TestReplaced(t *testing.T) {
	dir := t.TempDir()
	stat := func(name string) os.FileInfo {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			if err = os.WriteFile(path, nil, 0o600); err == nil {
				info, err = os.Stat(path)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	a, b := stat("a"), stat("b")
	for _, c := range []struct {
		name     string
		was, now os.FileInfo
		want     bool
	}{
		{"the same", a, stat("a"), false},
		{"another", a, b, true},
		{"what is there cannot be told", a, unknown{a}, false},
		{"what was there cannot be told", unknown{a}, b, false},
	} {
		if got := replaced(c.was, c.now); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

func TestWait(t *testing.T) {
	l := open(t, small(t.TempDir()))
	done := make(chan error, 1)
	go func() { done <- l.Wait(t.Context(), 2) }()
	mustAppend(t, l, records(1, "a"), nil)
	select {
	case err := <-done:
		t.Fatalf("wait for position 2 ended at next %d: %v", l.Next(), err)
	default:
	}
	mustAppend(t, l, records(1, "b"), nil)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stop")
	cancel(cause)
	if err := l.Wait(ctx, 100); !errors.Is(err, cause) {
		t.Fatalf("wait after the end: %v", err)
	}
}

func TestLimits(t *testing.T) {
	l := open(t, small(t.TempDir()))
	for name, call := range map[string]func() error{
		"record":    func() error { _, err := l.Append([][]byte{make([]byte, MaxRecordBytes+1)}, nil); return err },
		"mark":      func() error { _, err := l.Append(nil, map[string]uint64{"": 1}); return err },
		"long mark": func() error { _, err := l.Append(nil, map[string]uint64{string(make([]byte, 2000)): 1}); return err },
	} {
		if err := call(); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v, want ErrLimit", name, err)
		}
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("a log without a directory was opened")
	}
}

func TestQuotaIsAHardLimitAndTrimFreesIt(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), SegmentBytes: 64 << 10, Quota: 1 << 20}
	l := open(t, cfg)
	acked := uint64(0)
	for {
		_, err := l.Append([][]byte{make([]byte, 20<<10)}, nil)
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		acked++
	}
	var full interface{ Full() bool }
	if _, err := l.Append(records(1, "x"), nil); !errors.As(err, &full) || !full.Full() {
		t.Fatalf("append beyond the quota: %v, want an error that is Full", err)
	}
	if got := uint64(len(all(t, l))); got != acked || acked < 20 {
		t.Fatalf("%d records held, %d acknowledged", got, acked)
	}
	if l.Level() < 1 {
		t.Fatalf("level %v when full", l.Level())
	}
	if _, err := l.Trim(acked/2, time.Time{}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, records(1, "x"), nil)
}

// Another quota holds at once; a smaller one drops nothing.
func TestSetQuota(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir(), SegmentBytes: 64 << 10, Quota: 1 << 20})
	mustAppend(t, l, [][]byte{make([]byte, 20<<10)}, nil)
	l.SetQuota(1)
	if _, err := l.Append(records(1, "x"), nil); !errors.Is(err, ErrFull) {
		t.Errorf("append beyond the new quota: %v", err)
	}
	l.SetQuota(8 << 20)
	mustAppend(t, l, [][]byte{make([]byte, 2<<20)}, nil)
	mustAppend(t, l, records(1, "x"), nil)
	if got := len(all(t, l)); got != 3 || l.Usage().Quota != 8<<20 {
		t.Errorf("%d records held, the quota is %d", got, l.Usage().Quota)
	}
}

func TestInspectVerifyExportOfAStoppedAgent(t *testing.T) {
	cfg := small(t.TempDir())
	l := open(t, cfg)
	want := records(5000, "rec")
	for chunk := range slices.Chunk(want, 500) {
		mustAppend(t, l, chunk, map[string]uint64{"out/erp": 7})
	}
	l.SaveCursor("push", 12)
	running, err := l.Inspect()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	stopped, err := Inspect(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if stopped.Next != 5001 || stopped.Records != 5000 || stopped.Marks["out/erp"] != 7 || stopped.Cursors["push"] != 12 || len(stopped.Files) < 2 {
		t.Fatalf("report: %+v", stopped)
	}
	if running.Next != stopped.Next || len(running.Files) != len(stopped.Files) {
		t.Fatalf("running %+v and stopped %+v differ", running, stopped)
	}
	if damage, err := Verify(cfg.Dir); err != nil || len(damage) > 0 {
		t.Fatalf("verify: %v %v", damage, err)
	}
	var got [][]byte
	if err := Export(cfg.Dir, 0, func(r Record) error { got = append(got, r.Data); return r.Err }); err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("exported %d records, want %d equal ones", len(got), len(want))
	}
	if _, err := Inspect(filepath.Join(cfg.Dir, "nothing")); err == nil {
		t.Fatal("inspect of no directory gave no error")
	}
}
