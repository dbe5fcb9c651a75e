package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// The log keeps what was applied, so that the file may be behind it: its commits are synced
// now and then, all at once, while others are made. bbolt alone would sync twice for each,
// while everybody waits.
//
// After a crash the file may hold any part of what was written since the last sync. But the
// commit that was synced then is there in whole: a read transaction keeps its pages from
// being written over until a later one is on disk. Only the file's own head, which says where
// the commit begins, may be written over, so that a copy is kept beside the file. A state that
// was not closed is opened there, and the log brings it on.

// lateName is the file with the heads of synced commits, the newest of which counts. It exists
// while commits are synced late, and only then: whatever else writes the state syncs in place,
// and does not spare the commit that it names.
const lateName = "state.db.head"

const (
	syncEvery = 100 * time.Millisecond // the file, while there are commits
	mayTake   = time.Second            // a sync, before commits wait for it
)

// late syncs the commits of one file behind them. A nil one does nothing: bbolt syncs.
type late struct {
	db     *bolt.DB
	page   int64
	heads  *os.File // by turns at slots of a size that a disk writes in one piece
	slot   int64    // of the next head
	every  time.Duration
	slow   time.Duration // what takes longer is waited for
	sync   func() error
	failed func(error)
	held   *bolt.Tx   // reads at the commit that is on disk in whole
	next   *bolt.Tx   // reads at the one that is being synced; nil: there is none
	began  time.Time  // the last sync
	synced chan error // gives what came of the sync under way; nil: there is none
	err    error      // of a sync: what is on disk since is not known any more
}

// mayBeLate reports whether a file may be behind. Where it cannot be mapped whole from the
// start, a commit that maps it anew would wait for the reads for ever.
func mayBeLate(cfg Config) bool { return !cfg.NoSync && runtime.GOOS != "windows" }

// beginLate has the commits of a file synced late from now on. All that was committed is on
// disk.
func beginLate(db *bolt.DB, cfg Config) (l *late, err error) {
	if !mayBeLate(cfg) {
		return nil, nil
	}
	l = &late{db: db, page: int64(db.Info().PageSize), every: syncEvery, slow: mayTake, began: time.Now(), sync: db.Sync, failed: cfg.Fatal}
	defer func() {
		if err != nil {
			l.end()
			err = fmt.Errorf("open state: %w", err)
		}
	}()
	head, err := l.pin()
	if err != nil {
		return nil, err
	}
	if l.heads, err = os.OpenFile(filepath.Join(cfg.Dir, lateName), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := errors.Join(l.heads.Truncate(slots*slotSize), l.keep(head), atomicfile.SyncDir(cfg.Dir)); err != nil {
		return nil, err
	}
	db.NoSync = true
	return l, nil
}

// wait returns when no sync is under way that takes unduly long. What was committed before is
// not behind it without end.
func (l *late) wait() error {
	if l == nil {
		return nil
	}
	if l.synced != nil && time.Since(l.began) < l.slow {
		select {
		case err := <-l.synced:
			return l.over(err)
		default:
			return l.err
		}
	}
	return l.finish()
}

// finish returns when no sync is under way.
func (l *late) finish() error {
	if l.synced != nil {
		return l.over(<-l.synced)
	}
	return l.err
}

// over takes what came of a sync.
func (l *late) over(err error) error {
	l.synced, l.err = nil, err
	if err == nil {
		_ = l.held.Rollback() // of a read: cannot fail
		l.held, l.next = l.next, nil
	}
	return l.err
}

// committed begins a sync of all commits so far if it is time for one. The next commit must
// not begin before it returns.
func (l *late) committed() error {
	if l == nil || l.synced != nil || time.Since(l.began) < l.every {
		return nil
	}
	head, err := l.pin()
	if err != nil {
		return err
	}
	l.began = time.Now()
	synced := make(chan error, 1)
	go func() {
		err := l.sync()
		if err == nil {
			err = l.keep(head)
		}
		if err != nil {
			err = fmt.Errorf("%w: sync the state %s: %w", ErrFatal, l.db.Path(), err)
			l.failed(err)
		}
		synced <- err
	}()
	l.synced = synced
	return nil
}

// pin keeps the pages of the newest commit and gives its head.
func (l *late) pin() (head [headSize]byte, err error) {
	tx, err := l.db.Begin(false)
	if err != nil {
		return head, fmt.Errorf("keep the pages of the newest commit: %w", err)
	}
	if l.held == nil {
		l.held = tx
	} else {
		l.next = tx
	}
	file, err := os.Open(l.db.Path())
	if err != nil {
		return head, err
	}
	defer file.Close()
	if head, err = headOf(file, l.page, uint64(tx.ID())); err != nil {
		return head, fmt.Errorf("read the head of the newest commit of %s: %w", l.db.Path(), err)
	}
	return head, nil
}

// keep writes the head of a commit that is on disk in whole.
func (l *late) keep(head [headSize]byte) error {
	if _, err := l.heads.WriteAt(head[:], l.slot*slotSize); err != nil {
		return err
	}
	l.slot = (l.slot + 1) % slots
	return l.heads.Sync()
}

// end lets go of the pages and of the heads.
func (l *late) end() {
	if l == nil {
		return
	}
	for _, tx := range []*bolt.Tx{l.held, l.next} {
		if tx != nil {
			_ = tx.Rollback() // of a read: cannot fail
		}
	}
	l.held, l.next = nil, nil
	if l.heads != nil {
		l.heads.Close() // what counts in it was synced
	}
}

// close syncs everything and takes the heads away, so that the file is opened as it is.
// Nothing is committed any more.
func (l *late) close(dir string) error {
	if l == nil {
		return nil
	}
	if err := l.finish(); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return fmt.Errorf("%w: sync the state %s: %w", ErrFatal, l.db.Path(), err)
	}
	return unmark(dir)
}

func unmark(dir string) error {
	if err := os.Remove(filepath.Join(dir, lateName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(dir)
}

// stepBack brings a file that was not closed to the last commit that is on disk in whole.
func stepBack(cfg Config) error {
	path := filepath.Join(cfg.Dir, fileName)
	heads, err := os.ReadFile(filepath.Join(cfg.Dir, lateName))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	head, kept := newestOf(heads)
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return nil // there is none yet: Open begins it, or says what is wrong
	}
	if kept {
		if err := beginAt(path, head); err != nil {
			return err
		}
	}
	return unmark(cfg.Dir)
}

// beginAt makes a head the only one of a file that counts.
func beginAt(path string, head [headSize]byte) error {
	// As long as it is open for reading, no other process has it open for writing.
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil && !errors.Is(err, bolterrors.ErrInvalid) && !errors.Is(err, bolterrors.ErrChecksum) {
		return fmt.Errorf("%s (is another process using it?): %w", path, err)
	}
	if err == nil {
		defer db.Close()
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	page := int64(binary.NativeEndian.Uint32(head[pageSizeAt:]))
	at := pageOf(commitOf(head)) * page
	_, err = f.WriteAt(head[:], at)
	if err == nil {
		_, err = f.WriteAt(make([]byte, headSize-sumAt), page-at+sumAt) // the other one
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		return fmt.Errorf("%s: step back to the last commit that was synced: %w", path, err)
	}
	return nil
}

// What bbolt writes at the head of its first two pages, one commit in each by turns. Its
// numbers are as the machine has them.
const (
	headSize   = 80
	pageSizeAt = 24
	headAt     = 16 // of what its sum is of
	commitAt   = 64
	sumAt      = 72

	slots    = 2
	slotSize = 512
)

func pageOf(commit uint64) int64 { return int64(commit % 2) }

// headOf reads the head of one of the two newest commits.
func headOf(file io.ReaderAt, page int64, commit uint64) (head [headSize]byte, err error) {
	if _, err = file.ReadAt(head[:], pageOf(commit)*page); err != nil {
		return head, err
	}
	if !counts(head) || commitOf(head) != commit {
		return head, fmt.Errorf("commit %d was expected there", commit)
	}
	return head, nil
}

// newestOf gives the newest head that counts.
func newestOf(heads []byte) (newest [headSize]byte, found bool) {
	for at := 0; at+headSize <= len(heads); at += slotSize {
		head := [headSize]byte(heads[at : at+headSize])
		if counts(head) && (!found || commitOf(head) > commitOf(newest)) {
			newest, found = head, true
		}
	}
	return newest, found
}

func counts(head [headSize]byte) bool {
	sum := fnv.New64a()
	_, _ = sum.Write(head[headAt:sumAt]) // cannot fail
	return binary.NativeEndian.Uint64(head[sumAt:]) == sum.Sum64()
}

func commitOf(head [headSize]byte) uint64 { return binary.NativeEndian.Uint64(head[commitAt:]) }
