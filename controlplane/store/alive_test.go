package store

import (
	"context"
	"slices"
	"testing"
)

// A lost quorum is no reason to start a node again: its loops go on. One whose raft does not
// come round while it leads is told.
func TestAliveWithoutAQuorum(t *testing.T) {
	c := newCluster(t, nil)
	old := c.leader()
	for id, r := range c.up {
		if err := r.Alive(c.ctx()); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	c.net.isolate(old.cfg.NodeID, slices.DeleteFunc(slices.Clone(threeNodes), func(o string) bool { return o == old.cfg.NodeID })...)
	c.leaderOtherThan(old.cfg.NodeID)
	if err := old.Alive(c.ctx()); err != nil {
		t.Errorf("cut off: %v", err)
	}
	c.net.heal()

	late, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.leader().Alive(late); err == nil {
		t.Error("it has not answered and passes for alive")
	}
}
