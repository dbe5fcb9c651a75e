package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/block"
)

const restoreName = "state.db.restoring"

var snapshotMagic = [8]byte{'X', 'D', 'S', 'T', 'A', 'T', 'E', '1'}

// ErrSnapshot marks a snapshot that is not what was written.
var ErrSnapshot = errors.New("damaged snapshot")

// ErrReplaced says that a snapshot is of a state that was replaced by another meanwhile.
var ErrReplaced = errors.New("the state was replaced since this snapshot of it was taken")

// Snapshot is the state at one moment. It holds a read transaction, so the file grows
// while it is open: release it soon. It ends by itself when the state is replaced: whoever
// replaces it may be waited for by the holder, and must not wait for that.
type Snapshot struct {
	of       *Reader
	size     int64
	replaced atomic.Bool

	mu sync.Mutex // held while tx is used
	tx *bolt.Tx   // nil: ended
}

// Snapshot captures the state as it is.
func (r *Reader) Snapshot() (*Snapshot, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	tx, err := r.db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	s := &Snapshot{of: r, tx: tx, size: tx.Size()}
	r.snapshots.Store(s, nil)
	return s, nil
}

// endSnapshots ends all that are open. One that is being read ends with what it does now.
func (r *Reader) endSnapshots() {
	for open := range r.snapshots.Range {
		s := open.(*Snapshot)
		s.replaced.Store(true)
		s.Release()
	}
}

// Size is what WriteTo will write.
func (s *Snapshot) Size() int64 {
	return int64(len(snapshotMagic)) + 8 + s.size + sha256.Size
}

// ended is why nothing can be read any more.
func (s *Snapshot) ended() error {
	if s.replaced.Load() {
		return fmt.Errorf("snapshot: %w", ErrReplaced)
	}
	if s.tx == nil {
		return errors.New("snapshot: it was released")
	}
	return nil
}

// Check reads all that the snapshot holds, since the checksum over the whole would be one
// over the damage as well.
func (s *Snapshot) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, table := range tables {
		if err := s.ended(); err != nil {
			return err
		}
		err := s.tx.Bucket(table).ForEach(func(k, value []byte) error {
			switch {
			case bytes.Equal(table, tableBlocks):
				if _, err := block.ParseEnvelope(value); err != nil {
					return fmt.Errorf("block %d: %w", last8(k), err)
				}
			case !unsealed[string(table)] && !intact(k, value):
				return fmt.Errorf("table %s, row %q: checksum", table, k)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// WriteTo streams the snapshot: magic, length, the file, SHA-256 of all before.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ended(); err != nil {
		return 0, err
	}
	sum := sha256.New()
	out := io.MultiWriter(unlessReplaced{w, s}, sum)
	head := binary.BigEndian.AppendUint64(snapshotMagic[:], uint64(s.size))
	if _, err := out.Write(head); err != nil {
		return 0, fmt.Errorf("snapshot: %w", err)
	}
	n, err := s.tx.WriteTo(out)
	if s.replaced.Load() {
		return int64(len(head)) + n, s.ended()
	}
	if err != nil {
		return int64(len(head)) + n, fmt.Errorf("snapshot: %w", err)
	}
	if n != s.size {
		return int64(len(head)) + n, fmt.Errorf("snapshot: %d bytes of %d written", n, s.size)
	}
	last, err := w.Write(sum.Sum(nil))
	if err != nil {
		err = fmt.Errorf("snapshot: %w", err)
	}
	return int64(len(head)) + n + int64(last), err
}

// unlessReplaced stops writing a state that nobody needs any more.
type unlessReplaced struct {
	to io.Writer
	s  *Snapshot
}

func (u unlessReplaced) Write(p []byte) (int, error) {
	if u.s.replaced.Load() {
		return 0, ErrReplaced
	}
	return u.to.Write(p)
}

// Release ends the transaction. It may be called more than once.
func (s *Snapshot) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of.snapshots.Delete(s)
	if s.tx != nil {
		_ = s.tx.Rollback() // of a read: cannot fail but for being done already
		s.tx = nil
	}
}

// Restore replaces the state by a snapshot. The new file is complete, checked and on disk
// before it takes the old one's name; with a damaged snapshot the old state stays.
func (m *Machine) Restore(from io.Reader) (err error) {
	temporary := filepath.Join(m.cfg.Dir, restoreName)
	if err := receive(temporary, from); err != nil {
		os.Remove(temporary)
		return err
	}
	if err := m.check(temporary); err != nil {
		os.Remove(temporary)
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { m.failed = err }()
	m.endSnapshots()
	err = m.late.settle(m.cfg.Dir) // the heads must not be about the new file
	m.late.end()
	if err := errors.Join(err, m.db.Close()); err != nil {
		return fmt.Errorf("%w: restore: close the former state: %w", ErrFatal, err)
	}
	path := filepath.Join(m.cfg.Dir, fileName)
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("%w: restore: %w", ErrFatal, err)
	}
	if err := atomicfile.SyncDir(m.cfg.Dir); err != nil {
		return fmt.Errorf("%w: restore: %w", ErrFatal, err)
	}
	if err := m.open(); err != nil {
		return fmt.Errorf("%w: restore: %w", ErrFatal, err)
	}
	return nil
}

func receive(path string, from io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	in := io.TeeReader(from, sum)
	var head [16]byte
	if _, err := io.ReadFull(in, head[:]); err != nil || !bytes.Equal(head[:8], snapshotMagic[:]) {
		return fmt.Errorf("restore: %w: it does not begin as one", ErrSnapshot)
	}
	size := binary.BigEndian.Uint64(head[8:])
	if size > 1<<50 {
		return fmt.Errorf("restore: %w: a length of %d bytes", ErrSnapshot, size)
	}
	if _, err := io.CopyN(f, in, int64(size)); err != nil {
		return fmt.Errorf("restore: %w: of %d bytes: %w", ErrSnapshot, size, err)
	}
	var trailer [sha256.Size]byte
	if _, err := io.ReadFull(from, trailer[:]); err != nil {
		return fmt.Errorf("restore: %w: it has no trailer", ErrSnapshot)
	}
	if !bytes.Equal(trailer[:], sum.Sum(nil)) {
		return fmt.Errorf("restore: %w: checksum", ErrSnapshot)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return f.Close()
}

// check opens a received file by itself and reads where it stands.
func (m *Machine) check(path string) error {
	db, err := openFile(path, m.cfg)
	if err != nil {
		return fmt.Errorf("restore: %w: %w", ErrSnapshot, err)
	}
	defer db.Close()
	err = catch(func() error {
		return db.View(func(b *bolt.Tx) error {
			v := view{b}
			if v.applied().Index == 0 {
				return errors.New("nothing was ever applied to it")
			}
			v.counters()
			v.cluster()
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("restore: %w: %w", ErrSnapshot, err)
	}
	return db.Close()
}
