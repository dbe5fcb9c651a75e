package store

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
)

// Whatever waits, an entry of several commands has at most a megabyte of them, and none is
// lost, or put before one that came earlier.
func TestEntriesHaveALimit(t *testing.T) {
	const seed = 7
	rnd := rand.New(rand.NewPCG(seed, 1))
	for round := range 50 {
		s := &Store{requests: make(chan *request, maxWaiting)}
		var sent []*request
		for range 1 + rnd.IntN(maxWaiting-1) {
			size := 1 + rnd.IntN(1<<uint(1+rnd.IntN(21)))
			q := &request{text: make([]byte, min(size, state.MaxCommand))}
			sent = append(sent, q)
			s.requests <- q
		}
		var held *request
		for left := sent; len(left) > 0; {
			first := held
			if first == nil {
				first = <-s.requests
			}
			var batch []*request
			batch, held = s.fill([]*request{first})
			size := 0
			for _, q := range batch {
				size += len(q.text)
			}
			if len(batch) > 1 && size > fillEntry || len(batch) > maxBatch || !slices.Equal(batch, left[:len(batch)]) {
				t.Fatalf("seed %d, round %d: an entry of %d commands and %d bytes", seed, round, len(batch), size)
			}
			left = left[len(batch):]
		}
		if held != nil || len(s.requests) > 0 {
			t.Fatalf("seed %d, round %d: more came out than went in", seed, round)
		}
	}
}

// What the design gives as limits by bytes and by time is what a node has that nobody has
// given others.
func TestDefaults(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Peers: tcpPeers{}}
	if err := cfg.defaults(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]int64{
		"entry":    {fillEntry, 1 << 20},
		"snapshot": {cfg.SnapshotBytes, 256 << 20},
		"trailing": {cfg.TrailingBytes, 512 << 20},
		"timeout":  {int64(cfg.Timeout), int64(timeoutOf(2 * time.Second))},
		"contact":  {int64(cfg.Contact), int64(10 * time.Second)},
		"write":    {int64(cfg.WriteDeadline), int64(10 * time.Second)},
		"beacon":   {int64(cfg.BeaconEvery), 1024},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d, want %d", name, c[0], c[1])
		}
	}
	s := &Store{cfg: cfg}
	r := s.raftConfig(newLogger(cfg.Logger))
	r.LocalID = "n"
	if err := raft.ValidateConfig(r); err != nil {
		t.Error(err)
	}
	if r.MaxAppendEntries != 8 || r.HeartbeatTimeout != cfg.Timeout || r.ElectionTimeout != cfg.Timeout || r.LeaderLeaseTimeout != cfg.Timeout {
		t.Errorf("raft has %+v", r)
	}
	// Raft itself must neither take snapshots by the number of entries nor put an old one in
	// the place of the state.
	if r.SnapshotThreshold != math.MaxUint64 || !r.NoSnapshotRestoreOnStart {
		t.Errorf("raft has %+v", r)
	}
}

// A snapshot is taken when the log passes a limit, or the state if that is larger.
func TestOutgrown(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.SnapshotBytes, cfg.SnapshotCheck = 1, time.Hour
	s := open(t, cfg)
	begin(s)
	for _, limit := range []int64{1, s.Size() + 1000} {
		s.cfg.SnapshotBytes = limit
		at := max(limit, s.Size())
		if s.outgrown(at) || !s.outgrown(at+1) {
			t.Errorf("limit %d, state %d: a log of %d is too large: %t, of one byte more: %t", limit, s.Size(), at, s.outgrown(at), s.outgrown(at+1))
		}
	}
}

// A snapshot that is no state leaves the one that is there, and the node does not go on.
func TestRefusedSnapshotReplacesNothing(t *testing.T) {
	told := make(chan error, 1)
	cfg := testConfig(t.TempDir())
	cfg.Fatal = func(err error) { told <- err }
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	text, refused := encode(&model.Bootstrap{Asked: asked(), Cluster: model.Cluster{ID: "test"}, Admin: model.Principal{
		Name: "root", Roles: []model.Role{model.Admin}, TokenHash: hashOf("root")}})
	if refused != nil {
		t.Fatal(refused)
	}
	fsm{s}.Apply(&raft.Log{Index: 1, Term: 1, Data: state.AppendToEntry(nil, text)})
	if err := (fsm{s}).Restore(nonsense{}); err == nil {
		t.Error("it was taken")
	}
	select {
	case <-told:
	default:
		t.Error("the node goes on")
	}
	if c, ok := s.Cluster(); !ok || c.ID != "test" {
		t.Error("the state that was there is gone")
	}
}

// nonsense is a snapshot without an end.
type nonsense struct{}

func (nonsense) Read(p []byte) (int, error) { clear(p); return len(p), nil }
func (nonsense) Close() error               { return nil }
