package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crossdock/crossdock/controlplane/model"
)

// progress is the newest entry that is in the state, and those who wait for one.
type progress struct {
	mu    sync.Mutex
	index uint64
	moved chan struct{} // closed at the next move; nil: nobody waits
}

func (p *progress) advance(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index <= p.index {
		return
	}
	p.index = index
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

func (p *progress) at() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index
}

// wait returns when the state has an entry.
func (p *progress) wait(ctx context.Context, index uint64) error {
	for {
		p.mu.Lock()
		if p.index >= index {
			p.mu.Unlock()
			return nil
		}
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// silent are the nodes that did not answer the leader's last heartbeat.
type silent struct {
	mu    sync.Mutex
	nodes map[string]time.Time // since when
}

func (q *silent) note(node string, silent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !silent {
		delete(q.nodes, node)
		return
	}
	if q.nodes == nil {
		q.nodes = map[string]time.Time{}
	}
	if _, known := q.nodes[node]; !known {
		q.nodes[node] = time.Now()
	}
}

func (q *silent) since(node string) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.nodes[node]
}

func (q *silent) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.nodes)
}

// observe tells whether what raft has seen changes who leads. It is called by raft's own
// goroutines, so that nothing is missed.
func (s *Store) observe(o *raft.Observation) bool {
	switch data := o.Data.(type) {
	case raft.LeaderObservation, raft.RaftState:
		return true
	case raft.FailedHeartbeatObservation:
		s.silent.note(string(data.PeerID), true)
	case raft.ResumedHeartbeatObservation:
		s.silent.note(string(data.PeerID), false)
	case raft.PeerObservation:
		s.silent.note(string(data.Peer.ID), false)
	}
	return false
}

// follow keeps leads and ready in step with raft.
func (s *Store) follow(ctx context.Context, n *node) {
	r := n.raft
	// One place is enough: whatever is dropped for want of room finds a token there.
	seen := make(chan raft.Observation, 1)
	observer := raft.NewObserver(seen, false, s.observe)
	r.RegisterObserver(observer)
	defer r.DeregisterObserver(observer)
	for {
		again := s.look(ctx, n)
		s.turned.publish("")
		select {
		case <-ctx.Done():
			return
		case <-r.LeaderCh():
		case <-seen:
		case <-s.assess:
		case <-again:
		}
	}
}

// look finds out where this node stands, and when that may change without a word from raft.
func (s *Store) look(ctx context.Context, n *node) (again <-chan time.Time) {
	r := n.raft
	term := r.CurrentTerm()
	switch {
	case r.State() != raft.Leader:
		if s.leads.Load() != 0 { // raft's own contact counts from here too, but a moment later
			s.led = time.Now()
		}
		s.setLeads(0)
	case s.leads.Load() != term:
		s.setLeads(0)
		s.silent.forget()
		if !s.barrier(ctx, n) || r.CurrentTerm() != term {
			return time.After(0)
		}
		s.setLeads(term)
		s.caughtUp.Store(true)
	}
	contact := s.cfg.Contact - min(time.Since(r.LastContact()), time.Since(s.led))
	switch {
	case !s.caughtUp.Load():
		s.setReady(0)
		return nil
	case s.leads.Load() != 0:
		s.setReady(always)
		return nil
	case contact > 0 && !s.overslept():
		s.setReady(s.moment() + int64(contact))
		return time.After(contact / 2)
	}
	s.caughtUp.Store(false) // what it holds is of some former time again
	s.setReady(0)
	return time.After(min(recheck, s.cfg.Contact))
}

// always is for the node that leads: raft tells it when it does not any more.
const always = math.MaxInt64

func (s *Store) moment() int64 { return int64(time.Since(s.born)) }

// overslept reports whether this node has not looked for so long that it was not ready
// meanwhile: it was paused, and first hears from the leader again and then of what was
// written in the meantime.
func (s *Store) overslept() bool {
	until := s.until.Load()
	return until != 0 && s.moment() >= until
}

// barrier waits until what is in the log is in the state, for as long as this node leads.
func (s *Store) barrier(ctx context.Context, n *node) bool {
	for n.raft.State() == raft.Leader && ctx.Err() == nil {
		err := n.await(n.raft.Barrier(s.cfg.Timeout))
		if err == nil {
			return true
		}
		s.cfg.Logger.Warn("this node leads but has not applied its log yet", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryBarrier):
		}
	}
	return false
}

// reach brings a follower to where the cluster stands, at first and after each time that it
// was cut off: until then its reads are of some former time.
func (s *Store) reach(ctx context.Context) {
	turned, cancel := s.turned.watch("")
	defer cancel()
	for {
		pause := recheck
		if id, _ := s.Leader(); id != "" && !s.caughtUp.Load() {
			once, done := context.WithTimeout(ctx, s.cfg.Contact)
			if s.fresh(once) == nil {
				s.caughtUp.Store(true)
				s.lookAgain()
			}
			done()
			pause = retryBarrier
		}
		select {
		case <-ctx.Done():
			return
		case <-turned:
		case <-time.After(pause):
		}
	}
}

func (s *Store) lookAgain() {
	select {
	case s.assess <- struct{}{}:
	default: // it is going to
	}
}

func (s *Store) setLeads(term uint64) {
	if s.leads.Swap(term) != term {
		s.cfg.Metrics.leader(term != 0)
	}
}

// setReady also tells those who watch the topic "ready".
func (s *Store) setReady(until int64) {
	if before := s.until.Swap(until); (before == 0) != (until == 0) {
		s.hub.publish("ready")
	}
}

// Leader gives the node that leads, "" if none is known, and whether that is this node with
// everything applied.
func (s *Store) Leader() (id string, self bool) {
	n := s.node.Load()
	if n == nil {
		return "", false
	}
	_, leader := n.raft.LeaderWithID()
	if string(leader) != s.cfg.NodeID {
		return string(leader), false
	}
	if s.leads.Load() == 0 {
		return "", false // not yet, or not any more
	}
	return s.cfg.NodeID, true
}

// Ready says why this node can neither take commands nor be read. It can while it leads
// with everything applied, and as a follower that has caught up with the cluster and has
// heard from a leader lately.
func (s *Store) Ready() error {
	select {
	case <-s.failure.done:
		return s.failure.err
	default:
	}
	if s.moment() >= s.until.Load() {
		return model.Errorf(model.Unavailable, "this node is not in touch with the cluster's leader, or has not caught up yet")
	}
	return nil
}

// WaitReady waits until Ready has nothing to say.
func (s *Store) WaitReady(ctx context.Context) error {
	return s.await(ctx, "the store", func() bool { return s.Ready() == nil })
}

// await waits until something holds that changes when the leader or ready does.
func (s *Store) await(ctx context.Context, what string, holds func() bool) error {
	turned, cancel := s.turned.watch("")
	defer cancel()
	for !holds() {
		select {
		case <-turned:
		case <-s.failure.done:
			return s.failure.err
		case <-s.ended:
			return model.Errorf(model.Unavailable, "the store has ended")
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}

// awaitLeader waits a little for a node to lead that is not the one given.
func (s *Store) awaitLeader(ctx context.Context, other string) {
	wait, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	_ = s.await(wait, "a leader", func() bool { // whoever leads after that is asked
		id, _ := s.Leader()
		return id != "" && id != other
	})
}

// Fresh returns when this node's reads show everything that was answered before the call.
func (s *Store) Fresh(ctx context.Context) error {
	if err := s.Ready(); err != nil {
		return err
	}
	leader, _ := s.Leader()
	if leader == "" {
		s.awaitLeader(ctx, "")
	}
	err := s.fresh(ctx)
	if model.CodeOf(err) == model.Unavailable && ctx.Err() == nil {
		s.awaitLeader(ctx, leader)
		err = s.fresh(ctx)
	}
	return err
}

func (s *Store) fresh(ctx context.Context) error {
	leader, self := s.Leader()
	if leader == "" {
		return model.Errorf(model.Unavailable, "no node leads the cluster")
	}
	if self {
		_, err := s.ServeBarrier(ctx)
		return err
	}
	if s.cfg.Peers == nil {
		return model.Errorf(model.Unavailable, "node %s leads and this node is not connected to it", leader)
	}
	index, err := s.cfg.Peers.Barrier(ctx, leader)
	if err != nil {
		return model.Errorf(model.Unavailable, "ask node %s how far it is: %v", leader, err)
	}
	if err := s.progress.wait(ctx, index); err != nil {
		return model.Errorf(model.Unavailable, "this node is not yet where the cluster is (entry %d): %v", index, err)
	}
	return nil
}

// ServeBarrier gives an entry up to which a reader has to have applied to see everything
// that was answered before the call. It is for the leader only.
func (s *Store) ServeBarrier(ctx context.Context) (uint64, error) {
	n, term := s.node.Load(), s.leads.Load()
	if n == nil || term == 0 {
		return 0, s.notLeading()
	}
	index := s.progress.at() // all that this leader has answered is in its state
	verified := make(chan error, 1)
	go func() { verified <- n.raft.VerifyLeader().Error() }()
	select {
	case err := <-verified:
		if err != nil {
			return 0, model.Errorf(model.Unavailable, "verify that this node leads: %v", err)
		}
	case <-ctx.Done():
		return 0, model.Errorf(model.Unavailable, "verify that this node leads: %v", context.Cause(ctx))
	}
	if s.leads.Load() != term || n.raft.CurrentTerm() != term {
		return 0, s.notLeading()
	}
	return index, nil
}

// Alive returns when the state could be read and, on the node that leads, when raft's main loop
// has come round. On others that loop may be busy for long with a snapshot, which is no fault.
func (s *Store) Alive(ctx context.Context) error {
	if err := s.failed(); err != nil {
		return err
	}
	if _, leads := s.Leader(); leads {
		if _, err := s.ServeBarrier(ctx); err != nil && ctx.Err() != nil {
			return fmt.Errorf("raft does not answer: %w", err)
		}
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		s.Nodes()
	}()
	select {
	case <-read:
		return context.Cause(ctx) // too late is no answer
	case <-ctx.Done():
		return fmt.Errorf("the state cannot be read: %w", context.Cause(ctx))
	}
}

func (s *Store) notLeading() *model.Error {
	if err := s.failed(); err != nil {
		return model.Errorf(model.Unavailable, "%v", err)
	}
	if leader, _ := s.Leader(); leader != "" && leader != s.cfg.NodeID {
		return model.Errorf(model.Unavailable, "this node does not lead the cluster, %s does", leader)
	}
	return model.Errorf(model.Unavailable, "this node does not lead the cluster")
}

// failed is what this node cannot go on from, if there is anything.
func (s *Store) failed() error {
	select {
	case <-s.failure.done:
		return s.failure.err
	case <-s.ended:
		return errors.New("the store has ended")
	default:
		return nil
	}
}
