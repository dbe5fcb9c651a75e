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

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/block"
)

const restoreName = "state.db.restoring"

var snapshotMagic = [8]byte{'X', 'D', 'S', 'T', 'A', 'T', 'E', '1'}

// ErrSnapshot marks a snapshot that is not what was written.
var ErrSnapshot = errors.New("damaged snapshot")

// Snapshot is the state at one moment. It holds a read transaction, so the file grows
// while it is open: release it soon.
type Snapshot struct {
	tx *bolt.Tx
}

// Snapshot captures the state as it is.
func (r *Reader) Snapshot() (*Snapshot, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	tx, err := r.db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return &Snapshot{tx: tx}, nil
}

// Size is what WriteTo will write.
func (s *Snapshot) Size() int64 {
	return int64(len(snapshotMagic)) + 8 + s.tx.Size() + sha256.Size
}

// Check reads all that the snapshot holds, since the checksum over the whole would be one
// over the damage as well.
func (s *Snapshot) Check() error {
	for _, table := range tables {
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
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	head := binary.BigEndian.AppendUint64(snapshotMagic[:], uint64(s.tx.Size()))
	if _, err := out.Write(head); err != nil {
		return 0, fmt.Errorf("snapshot: %w", err)
	}
	n, err := s.tx.WriteTo(out)
	if err != nil {
		return int64(len(head)) + n, fmt.Errorf("snapshot: %w", err)
	}
	if n != s.tx.Size() {
		return int64(len(head)) + n, fmt.Errorf("snapshot: %d bytes of %d written", n, s.tx.Size())
	}
	last, err := w.Write(sum.Sum(nil))
	if err != nil {
		err = fmt.Errorf("snapshot: %w", err)
	}
	return int64(len(head)) + n + int64(last), err
}

// Release ends the transaction. It may be called more than once.
func (s *Snapshot) Release() {
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
