package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/controlplane/state"
	"github.com/crossdock/crossdock/controlplane/store"
)

// RebuiltInfo is what a person must know of a restore or a recovery.
type RebuiltInfo struct {
	Cluster     string    `json:"cluster"`
	Incarnation string    `json:"incarnation"`
	Node        string    `json:"node"`
	Cause       string    `json:"cause"`
	Index       uint64    `json:"index"` // newest entry that is in it
	From        time.Time `json:"from"`  // and its time
	Missing     []string  `json:"missing"`
}

// readMarker gives the marker of a restore or recovery; nil: there is none.
func readMarker(files Files) (*rebuildFile, error) {
	marker, err := readJSON[rebuildFile](files.rebuilding)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return &marker, nil
}

// Restore makes a cluster of one node out of a backup, in an empty data directory. It may
// be repeated after it was cut short. When all that can be checked is checked, and before
// anything is written, confirm may still end it; nil goes on.
func Restore(ctx context.Context, config Config, backupFile string, confirm func(BackupInfo) error, log *slog.Logger) (RebuiltInfo, error) {
	if err := config.Validate(); err != nil {
		return RebuiltInfo{}, err
	}
	info, err := VerifyBackup(backupFile)
	if err != nil {
		return RebuiltInfo{}, err
	}
	files := FilesIn(config.Data)
	if err := agreed(files, func() error { _, err := cutShort(files); return err }, func() error {
		if confirm == nil {
			return nil
		}
		return confirm(info)
	}); err != nil {
		return RebuiltInfo{}, err
	}
	lock, err := lockData(files, true)
	if err != nil {
		return RebuiltInfo{}, err
	}
	defer lock.Close()
	if err := emptyForRestore(files); err != nil {
		return RebuiltInfo{}, err
	}
	b, err := openBackup(backupFile)
	if err != nil {
		return RebuiltInfo{}, err
	}
	defer b.close()
	id := nodeFile{Cluster: b.info.Cluster, Incarnation: newIncarnation(), Node: config.Node}
	// While it stands and node.json does not, no server starts here and a restore begins anew.
	marker := rebuildFile{Incarnation: id.Incarnation, Rebuilt: model.Rebuilt{Cause: model.RebuiltFromBackup, Node: config.Node}}
	if err := writeJSON(files.rebuilding, marker); err != nil {
		return RebuiltInfo{}, fmt.Errorf("data directory: %w", err)
	}
	if err := pki.WriteSeal(files.pki, b.seal); err != nil {
		return RebuiltInfo{}, fmt.Errorf("pki: %w", err)
	}
	if err := placeState(files, b.state, log); err != nil {
		return RebuiltInfo{}, fmt.Errorf("restore: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return RebuiltInfo{}, err
	}
	from, err := store.Rebuild(store.RebuildConfig{Dir: files.store, NodeID: config.Node, Logger: log})
	if err != nil {
		return RebuiltInfo{}, fmt.Errorf("restore: %w", err)
	}
	from.Newest = b.info.At // a backup has no log that would tell
	return finishRebuild(files, id, marker, from)
}

// placeState puts the state of a backup into a directory that has none.
func placeState(files Files, from io.Reader, log *slog.Logger) (err error) {
	machine, err := state.Open(state.Config{Dir: files.store, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machine.Close()) }()
	return machine.Restore(from)
}

// agreed checks a data directory, and asks a person when that is well. Meanwhile no server
// starts there, if there is something to start.
func agreed(files Files, check, confirm func() error) error {
	lock, err := lockData(files, false)
	if err != nil {
		return err
	}
	if lock != nil {
		defer lock.Close() // opened to be locked
	}
	if err := check(); err != nil {
		return err
	}
	return confirm()
}

// cutShort refuses a directory that holds anything but a restore that was cut short, and
// lists what that has left.
func cutShort(files Files) (left []string, err error) {
	const why = "a backup is restored into an empty one"
	if _, err := os.Stat(files.node); err == nil {
		return nil, fmt.Errorf("%w: %s is the directory of a node: %s", ErrNotEmpty, files.store, why)
	}
	marker, err := readMarker(files)
	if err != nil {
		return nil, err
	}
	for _, name := range foreign(files.store) {
		if marker == nil {
			return nil, fmt.Errorf("%w: %s holds %s: %s", ErrNotEmpty, files.store, name, why)
		}
		if name != filepath.Base(files.rebuilding) {
			left = append(left, name)
		}
	}
	return left, nil
}

// emptyForRestore clears what a restore has left that was cut short.
func emptyForRestore(files Files) error {
	left, err := cutShort(files)
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.RemoveAll(filepath.Join(files.store, name)); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	return nil
}

// Recover makes a cluster of one node out of what this node has, when a majority is lost
// for good. It may be repeated after it was cut short. When all that can be checked is
// checked, and before anything is written, confirm may still end it; nil goes on.
func Recover(ctx context.Context, config Config, confirm func() error, log *slog.Logger) (RebuiltInfo, error) {
	if err := config.Validate(); err != nil {
		return RebuiltInfo{}, err
	}
	if confirm == nil {
		confirm = func() error { return nil }
	}
	files := FilesIn(config.Data)
	if err := agreed(files, func() error { _, err := survivor(files, config); return err }, confirm); err != nil {
		return RebuiltInfo{}, err
	}
	lock, err := lockData(files, true)
	if err != nil {
		return RebuiltInfo{}, err
	}
	defer lock.Close()
	id, err := survivor(files, config)
	if err != nil {
		return RebuiltInfo{}, err
	}
	id.Incarnation, id.Joined, id.Seeds = newIncarnation(), false, nil
	// While its incarnation is not that of node.json, no server starts here.
	marker := rebuildFile{Incarnation: id.Incarnation, Rebuilt: model.Rebuilt{Cause: model.RebuiltFromSurvivor, Node: id.Node}}
	if err := writeJSON(files.rebuilding, marker); err != nil {
		return RebuiltInfo{}, fmt.Errorf("data directory: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return RebuiltInfo{}, err
	}
	from, err := store.Rebuild(store.RebuildConfig{Dir: files.store, NodeID: id.Node, Logger: log})
	if err != nil {
		return RebuiltInfo{}, fmt.Errorf("recover: %w", err)
	}
	return finishRebuild(files, id, marker, from)
}

// survivor tells which node a directory is of, if a cluster can go on from it.
func survivor(files Files, config Config) (nodeFile, error) {
	id, found, err := readNode(files)
	switch {
	case err != nil:
		return id, err
	case !found:
		return id, fmt.Errorf("%w: data: %s is not the directory of a node", ErrConfig, config.Data)
	case id.Node != config.Node:
		return id, fmt.Errorf("%w: node: %s is asked for, but %s is the directory of node %s", ErrConfig, config.Node, config.Data, id.Node)
	}
	_, err = pki.ReadSeal(files.pki)
	return id, err
}

// finishRebuild writes what the new life begins from, and at last who this node is in it.
func finishRebuild(files Files, id nodeFile, marker rebuildFile, from store.RebuiltInfo) (RebuiltInfo, error) {
	marker.Rebuilt.Index, marker.Rebuilt.From, marker.Rebuilt.At = from.Index, from.Newest, time.Now().UTC()
	if from.Newest.IsZero() { // not known: certificates of all times must not count as of the lost life
		marker.Rebuilt.From = marker.Rebuilt.At
	}
	if err := errors.Join(writeJSON(files.rebuilding, marker), writeJSON(files.node, id)); err != nil {
		return RebuiltInfo{}, fmt.Errorf("data directory: %w", err)
	}
	info := RebuiltInfo{
		Cluster: id.Cluster, Incarnation: id.Incarnation, Node: id.Node, Cause: marker.Rebuilt.Cause, Index: from.Index, From: from.Newest,
	}
	since := "the newest change in it"
	if !from.Newest.IsZero() {
		since = from.Newest.UTC().Format(time.RFC3339)
	}
	info.Missing = []string{
		"What the cluster has taken after " + since + " may be missing: policy, approvals, people, tokens, enrolments and revocations. Look through them and repeat what is not there.",
		"An agent or a person that was revoked after that time is let in again: revoke them again.",
		"Events: agents send again what their journals still hold. What they hold no longer is named in an exception for each lane.",
		"The other nodes of before are refused from now on: empty their data directories and join them again.",
	}
	if marker.Rebuilt.Cause == model.RebuiltFromSurvivor {
		info.Missing = append(info.Missing, "If a majority of the old cluster is running somewhere, stop it now: it would go on as another cluster with the same agents.")
	}
	return info, nil
}
