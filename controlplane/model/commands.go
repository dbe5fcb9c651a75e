package model

import (
	"encoding/json"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
)

// Command changes the state. Every command of a person or program carries who asked and
// when; commands of people also a request id, so that a repeat gets the first answer.
type Command interface{ command() }

// Asked is common to what people and programs ask for.
type Asked struct {
	By        string    // principal
	At        time.Time // of the node that took the request
	RequestID string    // empty: no repeat protection
}

// Bootstrap begins a cluster; it is refused on a state that has one.
type Bootstrap struct {
	Asked
	Cluster   Cluster
	Admin     Principal
	Node      Node
	Authority Authority // the first one, active
}

// PutPrincipal adds or replaces a principal. A zero token hash keeps the one it has.
type PutPrincipal struct {
	Asked
	Principal Principal
	New       bool // there must be none of that name yet
}

// CreateJoinToken stores a minted token's hash.
type CreateJoinToken struct {
	Asked
	Token JoinToken
}

// Enroll uses up a token. While the token lives, a repeat with the same key gets the same
// agent, so that a lost answer costs nobody the token. Answer: EnrollResult.
type Enroll struct {
	At     time.Time
	Token  string   // id
	Secret [32]byte // SHA-256 of the secret shown
	Agent  string
	Key    [32]byte
	Serial string

	Authority string // ID of the one that signs
}

// EnrollResult is the answer to Enroll.
type EnrollResult struct {
	Agent Agent
}

// Renew notes a new certificate of an agent for the key that it registered. With another
// key it is refused: that would be a former copy, overtaken by a new enrolment. A renewal
// with an expired certificate is a recovery, and counted: a count that is not the one known
// here means a second copy of the key, and is refused unless an operator has allowed it.
// Answer: RenewResult.
type Renew struct {
	At     time.Time
	Agent  string
	Key    [32]byte
	Serial string

	Authority  string // ID of the one that signs
	Expired    bool   // the certificate that asks
	Recoveries uint64 // counted by the agent so far
	Request    [32]byte
}

// Revoke ends an agent's right to speak.
type Revoke struct {
	Asked
	Agent string
}

// Propose offers a revision. The state gives it its number. Answer: Revision.
type Propose struct {
	Asked
	Bundle []byte
	Digest [32]byte
	Sites  []string // names in it: destinations that the relay accepts
	Moves  []Move   // systems in it that replace another
	Note   string

	Ranges []NumberRange `cbor:",omitempty"` // by which sites take numbers
}

// Approve puts a proposed revision in force. The approver is not its author, unless the
// cluster's approvals are single. Answer: Revision.
type Approve struct {
	Asked
	Number uint64
	Digest [32]byte // what the approver saw
	Canary []string // sites that get it first; empty: all at once
}

// Push offers blocks of one agent, the blocks before the gaps. Answer: PushResult.
type Push struct {
	At     time.Time
	Agent  string
	Epoch  uint64
	Blocks [][]byte
	Gaps   []Gap
}

// LaneAnswer says what the relay holds of a lane after a push. What was offered up to
// Highwater is taken; whatever lies beyond was not, and is to be cut again from there.
type LaneAnswer struct {
	Destination string
	Highwater   uint64
	Full        bool   // the mailbox had no room for something that was next in line
	Refused     string // why the destination takes nothing at all
}

// PushResult is the answer to Push.
type PushResult struct {
	Lanes []LaneAnswer
}

// Ack removes an agent's mail up to a position, takes answers to commands, and notes the
// agent's status when there is one.
type Ack struct {
	At      time.Time
	Agent   string
	Mailbox uint64
	Answers []CommandAnswer
	Status  json.RawMessage

	Epoch   uint64         // the agent's: an older one is fenced here too; 0 is not checked
	Node    string         // that took the call
	Settled []Lane         // Source, Epoch, Settled: inbound lanes that came further
	Flushed block.Revision // everything accepted under an earlier one has left the agent
	Moves   []MoveReport
}

// CommandAnswer is an agent's answer to a durable command.
type CommandAnswer struct {
	ID    string
	Error string
}

// Resolve asks the agent of a dead letter to replay or to discard it.
type Resolve struct {
	Asked
	DeadLetter string
	Replay     bool // false: discard
	Confirm    bool // replay out of order is meant
	Reason     string
}

// ResolveException says that a person has looked at an exception.
type ResolveException struct {
	Asked
	Exception string
	Reason    string
}

// PolicyState is what agents need to know of policy.
type PolicyState struct {
	Active block.Revision
	Digest [32]byte
}

func (*Bootstrap) command()        {}
func (*PutPrincipal) command()     {}
func (*CreateJoinToken) command()  {}
func (*Enroll) command()           {}
func (*Renew) command()            {}
func (*Revoke) command()           {}
func (*Propose) command()          {}
func (*Approve) command()          {}
func (*Push) command()             {}
func (*Ack) command()              {}
func (*Resolve) command()          {}
func (*ResolveException) command() {}

// Request gives the common part of a command of a person or program.
func (a *Asked) Request() *Asked { return a }
