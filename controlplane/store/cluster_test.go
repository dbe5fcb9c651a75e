package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
)

// network is real TCP between the nodes of one process, and what is wrong with it.
type network struct {
	mu    sync.Mutex
	nodes map[string]*wire
	wrong map[[2]string]fault // by direction: from, to
	loses map[[2]string]int   // answers to forwarded commands that are lost yet, by caller and leader
}

// fault is what happens to what is sent in one direction.
type fault struct {
	cut   bool
	delay time.Duration
}

var errCut = errors.New("the line is cut")

func newNetwork() *network {
	return &network{nodes: map[string]*wire{}, wrong: map[[2]string]fault{}, loses: map[[2]string]int{}}
}

// pass waits out a delay, and fails when the direction is cut.
func (n *network) pass(from, to string) error {
	n.mu.Lock()
	f := n.wrong[[2]string{from, to}]
	n.mu.Unlock()
	time.Sleep(f.delay) // the fault itself
	if f.cut {
		return errCut
	}
	return nil
}

func (n *network) set(from, to string, f fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrong[[2]string{from, to}] = f
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.wrong)
}

// isolate cuts a node off from all others.
func (n *network) isolate(id string, others ...string) {
	for _, other := range others {
		n.set(id, other, fault{cut: true})
		n.set(other, id, fault{cut: true})
	}
}

func (n *network) losesOne(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	lost := n.loses[[2]string{from, to}] > 0
	if lost {
		n.loses[[2]string{from, to}]--
	}
	return lost
}

// wire is one node's end of it.
type wire struct {
	net.Listener
	net   *network
	id    string
	store *Store // set before it is in the network's nodes
}

var _ Peers = (*wire)(nil)

func (n *network) listen(t *testing.T, id string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &wire{Listener: l, net: n, id: id}
}

func (w *wire) peer(id string) (*wire, error) {
	if err := w.net.pass(w.id, id); err != nil {
		return nil, model.Errorf(model.Unavailable, "%s to %s: %v", w.id, id, err)
	}
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	if to := w.net.nodes[id]; to != nil {
		return to, nil
	}
	return nil, model.Errorf(model.Unavailable, "%s is not running", id)
}

func (w *wire) DialNode(ctx context.Context, node string) (net.Conn, error) {
	to, err := w.peer(node)
	if err != nil {
		return nil, err
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	return &faultyConn{c, w, to.id}, nil
}

// faultyConn is where the faults of both directions are: at the end that has dialled.
type faultyConn struct {
	net.Conn
	w  *wire
	to string
}

func (c *faultyConn) Write(b []byte) (int, error) {
	if err := c.w.net.pass(c.w.id, c.to); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Read loses what came while the way back is cut: it was done, but nobody here knows.
func (c *faultyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if cut := c.w.net.pass(c.to, c.w.id); cut != nil {
		return 0, cut
	}
	return n, err
}

func (w *wire) Apply(ctx context.Context, node string, command []byte) ([]byte, error) {
	to, err := w.peer(node)
	if err != nil {
		return nil, err
	}
	answer, err := to.store.ServeApply(ctx, slices.Clone(command))
	if w.net.losesOne(w.id, node) || w.net.pass(node, w.id) != nil {
		return nil, model.Errorf(model.Unknown, "the answer of %s was lost", node)
	}
	return answer, err
}

func (w *wire) Barrier(ctx context.Context, node string) (uint64, error) {
	to, err := w.peer(node)
	if err != nil {
		return 0, err
	}
	index, err := to.store.ServeBarrier(ctx)
	if cut := w.net.pass(node, w.id); cut != nil {
		return 0, model.Errorf(model.Unavailable, "%v", cut)
	}
	return index, err
}

// cluster is some stores and the network between them.
type cluster struct {
	*testing.T
	net   *network
	tweak func(*Config)
	dirs  map[string]string
	up    map[string]*running
}

var threeNodes = []string{"node-1", "node-2", "node-3"}

const clusterWait = 30 * time.Second // of anything that has to happen

func clusterConfig(dir, id string) Config {
	return Config{
		Dir: dir, NodeID: id, State: state.Config{MaxSize: 512 << 20},
		Timeout: 200 * time.Millisecond, Contact: 2 * time.Second, SnapshotCheck: 50 * time.Millisecond, BeaconEvery: 64,
	}
}

// newCluster begins on the first node; the others join it.
func newCluster(t *testing.T, tweak func(*Config)) *cluster {
	t.Helper()
	c := &cluster{T: t, net: newNetwork(), tweak: tweak, dirs: map[string]string{}, up: map[string]*running{}}
	for _, id := range threeNodes {
		c.dirs[id] = t.TempDir()
		c.start(id)
		if id == threeNodes[0] {
			c.awaitReady(id)
			begin(c.up[id])
			join(c.up[id], "ho")
			continue
		}
		c.join(id)
	}
	return c
}

func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), clusterWait)
	c.Cleanup(cancel)
	return ctx
}

// join is what an operator's join does: add, catch up, promote.
func (c *cluster) join(id string) {
	c.Helper()
	steps := []func() error{
		func() error { return c.leader().AddMember(c.ctx(), id) },
		func() error { return c.up[id].CaughtUp(c.ctx()) },
		func() error { return c.leader().Promote(c.ctx(), id) },
	}
	for i, step := range steps {
		c.insist(fmt.Sprintf("join %s, step %d", id, i), step)
	}
}

// insist does again what an election has come between, as whoever asks would: on a busy
// machine there is one at any time. A repeat must do no harm.
func (c *cluster) insist(what string, do func() error) {
	c.Helper()
	c.until(what, func() bool {
		err := do()
		if code := model.CodeOf(err); err != nil && code != model.Unavailable && code != model.Unknown {
			c.Fatalf("%s: %v", what, err)
		}
		return err == nil
	})
}

// enrol has agents join, by way of whoever leads.
func (c *cluster) enrol(names ...string) {
	c.Helper()
	for _, name := range names {
		token := tokenOf(name)
		token.RequestID = name // a repeat is known as one
		for _, cmd := range []model.Command{token, &model.Enroll{At: time.Now(), Token: name, Secret: hashOf(name)}} {
			c.insist("enrol "+name, func() error {
				_, err := c.leader().Apply(c.ctx(), cmd)
				return err
			})
		}
	}
}

func (c *cluster) start(id string) *running {
	c.Helper()
	r, err := c.tryStart(id)
	if err != nil {
		c.Fatal(err)
	}
	return r
}

func (c *cluster) tryStart(id string) (*running, error) {
	c.Helper()
	cfg := clusterConfig(c.dirs[id], id)
	w := c.net.listen(c.T, id)
	cfg.Peers, cfg.Begin = w, id == threeNodes[0]
	if c.tweak != nil {
		c.tweak(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		w.Close()
		return nil, err
	}
	w.store = s
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	c.net.mu.Lock()
	c.net.nodes[id] = w
	c.net.mu.Unlock()
	go func() { end <- s.Run(ctx) }()
	r := &running{TB: c.T, Store: s, stop: sync.OnceValue(func() error {
		c.net.mu.Lock()
		if c.net.nodes[id] == w {
			delete(c.net.nodes, id)
		}
		c.net.mu.Unlock()
		cancel()
		return <-end
	})}
	c.Cleanup(func() { r.stop() })
	c.up[id] = r
	return r, nil
}

func (c *cluster) awaitReady(ids ...string) {
	c.Helper()
	for _, id := range ids {
		if err := c.up[id].WaitReady(c.ctx()); err != nil {
			c.Fatalf("%s: %v; %+v", id, err, c.up[id].Status())
		}
	}
}

// kill ends a node without a word to the others.
func (c *cluster) kill(id string) {
	c.Helper()
	others := slices.DeleteFunc(slices.Clone(threeNodes), func(o string) bool { return o == id })
	c.net.isolate(id, others...)
	if err := c.up[id].stop(); err != nil {
		c.Fatal(err)
	}
	delete(c.up, id)
	for _, o := range others {
		c.net.set(id, o, fault{})
		c.net.set(o, id, fault{})
	}
}

// leader waits until a node leads with everything applied.
func (c *cluster) leader() *running { return c.leaderOtherThan("") }

func (c *cluster) leaderOtherThan(id string) (found *running) {
	c.Helper()
	c.until("a leader", func() bool {
		for node, r := range c.up {
			if node != id && leads(r.Store) {
				found = r
			}
		}
		return found != nil
	})
	return found
}

// until looks again and again, where there is nothing to wait on across several stores.
func (c *cluster) until(what string, holds func() bool) {
	c.Helper()
	deadline := time.Now().Add(clusterWait)
	for !holds() {
		if time.Now().After(deadline) {
			for id, r := range c.up {
				c.Logf("%s: %+v", id, r.Status())
			}
			c.Fatalf("%s: not within %s", what, clusterWait)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// agree waits until all nodes have applied the same and checks that it is the same.
func (c *cluster) agree() {
	c.Helper()
	c.until("nodes at the same entry", func() bool {
		type place struct {
			index uint64
			hash  [32]byte
		}
		var places []place
		for _, r := range c.up {
			before := r.AppliedIndex()
			hash := r.StateHash()
			if r.AppliedIndex() != before {
				return false
			}
			places = append(places, place{before, hash})
		}
		for _, p := range places[1:] {
			if p.index != places[0].index {
				return false
			}
			if p.hash != places[0].hash {
				c.Fatalf("at entry %d one node has hash %x, another %x", p.index, p.hash[:4], places[0].hash[:4])
			}
		}
		return true
	})
}

func (c *cluster) followers() (list []*running) {
	leader := c.leader().cfg.NodeID
	for _, id := range threeNodes {
		if r := c.up[id]; r != nil && id != leader {
			list = append(list, r)
		}
	}
	return list
}

func TestClusterOfThree(t *testing.T) {
	c := newCluster(t, nil)
	c.awaitReady(threeNodes...)
	follower := c.followers()[0]
	follower.must(tokenOf("by-follower"))
	if _, ok := follower.JoinToken("by-follower"); !ok {
		t.Error("a follower does not read what was written by way of it")
	}
	_, err := follower.Apply(t.Context(), tokenOf("by-follower"))
	if model.CodeOf(err) != model.Conflict {
		t.Errorf("what the rules refuse is told as %v", err)
	}
	if result := follower.must(&model.Enroll{At: time.Now(), Token: "by-follower", Secret: hashOf("by-follower")}); result.(*model.EnrollResult).Agent.Site != "by-follower" {
		t.Errorf("answered %+v", result)
	}
	for _, r := range c.up {
		if err := r.Fresh(c.ctx()); err != nil {
			t.Error(err)
		}
		if _, ok := r.JoinToken("by-follower"); !ok {
			t.Errorf("%s read after Fresh what was before", r.cfg.NodeID)
		}
		status := r.Status()
		if len(status.Members) != 3 || status.Leader != c.leader().cfg.NodeID || status.Ready != "" || status.Term == 0 || status.Free == 0 || status.Hash == "" {
			t.Errorf("%+v", status)
		}
		for _, m := range status.Members {
			if !m.Voter || m.Leader != (m.ID == status.Leader) {
				t.Errorf("%+v", m)
			}
		}
	}
	if _, err := follower.ServeApply(t.Context(), nil); model.CodeOf(err) != model.Unavailable {
		t.Errorf("a follower took a command for itself: %v", err)
	}
	if _, err := c.leader().ServeApply(t.Context(), []byte("nonsense")); model.CodeOf(err) != model.Invalid {
		t.Errorf("a command that nobody can read: %v", err)
	}
	c.agree()
	c.until("a comparison of all states", func() bool {
		if at := c.leader().beacon.last.Load(); c.leader().AppliedIndex() < at+64 {
			c.leader().must(&model.Ack{At: time.Now(), Agent: "ho"})
		}
		return c.leader().Verdict().Agreed
	})
}

func TestMembers(t *testing.T) {
	c := newCluster(t, nil)
	leader := c.leader()
	gone := c.followers()[0].cfg.NodeID
	if err := c.followers()[0].AddMember(c.ctx(), "x"); model.CodeOf(err) != model.Unavailable {
		t.Errorf("a follower changed the members: %v", err)
	}
	c.kill(gone)
	c.until("the leader knows that a node is silent", func() bool {
		m, _ := leader.member(gone)
		return !m.Silent.IsZero()
	})
	err := leader.RemoveMember(c.ctx(), c.followers()[0].cfg.NodeID)
	if model.CodeOf(err) != model.Conflict {
		t.Errorf("the last but one that answers was to be removed: %v", err)
	}
	for range 2 { // a repeat changes nothing
		c.until("the silent node is removed", func() bool {
			leader = c.leader() // a busy machine may bring another
			err := leader.RemoveMember(c.ctx(), gone)
			if err != nil && model.CodeOf(err) != model.Unavailable {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	first := leader.cfg.NodeID
	if len(leader.Members()) != 2 {
		t.Errorf("members %+v", leader.Members())
	}
	if err := leader.RemoveMember(c.ctx(), first); model.CodeOf(err) != model.Unavailable {
		t.Errorf("a leader removed itself: %v", err)
	}
	next := c.leaderOtherThan(first)
	if err := next.RemoveMember(c.ctx(), first); err != nil {
		t.Fatal(err)
	}
	next.must(tokenOf("alone"))
	if err := next.RemoveMember(c.ctx(), next.cfg.NodeID); model.CodeOf(err) != model.Conflict {
		t.Errorf("the last voter was removed: %v", err)
	}
	if err := next.Transfer(c.ctx(), ""); model.CodeOf(err) != model.Conflict {
		t.Errorf("the last voter gave its leadership away: %v", err)
	}
	if err := next.Promote(c.ctx(), "nobody"); model.CodeOf(err) != model.NotFound {
		t.Errorf("promote nobody: %v", err)
	}
	delete(c.up, first)
	c.dirs[gone] = t.TempDir() // a new machine under the old name
	c.start(gone)
	c.join(gone)
	c.agree()
}

// Who has not been missed yet may still be away: whether a voter can be spared is asked for.
func TestVoterIsSparedForThoseWhoAnswer(t *testing.T) {
	var away atomic.Bool
	c := newCluster(t, func(cfg *Config) {
		id := cfg.NodeID
		cfg.Others = func(context.Context) map[string]int64 {
			known := map[string]int64{}
			for _, o := range others(id)[:1] {
				if !away.Load() {
					known[o] = 1 << 40
				}
			}
			return known
		}
	})
	leader := c.leader()
	gone := others(leader.cfg.NodeID)[1]
	away.Store(true)
	if err := leader.RemoveMember(c.ctx(), gone); model.CodeOf(err) != model.Conflict {
		t.Errorf("removed while nobody else answers: %v", err)
	}
	if m, _ := leader.member(gone); !m.Voter {
		t.Error("its vote was taken all the same")
	}
	away.Store(false)
	c.insist("remove", func() error { return c.leader().RemoveMember(c.ctx(), gone) })
}

// A node that nobody has added waits, and leads nothing.
func TestNodeThatWaitsToBeAdded(t *testing.T) {
	c := newCluster(t, nil)
	c.dirs["node-4"] = t.TempDir()
	waiting := c.start("node-4")
	short, cancel := context.WithTimeout(t.Context(), 5*clusterConfig("", "").Timeout)
	defer cancel()
	if err := waiting.WaitReady(short); err == nil {
		t.Fatal("it is ready")
	}
	if id, _ := waiting.Leader(); id != "" || waiting.Status().Term != 0 {
		t.Errorf("it follows %q, %+v", id, waiting.Status())
	}
	c.join("node-4")
	c.agree()
}

// A leader that was cut off and does not know it yet must not answer as one.
func TestCutOffLeaderGivesNoBarrier(t *testing.T) {
	c := newCluster(t, nil)
	old := c.leader()
	c.net.isolate(old.cfg.NodeID, slices.DeleteFunc(slices.Clone(threeNodes), func(o string) bool { return o == old.cfg.NodeID })...)
	once, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := old.ServeBarrier(once)
	if err == nil { // by a heartbeat that was under way as the lines were cut: nobody else leads yet
		_, err = old.ServeBarrier(once)
	}
	if err == nil {
		t.Error("it gave one")
	}
	next := c.leaderOtherThan(old.cfg.NodeID)
	next.must(tokenOf("meanwhile"))
	c.net.heal()
	if err := old.Fresh(c.ctx()); err != nil {
		t.Fatal(err)
	}
	if _, ok := old.JoinToken("meanwhile"); !ok {
		t.Error("it reads what was before")
	}
}
