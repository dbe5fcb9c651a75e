package model

import (
	"time"

	"github.com/crossdock/crossdock/protocol/block"
)

// Node is one node of the control plane, as it tells the others about itself. Raft knows
// it by its ID only; where it listens may change.
type Node struct {
	ID      string
	Peer    string   // host:port by which other nodes reach it; empty: it is alone and not to be reached
	Sync    []string // host:port by which agents reach it
	API     string   // URL by which people and programs reach it
	Version string
	Joined  time.Time
	Leaving time.Time // since when it is being removed; zero: it is not
}

// Rebuilt is a restore or a recovery: what a person must know of it for as long as the
// cluster lives.
type Rebuilt struct {
	At    time.Time
	Cause string    // RebuiltFromBackup or RebuiltFromSurvivor
	From  time.Time // newest command in what it was rebuilt from
	Index uint64    // and its entry
	Node  string
}

// Why a cluster began another life.
const (
	RebuiltFromBackup   = "backup"
	RebuiltFromSurvivor = "survivor"
)

// AuthorityState is the life of a certificate authority.
type AuthorityState string

// The states of an authority. Exactly one is active.
const (
	AuthorityNext    AuthorityState = "next"    // trusted, does not sign yet
	AuthorityActive  AuthorityState = "active"  // trusted and signs
	AuthorityRetired AuthorityState = "retired" // still trusted, signs no more
)

// Authority is one of the cluster's certificate authorities. Its key is sealed with a key
// that only the nodes' own directories hold.
type Authority struct {
	ID          string // hex of the SHA-256 of its public key, as join tokens pin it
	Certificate []byte // DER, self-signed
	Cross       []byte // DER: the same key, signed by the authority before it; nil for the first
	SealedKey   []byte
	State       AuthorityState
	Created     time.Time
	Activated   time.Time
	Retired     time.Time
}

// Verdict is what the nodes' hashes of state say.
type Verdict struct {
	Index    uint64 // entry of the newest beacon that came to a verdict
	Agreed   bool   // a majority of the voters was of one mind
	Halted   string // why nothing is written any more; empty: it is
	Diverged string // why this very node must not go on: a majority has another hash; empty: it may
}

// Move is a system that takes the place of another, at the same site or elsewhere. Its
// agent stores what is for it and delivers nothing until the old one has nothing pending.
type Move struct {
	System  string
	Site    string
	Old     string
	OldSite string
}

// MoveState is how far a move has come.
type MoveState string

// The states of a move, in their order.
const (
	MoveFlushing MoveState = "flushing" // agents still have events for the old system, or an older revision
	MoveDraining MoveState = "draining" // all of them are at the old system's agent, which is not done
	MoveReleased MoveState = "released" // the new system is served
)

// MoveStatus is a move under way or done.
type MoveStatus struct {
	Move
	Revision block.Revision // that brought it
	Since    time.Time
	State    MoveState
	Waiting  []string // agents that it waits for
	Released time.Time
	By       string // the operator who released it; empty: it came to its end by itself
	Mark     uint64 // position in the old agent's mailbox up to which it has to come
}

// Begun is a move of a revision, and where it began.
type Begun struct {
	Move
	Revision block.Revision // that brought it
	Before   block.Revision // in force until then; zero: none
}
