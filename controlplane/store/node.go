package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// node is raft and what it stands on, while the store runs.
type node struct {
	raft      *raft.Raft
	log       *guardedLog
	snapshots raft.SnapshotStore
}

// start opens the log, brings the state to where raft expects it and starts raft.
func (s *Store) start() (n *node, err error) {
	logger := newLogger(s.cfg.Logger)
	for _, dir := range []string{"log", "snapshots"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	log, err := wal.Open(s.path("log"), wal.WithLogger(logger.Named("log")))
	if err != nil {
		return nil, fmt.Errorf("store: open the log in %s: %w", s.path("log"), err)
	}
	n = &node{log: &guardedLog{WAL: log, s: s}}
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
	transport := s.transport(logger)
	defer func() {
		if err != nil {
			err = errors.Join(err, transport.Close())
		}
	}()
	config := s.raftConfig(logger)
	if !existing && s.cfg.Stream == nil {
		alone := raft.Configuration{Servers: []raft.Server{{ID: config.LocalID, Address: transport.LocalAddr()}}}
		if err := raft.BootstrapCluster(config, n.log, n.log, n.snapshots, transport, alone); err != nil {
			return nil, fmt.Errorf("store: begin the log: %w", err)
		}
	}
	if n.raft, err = raft.NewRaft(config, fsm{s}, n.log, n.log, n.snapshots, transport); err != nil {
		return nil, fmt.Errorf("store: start raft: %w", err)
	}
	return n, nil
}

// existing reports whether the log has begun. Raft writes its first term before its first
// entry; a first start that was cut short between the two leaves a log that raft takes for
// one of another start, and that nobody would ever lead. It is begun anew.
func (s *Store) existing(n *node) (bool, error) {
	existing, err := raft.HasExistingState(n.log, n.log, n.snapshots)
	if err != nil {
		return false, fmt.Errorf("store: read the log: %w", err)
	}
	if !existing || s.cfg.Stream != nil || s.AppliedIndex() > 0 {
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
	if s.cfg.Stream == nil {
		// Alone, and not to be reached by others: there is nobody whose leadership an
		// election that comes too early could end.
		timeout = min(timeout, 100*time.Millisecond)
	}
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = timeout, timeout, timeout
	c.MaxAppendEntries = appendEntries
	c.TrailingLogs = trailingLogs
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
		n.log.written.Add(int64(len(entry.Data)))
	}
	return nil
}

// snapshots takes one whenever the log has outgrown the state: then reading the snapshot
// is less work than reading the log.
func (s *Store) snapshots(ctx context.Context, n *node) {
	tick := time.NewTicker(s.cfg.SnapshotCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		written := n.log.written.Load()
		s.cfg.Metrics.logBytes.Set(float64(written))
		if written <= max(s.cfg.SnapshotBytes, s.Size()) {
			continue
		}
		began := time.Now()
		switch err := n.raft.Snapshot().Error(); {
		case err == nil:
			n.log.written.Add(-written)
			s.cfg.Metrics.snapshots.Inc()
			s.cfg.Logger.Info("snapshot taken", "log", written, "state", s.Size(), "took", time.Since(began))
		case errors.Is(err, raft.ErrNothingNewToSnapshot), errors.Is(err, raft.ErrRaftShutdown):
		default:
			s.cfg.Metrics.snapshotErrors.Inc()
			s.cfg.Logger.Error("snapshot failed; the log keeps growing", "error", err)
		}
	}
}

// guardedLog is the log, ending the process when a write fails or hangs. A node that went
// on would keep its leadership by heartbeats and answer nobody, or have a log with holes.
type guardedLog struct {
	*wal.WAL
	s       *Store
	written atomic.Int64 // bytes since the newest snapshot
}

var (
	_ raft.LogStore          = (*guardedLog)(nil)
	_ raft.StableStore       = (*guardedLog)(nil)
	_ raft.MonotonicLogStore = (*guardedLog)(nil)
)

// deadline ends the process unless it is stopped in time.
func (s *Store) deadline(what string) *time.Timer {
	return time.AfterFunc(s.cfg.WriteDeadline, func() {
		s.fail(fmt.Errorf("store: %s: not done after %s; look at the disk of %s", what, s.cfg.WriteDeadline, s.cfg.Dir))
	})
}

func (g *guardedLog) guard(what string, write func() error) error {
	timer := g.s.deadline(what)
	err := write()
	timer.Stop()
	if err != nil && !errors.Is(err, wal.ErrClosed) {
		g.s.fail(fmt.Errorf("store: %s in %s: %w", what, g.s.cfg.Dir, err))
	}
	return err
}

func (g *guardedLog) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

func (g *guardedLog) StoreLogs(logs []*raft.Log) error {
	for _, l := range logs {
		g.written.Add(int64(len(l.Data)))
	}
	return g.guard("write to the log", func() error { return g.WAL.StoreLogs(logs) })
}

func (g *guardedLog) DeleteRange(first, last uint64) error {
	return g.guard("shorten the log", func() error { return g.WAL.DeleteRange(first, last) })
}

func (g *guardedLog) Set(key, value []byte) error {
	return g.guard("write raft's own state", func() error { return g.WAL.Set(key, value) })
}

func (g *guardedLog) SetUint64(key []byte, value uint64) error {
	return g.guard("write raft's own state", func() error { return g.WAL.SetUint64(key, value) })
}
