package controlplane

import (
	"context"
	"encoding/json"
	"time"

	"golang.org/x/time/rate"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/protocol/transport"
)

// services answer other nodes.
type services struct{ c *ControlPlane }

// joins bounds attempts to join: each costs an entry of the log.
var joins = rate.Every(time.Second)

const joinBurst = 10

// Apply gives an encoded command its place, as the leader.
func (s services) Apply(ctx context.Context, command []byte) ([]byte, error) {
	return s.c.store.ServeApply(ctx, command)
}

// Barrier gives the entry up to which a current reader has applied, as the leader.
func (s services) Barrier(ctx context.Context) (uint64, error) { return s.c.store.ServeBarrier(ctx) }

// Join admits a node by its token. A repeat while the token lives is answered alike, since
// the first answer may have been lost.
func (s services) Join(ctx context.Context, r *peer.JoinRequest) (*peer.JoinAnswer, error) {
	answer, err := s.join(ctx, r)
	if err != nil {
		s.c.log.Warn("a node may not join", "node", r.Node, "address", r.Peer, "error", err)
		return nil, err
	}
	s.c.log.Info("a node joins", "node", r.Node, "address", r.Peer)
	return answer, nil
}

func (s services) join(ctx context.Context, r *peer.JoinRequest) (*peer.JoinAnswer, error) {
	if !s.c.cluster.joins().Allow() {
		return nil, model.Errorf(model.Unavailable, "too many attempts to join: wait a minute and try again")
	}
	token, err := transport.ParseToken(r.Token)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "%v", err)
	}
	if !s.c.authority.Trusts(token.CAHash) {
		return nil, model.Errorf(model.Unauthorized, "the join token is of another cluster: ask this one for a token")
	}
	if _, err := s.c.authority.CheckRequest(r.Request); err != nil {
		return nil, model.Errorf(model.Invalid, "%v", err)
	}
	if !nodeName.MatchString(r.Node) || r.Peer == "" {
		return nil, model.Errorf(model.Invalid, "a node that joins says its name and its address")
	}
	seal, err := pki.ReadSeal(FilesIn(s.c.config.Data).pki)
	if err != nil {
		return nil, model.Errorf(model.Unavailable, "node %s cannot admit others: %v", s.c.id.Node, err)
	}
	now := time.Now().UTC()
	if _, err := s.c.store.Apply(ctx, &model.AdmitNode{At: now, Token: token.ID, Secret: token.SecretHash(), Node: r.Node}); err != nil {
		return nil, err
	}
	if s.c.isMember(r.Node) {
		return nil, model.Errorf(model.Conflict, "node %s takes part in the cluster already: remove it first, or choose another name", r.Node)
	}
	if _, err := s.c.store.Apply(ctx, &model.PutNode{At: now, Node: model.Node{ID: r.Node, Peer: r.Peer, Joined: now}}); err != nil {
		return nil, err
	}
	chain, err := s.c.authority.SignNode(r.Request, r.Node, nil, pki.NodeLife, now)
	if err != nil {
		return nil, model.Errorf(model.Unavailable, "%v", err)
	}
	return &peer.JoinAnswer{
		Cluster: s.c.id.Cluster, Incarnation: s.c.id.Incarnation, Node: r.Node, Chain: chain,
		Authorities: s.c.authority.Certificates(), Seal: seal[:], Nodes: s.c.store.Nodes(),
	}, nil
}

// Member changes who takes part, as the leader.
func (s services) Member(ctx context.Context, r *peer.MemberRequest) error {
	s.c.cluster.members.Lock()
	defer s.c.cluster.members.Unlock()
	// Only one that surely leads knows who is of the cluster.
	if _, err := s.c.store.ServeBarrier(ctx); err != nil {
		return err
	}
	switch r.Change {
	case peer.MemberAdd:
		if err := s.c.counted(r.Node); err != nil {
			return err
		}
		return s.c.store.AddMember(ctx, r.Node)
	case peer.MemberPromote:
		if err := s.c.counted(r.Node); err != nil {
			return err
		}
		return s.c.store.Promote(ctx, r.Node)
	case peer.MemberTransfer:
		return s.c.store.Transfer(ctx, r.Node)
	case peer.MemberRemove:
		return s.remove(ctx, r)
	}
	return model.Errorf(model.Invalid, "the change %q of a node is not known", r.Change)
}

// remove takes a node out: first its row says so, and nobody adds it or gives it a vote any
// more; then the cluster ceases to count on it; then its row goes. Wherever that is cut
// short, the one that leads goes on, and so does a repeat.
func (s services) remove(ctx context.Context, r *peer.MemberRequest) error {
	if !s.c.store.Answered(&r.Asked) {
		if err := s.c.store.CanSpare(ctx, r.Node); err != nil {
			return err
		}
	}
	if r.Node == s.c.id.Node {
		return s.c.store.RemoveMember(ctx, r.Node) // lets another lead, which then does all of it
	}
	_, err := s.c.store.Apply(ctx, &model.RemoveNode{Asked: r.Asked, Node: r.Node})
	if err != nil && (model.CodeOf(err) != model.NotFound || !s.c.isMember(r.Node)) {
		return err
	}
	return s.removed(ctx, r.Node)
}

// removed goes on with a removal from wherever it is. A node that has joined again under its
// name since is another one.
func (s services) removed(ctx context.Context, node string) error {
	row, known := s.c.store.Node(node)
	if known && row.Leaving.IsZero() {
		return nil
	}
	if err := s.c.store.RemoveMember(ctx, node); err != nil || !known {
		return err
	}
	_, err := s.c.store.Apply(ctx, &model.ForgetNode{At: time.Now().UTC(), Node: node, By: s.c.id.Node})
	return err
}

// Ask puts a live command to an agent that is connected here.
func (s services) Ask(ctx context.Context, r *peer.AskRequest) (json.RawMessage, error) {
	local := s.c.agents.local.Load()
	if local == nil {
		return nil, model.Errorf(model.Unavailable, "node %s is starting", s.c.id.Node)
	}
	return local.Ask(ctx, r.Agent, r.Kind, r.Arguments)
}

// Connected lists the agents that are connected here.
func (s services) Connected(context.Context) ([]string, error) { return s.c.agents.connected(), nil }

// Status tells how this node stands.
func (s services) Status(context.Context) (*peer.Status, error) {
	st := s.c.store.Status()
	leader, leads := s.c.store.Leader()
	out := &peer.Status{
		Identity: peer.Identity{Cluster: s.c.id.Cluster, Incarnation: s.c.id.Incarnation, Node: s.c.id.Node},
		Version:  Version, Leads: leads, Leader: leader, Term: st.Term, Committed: st.Commit, FreeBytes: st.Free,
		Agents: len(s.c.agents.connected()),
	}
	if err := s.c.readiness(); err != nil {
		out.NotReady = err.Error()
	}
	// The state may be of the life before while the one of this node has not begun.
	if cluster, begun := s.c.store.Cluster(); begun && cluster.Incarnation == s.c.id.Incarnation {
		out.Generation = cluster.Generation
		if cluster.Rebuilt != nil {
			out.Rebuilt = *cluster.Rebuilt
		}
	}
	for _, m := range st.Members {
		out.Members = append(out.Members, peer.Member{ID: m.ID, Voter: m.Voter})
	}
	out.Applied, out.StateHash = s.c.stand()
	return out, nil
}

// stand gives the newest entry in the state and the hash there, as a pair.
func (c *ControlPlane) stand() (index uint64, hash [32]byte) {
	const tries = 8 // under load another entry may come between the two reads each time
	for range tries {
		index = c.store.AppliedIndex()
		hash = c.store.StateHash()
		if c.store.AppliedIndex() == index {
			return index, hash
		}
	}
	return index, [32]byte{}
}
