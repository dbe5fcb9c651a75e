package api

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// The limits of what concerns the cluster.
const (
	statusTimeout = 3 * time.Second  // for all nodes together: they are asked at once
	backupStall   = 30 * time.Second // without a byte taken, a backup is cut off
)

// NodeState is one node as the one that was asked sees it.
type NodeState struct {
	model.Node
	Member  bool // of raft's configuration; a row alone is a node that joins or has left
	Voter   bool
	Leader  bool
	Self    bool      // the node that was asked
	Reached bool      // it answered
	Seen    time.Time // when it last answered; zero: never since the node that was asked has started
	Ready   bool
	Error   string // why it did not answer, or why it is not ready

	Term, Committed, Applied uint64

	StateHash   [32]byte
	Incarnation string
	FreeBytes   int64 // on its data disk; negative: not known
	Agents      int   // connected to it; negative: not known
}

// ClusterState is the cluster as one node sees it.
type ClusterState struct {
	Cluster model.Cluster
	Node    string // that answered
	Leader  string // empty: not known
	Nodes   []NodeState
}

// ClusterControl describes and changes the cluster itself. Every call works on every node;
// errors are *model.Error.
type ClusterControl interface {
	// Status asks the other nodes until ctx ends.
	Status(ctx context.Context) ClusterState
	// Joinable says why no other node could join, whatever token it has.
	Joinable() error
	Remove(ctx context.Context, asked model.Asked, node string) error
	// Transfer lets another node lead; to empty: any voter.
	Transfer(ctx context.Context, asked model.Asked, to string) error
	AddAuthority(ctx context.Context, asked model.Asked) (model.Authority, error)
	ActivateAuthority(ctx context.Context, asked model.Asked, id string) error
	RemoveAuthority(ctx context.Context, asked model.Asked, id string) error
	// Backup writes the file; before its first byte an error is a *model.Error.
	Backup(ctx context.Context, asked model.Asked, w io.Writer) error
}

// needAdmin is for what no command of the state stands behind. What has one is checked there too.
func needAdmin(ctx context.Context, what string) error {
	if p := principalFrom(ctx); !p.Has(model.Admin) {
		return model.Errorf(model.Forbidden, "%s has not the role admin, which may %s", p.Name, what)
	}
	return nil
}

// GetCluster tells what was fixed at bootstrap, how the nodes are and what is in force.
func (s *Server) GetCluster(ctx context.Context, _ GetClusterRequestObject) (GetClusterResponseObject, error) {
	cluster, err := s.cluster()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	status := s.control.Status(ctx)
	_, leads := s.store.Leader()
	answer := GetCluster200JSONResponse{
		ID: cluster.ID, Generation: cluster.Generation, Incarnation: cluster.Incarnation,
		Approvals: Approvals(cluster.Approvals), Created: cluster.Created,
		Node: status.Node, Leader: leads, LeaderNode: status.Leader,
		Nodes: make([]Node, len(status.Nodes)), Authorities: s.authorities(), Verdict: toVerdict(s.store.Verdict()),
	}
	slices.SortFunc(status.Nodes, func(a, b NodeState) int { return cmp.Compare(a.ID, b.ID) })
	now := s.now()
	for i := range status.Nodes {
		answer.Nodes[i] = toNode(&status.Nodes[i], now)
	}
	if r := cluster.Rebuilt; r != nil {
		answer.Rebuilt = Rebuilt{At: r.At, Cause: RebuiltCause(r.Cause), From: r.From, Index: r.Index, Node: r.Node}
	}
	if active, known := s.store.Active(); known {
		answer.Active = toRevision(&active)
	}
	if canary, known := s.canary(); known {
		answer.Canary = toRevision(&canary)
	}
	return answer, nil
}

// canary finds the revision that is in force at its canary sites only. It is newer than
// the active one.
func (s *Server) canary() (model.Revision, bool) {
	const page = 100
	active, _ := s.store.Active()
	for before := uint64(0); ; {
		list := s.store.Revisions(before, page)
		for i := range list {
			if list[i].State == model.RevisionCanary {
				return list[i], true
			}
			if before = list[i].ID.Number; before <= active.ID.Number {
				return model.Revision{}, false
			}
		}
		if len(list) < page {
			return model.Revision{}, false
		}
	}
}

// authorities lists the cluster's authorities, the newest first.
func (s *Server) authorities() []Authority {
	list := s.store.Authorities()
	slices.SortFunc(list, func(a, b model.Authority) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	signed := map[string]int{}
	for _, agent := range s.store.Agents() {
		if agent.Revoked.IsZero() {
			signed[agent.Authority]++
		}
	}
	out := make([]Authority, len(list))
	for i := range list {
		out[i] = toAuthority(&list[i], signed[list[i].ID])
	}
	return out
}

func toAuthority(a *model.Authority, agents int) Authority {
	out := Authority{
		ID: a.ID, State: AuthorityState(a.State), Created: a.Created, Activated: a.Activated, Retired: a.Retired, Agents: agents,
	}
	if certificate, err := x509.ParseCertificate(a.Certificate); err == nil {
		out.Expires = certificate.NotAfter
	}
	return out
}

func toVerdict(v model.Verdict) Verdict {
	return Verdict{Index: v.Index, Agreed: v.Agreed, Halted: v.Halted}
}

func toNode(n *NodeState, now time.Time) Node {
	out := Node{
		ID: n.ID, Role: NodeRoleNone, Leader: n.Leader, Ready: n.Ready, Version: n.Version, Peer: n.Peer, Sync: n.Sync,
		API: n.API, Applied: n.Applied, Contact: n.Seen, Problem: n.Error,
	}
	if n.StateHash != [32]byte{} {
		out.Hash = hex.EncodeToString(n.StateHash[:])
	}
	switch {
	case n.Voter:
		out.Role = NodeRoleVoter
	case n.Member:
		out.Role = NodeRoleNonVoter
	}
	if n.Self {
		out.Contact = now
	}
	if !out.Contact.IsZero() {
		out.AgeSeconds = int64(max(0, now.Sub(out.Contact)).Seconds())
	}
	if n.FreeBytes >= 0 && (n.Reached || n.Self) {
		out.FreeBytes = &n.FreeBytes
	}
	if n.Agents >= 0 && (n.Reached || n.Self) {
		out.Agents = &n.Agents
	}
	return out
}

// RemoveNode takes a node out of the cluster.
func (s *Server) RemoveNode(ctx context.Context, r RemoveNodeRequestObject) (RemoveNodeResponseObject, error) {
	if err := needAdmin(ctx, "remove a node"); err != nil {
		return nil, err
	}
	if err := s.control.Remove(ctx, s.asked(ctx, r.Params.IdempotencyKey), r.Node); err != nil {
		return nil, err
	}
	return RemoveNode204Response{}, nil
}

// TransferLeadership lets another node lead.
func (s *Server) TransferLeadership(ctx context.Context, r TransferLeadershipRequestObject) (TransferLeadershipResponseObject, error) {
	if err := needAdmin(ctx, "let another node lead"); err != nil {
		return nil, err
	}
	if err := s.control.Transfer(ctx, s.asked(ctx, r.Params.IdempotencyKey), r.Body.To); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return TransferLeadership200JSONResponse{LeaderNode: s.control.Status(ctx).Leader}, nil
}

// GetBackup gives the whole state with the cluster's keys as one file.
func (s *Server) GetBackup(ctx context.Context, _ GetBackupRequestObject) (GetBackupResponseObject, error) {
	if err := needAdmin(ctx, "take a backup: it holds the keys of the cluster"); err != nil {
		return nil, err
	}
	asked := s.asked(ctx, "")
	return backupAnswer(func(w io.Writer) error { return s.control.Backup(ctx, asked, w) }), nil
}

// backupAnswer writes a file of any size. An error after the first byte cuts the
// connection, so that nobody takes a part for the whole.
type backupAnswer func(w io.Writer) error

// VisitGetBackupResponse is how the generated code has it written.
func (b backupAnswer) VisitGetBackupResponse(w http.ResponseWriter) error {
	out := &backupWriter{to: w, deadline: http.NewResponseController(w)}
	err := b(out)
	if err != nil && out.begun {
		panic(http.ErrAbortHandler)
	}
	return err
}

// backupWriter says what comes with the first byte, and lets the connection live for as
// long as bytes are taken.
type backupWriter struct {
	to       http.ResponseWriter
	deadline *http.ResponseController
	begun    bool
}

func (w *backupWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.to.Header().Set("Content-Type", "application/octet-stream")
		w.to.Header().Set("Content-Disposition", `attachment; filename="crossdock.backup"`)
		w.to.WriteHeader(http.StatusOK)
	}
	// A writer without deadlines, such as a test's, has none that could end it.
	_ = w.deadline.SetWriteDeadline(time.Now().Add(backupStall))
	return w.to.Write(p)
}

// BeginRotation makes the next certificate authority.
func (s *Server) BeginRotation(ctx context.Context, r BeginRotationRequestObject) (BeginRotationResponseObject, error) {
	if err := needAdmin(ctx, "make a certificate authority"); err != nil {
		return nil, err
	}
	made, err := s.control.AddAuthority(ctx, s.asked(ctx, r.Params.IdempotencyKey))
	if err != nil {
		return nil, err
	}
	return BeginRotation201JSONResponse(toAuthority(&made, 0)), nil
}

// ActivateAuthority lets the next certificate authority sign.
func (s *Server) ActivateAuthority(ctx context.Context, r ActivateAuthorityRequestObject) (ActivateAuthorityResponseObject, error) {
	if err := needAdmin(ctx, "activate a certificate authority"); err != nil {
		return nil, err
	}
	if err := s.control.ActivateAuthority(ctx, s.asked(ctx, r.Params.IdempotencyKey), r.Authority); err != nil {
		return nil, err
	}
	for _, one := range s.authorities() {
		if one.ID == r.Authority {
			return ActivateAuthority200JSONResponse(one), nil
		}
	}
	return nil, model.Errorf(model.NotFound, "there is no certificate authority %s", r.Authority)
}

// RemoveAuthority ends the trust in a retired certificate authority.
func (s *Server) RemoveAuthority(ctx context.Context, r RemoveAuthorityRequestObject) (RemoveAuthorityResponseObject, error) {
	if err := needAdmin(ctx, "remove a certificate authority"); err != nil {
		return nil, err
	}
	if err := s.control.RemoveAuthority(ctx, s.asked(ctx, r.Params.IdempotencyKey), r.Authority); err != nil {
		return nil, err
	}
	return RemoveAuthority204Response{}, nil
}
