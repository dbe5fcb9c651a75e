package store

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
)

// node is raft and what it stands on, while the store runs.
type node struct {
	raft      *raft.Raft
	log       *guardedLog
	snapshots raft.SnapshotStore
	links     *links        // nil: alone
	teller    *teller       // likewise
	halted    chan struct{} // closed when raft has shut down
}

// await waits for a step of raft's. What raft has taken but not answered when it shuts down
// it never answers: the part that would ends with what waits for it.
func (n *node) await(step raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- step.Error() }()
	select {
	case err := <-done:
		return err
	case <-n.halted:
	}
	select {
	case err := <-done:
		return err
	default:
		return raft.ErrRaftShutdown
	}
}

// start opens the log, brings the state to where raft expects it and starts raft.
func (s *Store) start() (n *node, err error) {
	logger := newLogger(s.cfg.Logger)
	for _, dir := range []string{"log", "snapshots"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	log, err := wal.Open(s.path("log"), wal.WithLogger(logger.Named("log")), wal.WithSegmentFiler(segment.NewFiler(s.path("log"), s.cfg.files)))
	if err != nil {
		return nil, fmt.Errorf("store: open the log in %s: %w", s.path("log"), err)
	}
	n = &node{log: &guardedLog{WAL: log, s: s}, halted: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, log.Close())
		}
	}()
	if n.snapshots, err = raft.NewFileSnapshotStoreWithLogger(s.cfg.Dir, snapshotsKept, logger); err != nil {
		return nil, fmt.Errorf("store: open the snapshots in %s: %w", s.path("snapshots"), err)
	}
	existing, err := s.existing(n)
	if err != nil {
		return nil, err
	}
	if err := s.catchUp(n, existing); err != nil {
		return nil, err
	}
	var transport transporter
	transport, n.links, n.teller = s.transport(logger)
	defer func() {
		if err != nil {
			err = errors.Join(err, transport.Close())
		}
	}()
	config := s.raftConfig(logger)
	if !existing && s.begins() {
		if err := raft.BootstrapCluster(config, n.log, n.log, n.snapshots, transport, single(s.cfg.NodeID)); err != nil {
			return nil, fmt.Errorf("store: begin the log: %w", err)
		}
	}
	if n.raft, err = raft.NewRaft(config, fsm{s}, n.log, n.log, n.snapshots, transport); err != nil {
		return nil, fmt.Errorf("store: start raft: %w", err)
	}
	return n, nil
}

// begins reports whether this node may begin a log.
func (s *Store) begins() bool { return s.cfg.Begin || s.cfg.Peers == nil }

// single is the configuration of a cluster of one node. Raft knows nodes by their IDs only.
func single(id string) raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(id), Address: raft.ServerAddress(id)}}}
}

// existing reports whether the log has begun. Raft writes its first term before its first
// entry; a first start that was cut short between the two leaves a log that raft takes for
// one of another start, and that nobody would ever lead. It is begun anew.
func (s *Store) existing(n *node) (bool, error) {
	existing, err := raft.HasExistingState(n.log, n.log, n.snapshots)
	if err != nil {
		return false, fmt.Errorf("store: read the log: %w", err)
	}
	if !existing || !s.begins() || s.AppliedIndex() > 0 {
		return existing, nil
	}
	last, err := n.log.LastIndex()
	if err != nil {
		return false, fmt.Errorf("store: read the log: %w", err)
	}
	list, err := n.snapshots.List()
	if err != nil {
		return false, fmt.Errorf("store: list the snapshots: %w", err)
	}
	if last > 0 || len(list) > 0 {
		return true, nil
	}
	if err := n.log.SetUint64([]byte(currentTerm), 0); err != nil {
		return false, fmt.Errorf("store: begin the log anew: %w", err)
	}
	return false, nil
}

// currentTerm is raft's name for it in the stable store.
const currentTerm = "CurrentTerm"

func (s *Store) raftConfig(logger logger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(s.cfg.NodeID)
	c.Logger = logger
	timeout := s.cfg.Timeout
	if s.cfg.Peers == nil {
		// Alone, and not to be reached by others: there is nobody whose leadership an
		// election that comes too early could end.
		timeout = min(timeout, 100*time.Millisecond)
	}
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = timeout, timeout, timeout
	c.MaxAppendEntries = appendEntries
	c.CommitTimeout = commitTimeout
	c.TrailingLogs = 0                   // set before each snapshot, by bytes
	c.SnapshotThreshold = math.MaxUint64 // the store counts bytes instead
	c.SnapshotInterval = time.Hour
	c.NoSnapshotRestoreOnStart = true // the state has its own index, and is there
	c.NoLegacyTelemetry = true
	return c
}

// catchUp replaces a state that is older than the newest snapshot, and counts the log
// beyond it. Raft goes on from the snapshot; what the state has already is passed over.
func (s *Store) catchUp(n *node, existing bool) error {
	applied := s.AppliedIndex()
	if !existing && applied > 0 {
		return fmt.Errorf("store: the state in %s stands at entry %d but its log is gone; bring back the log, or restore a backup into an empty directory", s.cfg.Dir, applied)
	}
	list, err := n.snapshots.List()
	if err != nil {
		return fmt.Errorf("store: list the snapshots: %w", err)
	}
	covered := applied
	if len(list) > 0 {
		covered = max(covered, list[0].Index)
	}
	if len(list) > 0 && list[0].Index > applied {
		s.cfg.Logger.Info("the state is older than the newest snapshot and is replaced by it", "applied", applied, "snapshot", list[0].Index)
		_, from, err := n.snapshots.Open(list[0].ID)
		if err != nil {
			return fmt.Errorf("store: open snapshot %s: %w", list[0].ID, err)
		}
		defer from.Close()
		if err := s.machine.Restore(from); err != nil {
			return fmt.Errorf("store: snapshot %s: %w", list[0].ID, err)
		}
		s.progress.advance(s.AppliedIndex())
	}
	first, err := n.log.FirstIndex()
	if err != nil {
		return fmt.Errorf("store: read the log: %w", err)
	}
	if first > covered+1 {
		return fmt.Errorf("store: the state stands at entry %d and the log begins with %d; restore this node from a backup", covered, first)
	}
	return n.countLog(list)
}

// countLog counts the log beyond the newest snapshot. What lies before it is not read: the
// next snapshot lets go of it.
func (n *node) countLog(list []*raft.SnapshotMeta) error {
	first, err := n.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := n.log.LastIndex()
	if err != nil {
		return err
	}
	if len(list) > 0 {
		first = max(first, list[0].Index+1)
	}
	for i := first; i <= last && i > 0; i++ {
		var entry raft.Log
		if err := n.log.GetLog(i, &entry); err != nil {
			return fmt.Errorf("store: read entry %d of the log: %w", i, err)
		}
		n.log.sizes.add(i, len(entry.Data))
	}
	return nil
}
