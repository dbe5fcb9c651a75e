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
	"sync"
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
	mayTake   = time.Second            // a sync, before commits wait for it and for those after it
)

// late syncs the commits of one file behind them. A nil one does nothing: bbolt syncs.
type late struct {
	db     *bolt.DB
	file   *os.File // the same file opened again: a failed write is told to each that syncs, once
	heads  *os.File // by turns at its slots
	page   int64
	every  time.Duration
	slow   time.Duration // what takes longer is waited for
	sync   func() error
	failed func(error)

	mu     sync.Mutex // held while there is a commit; guards what follows
	slot   int64      // of the next head
	held   *bolt.Tx   // reads at the commit that is on disk in whole
	next   *bolt.Tx   // reads at the one that is being synced; nil: there is none
	behind bool       // there are commits of which no sync was begun
	began  time.Time  // the last sync
	took   time.Duration
	synced chan error // gives what came of the sync under way; nil: there is none
	err    error      // of a sync: what is on disk since is not known any more
	armed  bool       // tick comes
	ended  bool
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
	l = &late{db: db, page: int64(db.Info().PageSize), every: syncEvery, slow: mayTake, failed: cfg.Fatal, began: time.Now()}
	defer func() {
		if err != nil {
			l.end()
			err = fmt.Errorf("open state: %w", err)
		}
	}()
	if l.file, err = os.OpenFile(db.Path(), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	l.sync = l.file.Sync
	head, err := l.pin()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(cfg.Dir, lateName)
	if err := atomicfile.Write(path, append(head[:], make([]byte, slots*slotSize-headSize)...), 0o600); err != nil {
		return nil, err
	}
	l.slot = 1
	if l.heads, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	db.NoSync = true
	return l, nil
}

// commit makes one commit. It waits for a sync that takes unduly long, so that what is behind
// has an end.
func (l *late) commit(update func() error) error {
	if l == nil {
		return update()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.wait(); err != nil {
		return err
	}
	if err := update(); err != nil {
		return err
	}
	l.behind = true
	return l.begin()
}

func (l *late) wait() error {
	if l.took >= l.slow || time.Since(l.began) >= l.slow {
		return l.finish()
	}
	return l.look()
}

// look takes what came of a sync, if it is done.
func (l *late) look() error {
	select {
	case err := <-l.synced: // nil gives nothing
		return l.over(err)
	default:
		return l.err
	}
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
	l.synced, l.err, l.took = nil, err, time.Since(l.began)
	if err == nil {
		_ = l.held.Rollback() // of a read: cannot fail
		l.held, l.next = l.next, nil
	}
	return l.err
}

// begin begins a sync of all commits so far, or sees to it that one is begun in time.
func (l *late) begin() error {
	switch {
	case !l.behind:
		return nil
	case l.synced != nil || time.Since(l.began) < l.every:
		if !l.armed {
			l.armed = true
			time.AfterFunc(l.every, l.tick)
		}
		return nil
	}
	head, err := l.pin()
	if err != nil {
		return err
	}
	l.behind, l.began = false, time.Now()
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

// tick syncs the last commits before a pause.
func (l *late) tick() {
	if !l.mu.TryLock() { // a commit, which may wait for long
		time.AfterFunc(l.every, l.tick)
		return
	}
	defer l.mu.Unlock()
	l.armed = false
	if l.ended || l.look() != nil {
		return
	}
	if err := l.begin(); err != nil {
		l.failed(fmt.Errorf("%w: %w", ErrFatal, err))
	}
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
	if head, err = headOf(l.file, l.page, uint64(tx.ID())); err != nil {
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

// end waits for a sync under way and lets go of everything.
func (l *late) end() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.finish() // was told
	l.ended = true
	for _, tx := range []*bolt.Tx{l.held, l.next} {
		if tx != nil {
			_ = tx.Rollback() // of a read: cannot fail
		}
	}
	l.held, l.next = nil, nil
	for _, f := range []*os.File{l.file, l.heads} {
		if f != nil {
			f.Close() // what counts in it was synced
		}
	}
}

// settle syncs everything and takes the heads away, so that the file is opened as it is.
// Nothing is committed any more.
func (l *late) settle(dir string) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.finish(); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return fmt.Errorf("%w: sync the state %s: %w", ErrFatal, l.db.Path(), err)
	}
	l.behind = false
	return atomicfile.Remove(filepath.Join(dir, lateName))
}

// stepBack brings a file that was not closed to the last commit that is on disk in whole.
func stepBack(cfg Config) error {
	path, heads := filepath.Join(cfg.Dir, fileName), filepath.Join(cfg.Dir, lateName)
	if _, err := os.Stat(heads); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	if info, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return atomicfile.Remove(heads) // there is none: the log begins it anew
	} else if err != nil {
		return err
	}
	// As long as it is open for reading, no other process has it open for writing. One whose
	// heads are both torn cannot be opened.
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: lockTimeout})
	switch {
	case err == nil:
		defer db.Close()
	case !errors.Is(err, bolterrors.ErrInvalid) && !errors.Is(err, bolterrors.ErrChecksum) && !errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%s (is another process using it?): %w", path, err)
	}
	if err := beginAtNewest(path, heads); err != nil {
		return fmt.Errorf("%s: step back to the last commit that was synced: %w", path, err)
	}
	return atomicfile.Remove(heads)
}

// beginAtNewest makes the newest head that is kept the only one of a file that counts.
func beginAtNewest(path, heads string) error {
	text, err := os.ReadFile(heads)
	if err != nil {
		return err
	}
	head, kept := newestOf(text)
	if !kept {
		return fmt.Errorf("%s is damaged, so that nobody can tell which commit that is; take both files away, and the state is made anew of snapshot and log", heads)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	page, commit := int64(binary.NativeEndian.Uint32(head[pageSizeAt:])), commitOf(head)
	for i := range int64(2) {
		var own [headSize]byte
		if _, err := f.ReadAt(own[:], i*page); err != nil {
			return err
		}
		// A head on the other's page is from before a snapshot was taken, and is written over next.
		if counts(own) && commitOf(own)+1 < commit && pageOf(commitOf(own)) == i {
			return fmt.Errorf("it stands at commit %d, and %s is of a file that had commit %d: they do not belong together", commitOf(own), heads, commit)
		}
	}
	_, err = f.WriteAt(head[:], pageOf(commit)*page)
	if err == nil {
		_, err = f.WriteAt(make([]byte, headSize-sumAt), pageOf(commit+1)*page+sumAt) // the other one
	}
	return errors.Join(err, f.Sync())
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
	slotSize = 4096 // what a disk writes wholly or not at all, or damages at once
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
