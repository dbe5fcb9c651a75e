package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"runtime"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// The log keeps what was applied, so that the file may be behind it: a commit is synced once,
// beside what follows, and the next one only begins when it is. bbolt alone would sync twice,
// while everybody waits.
//
// After a crash the newest commit may then be on disk in part, or its head without the rest.
// The one before is there in whole: it was synced before the newest began, and a read
// transaction kept its pages from being written over. So a file that was not closed is opened
// at the commit before the newest, and the log brings it on.

// lateName is the file that says so: it exists while commits are synced late, and only then.
// What is written before and after that does not spare the commit before the newest.
const lateName = "state.db.late"

// late syncs the commits of one file behind them. A nil one does nothing: bbolt syncs.
type late struct {
	db     *bolt.DB
	sync   func() error
	failed func(error)
	pins   [2]*bolt.Tx // reads at the newest commit and at the one before
	synced chan error  // gives what came of the sync under way; nil: there is none
	err    error       // of a sync: what is on disk since is not known any more
}

// mayBeLate reports whether a file may be behind. Where it cannot be mapped whole from the
// start, a commit that maps it anew would wait for the pins for ever.
func mayBeLate(cfg Config) bool { return !cfg.NoSync && runtime.GOOS != "windows" }

// beginLate has the commits of an open file synced late from now on.
func beginLate(db *bolt.DB, cfg Config) (*late, error) {
	if !mayBeLate(cfg) {
		return nil, nil
	}
	if err := settle(db); err != nil {
		return nil, err
	}
	marker, err := os.OpenFile(filepath.Join(cfg.Dir, lateName), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(marker.Close(), atomicfile.SyncDir(cfg.Dir))
	}
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	db.NoSync = true
	l := &late{db: db, sync: db.Sync, failed: cfg.Fatal}
	return l, l.pin()
}

// settle makes the newest commit and the one before the same, both on disk.
func settle(db *bolt.DB) error {
	db.NoSync = false
	for range 2 {
		if err := db.Update(func(*bolt.Tx) error { return nil }); err != nil {
			return fmt.Errorf("sync the state: %w", err)
		}
	}
	return nil
}

// wait returns when the newest commit is on disk; only then may the next one begin.
func (l *late) wait() error {
	if l == nil {
		return nil
	}
	if l.synced != nil {
		l.err = <-l.synced
		l.synced = nil
	}
	return l.err
}

// begin syncs a commit that was made.
func (l *late) begin() error {
	if l == nil {
		return nil
	}
	synced := make(chan error, 1)
	go func() {
		err := l.sync()
		if err != nil {
			err = fmt.Errorf("%w: sync the state %s: %w", ErrFatal, l.db.Path(), err)
			l.failed(err)
		}
		synced <- err
	}()
	l.synced = synced
	return l.pin()
}

// pin keeps the pages of the newest commit, and lets go of those of the second before it.
func (l *late) pin() error {
	tx, err := l.db.Begin(false)
	if err != nil {
		return fmt.Errorf("keep the pages of the newest commit: %w", err)
	}
	l.unpin(1)
	l.pins = [2]*bolt.Tx{tx, l.pins[0]}
	return nil
}

func (l *late) unpin(i int) {
	if l.pins[i] != nil {
		_ = l.pins[i].Rollback() // of a read: cannot fail
		l.pins[i] = nil
	}
}

// end lets go of the pages.
func (l *late) end() {
	if l != nil {
		l.unpin(0)
		l.unpin(1)
	}
}

// over takes the mark away, so that the file is opened as it is: everything in it is on disk,
// and nothing is written any more.
func (l *late) over(dir string) error {
	if l == nil {
		return nil
	}
	if err := l.wait(); err != nil {
		return err
	}
	return unmark(dir)
}

func unmark(dir string) error {
	if err := os.Remove(filepath.Join(dir, lateName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(dir)
}

// stepBack opens a file that was not closed at the commit before the newest.
func stepBack(cfg Config) error {
	path := filepath.Join(cfg.Dir, fileName)
	if _, err := os.Stat(filepath.Join(cfg.Dir, lateName)); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return nil // there is none yet: Open begins it, or says what is wrong
	}
	// As long as it is open for reading, no other process has it open for writing.
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return fmt.Errorf("%s (is another process using it?): %w", path, err)
	}
	defer db.Close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := dropNewest(f); err != nil {
		return fmt.Errorf("%s: step back to the commit before the newest: %w", path, err)
	}
	return unmark(cfg.Dir)
}

// What bbolt writes at the head of its first two pages, one commit in each by turns. Its
// numbers are as the machine has them.
const (
	headSize   = 80
	pageSizeAt = 24
	headAt     = 16 // of what its sum is of
	commitAt   = 64
	sumAt      = 72
)

// dropNewest makes the head of the newest commit one that does not count, if that of the one
// before does.
func dropNewest(f *os.File) error {
	var heads [2][headSize]byte
	if _, err := f.ReadAt(heads[0][:], 0); err != nil {
		return err
	}
	page := int64(binary.NativeEndian.Uint32(heads[0][pageSizeAt:]))
	if !counts(heads[0]) {
		return nil
	}
	if _, err := f.ReadAt(heads[1][:], page); err != nil {
		return err
	}
	if !counts(heads[1]) {
		return nil
	}
	newest := int64(0)
	if commitOf(heads[1]) > commitOf(heads[0]) {
		newest = page
	}
	if _, err := f.WriteAt(make([]byte, headSize-sumAt), newest+sumAt); err != nil {
		return err
	}
	return f.Sync()
}

func counts(head [headSize]byte) bool {
	sum := fnv.New64a()
	_, _ = sum.Write(head[headAt:sumAt]) // cannot fail
	return binary.NativeEndian.Uint64(head[sumAt:]) == sum.Sum64()
}

func commitOf(head [headSize]byte) uint64 { return binary.NativeEndian.Uint64(head[commitAt:]) }
