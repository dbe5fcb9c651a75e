package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// heads is what is kept beside the file.
func (f *fixture) heads() []byte {
	f.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, lateName))
	if err != nil {
		f.Fatal(err)
	}
	return text
}

// synced waits for a sync that is under way.
func (f *fixture) synced() error {
	f.late.mu.Lock()
	defer f.late.mu.Unlock()
	return f.late.finish()
}

// loser commits to a state until its power is cut.
type loser struct {
	*fixture
	rnd   *rand.Rand
	next  uint64            // event of the lane
	dumps map[uint64]string // what the state was at each entry
}

// commit makes some commits without a sync.
func (l *loser) commit(n int) {
	l.late.every = time.Hour
	for range n {
		if box := l.Mailbox("ho"); box.Next > box.First+8 {
			l.must(&model.Ack{At: l.now, Agent: "ho", Mailbox: box.First + uint64(l.rnd.IntN(5))})
		} else {
			text := cut(l, "eu", 1, []block.Lane{{Agent: "ho", First: l.next}}, plain(2, 1+l.rnd.IntN(9<<10))...)
			l.must(&model.Push{At: l.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{text}})
			l.next += 2
		}
		l.dumps[l.AppliedIndex()] = l.dump()
	}
}

// syncs begins a sync behind the newest of some commits.
func (l *loser) syncs(n int) {
	l.Helper()
	l.commit(n - 1)
	l.finish()
	l.late.every = 0
	l.must(&model.Ack{At: l.now, Agent: "ho", Mailbox: l.Mailbox("ho").First})
	l.dumps[l.AppliedIndex()] = l.dump()
	if l.late.behind {
		l.Fatal("no sync was begun")
	}
}

func (l *loser) finish() {
	l.Helper()
	if err := l.synced(); err != nil {
		l.Fatal(err)
	}
}

// everyMix tries what a power loss may leave between two moments; the state has to stand at
// the same entry with any of it.
func (l *loser) everyMix(what string, before, after, heads []byte, at uint64) {
	l.Helper()
	for name, written := range map[string]func(int) bool{
		"all of it":            func(int) bool { return true },
		"nothing":              func(int) bool { return false },
		"all but the heads":    func(page int) bool { return page > 1 },
		"nothing but the head": func(page int) bool { return page <= 1 },
		"some":                 func(int) bool { return l.rnd.IntN(2) == 0 },
		"most, and no head":    func(page int) bool { return page > 1 && l.rnd.IntN(8) != 0 },
	} {
		what := fmt.Sprintf("%s, %s of what was written up to entry %d", what, name, l.AppliedIndex())
		if stood := l.survives(what, mixed(before, after, written), heads, l.dumps); stood != at {
			l.Fatalf("%s: the state opens at entry %d, want %d", what, stood, at)
		}
	}
	torn := bytes.Clone(after)
	for page := range 2 {
		clear(torn[page*os.Getpagesize():][:headSize/2])
	}
	if stood := l.survives(what+", with both heads torn", torn, heads, l.dumps); stood != at {
		l.Fatalf("%s, with both heads torn: the state opens at entry %d, want %d", what, stood, at)
	}
}

// Whatever part of the newest commits is on disk after a power loss, the state opens at the
// last one that was synced, in whole, and the log brings it to where it was.
func TestPowerLoss(t *testing.T) {
	const seed = 11
	l := &loser{fixture: synced(t, t.TempDir()), rnd: rand.New(rand.NewPCG(seed, seed)), next: 1, dumps: map[uint64]string{}}
	t.Logf("seed %d", seed)
	l.late.every, l.late.slow = time.Hour, time.Hour
	l.begin(model.ApprovalsDual, model.Limits{})
	l.join("eu", "ho")
	sync := l.late.sync
	for range 5 {
		l.syncs(1 + l.rnd.IntN(6))
		l.finish()
		at, before, heads := l.AppliedIndex(), l.file(), l.heads()
		l.commit(1 + l.rnd.IntN(6))
		l.everyMix("before the next sync", before, l.file(), heads, at)

		held := make(chan struct{})
		l.late.sync = func() error {
			<-held
			if !bytes.Equal(l.heads(), heads) {
				return errors.New("the head of a commit is kept that is not on disk yet")
			}
			return sync()
		}
		l.syncs(3)
		begun, next := l.file(), l.AppliedIndex()
		l.commit(1 + l.rnd.IntN(6))
		l.everyMix("while it is synced", before, l.file(), heads, at)
		close(held)
		l.finish()
		l.late.sync = sync
		l.everyMix("after that", begun, l.file(), l.heads(), next)

		torn := l.heads() // of the next head that is written
		clear(torn[l.late.slot*slotSize:][headAt:commitAt])
		l.everyMix("while its head is kept", begun, l.file(), torn, next)
	}
}

// Commits wait for a sync that takes unduly long, and for those after it until one is quick.
func TestCommitsWaitForASlowSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := synced(t, t.TempDir())
		held := make(chan struct{})
		f.late.sync = func() error { <-held; return nil }
		f.begin(model.ApprovalsDual, model.Limits{})
		commit := func() {
			if _, err := f.Apply([]Entry{{Index: f.AppliedIndex() + 1, Term: 1, Empty: true}}); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(syncEvery) // the sync begins
		commit()              // does not wait
		waits := func() {
			t.Helper()
			var done atomic.Bool
			go func() { commit(); done.Store(true) }()
			synctest.Wait()
			if done.Load() {
				t.Error("a commit did not wait for a sync that takes too long")
			}
			held <- struct{}{}
			synctest.Wait()
			if !done.Load() {
				t.Error("a commit waits when the sync is done")
			}
		}
		time.Sleep(mayTake)
		waits()
		waits() // for the one that began at once
		close(held)
		commit()
		commit()
		if f.late.took >= mayTake {
			t.Errorf("a quick sync took %s", f.late.took)
		}
	})
}

// What is committed last before a pause is synced too.
func TestLastCommitIsSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := synced(t, t.TempDir())
		f.begin(model.ApprovalsDual, model.Limits{})
		f.join("eu", "ho")
		time.Sleep(2 * syncEvery)
		synctest.Wait()
		want := map[uint64]string{f.AppliedIndex(): f.dump()}
		if at := f.survives("after a pause", f.file(), f.heads(), want); at != f.AppliedIndex() {
			t.Errorf("the state opens at entry %d, want %d", at, f.AppliedIndex())
		}
	})
}

// survives opens what a power loss has left and gives the entry that the state stands at.
func (f *fixture) survives(what string, file, heads []byte, dumps map[uint64]string) uint64 {
	f.Helper()
	dir := f.TempDir()
	for name, text := range map[string][]byte{fileName: file, lateName: heads} {
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
		f.late.every = time.Hour
		f.join(fmt.Sprint("site-", i))
		want, syncs, sync := f.dump(), 0, f.late.sync
		f.late.sync = func() error { syncs++; return sync() }
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if syncs == 0 {
			t.Error("a state was closed that is not on disk")
		}
		if _, err := os.Stat(filepath.Join(f.dir, lateName)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a closed state is taken for one that is open: %v", err)
		}
		f.Machine = synced(t, f.dir).Machine
		if f.dump() != want {
			t.Fatalf("after it was closed %d times, the state is another", i+1)
		}
	}
}

// What an open and a close write is synced in its place and spares only the newest commit, so
// that a crash meanwhile must find no heads of others.
func TestNoHeadsBesideCommitsInPlace(t *testing.T) {
	f := synced(t, t.TempDir())
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu")
	if err := f.synced(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{fileName: f.file(), lateName: f.heads()} {
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
	if err := f.late.settle(f.dir); err != nil {
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
	if at := f.survives("a restored state", f.file(), f.heads(), map[uint64]string{f.AppliedIndex(): f.dump()}); at != from.AppliedIndex() {
		t.Errorf("it opens at entry %d, want %d", at, from.AppliedIndex())
	}
}

// A file that cannot be synced any more ends the machine, and whoever runs it is told.
func TestLateSyncFails(t *testing.T) {
	f := synced(t, t.TempDir())
	told := make(chan error, 1)
	f.late.failed = func(err error) { told <- err }
	sync := f.late.sync
	f.late.every, f.late.sync = 0, func() error { return errors.New("the disk is gone") }
	f.begin(model.ApprovalsDual, model.Limits{})
	if err := f.synced(); !errors.Is(err, ErrFatal) {
		t.Errorf("the sync ended with %v, want ErrFatal", err)
	}
	if err := <-told; !errors.Is(err, ErrFatal) {
		t.Errorf("told %v, want ErrFatal", err)
	}
	f.late.sync = sync
	if _, err := f.Apply([]Entry{{Index: 2, Term: 1, Empty: true}}); !errors.Is(err, ErrFatal) {
		t.Errorf("applied after that: %v, want ErrFatal", err)
	}
	f.keepsItsHeads()
}

// keepsItsHeads closes the machine, whose file may lack a part of what was committed.
func (f *fixture) keepsItsHeads() {
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
	f.late.every, f.late.sync = 0, func() error { return errors.New("the disk is gone") }
	f.begin(model.ApprovalsDual, model.Limits{})
	if err := f.Restore(bytes.NewReader(snapshotOf(from))); !errors.Is(err, ErrFatal) {
		t.Errorf("restored after a failed sync: %v, want ErrFatal", err)
	}
	f.keepsItsHeads()
}

// A directory from which the state was taken away begins anew, as it does without heads.
func TestHeadsWithoutState(t *testing.T) {
	from := synced(t, t.TempDir())
	from.begin(model.ApprovalsDual, model.Limits{})
	for name, file := range map[string][]byte{"none": nil, "an empty one": {}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if file != nil {
				if err := os.WriteFile(filepath.Join(dir, fileName), file, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, lateName), from.heads(), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := stepBack(Config{Dir: dir}); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, lateName)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the heads of a state that is gone stay: %v", err)
			}
			if at := synced(t, dir).AppliedIndex(); at != 0 {
				t.Errorf("a new state stands at entry %d", at)
			}
		})
	}
}

// Heads that say nothing, or speak of another file, are not guessed around.
func TestHeadsThatDoNotHelp(t *testing.T) {
	l := &loser{fixture: synced(t, t.TempDir()), rnd: rand.New(rand.NewPCG(1, 1)), next: 1, dumps: map[uint64]string{}}
	l.late.every, l.late.slow = time.Hour, time.Hour // no timer beside what the test sets
	l.begin(model.ApprovalsDual, model.Limits{})
	l.join("eu", "ho")
	early := l.file()
	l.syncs(5)
	l.finish()
	for name, c := range map[string]struct {
		file, heads []byte
		want        string
	}{
		"damaged":      {l.file(), make([]byte, slots*slotSize), "is damaged"},
		"cut short":    {l.file(), l.heads()[:headSize-1], "is damaged"},
		"of a newer":   {early, l.heads(), "do not belong together"},
		"of this file": {l.file(), l.heads(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string][]byte{fileName: c.file, lateName: c.heads} {
				if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := stepBack(Config{Dir: dir})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
