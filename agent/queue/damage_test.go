package queue

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	berrors "go.etcd.io/bbolt/errors"
)

// fillRow writes records over several files and gives them by position.
func fillRow(t testing.TB, dir string) (want [][]byte) {
	t.Helper()
	l, err := Open(Config{Dir: dir, SegmentBytes: 48 << 10, Quota: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		var batch [][]byte
		for k := range 1 + random.IntN(30) {
			batch = append(batch, fmt.Appendf(nil, "record %d.%d %s", i, k, bytes.Repeat([]byte("x"), random.IntN(400))))
		}
		mustAppend(t, l, batch, map[string]uint64{"out/erp": uint64(len(want) + len(batch))})
		want = append(want, batch...)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

func rowFiles(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(names) < 3 {
		t.Fatalf("files %v %v, want several", names, err)
	}
	return names
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func flip(t testing.TB, path string, bit int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[bit/8] ^= 1 << (bit % 8)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkDamaged reads everything: each position is either what was written or an error, in
// order, and what is appended next gets a position that was never acknowledged.
func checkDamaged(t *testing.T, dir string, want [][]byte) (damaged int) {
	t.Helper()
	l := open(t, Config{Dir: dir, SegmentBytes: 48 << 10, Quota: 16 << 20})
	at := l.First()
	for _, r := range all(t, l) {
		if r.Pos != at || r.Last < r.Pos {
			t.Fatalf("record %d..%d, want one from %d on", r.Pos, r.Last, at)
		}
		if r.Err != nil {
			damaged += int(r.Last - r.Pos + 1)
		} else if r.Pos > uint64(len(want)) || !bytes.Equal(r.Data, want[r.Pos-1]) {
			t.Fatalf("record %d is wrong and no error says so", r.Pos)
		}
		at = r.Last + 1
	}
	if at != l.Next() || l.Next() <= uint64(len(want)) {
		t.Fatalf("read up to %d, next is %d, %d were acknowledged", at, l.Next(), len(want))
	}
	if !l.MarksStale() && l.Mark("out/erp") != uint64(len(want)) {
		t.Fatalf("mark is %d, want %d, and is not called stale", l.Mark("out/erp"), len(want))
	}
	pos := mustAppend(t, l, [][]byte{[]byte("after")}, nil)
	got, err := l.Read(pos, 1, 1)
	if err != nil || len(got) != 1 || string(got[0].Data) != "after" || pos <= uint64(len(want)) {
		t.Fatalf("append after the damage at %d: %v %v", pos, got, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return damaged
}

func TestFlippedBitInARecordIsDetected(t *testing.T) {
	source := t.TempDir()
	want := fillRow(t, source)
	names := rowFiles(t, source)
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		i := random.IntN(len(want))
		dir := copyDir(t, source)
		for _, name := range names {
			path := filepath.Join(dir, filepath.Base(name))
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; ; at++ { // every copy, also of pages no longer in use
				k := bytes.Index(b[at:], want[i])
				if k < 0 {
					break
				}
				at += k
				flip(t, path, int64(at*8+random.IntN(len(want[i])*8)))
			}
		}
		if got := checkDamaged(t, dir, want); got != 1 {
			t.Fatalf("a bit of record %d: %d records damaged, want 1", i+1, got)
		}
	}
}

func TestFlippedBitAnywhereNeverGivesAWrongRecord(t *testing.T) {
	source := t.TempDir()
	want := fillRow(t, source)
	names := rowFiles(t, source)
	random := rand.New(rand.NewPCG(5, uint64(time.Now().UnixNano())))
	harmed := 0
	for range 50 {
		dir := copyDir(t, source)
		name := names[random.IntN(len(names))]
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		bit := random.Int64N(info.Size() * 8)
		if random.IntN(3) == 0 { // where pages describe themselves
			bit = bit/(4096*8)*(4096*8) + random.Int64N(160*8)
		}
		t.Logf("bit %d of %s", bit, filepath.Base(name))
		flip(t, filepath.Join(dir, filepath.Base(name)), bit)
		if checkDamaged(t, dir, want) > 0 {
			harmed++
		}
		_ = os.RemoveAll(dir)
	}
	if harmed == 0 {
		t.Fatal("no flip had an effect: the test looks in the wrong place")
	}
}

func TestUnreadableFilesAreMovedAside(t *testing.T) {
	garbage := func(t *testing.T, path string) {
		if err := os.WriteFile(path, bytes.Repeat([]byte("garbage "), 4096), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	truncate := func(t *testing.T, path string) {
		if err := os.Truncate(path, 50); err != nil {
			t.Fatal(err)
		}
	}
	half := func(t *testing.T, path string) {
		if err := os.Truncate(path, 16<<10); err != nil {
			t.Fatal(err)
		}
	}
	for name, harm := range map[string]func(*testing.T, string){"garbage": garbage, "truncated": truncate, "half": half} {
		for _, which := range []string{"first", "middle", "newest"} {
			t.Run(name+" "+which, func(t *testing.T) {
				dir := t.TempDir()
				want := fillRow(t, dir)
				names := rowFiles(t, dir)
				i := map[string]int{"first": 0, "middle": 1, "newest": len(names) - 1}[which]
				harm(t, names[i])
				testLostFile(t, dir, want, names, i, name != "half")
			})
		}
	}
}

func testLostFile(t *testing.T, dir string, want [][]byte, names []string, i int, aside bool) {
	first, _ := firstOf(filepath.Base(names[i]))
	var reported []uint64
	cfg := Config{Dir: dir, SegmentBytes: 48 << 10, Quota: 16 << 20, OnDamage: func(from, to uint64, err error) {
		if !errors.Is(err, ErrDamage) {
			t.Errorf("reported %v", err)
		}
		reported = append(reported, from, to)
	}}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(names[i] + suffixDamaged); aside && err != nil {
		t.Errorf("the file is not kept: %v", err)
	}
	if aside && (len(reported) != 2 || reported[0] != first) {
		t.Errorf("reported %v, want positions from %d on", reported, first)
	}
	if newest := i == len(names)-1; newest != l.MarksStale() {
		t.Errorf("marks stale %v, newest file lost %v", l.MarksStale(), newest)
	}
	next := l.Next()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(cfg) // the state holds over a restart without an append
	if err != nil {
		t.Fatal(err)
	}
	if again.Next() != next || again.MarksStale() != (i == len(names)-1) {
		t.Errorf("after a restart next is %d, stale %v; before it was %d", again.Next(), again.MarksStale(), next)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if damaged := checkDamaged(t, dir, want); damaged == 0 {
		t.Error("no record is missing")
	}
	last := open(t, cfg)
	if last.MarksStale() {
		t.Error("marks are still stale after an append and a restart")
	}
	if _, err := last.Trim(last.Next(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+suffixDamaged)); len(left) > 0 {
		t.Errorf("trimmed, but %v stay", left)
	}
}

func TestDamagedCursorsStartOver(t *testing.T) {
	cfg := small(t.TempDir())
	l := open(t, cfg)
	l.SaveCursor("a", 7)
	mustAppend(t, l, records(3, "r"), nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, cursorFile), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	if got := l.Cursor("a"); got != 0 || l.Next() != 4 {
		t.Fatalf("cursor %d, next %d", got, l.Next())
	}
	l.SaveCursor("a", 2)
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestUnfinishedFileIsRemoved(t *testing.T) {
	cfg := small(t.TempDir())
	path := filepath.Join(cfg.Dir, fileName(1)+suffixNew)
	if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, cfg)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) || l.Next() != 1 {
		t.Fatalf("%v, next %d", err, l.Next())
	}
}

func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want error
	}{
		{&os.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}, ErrFull},
		{berrors.ErrMaxSizeReached, ErrFull},
		{syscall.ENOSPC, ErrFatal}, // as fdatasync returns it: what is on disk is unknown
		{errors.New("input/output error"), ErrFatal},
	} {
		if got := classify(tc.err); !errors.Is(got, tc.want) {
			t.Errorf("%v is %v, want %v", tc.err, got, tc.want)
		}
	}
}

// FuzzPages feeds the page check foreign bytes: it must neither panic nor hang.
func FuzzPages(f *testing.F) {
	dir := f.TempDir()
	fillRow(f, dir)
	b, err := os.ReadFile(rowFiles(f, dir)[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:32<<10])
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkPages(path, true); err != nil && !errors.Is(err, ErrDamage) {
			t.Fatal(err)
		}
		search(path)
	})
}
