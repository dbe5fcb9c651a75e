// Package store replicates the control plane's state with raft: it gives commands their
// place in the log, applies them, and says what came of each.
//
// It refuses to know what a command means; the rules are the state machine's. Its invariant:
// a command that was answered is in the log of a majority and in the state, and one whose
// fate is not known is reported as unknown, never as failed.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
)

// Limits of the store.
const (
	MaxEntry      = 2 << 20 // bytes of one command, and about what an entry of the log may have
	fillEntry     = 1 << 20 // bytes from which an entry takes no further command
	gapOverhead   = 128     // bytes of a gap in a command, beside its texts
	maxBatch      = 512     // commands of one entry
	maxWaiting    = 1024    // commands that wait to be put into an entry
	maxInFlight   = 2       // entries on their way; while they are, the next one fills
	trailingLogs  = 256     // entries kept behind a snapshot: 512 MiB at the very most
	snapshotsKept = 2
	appendEntries = 8
	enqueueWait   = 5 * time.Second
	closeWait     = 10 * time.Second
	retryBarrier  = 100 * time.Millisecond
)

// Config of a Store.
type Config struct {
	Dir    string // everything of this node is below it
	NodeID string // default "node-1"; stays the same for a data directory

	// Fatal must end the process: what called it may hang in the disk for ever. Nil: only
	// Run returns the error.
	Fatal func(error)

	Logger  *slog.Logger
	Metrics *Metrics     // nil: counted for nobody
	State   state.Config // Dir and Fatal are filled in

	// Stream carries raft between nodes. Nil is a cluster of this node alone, which no
	// other can reach.
	Stream raft.StreamLayer

	Timeout       time.Duration // of heartbeat, election and lease among several; default 2 s
	WriteDeadline time.Duration // a write to log or state that takes longer ends the process; default 10 s
	SnapshotBytes int64         // log since the last snapshot; default 256 MiB, or the state's size if that is more
	SnapshotCheck time.Duration // how often that is looked at; default 5 s
}

func (c *Config) defaults() error {
	if c.Dir == "" {
		return errors.New("store: no directory given")
	}
	if c.NodeID == "" {
		c.NodeID = "node-1"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	if c.WriteDeadline <= 0 {
		c.WriteDeadline = 10 * time.Second
	}
	if c.SnapshotBytes <= 0 {
		c.SnapshotBytes = 256 << 20
	}
	if c.SnapshotCheck <= 0 {
		c.SnapshotCheck = 5 * time.Second
	}
	return nil
}

// Store is one node. Reads are of this node's state.
type Store struct {
	*state.Reader
	cfg      Config
	machine  *state.Machine
	hub      hub
	requests chan *request
	ready    atomic.Bool
	turned   hub           // topic "" when ready changes
	ended    chan struct{} // closed when Run has ended
	started  atomic.Bool
	closing  sync.Once
	closeErr error

	failure struct {
		once sync.Once
		err  error         // written before done is closed
		done chan struct{} // closed by the first failure
	}
}

// New opens this node's state. Nothing runs yet, but reads work.
func New(cfg Config) (*Store, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, requests: make(chan *request, maxWaiting), ended: make(chan struct{})}
	s.failure.done = make(chan struct{})
	sc := cfg.State
	sc.Dir, sc.Fatal = cfg.Dir, s.fail
	if sc.Logger == nil {
		sc.Logger = cfg.Logger
	}
	machine, err := state.Open(sc)
	if err != nil {
		return nil, err
	}
	s.machine, s.Reader = machine, machine.Reader
	return s, nil
}

// fail notes the first error that this node cannot go on from, and ends the process.
func (s *Store) fail(err error) {
	s.failure.once.Do(func() {
		s.failure.err = err
		close(s.failure.done)
		s.cfg.Logger.Error("the store cannot go on", "error", err)
		if s.cfg.Fatal != nil {
			s.cfg.Fatal(err)
		}
	})
}

// Run takes part in the cluster until ctx ends or this node cannot go on. It closes the
// store before it returns.
func (s *Store) Run(ctx context.Context) error {
	if !s.started.CompareAndSwap(false, true) {
		return errors.New("store: Run was called before")
	}
	defer close(s.ended)
	node, err := s.start()
	if err != nil {
		return errors.Join(err, s.Close())
	}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { s.propose(inner, node.raft) })
	group.Go(func() { s.follow(inner, node.raft) })
	group.Go(func() { s.snapshots(inner, node) })

	var cause error
	select {
	case <-ctx.Done():
	case <-s.failure.done:
		cause = s.failure.err
	}
	stop()
	// First no more commands, then raft, which still writes; then the log; the state last,
	// because raft applies to it until it has stopped. A disk that hangs must not keep the
	// reason for the end from being told.
	done := make(chan error, 1)
	go func() {
		s.setReady(false)
		err := node.raft.Shutdown().Error()
		group.Wait()
		done <- errors.Join(err, node.log.Close(), s.Close())
	}()
	select {
	case err := <-done:
		return errors.Join(cause, err)
	case <-time.After(closeWait):
		return errors.Join(cause, fmt.Errorf("store: still not closed after %s", closeWait))
	}
}

// Close closes a store that was not run; after Run it does nothing more.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closeErr = s.machine.Close() })
	return s.closeErr
}

// follow keeps ready in step with leadership: a new leader is ready when all that former
// ones have committed is in its state.
func (s *Store) follow(ctx context.Context, r *raft.Raft) {
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-r.LeaderCh():
			s.setReady(leads && s.barrier(ctx, r))
		}
	}
}

// barrier waits until what is in the log is in the state, for as long as this node leads.
func (s *Store) barrier(ctx context.Context, r *raft.Raft) bool {
	for r.State() == raft.Leader {
		err := r.Barrier(s.cfg.Timeout).Error()
		if err == nil {
			return true
		}
		s.cfg.Logger.Warn("this node leads but has not applied its log yet", "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(retryBarrier):
		}
	}
	return false
}

func (s *Store) setReady(ready bool) {
	if s.ready.Swap(ready) != ready {
		s.cfg.Metrics.leader(ready)
		s.turned.publish("")
	}
}

// Leader reports whether this node leads and has everything applied.
func (s *Store) Leader() bool { return s.ready.Load() }

// Ready says why this node cannot take commands.
func (s *Store) Ready() error {
	select {
	case <-s.failure.done:
		return s.failure.err
	default:
	}
	if !s.ready.Load() {
		return model.Errorf(model.Unavailable, "this node does not lead the cluster")
	}
	return nil
}

// WaitReady waits until Ready has nothing to say.
func (s *Store) WaitReady(ctx context.Context) error {
	turned, cancel := s.turned.watch("")
	defer cancel()
	for s.Ready() != nil {
		select {
		case <-turned:
		case <-s.failure.done:
			return s.failure.err
		case <-s.ended:
			return model.Errorf(model.Unavailable, "the store has ended")
		case <-ctx.Done():
			return fmt.Errorf("wait for the store: %w", context.Cause(ctx))
		}
	}
	return nil
}

// Watch gives a channel that gets a token when something of a topic has changed; several
// changes may be one token. Call cancel when done.
func (s *Store) Watch(topic string) (changed <-chan struct{}, cancel func()) {
	return s.hub.watch(topic)
}

func (s *Store) path(name string) string { return filepath.Join(s.cfg.Dir, name) }
