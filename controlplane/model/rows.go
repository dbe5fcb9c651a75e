// Package model is the control plane's vocabulary: the rows of its tables and the
// commands that change them, as plain types.
//
// It refuses to know how they are stored, replicated or served; it imports nothing of the
// control plane, so that state, store, gateway and api can share it without knowing each
// other. Its invariant: a command carries everything that its effect depends on, the time
// included, so that every node that applies it comes to the same rows.
package model

import (
	"encoding/json"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// Role is what a principal may do.
type Role string

// The roles, from the least to the most.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator" // replay and discard, tokens, revoke
	Author   Role = "author"   // propose revisions
	Approver Role = "approver" // approve what another has proposed
	Admin    Role = "admin"    // principals
)

// Approvals says whether a change needs a second person.
type Approvals string

// The two ways to approve. Single is for an installation of one person: chosen at
// bootstrap, shown by every command, audited.
const (
	ApprovalsDual   Approvals = "dual"
	ApprovalsSingle Approvals = "single"
)

// Cluster is what was fixed at bootstrap, and which life of the cluster this is.
type Cluster struct {
	ID          string
	Generation  uint64 // raised by every restore and recovery
	Incarnation string // made anew by every restore and recovery: tells two lives with the same generation apart
	Approvals   Approvals
	Created     time.Time
	Limits      Limits
	Rebuilt     *Rebuilt // the last restore or recovery; nil: none
}

// Limits bound the tables. They are fixed at bootstrap and kept with the cluster, because
// every node has to come to the same decision about them; a zero takes the default.
type Limits struct {
	MailboxBytes int64 // of one agent's mailbox; an empty mailbox takes one block in any case
	RelayBytes   int64 // of all blocks that the relay holds
	Exceptions   int   // beyond, the oldest resolved one goes, else the oldest
	DeadLetters  int   // beyond, the oldest that is delivered or discarded goes; open ones stay
}

// The defaults of Limits.
const (
	DefaultMailboxBytes = 64 << 20
	DefaultRelayBytes   = 1 << 30
	DefaultExceptions   = 10_000
	DefaultDeadLetters  = 100_000
)

// Principal is a person or program that may act, known by the hash of its token.
type Principal struct {
	Name      string
	Roles     []Role
	TokenHash [32]byte
	Created   time.Time
	Disabled  bool
}

// Has reports whether the principal holds a role; an admin holds none but its own.
func (p *Principal) Has(role Role) bool {
	for _, r := range p.Roles {
		if r == role {
			return true
		}
	}
	return false
}

// JoinToken lets one agent of one site enrol once.
type JoinToken struct {
	ID      string
	Hash    [32]byte // SHA-256 of the secret
	Site    string   // of the agent that it admits; empty for a node's token
	Node    string   // name of the node that it admits; empty for an agent's token
	Created time.Time
	Expires time.Time
	By      string
	Used    time.Time // zero: not yet
	Refused uint64    // attempts to use it that failed
}

// Agent is an enrolled agent.
type Agent struct {
	Name     string
	Site     string
	Epoch    uint64   // granted at enrolment, raised when its store is lost
	Key      [32]byte // SHA-256 of the public key that it registered
	Serial   string   // of its newest certificate
	Enrolled time.Time
	Revoked  time.Time // zero: not
	LastSeen time.Time
	Status   json.RawMessage // AgentStatus as last reported

	Node       string         // that served it last
	Authority  string         // ID of the authority that signed its newest certificate
	Session    uint64         // number of its newest session, counted by the agent on disk
	Nonce      [16]byte       // of that session
	EpochNonce [16]byte       // of the request that was granted Epoch; zero: by enrolment
	Recoveries uint64         // renewals with an expired certificate, counted on both sides
	Recovery   [32]byte       // SHA-256 of the certificate request of the last of them
	Allowed    time.Time      // until then an old copy of it is let in once, because an operator said so
	Flushed    block.Revision // everything it accepted under an earlier revision has left it
	Forgotten  time.Time      // revoked for good: what is sent to it is taken and not kept; zero: not
}

// AgentStatus is what an agent reports of itself, cumulative for its epoch.
type AgentStatus struct {
	Version     string         `json:"version"`
	Transport   string         `json:"transport"` // quic, tcp
	Revision    block.Revision `json:"revision"`
	Refused     string         `json:"refused,omitempty"` // why it does not run the newest revision
	Accepted    uint64         `json:"accepted"`
	Refusals    uint64         `json:"refusals"`
	Outgoing    uint64         `json:"outgoing"` // events not yet taken by the relay
	Received    uint64         `json:"received"`
	Pending     uint64         `json:"pending"` // local deliveries not yet done
	Delivered   uint64         `json:"delivered"`
	DeadLetters uint64         `json:"deadLetters"`
	Parked      uint64         `json:"parked"`
	QueueBytes  int64          `json:"queueBytes"`
	QueueQuota  int64          `json:"queueQuota"`
	OldestMs    int64          `json:"oldestMs"`       // age of the oldest pending event
	Disk        *AgentDisk     `json:"disk,omitempty"` // an older agent says nothing of it
	Numbers     []AgentNumbers `json:"numbers,omitempty"`
	Release     *AgentRelease  `json:"release,omitempty"`
	Secrets     []AgentSecret  `json:"secrets,omitempty"`
	At          time.Time      `json:"at"`

	Sealing sealing.Announcement `json:"sealing,omitzero"` // the key that secrets for it are sealed to; zero: it takes none
}

// AgentDisk is how much more an agent's disk holds.
type AgentDisk struct {
	State  string  `json:"state"` // ok, near, stopped, closed
	Free   int64   `json:"free"`
	Outage string  `json:"outage"` // unknown, idle, known
	Hours  float64 `json:"hours,omitempty"`
}

// AgentNumbers is what an agent has of a number range.
type AgentNumbers struct {
	Range   string `json:"range"`
	Left    uint64 `json:"left"`
	Low     uint64 `json:"low"`     // fewer left than this are too few
	Used    uint64 `json:"used"`    // over the life of the agent's file
	Highest uint64 `json:"highest"` // serial that it holds or held
	Refused string `json:"refused,omitempty"`
}

// RevisionState is the life of a revision.
type RevisionState string

// The states of a revision.
const (
	RevisionProposed   RevisionState = "proposed"
	RevisionCanary     RevisionState = "canary" // in force at its canary sites only
	RevisionActive     RevisionState = "active"
	RevisionSuperseded RevisionState = "superseded"
	RevisionWithdrawn  RevisionState = "withdrawn" // was at its canary sites and was taken back
)

// Revision is one proposed or approved set of policy documents. The bundle is kept apart.
type Revision struct {
	ID       block.Revision // number is given at the proposal; in force by approval
	Digest   [32]byte
	State    RevisionState
	Note     string
	Author   string
	Approver string
	Proposed time.Time
	Approved time.Time
	Base     block.Revision // active when it was proposed
	Sites    []string       // destinations that it names
	Moves    []Move         // systems in it that replace another
	Canary   []string       // sites that have it first; empty: all at once
	Promoted time.Time      // when it went from its canary sites to all
	Ranges   []NumberRange  `cbor:",omitempty"` // by which sites take numbers
}

// Lane is what the control plane knows of one lane.
type Lane struct {
	Source      string
	Epoch       uint64
	Destination string
	Highwater   uint64 // taken by the relay
	Acked       uint64 // committed at the destination, as acknowledged
	Settled     uint64 // up to here every delivery at the destination is done
}

// Mail is one reference in an agent's mailbox.
type Mail struct {
	Position uint64
	Relayed  time.Time
	Block    []byte // nil for a gap
	Gap      *Gap
	Damaged  string // why the block cannot be read at this node; then there is neither block nor gap
}

// Gap moves a lane over events that cannot travel.
type Gap struct {
	Source      string
	Epoch       uint64
	Destination string
	First       uint64
	Last        uint64
	Cause       string
}

// Mailbox is what an agent has waiting.
type Mailbox struct {
	Agent  string
	First  uint64 // oldest position held
	Next   uint64
	Bytes  int64
	Events uint64
}

// Unattended is a site without an agent for which something waits in the relay.
type Unattended struct {
	Site   string
	Events uint64
	Bytes  int64
	Since  time.Time // when the relay took the oldest of it
}

// LaneNumber is the place of an event on the lane from its source to some destination.
type LaneNumber struct {
	Source string
	Number uint64
}

// DeadLetterState is the life of a dead letter.
type DeadLetterState string

// The states of a dead letter.
const (
	DeadLetterOpen      DeadLetterState = "open"
	DeadLetterReplaying DeadLetterState = "replaying" // asked for, not yet seen at the agent
	DeadLetterDelivered DeadLetterState = "delivered"
	DeadLetterDiscarded DeadLetterState = "discarded"
)

// DeadLetter is a delivery that failed for good. It arrives as a fact on the lane of its
// agent to the control plane; the JSON form is that fact.
type DeadLetter struct {
	ID          string          `json:"id"` // agent/ref/system
	Agent       string          `json:"agent"`
	Ref         string          `json:"ref"` // of the delivery at its agent
	System      string          `json:"system"`
	Route       string          `json:"route"`
	EventID     string          `json:"eventId"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Key         string          `json:"key"`
	Cause       string          `json:"cause"`
	Status      int             `json:"status,omitempty"`
	Answer      string          `json:"answer,omitempty"` // what the system said, cleaned and capped
	Attempts    int             `json:"attempts"`
	Waiting     int             `json:"waiting"` // later events parked behind it
	OnExhausted string          `json:"onExhausted"`
	At          time.Time       `json:"at"`
	State       DeadLetterState `json:"state"`
	By          string          `json:"by,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Event       json.RawMessage `json:"event,omitempty"` // the CloudEvent, when it fits
}

// Exception is anything else that a person must look at.
type Exception struct {
	ID    string    `json:"id"`
	Agent string    `json:"agent"`
	Kind  string    `json:"kind"` // gap, revision-refused, ...
	Text  string    `json:"text"`
	At    time.Time `json:"at"`

	Resolved time.Time `json:"resolved,omitzero"` // zero: nobody has looked at it yet
	By       string    `json:"by,omitempty"`
	Reason   string    `json:"reason,omitempty"`
}

// FactType is the type of the events that carry facts.
const FactType = "crossdock.fact.v1"

// Fact is what an agent tells the control plane: the data of events on the lane to
// @control. Exactly one field is set.
type Fact struct {
	DeadLetter *DeadLetter `json:"deadLetter,omitempty"` // new, or changed in state or waiting
	Exception  *Exception  `json:"exception,omitempty"`
}

// DeadLetterFilter chooses dead letters; an empty field chooses all. The newest come first.
type DeadLetterFilter struct {
	Agent  string
	System string
	State  DeadLetterState
	Key    string
	Before uint64 // cursor of the page before; 0 begins
	Limit  int    // 0 is DefaultPage
}

// DefaultPage and MaxPage bound what one read gives.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// Relay is what the relay holds in all.
type Relay struct {
	Bytes  int64 // of the blocks, each counted once
	Blocks uint64
	Limit  int64
}

// The kinds of durable commands to agents.
const (
	CommandReplay  = "replay"
	CommandDiscard = "discard"
)

// ResolveArguments are the arguments of replay and discard, as JSON.
type ResolveArguments struct {
	DeadLetter string `json:"deadLetter"`
	Ref        string `json:"ref"`
	System     string `json:"system"`
	Confirm    bool   `json:"confirm,omitempty"`
	By         string `json:"by"`
	Reason     string `json:"reason,omitempty"`
}

// AgentCommand waits for an agent until it answers.
type AgentCommand struct {
	ID        string
	Agent     string
	Kind      string // replay, discard
	Arguments json.RawMessage
	By        string
	At        time.Time
}

// AuditEntry is one line of the append-only record, chained by hashes.
type AuditEntry struct {
	Number   uint64
	At       time.Time
	By       string
	Action   string
	Object   string
	Detail   json.RawMessage
	Previous [32]byte
	Hash     [32]byte
}
