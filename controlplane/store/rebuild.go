package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/crossdock/crossdock/controlplane/state"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// A rebuild works in a directory of its own. While that is there, the node does not start.
const (
	rebuildName = "rebuilding"
	rebuildWork = "new"   // below it: being made
	rebuildDone = "ready" // below it: whole and on disk, to be moved into place
	rebuildInfo = "info.json"
)

// rebuildBatch is how many entries a rebuild applies in one transaction.
const rebuildBatch = 64

// RebuildConfig says what to rebuild.
type RebuildConfig struct {
	Dir    string // a node's directory; no process may be running on it
	NodeID string // the one node of the new cluster
	Logger *slog.Logger
	State  state.Config // Dir is filled in

	step func(name string) error // for tests: an error is the moment at which the process was killed
}

// RebuiltInfo is what is known of what a node was rebuilt from.
type RebuiltInfo struct {
	Index     uint64    // newest entry of commands in the state
	Term      uint64    // that the new log begins with, higher than any that was seen
	Hash      [32]byte  // over all that was applied
	Entries   uint64    // of the log that were not in the state or a snapshot before
	LastEntry uint64    // newest entry of the log, of whatever kind; 0: there was no log
	Newest    time.Time // when a leader appended that; zero: not known
	Snapshot  uint64    // entry of the snapshot that took the place of the state; 0: none did
}

// Rebuild makes the directory of a stopped node that of a cluster of this node alone: the
// state is brought to the end of the log, committed or not, and a new log goes on from
// there. All other nodes have to begin with empty directories. After a crash it is run
// again, with the same configuration; until it has ended the node refuses to start.
func Rebuild(cfg RebuildConfig) (RebuiltInfo, error) {
	if cfg.Dir == "" || cfg.NodeID == "" {
		return RebuiltInfo{}, errors.New("rebuild: directory and node are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.step == nil {
		cfg.step = func(string) error { return nil }
	}
	b := &rebuilding{cfg: cfg, log: newLogger(cfg.Logger)}
	info, err := b.run()
	if err != nil {
		return RebuiltInfo{}, fmt.Errorf("rebuild %s: %w", cfg.Dir, err)
	}
	return info, nil
}

type rebuilding struct {
	cfg  RebuildConfig
	log  logger
	info RebuiltInfo
}

func (b *rebuilding) path(parts ...string) string {
	return filepath.Join(append([]string{b.cfg.Dir}, parts...)...)
}

func (b *rebuilding) run() (RebuiltInfo, error) {
	if err := b.usable(); err != nil {
		return b.info, err
	}
	sc := b.cfg.State
	sc.Dir = b.cfg.Dir
	if sc.Logger == nil {
		sc.Logger = b.cfg.Logger
	}
	machine, err := state.Open(sc) // its lock keeps a running node and a second rebuild away
	if err != nil {
		return b.info, err
	}
	err = b.make(machine)
	if err = errors.Join(err, machine.Close()); err != nil {
		return b.info, err
	}
	return b.info, b.place()
}

// usable refuses what nothing should be rebuilt from, before anything is written.
func (b *rebuilding) usable() error {
	if _, err := os.Stat(b.path(divergedName)); err == nil {
		return errors.New("this node's state is not that of the others, so it is no base for a cluster; use another node or a backup")
	}
	if _, err := os.Stat(b.path("state.db")); err == nil {
		return nil
	}
	snapshots, err := filepath.Glob(b.path("snapshots", "*", "meta.json"))
	if err != nil || len(snapshots) == 0 {
		return errors.New("there is neither a state nor a snapshot in it")
	}
	return nil
}

// make brings the state to its end and prepares the new log and snapshot beside the old.
func (b *rebuilding) make(machine *state.Machine) error {
	text, err := os.ReadFile(b.path(rebuildName, rebuildDone, rebuildInfo))
	if err == nil {
		return json.Unmarshal(text, &b.info) // a run before this one came so far
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// From here on the state may hold what the cluster never committed.
	if err := b.durably("mark", func() error { return os.MkdirAll(b.path(rebuildName), 0o700) }, b.cfg.Dir); err != nil {
		return err
	}
	if err := os.RemoveAll(b.path(rebuildName, rebuildWork)); err != nil {
		return err
	}
	if err := b.finish(machine); err != nil {
		return err
	}
	b.info.Index, b.info.Hash = machine.AppliedIndex(), machine.StateHash()
	if b.info.Index == 0 {
		return errors.New("nothing was ever applied to the state")
	}
	b.info.Term++
	if err := b.cfg.step("applied"); err != nil {
		return err
	}
	if err := b.prepare(machine); err != nil {
		return err
	}
	return b.durably("ready", func() error {
		return os.Rename(b.path(rebuildName, rebuildWork), b.path(rebuildName, rebuildDone))
	}, b.path(rebuildName))
}

// durably does something to the names in a directory and makes it last.
func (b *rebuilding) durably(step string, do func() error, dir string) error {
	if err := do(); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(dir); err != nil {
		return err
	}
	return b.cfg.step(step)
}

// finish applies what the newest snapshot and the log have beyond the state.
func (b *rebuilding) finish(machine *state.Machine) (err error) {
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(b.cfg.Dir, snapshotsKept, b.log)
	if err != nil {
		return err
	}
	list, err := snapshots.List()
	if err != nil {
		return err
	}
	for _, meta := range list {
		b.info.Term = max(b.info.Term, meta.Term)
	}
	if len(list) > 0 && list[0].Index > machine.AppliedIndex() {
		if err := restoreFrom(machine, snapshots, list[0].ID); err != nil {
			return err
		}
		b.info.Snapshot = list[0].Index
	}
	if _, err := os.Stat(b.path("log")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	log, err := wal.Open(b.path("log"), wal.WithLogger(b.log.Named("log")))
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	term, err := log.GetUint64([]byte(currentTerm))
	if err != nil {
		return fmt.Errorf("read the term: %w", err)
	}
	b.info.Term = max(b.info.Term, term)
	return b.replay(machine, log)
}

func restoreFrom(machine *state.Machine, snapshots raft.SnapshotStore, id string) error {
	_, from, err := snapshots.Open(id)
	if err != nil {
		return fmt.Errorf("open snapshot %s: %w", id, err)
	}
	defer from.Close() // opened for reading
	if err := machine.Restore(from); err != nil {
		return fmt.Errorf("snapshot %s: %w", id, err)
	}
	return nil
}

// replay applies the log from where the state stands.
func (b *rebuilding) replay(machine *state.Machine, log *wal.WAL) error {
	first, err := log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := log.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	applied := machine.AppliedIndex()
	if first > max(applied, b.info.Snapshot)+1 {
		return fmt.Errorf("the state stands at entry %d and the log begins with %d; use another node or a backup", applied, first)
	}
	var batch []state.Entry
	for i := min(max(first, applied+1), last); i <= last; i++ {
		var l raft.Log
		if err := log.GetLog(i, &l); err != nil {
			return fmt.Errorf("read entry %d of the log: %w", i, err)
		}
		b.info.Term = max(b.info.Term, l.Term)
		b.info.LastEntry, b.info.Newest = i, l.AppendedAt
		if l.Index > applied && inState(&l) {
			batch = append(batch, entryOf(&l))
			b.info.Entries++
		}
		if len(batch) == rebuildBatch || i == last {
			if _, err := machine.Apply(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return nil
}

// inState tells the entries that raft gives to the state.
func inState(l *raft.Log) bool { return l.Type == raft.LogCommand || l.Type == raft.LogConfiguration }

// prepare makes the new log and the snapshot that it goes on from.
func (b *rebuilding) prepare(machine *state.Machine) (err error) {
	work := b.path(rebuildName, rebuildWork)
	if err := os.MkdirAll(filepath.Join(work, "log"), 0o700); err != nil {
		return err
	}
	log, err := wal.Open(filepath.Join(work, "log"), wal.WithLogger(b.log.Named("log")))
	if err != nil {
		return fmt.Errorf("make the new log: %w", err)
	}
	if err := errors.Join(log.SetUint64([]byte(currentTerm), b.info.Term), log.Close()); err != nil {
		return fmt.Errorf("make the new log: %w", err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(work, snapshotsKept, b.log)
	if err != nil {
		return err
	}
	_, transport := raft.NewInmemTransport(raft.ServerAddress(b.cfg.NodeID))
	sink, err := snapshots.Create(raft.SnapshotVersionMax, b.info.Index, b.info.Term, single(b.cfg.NodeID), 1, transport)
	if err != nil {
		return err
	}
	snap, err := machine.Snapshot()
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	defer snap.Release()
	if err := (snapshot{snap, nil}).Persist(sink); err != nil {
		return err
	}
	text, err := json.Marshal(b.info)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(work, rebuildInfo), text, 0o600); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Join(work, "log"), filepath.Join(work, "snapshots"), work} {
		if err := atomicfile.SyncDir(dir); err != nil {
			return err
		}
	}
	return b.cfg.step("prepared")
}

// place moves what is ready into place. Each part is there whole: the old one, or the new.
func (b *rebuilding) place() error {
	ready := b.path(rebuildName, rebuildDone)
	for _, name := range []string{"snapshots", "log"} {
		if _, err := os.Stat(filepath.Join(ready, name)); errors.Is(err, fs.ErrNotExist) {
			continue // a run before this one has moved it
		}
		err := b.durably("removed "+name, func() error { return os.RemoveAll(b.path(name)) }, b.cfg.Dir)
		if err != nil {
			return err
		}
		err = b.durably("moved "+name, func() error {
			return errors.Join(os.Rename(filepath.Join(ready, name), b.path(name)), atomicfile.SyncDir(ready))
		}, b.cfg.Dir)
		if err != nil {
			return err
		}
	}
	// From now on there is nobody who has what cannot be read here.
	if err := os.Remove(b.path(damagedName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// In one step, so that what says how far this came is never there by halves.
	gone := b.path("." + rebuildName)
	err := b.durably("done", func() error {
		return errors.Join(os.RemoveAll(gone), os.Rename(b.path(rebuildName), gone))
	}, b.cfg.Dir)
	if err != nil {
		return err
	}
	return os.RemoveAll(gone)
}
