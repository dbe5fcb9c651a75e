package model

import (
	"time"

	"github.com/crossdock/crossdock/protocol/block"
)

// PutNode adds a node, or notes where it listens now.
type PutNode struct {
	At    time.Time
	Node  Node
	Known bool // it has to be there: a node that was removed does not write itself back
}

// AdmitNode uses up a node's join token. A repeat while the token lives is answered alike.
type AdmitNode struct {
	At     time.Time
	Token  string // id
	Secret [32]byte
	Node   string
}

// RemoveNode begins to take a node out of the cluster. From then on it is neither added nor
// given a vote, whatever it asks for.
type RemoveNode struct {
	Asked
	Node string
}

// ForgetNode ends that, when the cluster counts on the node no more. A repeat changes nothing.
type ForgetNode struct {
	At   time.Time
	Node string
	By   string // the node that leads
}

// Beacon asks the voters for their hash of the state at the beacon's own entry.
type Beacon struct {
	At     time.Time
	Voters []string
}

// BeaconReport is one node's answer to a beacon.
type BeaconReport struct {
	Node  string
	Index uint64 // of the beacon
	Hash  [32]byte
}

// Rebuild begins another life of the cluster after a restore or a recovery: it raises the
// generation. A repeat with the same incarnation changes nothing.
type Rebuild struct {
	At          time.Time
	Incarnation string
	Rebuilt     Rebuilt
}

// RaiseGeneration goes beyond a generation that an agent has seen in another life of this
// cluster; a generation that is higher already stays.
type RaiseGeneration struct {
	At    time.Time
	Above uint64
	Agent string // that told of it
}

// RescueAdmin gives a node's own administrator a new token: a person has proven on its
// machine to be who runs it, or another life of the cluster begins there. A repeat with the
// same token changes nothing.
type RescueAdmin struct {
	At        time.Time
	Node      string
	Roles     []Role
	TokenHash [32]byte
}

// NodeAdmin is the principal whose token a node leaves for the people on its machine when
// there is no other.
func NodeAdmin(node string) string { return "admin@" + node }

// Greet opens a session of an agent. Answer: GreetResult.
type Greet struct {
	At      time.Time
	Agent   string
	Epoch   uint64 // the agent's
	Session uint64
	Nonce   [16]byte
	Node    string

	Told    bool         `cbor:",omitempty"` // Numbers is all that it holds; else it did not say
	Numbers []NumberMark `cbor:",omitempty"`
}

// GreetResult says whether the caller is an old copy: a session of the same epoch with this
// number or a later one was opened before, by another.
type GreetResult struct {
	Stale bool
	Epoch uint64 // granted
}

// NewEpoch gives an agent that runs on an old copy of its data a new epoch, which fences
// every other copy. A repeat with the same nonce gets the same answer. It is refused to one
// that is fenced itself, unless an operator has allowed it. Answer: NewEpochResult.
type NewEpoch struct {
	At    time.Time
	Agent string
	Epoch uint64 // the agent's
	Nonce [16]byte
	Why   string
}

// NewEpochResult is the answer to NewEpoch.
type NewEpochResult struct {
	Epoch uint64
}

// Behind says what an agent holds of its inbound lanes. A lane of which it has acknowledged
// more goes back to there, or to where all is settled if that is further, so that its
// source sends the rest again; what lies between is a gap with its cause. Answer:
// BehindResult.
type Behind struct {
	At      time.Time
	Agent   string
	Epoch   uint64 // the agent's: a fenced copy moves no lane; 0 is not checked
	Inbound []Lane // Source, Epoch, Highwater; a lane that is missing is at 0
}

// BehindResult names the sources whose lanes went back.
type BehindResult struct {
	Sources []string
}

// LoseMail gives up a piece of an agent's mail that a node cannot read: its lane goes back
// so that the source sends it again.
type LoseMail struct {
	At       time.Time
	Agent    string
	Position uint64
	Node     string
	Why      string
}

// Readmit takes in an agent whose certificate is of this cluster but that a restored state
// does not know, or knows by an older key: it enrolled in the life that was lost.
type Readmit struct {
	At     time.Time
	Agent  string
	Site   string
	Key    [32]byte
	Serial string
	Issued time.Time // when its certificate was signed
	Epoch  uint64    // the agent's own
}

// AllowAgent lets an old copy of an agent in once, within a day: an operator knows that no
// other copy is running.
type AllowAgent struct {
	Asked
	Agent string
}

// ForgetAgent gives up what waits for a revoked agent, and takes what is still sent to it
// without keeping it; both are counted in an exception.
type ForgetAgent struct {
	Asked
	Agent string
}

// RenewResult is the answer to Renew.
type RenewResult struct {
	Recoveries uint64
}

// Promote puts a canary revision in force everywhere. Answer: Revision.
type Promote struct {
	Asked
	Number uint64
}

// Withdraw takes a canary revision back: the sites that have it get the active one again,
// as a new revision with the same content, because revisions only rise. Answer: Revision.
type Withdraw struct {
	Asked
	Number uint64
	Reason string
}

// ReleaseSystem ends a move by an operator's word.
type ReleaseSystem struct {
	Asked
	System string
}

// MoveReport is what an agent says of a move that concerns it.
type MoveReport struct {
	System  string // the new one
	Pending uint64 // deliveries to the old system that are not done; of the old system's agent
	Holding bool   // the new system is held; of the new system's agent
}

// AddAuthority makes another certificate authority trusted; ActivateAuthority lets it sign
// and retires the one before; RemoveAuthority ends the trust in a retired one. The node that
// is asked makes the authority, so a repeat of AddAuthority brings another and is answered
// with the first. Answer: Authority, without its keys.
type AddAuthority struct {
	Asked
	Authority Authority
}

// ActivateAuthority is the second step of a rotation.
type ActivateAuthority struct {
	Asked
	ID string
}

// RemoveAuthority is the last step of a rotation.
type RemoveAuthority struct {
	Asked
	ID string
}

// CommandRelease is the kind of the durable command that serves a system that was held.
const CommandRelease = "release"

// ReleaseArguments are the arguments of release, as JSON.
type ReleaseArguments struct {
	System   string         `json:"system"`
	Revision block.Revision `json:"revision"` // that brought the move
}

func (*PutNode) command()           {}
func (*AdmitNode) command()         {}
func (*RemoveNode) command()        {}
func (*ForgetNode) command()        {}
func (*Beacon) command()            {}
func (*BeaconReport) command()      {}
func (*Rebuild) command()           {}
func (*RaiseGeneration) command()   {}
func (*RescueAdmin) command()       {}
func (*Greet) command()             {}
func (*NewEpoch) command()          {}
func (*Behind) command()            {}
func (*LoseMail) command()          {}
func (*Readmit) command()           {}
func (*AllowAgent) command()        {}
func (*ForgetAgent) command()       {}
func (*Promote) command()           {}
func (*Withdraw) command()          {}
func (*ReleaseSystem) command()     {}
func (*AddAuthority) command()      {}
func (*ActivateAuthority) command() {}
func (*RemoveAuthority) command()   {}
