package peer

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Services answer what other nodes ask of this one. Errors are *model.Error; those that
// only a leader can do are Unavailable elsewhere, and are never passed on to a third node.
type Services interface {
	// Apply gives an encoded command its place, as the leader.
	Apply(ctx context.Context, command []byte) (answer []byte, err error)
	// Barrier gives the entry that a reader has to have applied to be current, as the leader.
	Barrier(ctx context.Context) (index uint64, err error)
	// Join admits a node by its token.
	Join(ctx context.Context, r *JoinRequest) (*JoinAnswer, error)
	// Member adds, promotes, removes or prefers a node, as the leader.
	Member(ctx context.Context, r *MemberRequest) error
	// Ask puts a live command to an agent that is connected to this node.
	Ask(ctx context.Context, r *AskRequest) (json.RawMessage, error)
	// Connected lists the agents that are connected to this node.
	Connected(ctx context.Context) ([]string, error)
	// Status tells how this node stands.
	Status(ctx context.Context) (*Status, error)
}

// JoinRequest is what a node that wants to join says.
type JoinRequest struct {
	Token   string // the whole text
	Node    string // its name
	Peer    string // host:port by which the others will reach it
	Request []byte // for its certificate
}

// JoinAnswer is all that it needs until it has the state.
type JoinAnswer struct {
	Cluster     string
	Incarnation string
	Node        string
	Chain       [][]byte // its certificate
	Authorities [][]byte // trusted
	Seal        []byte   // opens the authorities' keys in the state
	Nodes       []model.Node
}

// The changes of a MemberRequest.
const (
	MemberAdd      = "add"     // it has joined
	MemberPromote  = "promote" // it has caught up
	MemberRemove   = "remove"
	MemberTransfer = "transfer"
)

// MemberRequest changes who takes part in the cluster.
type MemberRequest struct {
	Change string
	Node   string // of a transfer: the one that shall lead; empty: any
	Asked  model.Asked
}

// AskRequest is a live command.
type AskRequest struct {
	Agent     string
	Kind      string
	Arguments []byte
}

// Member is a node as the one that answers knows it.
type Member struct {
	ID    string
	Voter bool
}

// Status is how a node stands.
type Status struct {
	Identity Identity
	Version  string

	Generation uint64        // of the life that it is in; 0: it has no state yet
	Rebuilt    model.Rebuilt // how that began; zero: it is the first

	Leads    bool
	Leader   string // that it knows; empty: none
	NotReady string // why it cannot take commands; empty: it can
	Members  []Member

	Term      uint64
	Committed uint64
	Applied   uint64
	StateHash [32]byte
	FreeBytes int64 // on its data disk; negative: not known
	Agents    int   // connected to it
}

// OtherLife is the status of a node of the same cluster that is in another life of it: it was
// restored or recovered, or the one that asks was. It is no word on who is in the right.
type OtherLife struct {
	Own    Identity // that asked
	Status Status
}

func (o *OtherLife) Error() string {
	return fmt.Sprintf("node %s is in another life of cluster %s (%s) than this node (%s): one of them was restored or recovered since; "+
		"empty the data directory of the one that was left behind and join it again", o.Status.Identity.Node, o.Own.Cluster, o.Status.Identity.Incarnation, o.Own.Incarnation)
}

// Unwrap gives it a code.
func (o *OtherLife) Unwrap() error { return &model.Error{Code: model.Conflict, Text: o.Error()} }
