package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// synced is a machine that syncs its file, as it does in use.
func synced(t testing.TB, dir string) *fixture {
	t.Helper()
	cfg := testConfig(dir)
	cfg.NoSync, cfg.MaxSize = false, 8<<20
	m, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if m.late == nil {
		t.Skip("here bbolt syncs each commit before the next, as its map cannot be made whole at the start")
	}
	f := &fixture{TB: t, Machine: m, dir: dir, now: start}
	t.Cleanup(func() { f.Close() })
	return f
}

func (f *fixture) file() []byte {
	f.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	return text
}

// mixed is what a power loss may leave of a file: of its pages some as they were when it was
// last synced, and some as they were written since.
func mixed(before, after []byte, written func(page int) bool) []byte {
	out := bytes.Clone(after)
	for at, page := 0, os.Getpagesize(); at < len(before); at += page {
		if !written(at / page) {
			copy(out[at:min(at+page, len(before))], before[at:])
		}
	}
	return out
}

// Whatever part of the newest commit is on disk after a power loss, the state opens at one
// of the two commits before, in whole, and the log brings it to where it was.
func TestPowerLoss(t *testing.T) {
	const seed = 11
	rnd := rand.New(rand.NewPCG(seed, seed))
	t.Logf("seed %d", seed)
	f := synced(t, t.TempDir())
	dumps := map[uint64]string{}
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	dumps[f.AppliedIndex()] = f.dump()
	next, stood := uint64(1), map[uint64]int{} // how many commits behind
	for range 14 {
		if err := f.late.wait(); err != nil {
			t.Fatal(err)
		}
		before := f.file()
		if box := f.Mailbox("ho"); box.Next > box.First+8 {
			f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: box.First + uint64(rnd.IntN(5))})
		} else {
			text := cut(t, "eu", 1, []block.Lane{{Agent: "ho", First: next}}, plain(2, 1+rnd.IntN(9<<10))...)
			f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{text}})
			next += 2
		}
		now := f.AppliedIndex()
		dumps[now] = f.dump()
		if dumps[now-2] == "" {
			continue
		}
		after := f.file()
		for name, written := range map[string]func(int) bool{
			"all of it":            func(int) bool { return true },
			"nothing":              func(int) bool { return false },
			"all but the heads":    func(page int) bool { return page > 1 },
			"nothing but the head": func(page int) bool { return page <= 1 },
			"some":                 func(int) bool { return rnd.IntN(2) == 0 },
			"most, and no head":    func(page int) bool { return page > 1 && rnd.IntN(8) != 0 },
		} {
			at := f.survives(fmt.Sprintf("%s of entry %d", name, now), mixed(before, after, written), dumps)
			stood[now-at]++
		}
	}
	if stood[1] == 0 || stood[2] == 0 || len(stood) != 2 {
		t.Errorf("the state opened so many entries behind, so often: %v; want 1 and 2", stood)
	}
}

// survives opens what a power loss has left and gives the entry that the state stands at.
func (f *fixture) survives(what string, file []byte, dumps map[uint64]string) uint64 {
	f.Helper()
	dir := f.TempDir()
	for name, text := range map[string][]byte{fileName: file, lateName: nil} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			f.Fatal(err)
		}
	}
	m := synced(f.TB, dir)
	defer m.Close()
	at := m.AppliedIndex()
	if m.dump() != dumps[at] {
		f.Fatalf("%s: the state opens at entry %d, and is not what it was there", what, at)
	}
	for _, e := range f.log[at:] {
		if _, err := m.Apply([]Entry{e}); err != nil {
			f.Fatalf("%s: entry %d again: %v", what, e.Index, err)
		}
	}
	if now := m.AppliedIndex(); m.dump() != dumps[now] {
		f.Fatalf("%s: brought on to entry %d, the state is another", what, now)
	}
	return at
}

// A state that was closed opens where it was, whatever the commits were.
func TestClosedStateOpensWhereItWas(t *testing.T) {
	f := synced(t, t.TempDir())
	f.begin(model.ApprovalsDual, model.Limits{})
	for i := range 3 {
		f.join(fmt.Sprint("site-", i))
		want := f.dump()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(f.dir, lateName)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a closed state is marked as one that is open: %v", err)
		}
		f.Machine = synced(t, f.dir).Machine
		if f.dump() != want {
			t.Fatalf("after it was closed %d times, the state is another", i+1)
		}
	}
}

// What an open and a close write between late commits is synced in its place and spares only
// the newest commit, so that a crash meanwhile must find no mark.
func TestNoMarkBesideCommitsInPlace(t *testing.T) {
	f := synced(t, t.TempDir())
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu")
	if err := f.late.wait(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{fileName: f.file(), lateName: nil} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := stepBack(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, lateName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a step back was made, and another would be: %v", err)
	}
	if err := f.late.over(f.dir); err != nil {
		t.Fatal(err)
	}
	at := f.AppliedIndex()
	if err := os.WriteFile(filepath.Join(dir, fileName), f.file(), 0o600); err != nil {
		t.Fatal(err)
	}
	if m := synced(t, dir); m.AppliedIndex() != at {
		t.Errorf("a file that is on disk in whole opens at entry %d, want %d", m.AppliedIndex(), at)
	}
}

// A restored state may lose the power like any other.
func TestPowerLossAfterRestore(t *testing.T) {
	from := openMachine(t)
	history(from, 3)
	f := synced(t, t.TempDir())
	f.begin(model.ApprovalsDual, model.Limits{})
	if err := f.Restore(bytes.NewReader(snapshotOf(from))); err != nil {
		t.Fatal(err)
	}
	f.log = from.log
	if at := f.survives("a restored state", f.file(), map[uint64]string{f.AppliedIndex(): f.dump()}); at != from.AppliedIndex() {
		t.Errorf("it opens at entry %d, want %d", at, from.AppliedIndex())
	}
}

// A file that cannot be synced any more ends the machine, and whoever runs it is told.
func TestLateSyncFails(t *testing.T) {
	f := synced(t, t.TempDir())
	told := make(chan error, 1)
	f.late.failed = func(err error) { told <- err }
	sync := f.late.sync
	f.late.sync = func() error { return errors.New("the disk is gone") }
	f.begin(model.ApprovalsDual, model.Limits{})
	if err := <-told; !errors.Is(err, ErrFatal) {
		t.Errorf("told %v, want ErrFatal", err)
	}
	f.late.sync = sync
	if _, err := f.Apply([]Entry{{Index: 2, Term: 1, Empty: true}}); !errors.Is(err, ErrFatal) {
		t.Errorf("applied after that: %v, want ErrFatal", err)
	}
	f.keepsItsMark()
}

// keepsItsMark closes the machine, whose file may lack a part of what was committed.
func (f *fixture) keepsItsMark() {
	f.Helper()
	if err := f.Close(); err != nil {
		f.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(f.dir, lateName)); err != nil {
		f.Errorf("what failed to be on disk would be opened as if it were: %v", err)
	}
}

// Likewise if a snapshot is what meets the failure.
func TestLateSyncFailsBeforeRestore(t *testing.T) {
	from := openMachine(t)
	history(from, 3)
	f := synced(t, t.TempDir())
	f.late.failed = func(error) {}
	f.late.sync = func() error { return errors.New("the disk is gone") }
	f.begin(model.ApprovalsDual, model.Limits{})
	if err := f.Restore(bytes.NewReader(snapshotOf(from))); !errors.Is(err, ErrFatal) {
		t.Errorf("restored after a failed sync: %v, want ErrFatal", err)
	}
	f.keepsItsMark()
}

// A directory from which the state was taken away begins anew, as it does without the mark.
func TestMarkWithoutState(t *testing.T) {
	for name, file := range map[string][]byte{"none": nil, "an empty one": {}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if file != nil {
				if err := os.WriteFile(filepath.Join(dir, fileName), file, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, lateName), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if at := synced(t, dir).AppliedIndex(); at != 0 {
				t.Errorf("a new state stands at entry %d", at)
			}
		})
	}
}
