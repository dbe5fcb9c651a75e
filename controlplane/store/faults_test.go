package store

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

func TestFreeBytes(t *testing.T) {
	if free, err := freeBytes(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("%d, %v", free, err)
	}
	if _, err := freeBytes(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that is not there has room")
	}
}
