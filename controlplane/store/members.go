package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Member is a node of the cluster, as this node knows it.
type Member struct {
	ID     string
	Voter  bool // takes part in decisions; a node that has joined does not until it has caught up
	Leader bool
	Silent time.Time // since when it does not answer; zero: it does, or this node does not lead
}

// Members lists the nodes of the cluster.
func (s *Store) Members() (members []Member) {
	n := s.node.Load()
	if n == nil {
		return nil
	}
	leader, _ := s.Leader()
	for _, server := range n.raft.GetConfiguration().Configuration().Servers {
		id := string(server.ID)
		members = append(members, Member{
			ID: id, Voter: server.Suffrage == raft.Voter, Leader: id == leader, Silent: s.silent.since(id),
		})
	}
	return members
}

func (s *Store) member(id string) (Member, bool) {
	for _, m := range s.Members() {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// lead gives raft while this node leads. Every change of the members goes through the
// leader; Unavailable means: ask the one that leads.
func (s *Store) lead() (*raft.Raft, error) {
	n := s.node.Load()
	if n == nil || s.leads.Load() == 0 {
		return nil, s.notLeading()
	}
	return n.raft, nil
}

// settle waits for a step of raft's.
func settle(ctx context.Context, what string, step raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- step.Error() }()
	select {
	case err := <-done:
		if err != nil {
			return model.Errorf(codeOf(err), "%s: %v", what, err)
		}
		return nil
	case <-ctx.Done():
		return model.Errorf(model.Unknown, "%s: %v", what, context.Cause(ctx))
	}
}

// AddMember takes in a node that does not vote yet: it is sent everything, and does no harm
// while it is behind. A repeat changes nothing.
func (s *Store) AddMember(ctx context.Context, id string) error {
	r, err := s.lead()
	if err != nil {
		return err
	}
	if id == "" {
		return model.Errorf(model.Invalid, "add a node: it has no name")
	}
	if _, known := s.member(id); known {
		return nil
	}
	return settle(ctx, "add node "+id, r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, memberWait))
}

// CaughtUp returns when this node has everything that the cluster had at the call; a node
// that has joined then asks the leader to promote it.
func (s *Store) CaughtUp(ctx context.Context) error {
	if err := s.WaitReady(ctx); err != nil {
		return err
	}
	return s.Fresh(ctx)
}

// Promote gives a node a vote, at its own word that it has caught up.
func (s *Store) Promote(ctx context.Context, id string) error {
	r, err := s.lead()
	if err != nil {
		return err
	}
	m, known := s.member(id)
	switch {
	case !known:
		return model.Errorf(model.NotFound, "node %s is not of this cluster", id)
	case m.Voter:
		return nil
	case !m.Silent.IsZero():
		return model.Errorf(model.Unavailable, "node %s does not answer since %s", id, m.Silent.Format(time.TimeOnly))
	}
	return settle(ctx, "promote node "+id, r.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, memberWait))
}

// Demote takes the vote of a node, so that it does not disturb those that stay. A repeat
// changes nothing.
func (s *Store) Demote(ctx context.Context, id string) error {
	r, err := s.lead()
	if err != nil {
		return err
	}
	if m, _ := s.member(id); !m.Voter {
		return nil
	}
	return settle(ctx, "take the vote of node "+id, r.DemoteVoter(raft.ServerID(id), 0, memberWait))
}

// RemoveMember takes a node out of the cluster. A leader that is asked to remove itself
// lets another lead and answers Unavailable: ask that one. A repeat changes nothing.
func (s *Store) RemoveMember(ctx context.Context, id string) error {
	r, err := s.lead()
	if err != nil {
		return err
	}
	if _, known := s.member(id); !known {
		return nil
	}
	if err := s.CanSpare(ctx, id); err != nil {
		return err
	}
	if id == s.cfg.NodeID {
		if err := s.Transfer(ctx, ""); err != nil {
			return err
		}
		return model.Errorf(model.Unavailable, "node %s led, and lets another lead before it is removed: ask that one", id)
	}
	if err := s.Demote(ctx, id); err != nil {
		return err
	}
	return settle(ctx, "remove node "+id, r.RemoveServer(raft.ServerID(id), 0, memberWait))
}

// CanSpare refuses to remove a voter without whom no majority would answer. Only the leader
// knows, and it asks them all: right after an election it has missed nobody yet.
func (s *Store) CanSpare(ctx context.Context, id string) error {
	if _, err := s.lead(); err != nil {
		return err
	}
	if m, _ := s.member(id); !m.Voter {
		return nil
	}
	answers := func(m Member) bool { return m.Silent.IsZero() }
	if s.cfg.Others != nil {
		ask, cancel := context.WithTimeout(ctx, answerWait)
		defer cancel()
		free := s.cfg.Others(ask)
		answers = func(m Member) bool {
			_, said := free[m.ID]
			return m.ID == s.cfg.NodeID || said && m.Silent.IsZero()
		}
	}
	voters, answering, missing := 0, 0, ""
	for _, other := range s.Members() {
		if !other.Voter || other.ID == id {
			continue
		}
		voters++
		if answers(other) {
			answering++
		} else {
			missing += " " + other.ID
		}
	}
	if voters == 0 {
		return model.Errorf(model.Conflict, "node %s is the only one that votes; add another first", id)
	}
	if answering <= voters/2 {
		return model.Errorf(model.Conflict, "without node %s only %d of %d voters would answer, which is no majority; bring back or remove first:%s",
			id, answering, voters, missing)
	}
	return nil
}

// Transfer lets another node lead: the one named, or any voter that is up to date.
func (s *Store) Transfer(ctx context.Context, to string) error {
	r, err := s.lead()
	if err != nil {
		return err
	}
	if to == s.cfg.NodeID {
		return nil
	}
	others := 0
	for _, m := range s.Members() {
		if m.Voter && m.ID != s.cfg.NodeID {
			others++
		}
	}
	if others == 0 {
		return model.Errorf(model.Conflict, "no other node votes, so none can lead")
	}
	step := r.LeadershipTransfer
	if to != "" {
		m, known := s.member(to)
		switch {
		case !known:
			return model.Errorf(model.NotFound, "node %s is not of this cluster", to)
		case !m.Voter:
			return model.Errorf(model.Conflict, "node %s does not vote yet, so it cannot lead", to)
		}
		step = func() raft.Future {
			return r.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to))
		}
	}
	if err := settle(ctx, "let another node lead", step()); err != nil {
		return model.Errorf(model.Unavailable, "%v", err) // it leads on, or the other does: nothing is lost by asking again
	}
	return nil
}

// AwaitLeader waits until this node knows of a leader that will do.
func (s *Store) AwaitLeader(ctx context.Context, does func(id string) bool) error {
	return s.await(ctx, "a leader", func() bool {
		id, _ := s.Leader()
		return does(id)
	})
}

// Status is where a node stands.
type Status struct {
	ID      string
	Leader  string // "": none is known
	Members []Member
	Ready   string // why it is not; empty: it is

	Term        uint64
	LastIndex   uint64        // newest entry of its log
	Commit      uint64        // newest entry that it knows to be committed
	Applied     uint64        // newest entry of commands in its state
	LastContact time.Duration // since it heard from the leader; 0 on the leader, -1: never
	LogBytes    int64         // that the newest snapshot does not cover
	Snapshot    uint64        // entry up to which that goes; 0: there is none
	Free        int64         // bytes on its disk
	Full        bool          // pushes and uploads are refused for want of room
	StateBytes  int64
	Hash        string // begin of the hash over all that was applied: the same on all nodes with the same Applied
}

// Status tells where this node stands.
func (s *Store) Status() Status {
	hash := s.StateHash()
	st := Status{
		ID: s.cfg.NodeID, Members: s.Members(), Applied: s.AppliedIndex(), Free: s.disk.free.Load(), Full: s.disk.full.Load(),
		StateBytes: s.Size(), Hash: hex.EncodeToString(hash[:8]), LastContact: -1,
	}
	st.Leader, _ = s.Leader()
	if err := s.Ready(); err != nil {
		st.Ready = fmt.Sprint(err)
	}
	n := s.node.Load()
	if n == nil {
		return st
	}
	st.Term, st.LastIndex, st.Commit = n.raft.CurrentTerm(), n.raft.LastIndex(), n.raft.CommitIndex()
	st.LogBytes, st.Snapshot = n.sinceSnapshot(), n.newestSnapshot()
	if last := n.raft.LastContact(); n.raft.State() == raft.Leader {
		st.LastContact = 0
	} else if !last.IsZero() {
		st.LastContact = time.Since(last)
	}
	return st
}
