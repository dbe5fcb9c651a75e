package store

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
	"github.com/crossdock/crossdock/protocol/block"
)

// A node whose state went another way stops, and does not start again; the others go on.
func TestDivergedNodeStops(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.BeaconEvery = 8 })
	c.agree()
	id := c.followers()[0].cfg.NodeID
	c.kill(id)
	m, err := state.Open(state.Config{Dir: c.dirs[id], MaxSize: 512 << 20})
	if err != nil {
		t.Fatal(err)
	}
	text, err := state.Encode(tokenOf("only-here"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply([]state.Entry{{Index: m.AppliedIndex() + 1, Term: 9, Data: state.AppendToEntry(nil, text)}}); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	wrong := c.start(id)
	c.until("the node stops", func() bool {
		c.leader().must(&model.Ack{At: time.Now(), Agent: "ho"})
		return wrong.failed() != nil
	})
	if err := wrong.stop(); err == nil || !strings.Contains(err.Error(), "join") {
		t.Errorf("it ended with %v", err)
	}
	delete(c.up, id)
	if _, err := os.Stat(filepath.Join(c.dirs[id], divergedName)); err != nil {
		t.Error(err)
	}
	if _, err := c.tryStart(id); err == nil || !strings.Contains(err.Error(), "empty directory") {
		t.Errorf("it starts again: %v", err)
	}
	c.leader().must(tokenOf("goes-on"))
	c.agree()
}

// A leader without room refuses pushes, not the rest, and lets one with room lead.
func TestNoRoom(t *testing.T) {
	var others atomic.Bool // whether nodes know of each other's disks
	var low atomic.Pointer[string]
	none := ""
	low.Store(&none)
	free := func(id string) int64 {
		if *low.Load() == id {
			return 10
		}
		return 1 << 40
	}
	c := newCluster(t, func(cfg *Config) {
		id := cfg.NodeID
		cfg.Free = func(string) (int64, error) { return free(id), nil }
		cfg.Others = func(context.Context) map[string]int64 {
			known := map[string]int64{}
			for _, o := range threeNodes {
				if others.Load() && o != id {
					known[o] = free(o)
				}
			}
			return known
		}
	})
	leader := c.leader()
	join(leader, "a1")
	leader.must(pushOf(t, "a1", 1, 10))
	id := leader.cfg.NodeID
	low.Store(&id)
	c.until("the leader has seen its disk", leader.disk.full.Load)
	for _, by := range []*running{leader, c.followers()[0]} {
		result := by.must(pushOf(t, "a1", 4, 10)).(*model.PushResult)
		if want := (model.LaneAnswer{Destination: "ho", Highwater: 3, Full: true}); len(result.Lanes) != 1 || result.Lanes[0] != want {
			t.Errorf("by way of %s: %+v", by.cfg.NodeID, result.Lanes)
		}
	}
	leader.must(&model.Ack{At: time.Now(), Agent: "ho", Mailbox: leader.Mailbox("ho").Next - 1})
	leader.must(tokenOf("passes"))
	others.Store(true)
	next := c.leaderOtherThan(id)
	if result := next.must(pushOf(t, "a1", 4, 10)).(*model.PushResult); result.Lanes[0].Highwater != 6 {
		t.Errorf("the next leader answers %+v", result.Lanes)
	}
	c.agree()
}

// While disks are nearly full, nothing is taken that fills them in other ways than by pushes.
func TestNoRoomForUploads(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.SnapshotCheck = 10 * time.Millisecond
	var free atomic.Int64
	free.Store(1 << 40)
	cfg.Free = func(string) (int64, error) { return free.Load(), nil }
	s := open(t, cfg)
	begin(s)
	join(s, "a1")
	ctx := context.Background()
	status := []byte(`{"sealing":{"recipient":"key-a1"}}`)
	s.must(&model.Ack{At: time.Now(), Agent: "a1", Epoch: 1, Status: status})
	secret := func(version uint64, size int, keep bool) *model.SetSecret {
		return &model.SetSecret{Asked: asked(), Agent: "a1", Name: "erp/token", Version: version, Recipient: "key-a1", Sealed: make([]byte, size), KeepFormer: keep}
	}
	s.must(secret(1, 100, false))
	release := &model.AddRelease{Asked: asked(), Version: "1.4.0", Files: []model.ReleaseFile{{SHA256: "x", Size: 1 << 20}}}
	piece := &model.PutReleasePiece{Asked: asked(), SHA256: "x", Data: []byte("x")}
	refused := func(cmd model.Command, want model.Code) {
		t.Helper()
		if _, err := s.Apply(ctx, cmd); model.CodeOf(err) != want {
			t.Errorf("%T: %v, want %s", cmd, err, want)
		}
	}
	look := func(bytes int64) {
		t.Helper()
		free.Store(bytes)
		for end := time.Now().Add(time.Minute); s.disk.free.Load() != bytes || s.disk.full.Load() != (bytes < s.cfg.Reserve); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("the disk was not looked at: %d bytes, want %d", s.disk.free.Load(), bytes)
			}
		}
	}
	look(s.cfg.Reserve + 1<<20)
	refused(release, model.Invalid) // by the state, which was asked
	look(s.cfg.Reserve + 1<<20 - 1)
	refused(release, model.Unavailable)
	refused(piece, model.Invalid)
	s.must(secret(2, 200, false))
	look(s.cfg.Reserve - 1)
	refused(release, model.Unavailable)
	refused(piece, model.Unavailable)
	refused(secret(3, 201, false), model.Unavailable)
	refused(secret(3, 100, true), model.Unavailable)
	other := secret(3, 1, false)
	other.Name = "erp/other"
	refused(other, model.Unavailable)
	s.must(secret(3, 200, false))
	s.must(&model.DropSecret{Asked: asked(), Agent: "a1", Name: "erp/token"})
}

// What is for the control plane itself is taken without room too.
func TestNoRoomParts(t *testing.T) {
	s := open(t, testConfig(t.TempDir()))
	begin(s)
	join(s, "a1", "ho")
	facts, err := block.Cut(block.Origin{Agent: "a1", Epoch: 1}, []block.Lane{{Agent: block.Control, First: 1}},
		[]block.Item{{Head: block.Head{Type: "t", Occurred: time.UnixMilli(1), Received: time.UnixMilli(1)}, Body: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	push := pushOf(t, "a1", 1, 10)
	push.Blocks = append(push.Blocks, facts)
	push.Gaps = []model.Gap{{Source: "a1", Epoch: 1, Destination: "ho", First: 4, Last: 5}}
	small, refused := s.held(push)
	if len(small.Blocks) != 1 || &small.Blocks[0][0] != &facts[0] || len(small.Gaps) != 0 {
		t.Errorf("taken %d blocks, %d gaps", len(small.Blocks), len(small.Gaps))
	}
	if want := (model.LaneAnswer{Destination: "ho", Full: true}); len(refused) != 1 || refused[0] != want {
		t.Errorf("refused %+v", refused)
	}
}

// brittle are the files of a log on a disk that may come to fail, or to hang.
type brittle struct {
	types.VFS
	write, sync atomic.Pointer[func() error] // nil: nothing is wrong
}

func (b *brittle) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := b.VFS.Create(dir, name, size)
	return brittleFile{f, b}, err
}

func (b *brittle) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := b.VFS.OpenWriter(dir, name)
	return brittleFile{f, b}, err
}

type brittleFile struct {
	types.WritableFile
	of *brittle
}

func (f brittleFile) WriteAt(p []byte, at int64) (int, error) {
	if fault := f.of.write.Load(); fault != nil {
		if err := (*fault)(); err != nil {
			return 0, err
		}
	}
	return f.WritableFile.WriteAt(p, at)
}

func (f brittleFile) Sync() error {
	if fault := f.of.sync.Load(); fault != nil {
		if err := (*fault)(); err != nil {
			return err
		}
	}
	return f.WritableFile.Sync()
}

// A log that cannot be written, synced or waited for any longer ends the node: nothing is
// answered as done any more, and what was is there afterwards.
func TestBrittleLog(t *testing.T) {
	hang := make(chan struct{})
	fails := func() error { return errors.New("input/output error") }
	hangs := func() error { <-hang; return nil }
	for name, c := range map[string]struct {
		write, sync *func() error
		says        string
	}{
		"write fails": {&fails, nil, "input/output error"},
		"sync fails":  {nil, &fails, "input/output error"},
		"sync hangs":  {nil, &hangs, "look at the disk"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, disk, told := t.TempDir(), &brittle{VFS: logFiles()}, make(chan error, 1)
			cfg := testConfig(dir)
			cfg.files, cfg.WriteDeadline, cfg.Fatal = disk, 2*time.Second, func(err error) { told <- err }
			s := open(t, cfg)
			begin(s)
			s.must(tokenOf("before"))
			disk.write.Store(c.write)
			disk.sync.Store(c.sync)
			answered := make(chan error, 1)
			go func() {
				_, err := s.Apply(context.Background(), tokenOf("after"))
				answered <- err
			}()
			select {
			case err := <-told:
				if !strings.Contains(err.Error(), c.says) {
					t.Errorf("told %v, want %q", err, c.says)
				}
			case <-time.After(clusterWait):
				t.Fatal("it goes on")
			}
			if c.says != "input/output error" {
				close(hang)
			}
			if err := s.stop(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("it ended with %v", err)
			}
			if err := <-answered; c.sync != &hangs && model.CodeOf(err) != model.Unknown {
				t.Errorf("what may not be on the disk was answered with %v", err)
			}
			s = open(t, testConfig(dir))
			if _, ok := s.JoinToken("before"); !ok {
				t.Error("what was answered before is gone")
			}
		})
	}
}

// brittleMeta is what the log keeps beside its entries, on such a disk.
type brittleMeta struct{ types.MetaStore }

var errMeta = errors.New("no space left")

func (brittleMeta) CommitState(types.PersistentState) error { return errMeta }
func (brittleMeta) SetStable(_, _ []byte) error             { return errMeta }

// Raft goes on after some failed writes. No node does.
func TestEveryWriteIsGuarded(t *testing.T) {
	for name, write := range map[string]func(g *guardedLog) error{
		"term":   func(g *guardedLog) error { return g.SetUint64([]byte(currentTerm), 2) },
		"vote":   func(g *guardedLog) error { return g.Set([]byte("LastVoteCand"), []byte("n")) },
		"head":   func(g *guardedLog) error { return g.DeleteRange(1, 1) },
		"tail":   func(g *guardedLog) error { return g.DeleteRange(2, 2) },
		"entry":  func(g *guardedLog) error { return g.StoreLog(&raft.Log{Index: 9}) }, // not the next one
		"closed": nil,
	} {
		dir := t.TempDir()
		log, err := wal.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(log.StoreLogs([]*raft.Log{{Index: 1}, {Index: 2}}), log.Close()); err != nil {
			t.Fatal(err)
		}
		if log, err = wal.Open(dir, wal.WithMetaStore(brittleMeta{&metadb.BoltMetaDB{}})); err != nil {
			t.Fatal(err)
		}
		s := &Store{cfg: Config{Logger: slog.New(slog.DiscardHandler), WriteDeadline: time.Minute}}
		s.failure.done, s.ended = make(chan struct{}), make(chan struct{})
		g := &guardedLog{WAL: log, s: s}
		if write == nil { // a log that was closed has not failed
			write = func(g *guardedLog) error { return errors.Join(g.Close(), g.StoreLog(&raft.Log{Index: 3})) }
		}
		if err := write(g); err == nil || (s.failed() == nil) != (name == "closed") {
			t.Errorf("%s: %v; the node: %v", name, err, s.failed())
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A state that takes no entries any more, and says nothing, ends the node as well.
func TestHangingState(t *testing.T) {
	told := make(chan error, 1)
	cfg := testConfig(t.TempDir())
	cfg.WriteDeadline, cfg.Fatal = 200*time.Millisecond, func(err error) { told <- err }
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := s.machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	held, hold := make(chan struct{}, 1), make(chan struct{})
	go snap.WriteTo(stuckWriter{held, hold})
	<-held
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }() // waits for what is being written, and entries wait for it
	patience := time.After(clusterWait)
	for index := uint64(1); ; index++ {
		applied := make(chan struct{})
		go func() {
			defer close(applied)
			fsm{s}.Apply(&raft.Log{Index: index, Term: 1, Type: raft.LogConfiguration})
		}()
		select {
		case <-applied:
			continue // it came before
		case err = <-told:
		case <-patience:
			t.Error("it goes on")
		}
		close(hold)
		<-applied
		break
	}
	if err == nil || !strings.Contains(err.Error(), "apply entries to the state") {
		t.Errorf("told %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// stuckWriter is a reader of snapshots that takes nothing until it is let go.
type stuckWriter struct{ held, hold chan struct{} }

func (s stuckWriter) Write(p []byte) (int, error) {
	select {
	case s.held <- struct{}{}:
	default:
	}
	<-s.hold
	return len(p), nil
}
