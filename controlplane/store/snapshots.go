package store

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

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
		written := n.sinceSnapshot()
		s.cfg.Metrics.logBytes.Set(float64(written))
		if s.outgrown(written) {
			s.snapshot(n, written)
		}
	}
}

// outgrown reports whether the log is so large that a snapshot is to take its place.
func (s *Store) outgrown(written int64) bool { return written > max(s.cfg.SnapshotBytes, s.Size()) }

func (s *Store) snapshot(n *node, written int64) {
	began := time.Now()
	keep := n.raft.ReloadableConfig()
	keep.TrailingLogs = max(n.log.sizes.trailing(s.cfg.TrailingBytes), 1)
	if err := n.raft.ReloadConfig(keep); err != nil {
		s.cfg.Logger.Error("the log cannot be told how much of it to keep", "error", err)
	}
	switch err := n.raft.Snapshot().Error(); {
	case err == nil:
		s.cfg.Metrics.snapshots.Inc()
		s.cfg.Logger.Info("snapshot taken", "log", written, "state", s.Size(), "entriesKept", keep.TrailingLogs, "took", time.Since(began))
	case errors.Is(err, raft.ErrNothingNewToSnapshot), errors.Is(err, raft.ErrRaftShutdown):
	default:
		s.cfg.Metrics.snapshotErrors.Inc()
		s.cfg.Logger.Error("snapshot failed; the log keeps growing", "error", err)
	}
}

// newestSnapshot is the entry up to which the newest snapshot goes; 0: there is none.
func (n *node) newestSnapshot() uint64 {
	list, err := n.snapshots.List()
	if err != nil || len(list) == 0 {
		return 0
	}
	return list[0].Index
}

// sinceSnapshot is how much of the log the newest snapshot does not cover.
func (n *node) sinceSnapshot() int64 { return n.log.sizes.since(n.newestSnapshot()) }
