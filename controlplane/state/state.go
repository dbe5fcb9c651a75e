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
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Limits of the file.
const (
	DefaultMaxSize = 8 << 30
	lockTimeout    = 2 * time.Second
	fileName       = "state.db"
)

// Config of a Machine.
type Config struct {
	Dir     string
	MaxSize int          // bytes of the file; DefaultMaxSize
	Logger  *slog.Logger // nil: none
	Fatal   func(error)  // told of a damaged row met while reading; nil: it panics

	noSync bool // for tests of rules, which do not pull the plug
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
}

// Machine is the state machine. Apply, Snapshot and Restore are for one goroutine; reads
// are for any.
type Machine struct {
	*Reader
	cfg    Config
	failed error // of Apply: once set, nothing is applied any more
}

// Reader gives the rows. Each method is one short transaction and copies out.
type Reader struct {
	mu    sync.RWMutex // held for reading while db is used, for writing while it is replaced
	db    *bolt.DB
	fatal func(error)
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
	db, err := openFile(filepath.Join(cfg.Dir, fileName), cfg)
	if err != nil {
		return nil, err
	}
	return &Machine{Reader: &Reader{db: db, fatal: cfg.Fatal}, cfg: cfg}, nil
}

func openFile(path string, cfg Config) (*bolt.DB, error) {
	options := bolt.Options{
		Timeout:        lockTimeout,
		NoFreelistSync: true, // else it is written whole with every commit
		FreelistType:   bolt.FreelistMapType,
		MaxSize:        cfg.MaxSize,
		NoSync:         cfg.noSync,
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
	return m.db.Close()
}

// Apply applies entries in one transaction. Entries at or below the machine's own index
// are passed over. An error is ErrFatal, and then nothing of the batch was applied.
func (m *Machine) Apply(entries []Entry) (out Outcome, err error) {
	if m.failed != nil {
		return Outcome{}, m.failed
	}
	defer func() { m.failed = err }()
	m.mu.RLock()
	defer m.mu.RUnlock()
	err = catch(func() error {
		return m.db.Update(func(b *bolt.Tx) error {
			out, err = applyAll(b, entries)
			return err
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

func applyAll(b *bolt.Tx, entries []Entry) (Outcome, error) {
	v := view{b}
	at := v.applied()
	t := &tx{view: v, n: v.counters(), topics: map[string]struct{}{}}
	before := t.n
	out := Outcome{Results: make([][]Result, len(entries))}
	moved := false
	for i, e := range entries {
		if e.Index <= at.Index {
			continue
		}
		results, err := t.entry(e)
		if err != nil {
			return Outcome{}, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		out.Results[i] = results
		at = appliedRow{Index: e.Index, Term: e.Term, Hash: chain(at.Hash, e)}
		moved = true
	}
	if !moved {
		return out, nil
	}
	if t.n != before {
		put(t, tableMeta, keyCounters, &t.n)
	}
	put(t, tableMeta, keyApplied, &at)
	for topic := range t.topics {
		out.Topics = append(out.Topics, topic)
	}
	slices.Sort(out.Topics)
	return out, nil
}

// chain hashes all that has been applied, so that nodes can tell that they are of one mind.
func chain(previous [32]byte, e Entry) [32]byte {
	h := sha256.New()
	h.Write(previous[:])
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], e.Index)
	binary.BigEndian.PutUint64(head[8:], e.Term)
	head[16] = e.Type
	h.Write(head[:])
	h.Write(e.Data)
	return [32]byte(h.Sum(nil))
}

func (t *tx) entry(e Entry) ([]Result, error) {
	if e.Empty {
		return nil, nil
	}
	texts, err := splitEntry(e.Data)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(texts))
	for i, text := range texts {
		cmd, err := Decode(text)
		if err != nil {
			return nil, err
		}
		results[i] = t.command(cmd)
	}
	return results, nil
}

// command applies one command. A rule that refuses one has changed nothing but what it
// writes down about the refusal.
func (t *tx) command(cmd model.Command) Result {
	if c, ok := cmd.(*model.Bootstrap); ok {
		return result(nil, t.bootstrap(c))
	}
	if t.cluster() == nil {
		return result(nil, model.Errorf(model.Unavailable, "the cluster has not been bootstrapped"))
	}
	switch c := cmd.(type) {
	case *model.Push:
		return answer(t.push(c))
	case *model.Ack:
		return result(nil, t.ack(c))
	case *model.Enroll:
		return answer(t.enroll(c))
	case *model.Renew:
		return result(nil, t.renew(c))
	case asked:
		return t.once(c)
	}
	panic(fault{fmt.Errorf("no rule for %T", cmd)})
}

// asked is a command of a person or program.
type asked interface {
	model.Command
	Request() *model.Asked
}

func (t *tx) apply(cmd asked) Result {
	switch c := cmd.(type) {
	case *model.PutPrincipal:
		return result(nil, t.putPrincipal(c))
	case *model.CreateJoinToken:
		return result(nil, t.createJoinToken(c))
	case *model.Revoke:
		return result(nil, t.revoke(c))
	case *model.Propose:
		return answer(t.propose(c))
	case *model.Approve:
		return answer(t.approve(c))
	case *model.Resolve:
		return result(nil, t.resolve(c))
	case *model.ResolveException:
		return result(nil, t.resolveException(c))
	}
	panic(fault{fmt.Errorf("no rule for %T", cmd)})
}

func result(value any, err *model.Error) Result { return Result{Value: value, Err: err} }

// answer keeps a nil pointer from becoming a value that is not nil.
func answer[T any](value *T, err *model.Error) Result {
	if value == nil || err != nil {
		return Result{Err: err}
	}
	return Result{Value: value}
}
