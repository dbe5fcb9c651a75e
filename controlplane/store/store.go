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
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft-wal/types"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
	"github.com/crossdock/crossdock/protocol/freespace"
)

// Limits of the store.
const (
	fillEntry     = 1 << 20 // bytes of an entry of several commands; alone a command may have state.MaxCommand
	gapOverhead   = 128     // bytes of a gap in a command, beside its texts
	maxBatch      = 512     // commands of one entry
	maxWaiting    = 1024    // commands that wait to be put into an entry
	maxInFlight   = 2       // entries on their way; while they are, the next one fills
	snapshotsKept = 2
	appendEntries = 8 // of one call between nodes
	poolSize      = 3 // connections to one node that are kept
	enqueueWait   = 5 * time.Second
	closeWait     = 10 * time.Second
	retryBarrier  = 100 * time.Millisecond
	recheck       = time.Second      // of a node that is not ready
	leaderWait    = 3 * time.Second  // of a command for somebody to lead
	forwardWait   = 30 * time.Second // of a command for the leader's answer
	ownWait       = 10 * time.Second // of a forwarded command for this node's own state
	memberWait    = 30 * time.Second // of one step in a change of the members
	answerWait    = 3 * time.Second  // of the others for a word, before one is removed
	reportWait    = 10 * time.Second // of one try to report a hash
	drainPause    = time.Minute      // between two tries to give leadership away
)

// Peers is how this node reaches the others. Addresses are node IDs.
type Peers interface {
	net.Listener // takes streams of other nodes

	// DialNode opens a stream to a node.
	DialNode(ctx context.Context, node string) (net.Conn, error)

	// Apply hands an encoded command to a node that should lead, and gives its encoded
	// answer. Errors are *model.Error; Unavailable means: surely not done.
	Apply(ctx context.Context, node string, command []byte) (answer []byte, err error)

	// Barrier asks the leading node for an entry up to which a reader has to have applied
	// to be current.
	Barrier(ctx context.Context, node string) (index uint64, err error)
}

// Config of a Store.
type Config struct {
	Dir    string // everything of this node is below it
	NodeID string // default "node-1"; stays the same for a data directory

	// Peers reaches the other nodes. Nil is a cluster of this node alone, which no other can
	// reach.
	Peers Peers

	// Begin lets this node begin the log of a new cluster when its directory is empty. It is
	// for exactly one node of a cluster. Without it the log stays empty until the leader adds
	// this node; a node that is alone begins in any case.
	Begin bool

	// Fatal must end the process: what called it may hang in the disk for ever. Nil: only
	// Run returns the error.
	Fatal func(error)

	// Others tells the bytes free on the disks of the other nodes, of all that answer. Nil:
	// nobody knows.
	Others func(context.Context) map[string]int64

	Logger  *slog.Logger
	Metrics *Metrics     // nil: counted for nobody
	State   state.Config // Dir and Fatal are filled in

	Timeout       time.Duration // of heartbeat, election and lease among several; default 2 s
	Contact       time.Duration // a follower that has not heard from a leader for so long is not ready; default 10 s
	WriteDeadline time.Duration // a write to log or state that takes longer ends the process; default 10 s
	SnapshotBytes int64         // log since the last snapshot; default 256 MiB, or the state's size if that is more
	TrailingBytes int64         // log kept behind a snapshot for nodes that were away; default 512 MiB
	SnapshotCheck time.Duration // how often the log and the disk are looked at; default 5 s
	BeaconEvery   uint64        // entries after which nodes compare their states; default 1024
	BeaconAfter   time.Duration // and how long after a change, if fewer come; default 10 min
	Reserve       int64         // bytes on the disk that pushes and uploads leave free; default 512 MiB

	Free func(dir string) (int64, error) // bytes free on the disk; nil: asks the system

	files types.VFS // beneath the log; nil: the system's. Tests let them fail
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
	if c.Free == nil {
		c.Free = freespace.Of
	}
	if c.files == nil {
		c.files = logFiles()
	}
	c.hasten()
	setDefault(&c.Timeout, timeoutOf(2*time.Second))
	setDefault(&c.Contact, 10*time.Second)
	setDefault(&c.WriteDeadline, 10*time.Second)
	setDefault(&c.SnapshotBytes, 256<<20)
	setDefault(&c.TrailingBytes, 512<<20)
	setDefault(&c.SnapshotCheck, 5*time.Second)
	setDefault(&c.BeaconEvery, 1024)
	setDefault(&c.BeaconAfter, 10*time.Minute)
	setDefault(&c.Reserve, 512<<20)
	return nil
}

func setDefault[T int64 | uint64 | time.Duration](value *T, to T) {
	if *value <= 0 {
		*value = to
	}
}

// Store is one node. Reads are of this node's state.
type Store struct {
	*state.Reader
	cfg      Config
	machine  *state.Machine
	hub      hub
	requests chan *request
	lineup   *lineup
	node     atomic.Pointer[node] // nil until raft runs
	progress progress             // of the state
	born     time.Time            // that moments are counted from
	led      time.Time            // when this node noticed that it leads no more; of follow alone
	until    atomic.Int64         // moment up to which this node is ready unless it looks again; 0: it is not
	leads    atomic.Uint64        // term in which this node leads with everything applied; 0: it does not
	caughtUp atomic.Bool          // in this run this node had once applied what the cluster had
	turned   hub                  // topic "" when ready or the leader changes
	assess   chan struct{}        // one token: look again at who leads
	silent   silent               // nodes that do not answer while this one leads
	disk     disk
	beacon   beacon
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
	for name, text := range stops {
		if _, err := os.Stat(filepath.Join(cfg.Dir, name)); err == nil {
			return nil, fmt.Errorf("store: %s", text)
		}
	}
	s := &Store{cfg: cfg, born: time.Now(), requests: make(chan *request, maxWaiting), assess: make(chan struct{}, 1), ended: make(chan struct{}), lineup: newLineup()}
	s.failure.done = make(chan struct{})
	s.beacon.due, s.beacon.report = make(chan struct{}, 1), make(chan model.BeaconReport, 1)
	sc := cfg.State
	sc.Dir, sc.Fatal = cfg.Dir, s.fail
	sc.NoSync = sc.NoSync || stateUnsynced
	if sc.Logger == nil {
		sc.Logger = cfg.Logger
	}
	machine, err := state.Open(sc)
	if err != nil {
		return nil, err
	}
	s.machine, s.Reader = machine, machine.Reader
	s.progress.advance(s.AppliedIndex())
	s.beacon.last.Store(s.AppliedIndex())
	s.beacon.dirty.Store(true)
	return s, nil
}

// stops are the names in a node's directory that keep it from starting, and what to do.
var stops = map[string]string{
	divergedName: "this node's state went another way than that of the others; remove this node from the cluster and join it again with an empty directory",
	damagedName: "this node could not read a part of its data, which the other nodes have; check its disk, remove this node from the cluster and " +
		"join it again with an empty directory; if no other node is left, run crossdock cluster recover on it",
	rebuildName: "a restore or recovery of this node's directory was cut short; run the same command again",
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
	s.node.Store(node)
	inner, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { s.propose(inner, node) })
	group.Go(func() { s.follow(inner, node) })
	group.Go(func() { s.press(inner, node.raft) })
	group.Go(func() { s.reach(inner) })
	group.Go(func() { s.snapshots(inner, node) })
	group.Go(func() { s.watchDisk(inner) })
	group.Go(func() { s.beacons(inner) })
	group.Go(func() { s.reports(inner) })

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
		shut := node.raft.Shutdown()
		node.links.close() // calls that wait for another node would keep raft waiting
		err := shut.Error()
		node.teller.wait()
		close(node.halted)
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

// Watch gives a channel that gets a token when something of a topic has changed; several
// changes may be one token. Call cancel when done.
func (s *Store) Watch(topic string) (changed <-chan struct{}, cancel func()) {
	return s.hub.watch(topic)
}

func (s *Store) path(name string) string { return filepath.Join(s.cfg.Dir, name) }
