// Package shrink gives the disk back what a bbolt file has no more use for: such a file grows
// with a backlog, and keeps its size when the backlog is gone.
//
// It stands alone because deliveries and calls both need it. It refuses to know what the
// files hold. Its invariant: at every moment, and after a crash at any of them, the file under
// its name is whole and holds everything that was committed.
package shrink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/freespace"
)

// Limits with a name.
const (
	AtStart  = 1 << 30  // bytes in use up to which a file is made smaller while nobody waits for it
	AtWork   = 64 << 20 // and while others do
	worth    = 4 << 20  // bytes that have to be won
	copySize = 1 << 20  // of one transaction of the copy

	// copyParts bounds the copy: no more than one part of so many of what is free. No reserve
	// is kept beyond that, for a shrunk file may be what brings it back.
	copyParts = 2
)

// suffix is of the copy that is being written.
const suffix = ".shrunk"

// DB is a bbolt file that can be made smaller while others use it.
type DB struct {
	path    string
	options *bolt.Options

	free func(dir string) (int64, error) // bytes of the disk; tests have it full

	mu sync.RWMutex // held for reading by every transaction, so that the file is not exchanged under one
	db *bolt.DB
}

// Open opens a file, and removes what a crash left of a copy.
func Open(path string, options *bolt.Options) (*DB, error) {
	db, err := bolt.Open(path, 0o600, options)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, db.Close())
	}
	return &DB{path: path, options: options, free: freespace.Of, db: db}, nil
}

// View reads.
func (d *DB) View(read func(tx *bolt.Tx) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.db.View(read)
}

// Update writes.
func (d *DB) Update(change func(tx *bolt.Tx) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.db.Update(change)
}

// Path is where the file is.
func (d *DB) Path() string { return d.path }

// Close closes the file.
func (d *DB) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.db.Close()
}

// Shrink makes the file smaller if most of it is free and no more than most bytes are in use,
// and says how many bytes that won. Who wants to read or write meanwhile waits, hence the
// bound; while somebody does, or while the disk has little room for the copy, nothing
// happens, for another time will do. After an error the
// file may be closed, and no transaction succeeds any more.
func (d *DB) Shrink(most int64) (won int64, err error) {
	if !d.mu.TryLock() {
		return 0, nil
	}
	defer d.mu.Unlock()
	stats := d.db.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(d.db.Info().PageSize)
	used := -free
	if err := d.db.View(func(tx *bolt.Tx) error { used += tx.Size(); return nil }); err != nil {
		return 0, fmt.Errorf("shrink: %w", err)
	}
	if free < worth || free < used || used > most {
		return 0, nil
	}
	if room, err := d.free(filepath.Dir(d.path)); err != nil {
		return 0, fmt.Errorf("shrink: free space of the disk: %w", err)
	} else if room < used*copyParts {
		return 0, nil
	}
	before, err := os.Stat(d.path)
	if err != nil {
		return 0, fmt.Errorf("shrink: %w", err)
	}
	fresh := d.path + suffix
	if err := d.copy(fresh); err != nil {
		_ = os.Remove(fresh) // if it is there at all; Open removes it too
		return 0, fmt.Errorf("shrink %s: %w", d.path, err)
	}
	// Windows renames over no open file, so the old one is closed first.
	err = d.db.Close()
	if err == nil {
		err = errors.Join(os.Rename(fresh, d.path), atomicfile.SyncDir(filepath.Dir(d.path)))
	}
	db, openErr := bolt.Open(d.path, 0o600, d.options)
	if openErr != nil {
		return 0, fmt.Errorf("shrink: open %s again: %w", d.path, errors.Join(openErr, err))
	}
	d.db = db
	if err != nil {
		return 0, fmt.Errorf("shrink %s: %w", d.path, err)
	}
	after, err := os.Stat(d.path)
	if err != nil {
		return 0, fmt.Errorf("shrink: %w", err)
	}
	return before.Size() - after.Size(), nil
}

// copy writes what is in use to another file, durably.
func (d *DB) copy(fresh string) error {
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := bolt.Open(fresh, 0o600, d.options)
	if err != nil {
		return err
	}
	if err := errors.Join(bolt.Compact(to, d.db, copySize), to.Sync()); err != nil {
		return errors.Join(err, to.Close())
	}
	return to.Close()
}
