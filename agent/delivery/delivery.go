// Package delivery takes the events that are meant for this agent's systems to those
// systems: in order for each key, as often as it takes, until each is delivered, or stands
// as a dead letter that somebody can see, replay or discard.
//
// It owns the file delivery.db: for each system a cursor into the journal, what is done
// above it, the events that wait (parked), the dead letters, and the receipts of what was
// delivered. It refuses to know how the journal stores events, how a system is called, and
// how facts reach the control plane; those come through Source, Target and Facts.
//
// Its invariant: a cursor passes an event only in the transaction that stores what became
// of it (receipt, parked copy or dead letter), and an event of a key is sent only after
// that transaction of the event before it. So a crash repeats at most the last delivery of
// each key, with the same idempotency key, and loses none.
package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// Limits with a name.
const (
	MaxWindow      = 8192     // events above a cursor
	MaxWindowBytes = 32 << 20 // of events held in memory for one system
	MaxBatchBytes  = 1 << 20  // of events, and of what maps made of them, in one request
	MaxAnswer      = 4 << 10  // bytes kept of what a system answered
	MaxCause       = 1 << 10  // bytes kept of why a delivery failed
	MaxRetryAfter  = time.Hour
	MaxFactEvent   = 128 << 10 // a larger event is left out of the fact about its dead letter
	maxFact        = 224 << 10 // of a fact with its event; it travels as an event itself
	maxPage        = 256       // events asked of the source at once
	MaxCommands    = 64        // commands remembered at a dead letter, so that a repeat is harmless
	maxBatch       = 512       // changes in one transaction
	maxCompany     = 3         // failures beside others; then a delivery is tried alone
)

// Sentinels.
var (
	ErrOutOfOrder   = errors.New("later events of the key were delivered; a replay would be out of order and needs confirmation")
	ErrNoDeadLetter = errors.New("no such dead letter")
	ErrNotOpen      = errors.New("the dead letter is closed")
	ErrOtherJournal = errors.New("the delivery file belongs to another journal")
	ErrStopped      = errors.New("delivery has stopped")
	ErrNotSent      = errors.New("not sent") // by a Target, see there
)

// Ref names an event inside this agent: the journal position, and the index in the block
// that stands there (0 for an event accepted here).
type Ref struct {
	Pos   uint64
	Index int
}

func (r Ref) String() string { return fmt.Sprintf("%d.%d", r.Pos, r.Index) }

// Less orders refs as the journal does.
func (r Ref) Less(o Ref) bool { return r.Pos < o.Pos || r.Pos == o.Pos && r.Index < o.Index }

// Item is one event of the journal with at least one target at this agent.
type Item struct {
	Pos      uint64
	Index    int
	Source   string // accepting agent
	Head     block.Head
	Key      string
	Event    []byte    // the CloudEvent, JSON
	Relayed  time.Time // zero for an event accepted here
	Received time.Time // at this agent
	Fault    string    // not empty: it cannot be delivered, whoever it is for
}

// Source is the journal as delivery needs it.
type Source interface {
	// ReadLocal reads events with a target at this agent from position from on (or from
	// the oldest position held, when that is later): all those of each position it looks
	// at, about maxEvents. next is where to go on; next == from says that there is no more
	// for now. An error ends Run.
	ReadLocal(from uint64, maxEvents int) (items []Item, next uint64, err error)
	// Wait blocks until position pos exists, or returns the context's error.
	Wait(ctx context.Context, pos uint64) error
}

// Delivery is one attempt to take one event to one system.
type Delivery struct {
	Event          *event.Event
	Text           []byte // the event as it is kept
	Data           []byte // mapped; nil: as in the event
	Key            string
	IdempotencyKey string
	System         string
	Route          string
	Attempt        int // from 1
	Shadow         bool
	TraceParent    string // W3C, of this attempt; empty: that of the event, if it has one
}

// Answer is what the system said.
type Answer struct {
	Status int
	Body   []byte
	Detail string
}

// Class says what a failure means for what comes next.
type Class string

// The classes of failures.
const (
	Unavailable   Class = "unavailable"   // not done; tried again
	Throttled     Class = "throttled"     // not done; tried again when the system asks for it
	Unknown       Class = "unknown"       // may have been done; tried again with the same idempotency key
	Rejected      Class = "rejected"      // refused for good: a dead letter at once
	Misconfigured Class = "misconfigured" // ours to repair (credentials, address); waits, burns no attempts
	NoDriver      Class = "no driver"     // as Misconfigured: the system has nothing to deliver with
)

// Failure is the error of a Target. Any other error counts as Unknown.
type Failure struct {
	Class      Class
	Status     int
	RetryAfter time.Duration // zero: the system did not say
	Body       []byte        // what the system answered
	Err        error
}

func (f *Failure) Error() string {
	switch {
	case f.Err != nil:
		return f.Err.Error()
	case f.Status != 0:
		return fmt.Sprintf("%s: status %d", f.Class, f.Status)
	}
	return string(f.Class)
}

func (f *Failure) Unwrap() error { return f.Err }

// Target makes one attempt, with one event or with several of different keys, no more than
// the policy's batch for the system. It ends when ctx does. Its error is a *Failure, or
// wraps ErrNotSent when the policy has changed under the request: all go again soon, as the
// policy then says, and nothing counts. The answer is of all: nil says that the system took
// every one, and a failure that it is to be asked again for each.
type Target interface {
	Deliver(ctx context.Context, ds []Delivery) (Answer, error)
}

// Facts takes what the control plane should know of dead letters: the JSON of a Fact. It
// returns nil when the fact is safe; an error has it reported again later.
type Facts interface {
	Report(ctx context.Context, fact json.RawMessage) error
}

// Config of an Engine. Agent, Path, Source, Target and Policy are required.
type Config struct {
	Agent        string             // this agent's name, which is its site's
	Path         string             // of delivery.db
	Journal      string             // identity of the journal that positions refer to; empty: not checked
	Source       Source             //
	Target       Target             //
	Policy       func() *policy.Set // the revision in force here; nil while there is none
	Facts        Facts              // nil: dead letters are kept, and told to nobody
	Logger       *slog.Logger       // default: discards
	Metrics      *Metrics           // default: counted, and registered nowhere
	ParkAfter    time.Duration      // a delivery that fails longer is parked; default 30s
	RolloutLimit time.Duration      // for a system or route that is not in the policy yet; default 24h
	MaxParked    int64              // bytes of parked copies for one system; beyond it the system is not read for; default 1 GiB
	Space        func() int64       // bytes of the disk that are free or the journal's: a part of them is for what waits here; nil: no limit
	Window       int                // events above a cursor; default and most MaxWindow
	StopGrace    time.Duration      // for attempts in flight when Run is told to stop; default 5s
	ReportEvery  time.Duration      // facts about what only changed its waiting count; default 1s
	FlushEvery   time.Duration      // cursors that moved over nothing of their system; default 1s
	LackingLimit time.Duration      // for what an event names and is not here yet; default 24h
	Hook         func(step string)  // tests: called at BeforeSend and AfterSend

	// Lacking says what an event that an agent accepted names and that is not here, empty if
	// nothing is. It may be left out. Arrived is to be called when that may have changed.
	Lacking func(e *event.Event, from string) string

	// Check looks at the pages of a bbolt file before it is opened, and Salvage finds the
	// values in one that is damaged. Such a file is moved aside, and deliveries begin again at
	// Floor: an Unsettled that was kept elsewhere, and 0 if there is none. All may be left out.
	Check    func(path string) error
	Salvage  func(path string, found func(key, value []byte)) error
	Floor    uint64
	OnDamage func(Damage)
}

// Steps at which Config.Hook is called, once for each request.
const (
	BeforeSend = "before-send"
	AfterSend  = "after-send" // the effect is done, nothing is committed
)

func (c *Config) withDefaults() error {
	switch {
	case c.Agent == "":
		return errors.New("delivery: Config.Agent is empty")
	case c.Path == "":
		return errors.New("delivery: Config.Path is empty")
	case c.Source == nil || c.Target == nil || c.Policy == nil:
		return errors.New("delivery: Config needs Source, Target and Policy")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Window <= 0 || c.Window > MaxWindow {
		c.Window = MaxWindow
	}
	if c.MaxParked <= 0 {
		c.MaxParked = 1 << 30
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.ParkAfter, 30 * time.Second}, {&c.RolloutLimit, 24 * time.Hour}, {&c.LackingLimit, 24 * time.Hour}, {&c.StopGrace, 5 * time.Second},
		{&c.ReportEvery, time.Second}, {&c.FlushEvery, time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return nil
}
