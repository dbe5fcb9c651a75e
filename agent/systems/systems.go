// Package systems owns the driver contract: what an agent may ask of an application
// attached at its site, and how the application's answers and failures are put into words
// that delivery, workflows and the doctor understand.
//
// It refuses to know policy rollout, retry, order and queues: a driver makes one attempt and
// says what came of it. Its invariant: an operation that a driver declares it implements, one
// that it does not declare fails as Misconfigured, and every failure is an *Error whose class
// tells whether a repeat can help; a repeat with the same idempotency key is always harmless
// on our side.
package systems

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/crossdock/crossdock/protocol/event"
)

// Operation is one of the five things a driver may offer.
type Operation string

// The five operations.
const (
	OpPublish  Operation = "publish"  // the system's events come in
	OpDeliver  Operation = "deliver"  // events go to the system
	OpQuery    Operation = "query"    // ask, without effect
	OpCommand  Operation = "command"  // ask for an effect, with an answer
	OpSnapshot Operation = "snapshot" // all records of a contract
)

// Delivery is one event on its way to one system, one attempt.
type Delivery struct {
	Event          *event.Event
	Text           []byte // the event as it is kept, mostly its canonical encoding; nil: only Event has it
	Data           []byte // mapped data, JSON; nil: as in the event
	Key            string // ordering key
	IdempotencyKey string // the same over retries and replays
	System         string
	Route          string
	Attempt        int // from 1
	Shadow         bool
	TraceParent    string // W3C, of this attempt; empty: that of the event, if it has one
}

// Mapped gives the event as the system is to see it: with the mapped data, and then without
// the schema that only the original data satisfies.
func (d Delivery) Mapped() *event.Event {
	if d.Data == nil {
		return d.Event
	}
	e := *d.Event
	e.Data, e.Binary = d.Data, false
	e.DataContentType, e.DataSchema = event.JSONType, ""
	return &e
}

// Answer is what a system said to a delivery that it took.
type Answer struct {
	Status int
	Body   []byte // cleaned, at most MaxBody
	Detail string // for people: where it went
}

// Deliverer takes one event to the system. An error is an *Error.
type Deliverer interface {
	Deliver(ctx context.Context, d Delivery) (Answer, error)
}

// BatchDeliverer is a Deliverer that can take several events to the system at once: all
// with one answer, which holds for all of them. A nil error says that the system took every
// one; after any other none counts as taken, and Rejected does not tell which is at fault.
// An error is an *Error.
type BatchDeliverer interface {
	DeliverBatch(ctx context.Context, ds []Delivery) (Answer, error)
}

// Querier asks the system by a declared name. It has no effect there. An error is an *Error.
type Querier interface {
	Query(ctx context.Context, name string, args map[string]string) (json.RawMessage, error)
}

// Commander asks the system for an effect by a declared name; a repeat carries the same
// idempotency key. An error is an *Error.
type Commander interface {
	Command(ctx context.Context, name string, idempotencyKey string, body json.RawMessage) (json.RawMessage, error)
}

// Snapshotter gives every record that the system holds for a contract. It stops at the first
// error of each, and returns that error as it is; other errors are an *Error.
type Snapshotter interface {
	Snapshot(ctx context.Context, contract string, each func(json.RawMessage) error) error
}

// Emit hands events to the journal. A nil error says that all of them are durable. An error
// with a method Permanent() bool that says true refuses the events for good (IsPermanent);
// then none of them was taken, and a method EventIndex() int says which one is at fault.
type Emit = func(ctx context.Context, events []*event.Event) error

// Publisher runs until ctx ends and gives the system's events to emit. What tells the system
// that an event was taken (a confirmation, a moved file) happens only after emit returned
// nil, so an event comes again until then, with the same source and id. It returns nil when
// ctx ended, and an *Error when it cannot run at all.
type Publisher interface {
	Publish(ctx context.Context, emit Emit) error
}

// Driver is what every driver is; what it can do, As finds out.
type Driver interface {
	Operations() []Operation
	// Check tries, without side effects, whether the system could be reached now.
	Check(ctx context.Context) error
	Close() error
}

// Examiner is a driver that can say more than Check: what was seen, and what to do.
type Examiner interface {
	Examine(ctx context.Context) []Finding
}

// Finding is one line of an examination.
type Finding struct {
	Name string // what was looked at
	Seen string // what was seen
	Todo string // what to do; empty when it is well
	OK   bool
}

// ErrElsewhere marks a secret that was sealed for certain hosts, and a document that has it sent
// to another.
var ErrElsewhere = errors.New("not for this host")

// Secrets resolves a secret reference such as secret:erp/token, file:erp-token or env:ERP_TOKEN.
type Secrets interface {
	Resolve(ref string) ([]byte, error)
}

// Formers is what Secrets can be as well: it knows the value before the newest while both are
// valid. A zero time: until somebody drops it.
type Formers interface {
	Former(ref string) (value []byte, until time.Time, ok bool)
}

// FormerOf gives the value before the newest while both are valid, nil if there is none.
func FormerOf(secrets Secrets, ref string) []byte {
	if formers, ok := secrets.(Formers); ok {
		if value, _, valid := formers.Former(ref); valid {
			return value
		}
	}
	return nil
}

// Options is what every driver is made with besides its System document. The zero value of
// every field but Secrets works.
type Options struct {
	Secrets  Secrets
	Private  []string // directories of the agent's own, which no document reaches into
	Logger   *slog.Logger
	Metrics  *Metrics
	Resolver *net.Resolver    // nil: the machine's
	Now      func() time.Time // nil: time.Now
}

// WithDefaults fills what is not set.
func (o Options) WithDefaults() Options {
	if o.Secrets == nil {
		o.Secrets = noSecrets{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

type noSecrets struct{}

func (noSecrets) Resolve(string) ([]byte, error) {
	return nil, Misconfiguredf("this agent has no secrets directory")
}

// As gives the driver as the interface of an operation, if it declares and implements it:
//
//	deliverer, err := systems.As[systems.Deliverer](driver, systems.OpDeliver)
func As[T any](d Driver, op Operation) (T, error) {
	var none T
	if !slices.Contains(d.Operations(), op) {
		return none, NotOffered(op)
	}
	t, ok := d.(T)
	if !ok {
		return none, Misconfiguredf("the driver declares %s and does not implement it", op)
	}
	return t, nil
}

// CheckFindings turns an examination into the error that Check returns.
func CheckFindings(findings []Finding) error {
	for _, f := range findings {
		if !f.OK {
			return &Error{Class: Unavailable, Err: fmt.Errorf("%s: %s; %s", f.Name, f.Seen, f.Todo)}
		}
	}
	return nil
}
