package store

import (
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

func shortContact(cfg *Config) { cfg.Contact = 600 * time.Millisecond }

// A follower without contact is not ready, tells those who watch for it, and is ready again
// when it has caught up.
func TestContact(t *testing.T) {
	c := newCluster(t, shortContact)
	c.awaitReady(threeNodes...)
	lonely := c.followers()[0]
	id := lonely.cfg.NodeID
	changed, cancel := lonely.Watch("ready")
	defer cancel()
	c.net.isolate(id, others(id)...)
	for lonely.Ready() == nil { // under load it may go and come back before
		select {
		case <-changed:
		case <-time.After(clusterWait):
			t.Fatalf("nobody is told that it is not ready: %v", lonely.Ready())
		}
	}
	if _, err := lonely.Apply(t.Context(), tokenOf("x")); model.CodeOf(err) != model.Unavailable {
		t.Errorf("it took a command: %v", err)
	}
	if err := lonely.Fresh(t.Context()); model.CodeOf(err) != model.Unavailable {
		t.Errorf("it says that it is fresh: %v", err)
	}
	c.leader().must(tokenOf("meanwhile"))
	c.net.heal()
	c.awaitReady(id)
	if _, ok := lonely.JoinToken("meanwhile"); !ok {
		t.Error("it was ready before it knew what was written while it was away")
	}
	c.agree()
}

// A follower that was cut off and hears its leader again, but cannot ask how far it is, must
// not take what it holds for what the cluster holds.
func TestHeardIsNotCaughtUp(t *testing.T) {
	c := newCluster(t, shortContact)
	c.awaitReady(threeNodes...)
	lonely := c.followers()[0]
	id, leader := lonely.cfg.NodeID, c.leader().cfg.NodeID
	c.net.isolate(id, others(id)...)
	c.until("it is not ready", func() bool { return lonely.Ready() != nil })
	n := lonely.node.Load()
	c.net.set(leader, id, fault{})
	healed := time.Now()
	c.until("it hears the leader", func() bool { return n.raft.LastContact().After(healed) })
	lonely.looksTwice()
	if lonely.Ready() == nil {
		t.Error("it is ready by what it hears")
	}
	c.net.heal()
	c.awaitReady(id)
	c.agree()
}

// looksTwice waits until the node has looked where it stands: the second time began after the
// call for sure.
func (r *running) looksTwice() {
	turned, cancel := r.turned.watch("")
	defer cancel()
	for range 2 {
		r.lookAgain()
		<-turned
	}
}

// A node that was paused and has not looked at the cluster since is not ready, even before it
// looks, nor when the leader is heard again.
func TestOversleptNodeIsNotReady(t *testing.T) {
	c := newCluster(t, shortContact)
	c.awaitReady(threeNodes...)
	paused := c.followers()[0]
	paused.turned.mu.Lock() // the loop that looks stands still; raft does not
	c.until("its time is over", func() bool { return paused.Ready() != nil })
	for _, o := range others(paused.cfg.NodeID) { // it hears them, and cannot ask
		c.net.set(paused.cfg.NodeID, o, fault{cut: true})
	}
	paused.turned.mu.Unlock()
	paused.looksTwice()
	if paused.Ready() == nil {
		t.Error("it is ready by what it holds from before")
	}
	c.net.heal()
	c.awaitReady(paused.cfg.NodeID)
	c.agree()
}
