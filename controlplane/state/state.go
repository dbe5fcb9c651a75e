// Package state owns the control plane's tables and the rules that change them: one
// deterministic state machine over one bbolt file.
//
// It refuses to know raft, the network, the clock and randomness: commands come in, encoded
// and in the order of the log, and rows change. Its invariant: the rows are a function of
// the entries applied, so nodes that have applied the same entries hold the same rows; and
// an entry's effects and its index are written in one transaction, so that none is applied
// twice or by halves.
package state

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Limits of the file.
const (
	DefaultMaxSize = 8 << 30
	allocShare     = 16 // the file grows by no more than one in so many of its limit
	lockTimeout    = 2 * time.Second
	fileName       = "state.db"
)

// Config of a Machine.
type Config struct {
	Dir     string
	MaxSize int          // bytes of the file; DefaultMaxSize
	Logger  *slog.Logger // nil: none
	Fatal   func(error)  // told of a damaged row met while reading; nil: it panics

	NoSync bool // for fault tests that must lose data; never set it elsewhere
}

// Entry is one entry of the replicated log.
type Entry struct {
	Index uint64
	Term  uint64
	Type  uint8
	Data  []byte
	Empty bool // not an entry of commands: only its index and hash count
}

// Result is the outcome of one command.
type Result struct {
	Value any
	Err   *model.Error
}

// Outcome is what a batch of entries brought.
type Outcome struct {
	Results [][]Result // for each entry its commands' results; nil for an entry passed over
	Topics  []string   // what changed, sorted
	Index   uint64     // of the last entry applied

	Beacon   uint64   // entry of the newest beacon in the batch, to be reported; 0: none
	Hash     [32]byte // this node's own hash at that entry
	Diverged string   // why this node must stop; empty: it may go on
}

// Machine is the state machine. Apply, Snapshot and Restore are for one goroutine; reads
// are for any.
type Machine struct {
	*Reader
	cfg    Config
	late   *late // syncs what Apply commits
	failed error // of Apply: once set, nothing is applied any more
}

// Reader gives the rows. Each method is one short transaction and copies out.
type Reader struct {
	mu    sync.RWMutex // held for reading while db is used, for writing while it is replaced
	db    *bolt.DB
	fatal func(error)

	snapshots sync.Map // of *Snapshot: those that are open, so that the file can be closed

	maxSize int // of the file
}

// Open opens or begins the file in a directory.
func Open(cfg Config) (*Machine, error) {
	if cfg.Dir == "" {
		return nil, errors.New("open state: no directory given")
	}
	if cfg.MaxSize <= 0 {
		cfg.MaxSize = DefaultMaxSize
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Fatal == nil {
		cfg.Fatal = func(err error) { panic(err) }
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if err := os.Remove(filepath.Join(cfg.Dir, restoreName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open state: remove what a broken restore left: %w", err)
	}
	if err := stepBack(cfg); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	m := &Machine{Reader: &Reader{fatal: cfg.Fatal, maxSize: cfg.MaxSize}, cfg: cfg}
	if err := m.open(); err != nil {
		return nil, err
	}
	return m, nil
}

// open leaves what there was where it fails: a file that is closed says so to its readers.
func (m *Machine) open() error {
	db, err := openFile(filepath.Join(m.cfg.Dir, fileName), m.cfg)
	if err != nil {
		return err
	}
	l, err := beginLate(db, m.cfg)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	m.db, m.late = db, l
	return nil
}

func openFile(path string, cfg Config) (*bolt.DB, error) {
	options := bolt.Options{
		Timeout:        lockTimeout,
		NoFreelistSync: true, // else it is written whole with every commit
		FreelistType:   bolt.FreelistMapType,
		MaxSize:        cfg.MaxSize,
		NoSync:         cfg.NoSync,
		// Mapped whole from the start, because a remap has to wait for every open
		// read, and a snapshot's is a long one.
		InitialMmapSize: cfg.MaxSize,
	}
	if runtime.GOOS == "windows" {
		options.InitialMmapSize = 0 // there the file itself would be made that large
	}
	db, err := bolt.Open(path, 0o600, &options)
	if err != nil {
		return nil, fmt.Errorf("open state %s (is another process using it?): %w", path, err)
	}
	db.AllocSize = min(db.AllocSize, cfg.MaxSize/allocShare)
	err = db.Update(func(b *bolt.Tx) error {
		for _, name := range tables {
			if _, err := b.CreateBucketIfNotExists(name); err != nil {
				return fmt.Errorf("create table %s: %w", name, err)
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open state %s: %w", path, err)
	}
	return db, nil
}

// Close closes the file. Reads after it find nothing.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endSnapshots()
	var err error
	if m.failed == nil {
		err = m.late.settle(m.cfg.Dir)
	}
	m.late.end()
	m.late = nil
	return errors.Join(err, m.db.Close())
}

// Apply applies entries in one transaction. Entries at or below the machine's own index
// are passed over. An error is ErrFatal, and then nothing of the batch was applied. After a
// crash the last batches may have to be applied again.
func (m *Machine) Apply(entries []Entry) (out Outcome, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.failed != nil {
		return Outcome{}, m.failed
	}
	defer func() { m.failed = err }()
	err = catch(func() error {
		return m.late.commit(func() error {
			return m.db.Update(func(b *bolt.Tx) (err error) {
				out, err = applyAll(b, entries)
				return err
			})
		})
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("%w: apply: %w", ErrFatal, err)
	}
	return out, nil
}

// catch turns a fault into an error.
func catch(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(fault)
			if !ok {
				panic(p)
			}
			err = f.err
		}
	}()
	return fn()
}
