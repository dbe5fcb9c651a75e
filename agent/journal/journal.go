// Package journal owns what the records of an agent's log mean: events accepted here with
// their routing decision and lane numbers, blocks received from other agents, and gaps.
//
// It refuses to know how a log is stored, what a network is and how a system is reached.
// Its invariant: an event that was answered for is in the log, its numbers on every lane
// are dense and never given anew, and a received lane's high-water moves in the same
// append as what it counts.
package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// Limits of one commit.
const (
	MaxCommitEvents = 4096
	MaxCommitBytes  = 8 << 20
	MaxKey          = 16 << 10 // bytes of an ordering key
	MaxTargets      = 1024     // deliveries of one event
	maxSource       = 512      // bytes of the name of an agent that sends; it stands in a mark's name
	DedupeWindow    = 1 << 20  // events among which a repeat is recognised
)

// Kind is who has something written.
type Kind int

// The kinds, by who is refused first.
const (
	Business Kind = iota // systems of the site
	Mail                 // other agents
	Facts                // the agent itself, to the control plane

	nothing // is written: it asks only whether the loop goes round
)

// Parts of the quota at which each kind of write is refused, unless Config.Admit says it.
const (
	SubmitLevel  = 0.90
	ReceiveLevel = 0.95
	ControlLevel = 0.98
)

// What callers tell apart with errors.Is.
var (
	ErrFull     = errors.New("the journal is full")
	ErrGone     = errors.New("the journal is not where it was, and takes nothing")
	ErrConflict = errors.New("an event with this source and id but other content was accepted before")
	ErrInvalid  = errors.New("the event cannot be journalled")
	ErrLimit    = errors.New("too much for one commit")
	ErrGap      = errors.New("lane has a gap")
	ErrFenced   = errors.New("a newer epoch of this source is known")
	ErrCorrupt  = block.ErrCorrupt
	ErrSeek     = errors.New("scan began behind the wanted number; seek first")
	ErrStopped  = errors.New("the journal has stopped")
	ErrNew      = errors.New("the event was not accepted before")
	ErrOutdated = errors.New("routed by a policy revision that has been replaced; hand the event in again")
)

// FullError is ErrFull with how full the journal is, and from where on it refuses: parts
// of its quota, 0 to 1. Where something else than the quota is why, Why says it.
type FullError struct {
	Level, Limit float64
	Why          string
}

func (e *FullError) Error() string {
	if e.Why != "" {
		return fmt.Sprintf("%v: %s; it goes on by itself when space returns", ErrFull, e.Why)
	}
	return fmt.Sprintf("%v: %.0f %% of its quota is used, this is refused from %.0f %% on; it goes on by itself when space returns", ErrFull, e.Level*100, e.Limit*100)
}

// Is makes it one of ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// GapError is ErrGap with the number that the lane needs next.
type GapError struct {
	Source string
	Epoch  uint64
	Want   uint64
	Got    uint64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("%v: %s in epoch %d sent number %d, %d is next", ErrGap, e.Source, e.Epoch, e.Got, e.Want)
}
func (e *GapError) Unwrap() error { return ErrGap }

// SeekError is ErrSeek with the lane whose wanted number lies before the scan.
type SeekError struct {
	Destination string
	Want, Met   uint64
}

func (e *SeekError) Error() string {
	return fmt.Sprintf("%v: lane to %s wants number %d, the scan met %d", ErrSeek, e.Destination, e.Want, e.Met)
}
func (e *SeekError) Unwrap() error { return ErrSeek }

// Log is what the journal needs of the store below it. Append is one transaction and one
// fsync, and keeps none of the memory of records; an error with a method Full() bool that
// gives true means that nothing was written and space may come back, every other error that
// the process must end. Each gives records in order with memory that fn may keep; damage is
// set for positions pos..last that are lost.
type Log interface {
	Append(records [][]byte, marks map[string]uint64) (first uint64, err error)
	Each(from uint64, maxRecords, maxBytes int, fn func(pos, last uint64, data []byte, damage error)) error
	Marks(prefix string) map[string]uint64
	MarksStale() bool
	First() uint64
	Next() uint64
	Trim(before uint64, olderThan time.Time) (dropped uint64, err error)
	Level() float64
}

// Config says whose journal it is.
type Config struct {
	Log      Log
	Self     string // the agent's name
	Epoch    uint64 // in force for what is sent; SetEpoch changes it
	Clock    func() time.Time
	Logger   *slog.Logger
	Metrics  *Metrics
	Window   int                                 // events among which a repeat is recognised; DedupeWindow
	Known    int                                 // events remembered of a source's earlier epochs; MaxKnown
	OnDamage func(first, last uint64, err error) // positions that could not be read
	Admit    func(kind Kind) error               // why something is not written now, nil if it may be: FullError, ErrGone; by Log.Level if left out
	Hook     func(step string)                   // failpoints for tests: before-commit, after-commit
}

// Admitted is an event that passed intake, with its routing decision.
type Admitted struct {
	Event    *event.Event
	Encoded  []byte // Event.Marshal's result if the caller has it already
	Key      string // ordering key; events without one have no order among them
	System   string // that published it
	Revision block.Revision
	Targets  []block.Target // Agent empty means this agent

	RepeatOnly bool // taken only if it was accepted before: ErrNew otherwise
}

// Receipt answers for one admitted event.
type Receipt struct {
	Pos    uint64
	Repeat bool  // accepted before with the same content; Pos is the first one's
	Err    error // ErrConflict, ErrInvalid, ErrNew, ErrOutdated: this event was not accepted
}

// Received answers for a block or a gap.
type Received struct {
	Highwater uint64
	Count     int  // events that were new
	Known     int  // events that came in an earlier epoch of the source and were dropped
	Duplicate bool // the lane had come as far before
}

// Inbound is the state of a lane to this agent.
type Inbound struct {
	Source    string
	Epoch     uint64
	Highwater uint64
}

// Ref names one event in this journal.
type Ref struct {
	Pos   uint64
	Index int // in its block; 0 for an event accepted here
}

func (r Ref) String() string { return strconv.FormatUint(r.Pos, 10) + "." + strconv.Itoa(r.Index) }

// LocalItem is one event with a target at this agent, accepted here or received.
type LocalItem struct {
	Pos    uint64
	Index  int
	Source string // the accepting agent
	Head   block.Head
	Key    string
	Event  []byte // canonical encoding
	Fault  string // why Key and Event are missing: the stored body cannot be read
}

// ScanItem is one event of the history.
type ScanItem struct {
	LocalItem
	Epoch    uint64         // of the source, when it was received
	Numbers  []block.Number // lanes that it was given numbers on, when it was accepted here
	Relayed  time.Time      // accepted by the relay; zero for an event accepted here
	Received time.Time      // committed here
}

// Gap is a range of lane numbers to one destination that can never be sent.
type Gap struct {
	Destination string
	First, Last uint64
	Cause       string
}

// Cut is a piece of one or more lanes, ready to be sent: a block, or a gap.
type Cut struct {
	Block             []byte
	Lanes             []block.Lane
	Count             int
	FirstPos, LastPos uint64
	Gap               *Gap // instead of a block
}

// Stats are totals since the start of the process (Accepted and Received: of the journal), and the present level of the quota.
type Stats struct {
	Accepted  uint64  `json:"accepted"`
	Received  uint64  `json:"received"`
	Repeats   uint64  `json:"repeats"`
	Conflicts uint64  `json:"conflicts"`
	Full      uint64  `json:"full"` // refused for lack of space
	Gaps      uint64  `json:"gaps"`
	Commits   uint64  `json:"commits"`
	Bytes     uint64  `json:"bytes"`
	Own       uint64  `json:"own"` // of Bytes, what was accepted here
	Level     float64 `json:"level"`
}
