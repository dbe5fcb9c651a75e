package controlplane

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

func (n *running) backup() string {
	n.t.Helper()
	var out bytes.Buffer
	if err := n.cluster.Backup(n.ctx(), asked(), &out); err != nil {
		n.t.Fatal(err)
	}
	file := filepath.Join(n.t.TempDir(), "backup")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		n.t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(n.config.Data, spoolPattern)); err != nil || len(left) > 0 {
		n.t.Errorf("a backup has left %v", left)
	}
	return file
}

func TestRestoreBeginsAnotherLife(t *testing.T) {
	one := run(t, nodeConfig(t, "node-1"))
	two := one.join(nodeConfig(t, "node-2"))
	one.add("in-the-backup")
	file := two.backup()
	one.add("after-the-backup")
	info, err := VerifyBackup(file)
	if err != nil || info.Cluster != one.id.Cluster || info.Node != "node-2" || info.Generation != 1 || info.Index == 0 {
		t.Fatalf("backup %+v, %v", info, err)
	}
	one.stop()
	two.stop()

	config := nodeConfig(t, "node-1")
	config.Cluster.Listen = one.config.Cluster.Listen // where the other node looks for it
	asks := func(BackupInfo) error { t.Error("asked before it was checked"); return nil }
	if _, err := Restore(one.ctx(), one.config, file, asks, nil); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("restore over a node: %v", err)
	}
	no := errors.New("no")
	if _, err := Restore(one.ctx(), config, file, func(BackupInfo) error { return no }, nil); !errors.Is(err, no) {
		t.Errorf("restore without a yes: %v", err)
	}
	if _, err := os.Stat(config.Data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a yes a directory is left: %v", err)
	}
	// One that was cut short: no server starts on it, and it is run again.
	if err := os.MkdirAll(filepath.Join(config.Data, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(FilesIn(config.Data).rebuilding, rebuildFile{Incarnation: "cut"}); err != nil {
		t.Fatal(err)
	}
	if err := <-start(t, config).ended; err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("a server on a restore that was cut short: %v", err)
	}
	rebuilt, err := Restore(one.ctx(), config, file, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rebuilt.Cause != model.RebuiltFromBackup || rebuilt.Incarnation == info.Incarnation || rebuilt.Index < info.Index || len(rebuilt.Missing) == 0 {
		t.Errorf("restored %+v", rebuilt)
	}
	fresh := run(t, config)
	cluster, _ := fresh.Cluster()
	if cluster.Generation != 2 || cluster.Incarnation != rebuilt.Incarnation || cluster.Rebuilt == nil || cluster.Rebuilt.Cause != model.RebuiltFromBackup {
		t.Errorf("the cluster after the restore: %+v", cluster)
	}
	if !fresh.knowsPerson("in-the-backup") || fresh.knowsPerson("after-the-backup") {
		t.Error("the state is not that of the backup")
	}
	if got := fresh.administrator(); got != "admin@node-1" {
		t.Errorf("after the restore the token there is of %q", got)
	}
	leftBehindEnds(t, fresh, two.config)
	// And the marker is gone: a restart begins no third life.
	fresh.stop()
	fresh = run(t, config)
	if cluster, _ := fresh.Cluster(); cluster.Generation != 2 || !fresh.knowsPerson("in-the-new-life") {
		t.Errorf("after a restart: %+v", cluster)
	}
	empty := nodeConfig(t, "node-2")
	fresh.join(empty)
}

// leftBehindEnds: a node of the life before is refused, disturbs nobody, and learns of it.
func leftBehindEnds(t *testing.T, fresh *running, old Config) {
	t.Helper()
	dialed := make(chan struct{}, 1)
	old.Dial = func(ctx context.Context, _, address string) (net.Conn, error) {
		select {
		case dialed <- struct{}{}:
		default:
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
	n := start(t, old)
	<-dialed
	if _, err := n.peers.Status(n.ctx(), "node-1"); err == nil || !strings.Contains(err.Error(), "another life") {
		t.Errorf("a node of the life before: %v", err)
	}
	fresh.add("in-the-new-life")
	// It learns that it was left behind, and ends.
	select {
	case err := <-n.ended:
		if !errors.Is(err, ErrLeftBehind) || !strings.Contains(err.Error(), "generation 2") || !strings.Contains(err.Error(), old.Data) {
			t.Errorf("a node of the life before ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("a node of the life before does not end")
	}
}

func TestRecoverFromOneSurvivor(t *testing.T) {
	one := run(t, nodeConfig(t, "node-1"))
	two := one.join(nodeConfig(t, "node-2"))
	three := one.join(nodeConfig(t, "node-3"))
	one.add("before")
	if !three.knowsPerson("before") {
		t.Fatal("not replicated")
	}
	one.stop()
	two.stop()
	asks := func() error { t.Error("asked before it was checked"); return nil }
	if _, err := Recover(three.ctx(), three.config, asks, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("recover under a running server: %v", err)
	}
	three.stop()
	if _, err := Recover(three.ctx(), nodeConfig(t, "node-3"), asks, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("recovered an empty directory: %v", err)
	}
	other := three.config
	other.Node = "node-2"
	if _, err := Recover(three.ctx(), other, asks, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("recovered under another name: %v", err)
	}
	no := errors.New("no")
	if _, err := Recover(three.ctx(), three.config, func() error { return no }, nil); !errors.Is(err, no) {
		t.Errorf("recover without a yes: %v", err)
	}
	if marker, err := readMarker(FilesIn(three.config.Data)); marker != nil || err != nil {
		t.Errorf("without a yes a marker is left: %+v, %v", marker, err)
	}
	// One that was cut short: no server starts on it, and it is run again.
	if err := writeJSON(FilesIn(three.config.Data).rebuilding, rebuildFile{Incarnation: "cut"}); err != nil {
		t.Fatal(err)
	}
	if err := <-start(t, three.config).ended; err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("a server on a recovery that was cut short: %v", err)
	}
	rebuilt, err := Recover(three.ctx(), three.config, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rebuilt.Cause != model.RebuiltFromSurvivor || rebuilt.Index == 0 || rebuilt.From.IsZero() {
		t.Errorf("recovered %+v", rebuilt)
	}
	alone := run(t, three.config)
	if cluster, _ := alone.Cluster(); cluster.Generation != 2 || !alone.knowsPerson("before") || len(alone.store.Members()) != 1 {
		t.Errorf("after the recovery: %+v, members %v", cluster, alone.store.Members())
	}
	if got := alone.administrator(); got != "admin@node-3" {
		t.Errorf("after the recovery the token there is of %q", got)
	}
	alone.add("alone")
	majorityGoesOn(t, one.config, two.config)
	two.config.Data = nodeConfig(t, "node-2").Data
	if back := alone.join(two.config); !back.knowsPerson("alone") {
		t.Error("a node that joined again does not know what was written meanwhile")
	}
}

// majorityGoesOn: were the recovery of node-3 a mistake, a majority of before that is started
// would go on, whatever it hears.
func majorityGoesOn(t *testing.T, one, two Config) {
	t.Helper()
	before := []*running{start(t, one), start(t, two)}
	for _, n := range before {
		n.awaitReady()
	}
	if _, err := before[0].peers.Status(before[0].ctx(), "node-3"); err == nil || !strings.Contains(err.Error(), "another life") {
		t.Errorf("asked in another life: %v", err)
	}
	before[1].add("in-the-life-before")
	if !before[0].knowsPerson("in-the-life-before") {
		t.Error("the majority of before does not go on")
	}
	for _, n := range before {
		n.stop()
	}
}

func TestVerifyBackupFindsDamage(t *testing.T) {
	file := run(t, nodeConfig(t, "node-1")).backup()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyBackup(file); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", name, err)
		}
		config := nodeConfig(t, "node-1")
		if _, err := Restore(t.Context(), config, file, nil, nil); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: restore: %v", name, err)
		}
		if _, err := os.Stat(config.Data); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a damaged backup has left a data directory", name)
		}
	}
	for _, size := range []int{0, 11, 100, len(whole) / 2, len(whole) - 1} {
		check("cut short", whole[:size])
	}
	for at := 0; at < len(whole); at += 1 + len(whole)/40 {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		check("a bit flipped", bad)
	}
	check("longer", append(bytes.Clone(whole), 0))
}
