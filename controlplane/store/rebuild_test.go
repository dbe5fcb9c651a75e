package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
)

var errKilled = errors.New("killed")

func rebuildConfig(dir string) RebuildConfig {
	return RebuildConfig{Dir: dir, NodeID: "node-2", State: state.Config{MaxSize: 512 << 20}}
}

// survivor is the directory of one node of three, with a state that is behind its log.
func survivor(t *testing.T) (dir string, hash [32]byte, index uint64) {
	t.Helper()
	c := newCluster(t, nil)
	join(c.leader(), "eu")
	c.agree()
	c.kill("node-2")
	dir = c.dirs["node-2"]
	old := copyDir(t, dir)
	c.start("node-2")
	c.awaitReady("node-2")
	c.leader().must(&model.Push{At: time.Now(), Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, 1, 10, 100)}})
	c.leader().must(tokenOf("last"))
	c.agree()
	hash, index = c.leader().StateHash(), c.leader().AppliedIndex()
	for _, id := range threeNodes {
		c.kill(id)
	}
	if err := os.Rename(filepath.Join(old, "state.db"), filepath.Join(dir, "state.db")); err != nil {
		t.Fatal(err)
	}
	return dir, hash, index
}

func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// checkRebuilt starts a node alone on a rebuilt directory.
func checkRebuilt(t *testing.T, dir string, hash [32]byte) {
	t.Helper()
	cfg := testConfig(dir)
	cfg.NodeID = "node-2"
	s := open(t, cfg)
	if got := s.StateHash(); got != hash {
		t.Errorf("hash %x, want %x", got[:4], hash[:4])
	}
	if members := s.Members(); len(members) != 1 || members[0].ID != "node-2" || !members[0].Leader {
		t.Errorf("members %+v", members)
	}
	if _, ok := s.JoinToken("last"); !ok || len(s.Mail("ho", 0, 1<<20)) != 1 {
		t.Error("what was last is gone")
	}
	s.must(tokenOf("after"))
	s.end()
	s = open(t, cfg)
	if _, ok := s.JoinToken("after"); !ok {
		t.Error("what was written after the rebuild is gone")
	}
	s.end()
}

func TestRebuildFromSurvivor(t *testing.T) {
	dir, hash, index := survivor(t)
	info, err := Rebuild(rebuildConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	if info.Index != index || info.Hash != hash || info.Entries == 0 || info.LastEntry < index || info.Term < 2 || time.Since(info.Newest) > time.Minute {
		t.Errorf("%+v, want entry %d", info, index)
	}
	checkRebuilt(t, dir, hash)
}

// Killed after any step, it is run again; before that the node does not start.
func TestRebuildKilledAtEachStep(t *testing.T) {
	dir, hash, _ := survivor(t)
	var steps []string
	cfg := rebuildConfig(copyDir(t, dir))
	cfg.step = func(name string) error { steps = append(steps, name); return nil }
	if _, err := Rebuild(cfg); err != nil {
		t.Fatal(err)
	}
	if len(steps) < 8 {
		t.Fatalf("steps %q", steps)
	}
	for i, at := range steps {
		t.Run(at, func(t *testing.T) {
			dir := copyDir(t, dir)
			cfg := rebuildConfig(dir)
			cfg.step = func(name string) error {
				if name == at {
					return errKilled
				}
				return nil
			}
			if _, err := Rebuild(cfg); !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			if i < len(steps)-1 {
				if s, err := New(testConfig(dir)); err == nil || !strings.Contains(err.Error(), "run the same command again") {
					t.Errorf("the node starts: %v, %v", s, err)
				}
				info, err := Rebuild(rebuildConfig(dir))
				if err != nil || info.Hash != hash {
					t.Fatalf("%+v, %v", info, err)
				}
			}
			checkRebuilt(t, dir, hash)
		})
	}
}

// A backup is a state alone. Other nodes join what it becomes, with empty directories.
func TestRebuildFromBackup(t *testing.T) {
	whole, hash, index := survivor(t)
	if _, err := Rebuild(rebuildConfig(whole)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Rename(filepath.Join(whole, "state.db"), filepath.Join(dir, "state.db")); err != nil {
		t.Fatal(err)
	}
	cfg := rebuildConfig(dir)
	cfg.NodeID = "node-1"
	info, err := Rebuild(cfg)
	if err != nil || info.Index != index || info.Hash != hash || info.Entries != 0 || info.LastEntry != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	c := &cluster{T: t, net: newNetwork(), dirs: map[string]string{"node-1": dir, "node-3": t.TempDir()}, up: map[string]*running{}}
	c.start("node-1")
	c.awaitReady("node-1")
	c.start("node-3")
	c.join("node-3")
	c.up["node-3"].must(tokenOf("after"))
	c.agree()
	if _, ok := c.up["node-3"].JoinToken("last"); !ok {
		t.Error("the node that joined does not have what was in the backup")
	}
}

// A state that is behind the newest snapshot is replaced by it first.
func TestRebuildFromSnapshot(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(dir)
	cfg.SnapshotBytes, cfg.SnapshotCheck, cfg.NodeID = 1, 10*time.Millisecond, "node-2"
	s := open(t, cfg)
	begin(s)
	join(s, "eu", "ho")
	s.must(&model.Push{At: time.Now(), Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, 1, 10, 100)}})
	s.must(tokenOf("last"))
	node := s.node.Load()
	s.snapshot(node, 0)
	hash := s.StateHash()
	s.end()
	if err := os.Remove(filepath.Join(dir, "state.db")); err != nil {
		t.Fatal(err)
	}
	info, err := Rebuild(rebuildConfig(dir))
	if err != nil || info.Snapshot == 0 || info.Hash != hash {
		t.Fatalf("%+v, %v", info, err)
	}
	checkRebuilt(t, dir, hash)
}

func TestRebuildRefuses(t *testing.T) {
	empty := t.TempDir()
	if _, err := Rebuild(rebuildConfig(empty)); err == nil {
		t.Error("it made a cluster of nothing")
	}
	if entries, err := os.ReadDir(empty); err != nil || len(entries) > 0 {
		t.Errorf("and left %v, %v", entries, err)
	}
	dir := t.TempDir()
	s := open(t, testConfig(dir))
	begin(s)
	if _, err := Rebuild(rebuildConfig(dir)); err == nil {
		t.Error("it rebuilt the directory of a node that runs")
	}
	s.must(tokenOf("x"))
	s.end()
	if err := os.WriteFile(filepath.Join(dir, divergedName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Rebuild(rebuildConfig(dir)); err == nil {
		t.Error("it made a cluster of a state that a majority has found wrong")
	}
	if _, err := os.Stat(filepath.Join(dir, rebuildName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left its mark: %v", err)
	}
}
