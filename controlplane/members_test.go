package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/controlplane/store"
)

// lines are those between the nodes of a test, and which of them are cut.
type lines struct {
	mu  sync.Mutex
	cut map[string]bool // by node: it reaches no other, and no other reaches it
}

var errCut = errors.New("the line is cut")

// config is that of a node whose lines can be cut.
func (l *lines) config(t *testing.T, name string) Config {
	t.Helper()
	config := nodeConfig(t, name)
	config.Dial = func(ctx context.Context, node, address string) (net.Conn, error) {
		open := func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return !l.cut[name] && !l.cut[node]
		}
		if !open() {
			return nil, errCut
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return &line{conn, open}, nil
	}
	return config
}

func (l *lines) set(node string, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut == nil {
		l.cut = map[string]bool{}
	}
	l.cut[node] = cut
}

// line is a connection that ends with its line.
type line struct {
	net.Conn
	open func() bool
}

func (l *line) Write(b []byte) (int, error) {
	if !l.open() {
		l.Close()
		return 0, errCut
	}
	return l.Conn.Write(b)
}

func (l *line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if !l.open() {
		l.Close()
		return 0, errCut
	}
	return n, err
}

// awaitRemoved waits until nothing is left of a node, and it has noticed.
func awaitRemoved(t *testing.T, by, gone *running) {
	t.Helper()
	until(t, gone.config.Node+" is gone", func() bool { return !by.knows(gone.config.Node) })
	select {
	case err := <-gone.ended:
		if !errors.Is(err, ErrRemoved) {
			t.Errorf("%s ended with %v", gone.config.Node, err)
		}
	case <-time.After(patience):
		t.Fatalf("%s does not notice that it was removed", gone.config.Node)
	}
}

// A removal that is cut short is ended by whoever leads, and the node does not come back,
// whatever it asks for meanwhile.
func TestRemovalGoesOn(t *testing.T) {
	one := run(t, nodeConfig(t, "node-1"))
	two := one.join(nodeConfig(t, "node-2"))
	steps := []func(node string) error{
		func(node string) error {
			_, err := one.store.Apply(one.ctx(), &model.RemoveNode{Asked: asked(), Node: node})
			return err
		},
		func(node string) error { return one.store.Demote(one.ctx(), node) },
		func(node string) error { return one.store.RemoveMember(one.ctx(), node) },
	}
	cut := func(gone *running, after int) { // the lock is held, so that nobody goes on
		for _, step := range steps[:after] {
			if err := step(gone.config.Node); err != nil {
				t.Error(err)
			}
		}
	}
	for after := range len(steps) {
		after++
		t.Run(fmt.Sprintf("after step %d", after), func(t *testing.T) {
			if err := one.cluster.Transfer(one.ctx(), asked(), "node-1"); err != nil {
				t.Fatal(err)
			}
			until(t, "node-1 leads", func() bool { _, self := one.store.Leader(); return self })
			gone := one.join(nodeConfig(t, fmt.Sprintf("node-%d", 2+after)))
			gone.stop()
			one.cluster.members.Lock()
			cut(gone, after)
			gone = start(t, gone.config)
			one.cluster.members.Unlock()
			awaitRemoved(t, two, gone)
		})
	}
	t.Run("with its leader", func(t *testing.T) {
		gone := one.join(nodeConfig(t, "node-9"))
		one.cluster.members.Lock()
		cut(gone, 1)
		one.stop()
		next := leaderOf(t, two, gone)
		if status := next.cluster.Status(next.ctx()); status.Nodes[2].ID != "node-9" || status.Nodes[2].Error == "" {
			t.Errorf("nobody says that it is leaving: %+v", status.Nodes[2])
		}
		// With one node away it cannot be spared yet, but it gets nothing either.
		for _, change := range []string{peer.MemberAdd, peer.MemberPromote} {
			err := services{next.ControlPlane}.Member(next.ctx(), &peer.MemberRequest{Change: change, Node: "node-9"})
			if model.CodeOf(err) != model.Forbidden {
				t.Errorf("%s: %v", change, err)
			}
		}
		one = run(t, one.config)
		awaitRemoved(t, two, gone)
	})
}

// A node that cannot be spared yet does not keep others from being removed.
func TestRemovalsGoOnBesideEachOther(t *testing.T) {
	one := run(t, nodeConfig(t, "node-1"))
	one.join(nodeConfig(t, "node-2"))
	three := one.join(nodeConfig(t, "node-3"))
	one.apply(&model.PutNode{At: time.Now(), Node: model.Node{ID: "node-9"}})
	if err := one.cluster.Transfer(one.ctx(), asked(), "node-1"); err != nil {
		t.Fatal(err)
	}
	until(t, "node-1 leads", func() bool { _, self := one.store.Leader(); return self })
	three.stop()
	one.cluster.members.Lock()
	for _, node := range []string{"node-2", "node-9"} {
		one.apply(&model.RemoveNode{Asked: asked(), Node: node})
	}
	one.cluster.members.Unlock()
	until(t, "node-9 is gone", func() bool { return !one.knows("node-9") })
	if !one.isMember("node-2") {
		t.Error("node-2 was removed, and no majority is left")
	}
}

// A repeat of a removal gets the first one's answer, and takes out nobody who came later.
func TestRepeatedRemoval(t *testing.T) {
	brief := func(name string) Config { // notices soon
		config := nodeConfig(t, name)
		config.tune = func(s *store.Config) { s.Timeout, s.Contact = 500*time.Millisecond, time.Second }
		return config
	}
	one := run(t, brief("node-1"))
	gone := one.join(brief("node-2"))
	remove := asked()
	remove.RequestID = "r"
	for i := range 2 {
		if err := one.cluster.Remove(one.ctx(), remove, "node-2"); err != nil {
			t.Fatalf("time %d: %v", i, err)
		}
	}
	awaitRemoved(t, one, gone)
	if err := one.cluster.Remove(one.ctx(), asked(), "node-2"); model.CodeOf(err) != model.NotFound {
		t.Errorf("a node that is not there is removed: %v", err)
	}
	again := one.join(brief("node-2"))
	if err := one.cluster.Remove(again.ctx(), remove, "node-2"); err != nil {
		t.Error(err)
	}
	if row, _ := one.store.Node("node-2"); !one.isMember("node-2") || !row.Leaving.IsZero() {
		t.Error("a late repeat has removed another node of that name")
	}
	if err := one.cluster.Remove(one.ctx(), asked(), "node-1"); err != nil { // which leads, maybe
		t.Fatal(err)
	}
	awaitRemoved(t, again, one)
	if err := again.cluster.Remove(again.ctx(), asked(), "node-2"); model.CodeOf(err) != model.Conflict {
		t.Errorf("the last one was removed: %v", err)
	}
	if row, _ := again.store.Node("node-2"); !row.Leaving.IsZero() {
		t.Error("what was refused has begun all the same")
	}
}

// A node that is cut off and does not know it yet must not tell a node that has joined since
// that it was removed: that one would end.
func TestCutOffNodeRemovesNobody(t *testing.T) {
	var net lines
	config := net.config(t, "node-1")
	config.tune = func(s *store.Config) { s.Timeout, s.Contact = 500*time.Millisecond, time.Hour }
	one := run(t, config)
	two := one.join(net.config(t, "node-2"))
	three := one.join(net.config(t, "node-3"))
	if err := two.cluster.Transfer(two.ctx(), asked(), "node-1"); err != nil {
		t.Fatal(err)
	}
	until(t, "node-1 leads, and serves", func() bool { _, self := one.store.Leader(); return self && one.store.Ready() == nil })
	net.set("node-1", true)
	leader := leaderOf(t, two, three)
	four := leader.join(nodeConfig(t, "node-4")) // which reaches all of them
	if err := one.store.Ready(); one.knows("node-4") || err != nil {
		t.Fatalf("node-1 is not one that is cut off and does not know it: knows node-4: %v, ready: %v", one.knows("node-4"), err)
	}
	err := four.peers.Member(four.ctx(), "node-1", &peer.MemberRequest{Change: peer.MemberAdd, Node: "node-4"})
	if model.CodeOf(err) != model.Unavailable {
		t.Errorf("the node that is cut off says %v", err)
	}
	if conn, err := four.peers.DialNode(four.ctx(), "node-1"); err == nil {
		conn.Close()
		t.Error("it takes streams of a node that it does not know")
	}
	net.set("node-1", false)
	until(t, "node-1 has caught up", func() bool { return one.knows("node-4") })
}

func TestNewestLeaderIsAsked(t *testing.T) {
	for i, c := range []struct {
		answers map[string]*peer.Status
		want    string
	}{
		{nil, ""},
		{map[string]*peer.Status{"a": {Term: 3}}, ""},
		{map[string]*peer.Status{"a": {Leads: true, Leader: "a", Term: 3}, "b": {Leads: true, Leader: "b", Term: 5}, "c": {Leader: "a", Term: 4}}, "b"},
		{map[string]*peer.Status{"a": {Leads: true, Term: 3}, "b": {Leader: "c", Term: 5}, "d": {Term: 6}}, "c"},
	} {
		for range 20 { // in any order
			if got := leaderIn(c.answers); got != c.want {
				t.Fatalf("case %d: %q, want %q", i, got, c.want)
			}
		}
	}
}
