// Package documents owns what is too large for an event: labels, manifests, proofs of
// delivery. They are kept at the site under their sha256, each in a file of its own, and an
// event names them in the CloudEvents extension attribute "documents": one sha256 in lower
// hex, or several with commas between. That is a string, which any CloudEvents SDK can send.
//
// A document goes to other sites in the lanes, as internal events of up to ChunkSize ahead of
// the event that names it. So it is as durable, as ordered and as much held back as events
// are, and no hop between needs to know of it. What this agent has sent to a site lately does
// not travel again. Where a document is missing all the same, since it was damaged there or
// its time was over, that site asks those that events naming it came from, one after the
// other, through the lanes too.
//
// The package refuses to know how a lane works, who delivers and what an HTTP request is; the
// agent shows it Lanes, Source and what is still needed. Its invariant: what Put or Receive
// has said to be here is on disk, whole by its sha256, until its time is over and no event
// that names it is on its way here or to be sent; and what is read is what was put, or an error.
package documents

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/protocol/event"
)

// Attribute is the extension attribute that names an event's documents.
const Attribute = "documents"

// Limits with a name.
const (
	MaxDocument  = 32 << 20  // bytes of one
	MaxMediaType = 127       // bytes of its media type
	MaxNamed     = 31        // by one event: so many have room in an attribute
	ChunkSize    = 160 << 10 // with base64 it stays below what an event may have
	PutLevel     = 0.90      // part of the quota from which nothing is put; the rest is for what comes from other sites
	OverLevel    = 0.75      // part of the quota from which documents go before their time

	MinRetain    = time.Hour // that a document stays however full it is, as the event that names it comes later
	MinFree      = 64 << 20  // bytes of the disk that documents leave free
	submitChunks = 32        // in one commit
	maxSent      = 1 << 16   // documents remembered as sent
	maxWanted    = 4096      // documents that are missing and asked for
	maxAsked     = 8         // agents that one is asked for from
)

// What callers tell apart with errors.Is.
var (
	ErrUnknown  = errors.New("no such document here")
	ErrDamaged  = errors.New("the document is damaged")
	ErrFull     = errors.New("there is no room for documents")
	ErrTooLarge = errors.New("the document is too large")
	ErrInvalid  = errors.New("not valid")
)

// Reference names a document.
type Reference struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Type   string `json:"type"` // media type
}

// Outgoing is an internal event for other agents.
type Outgoing struct {
	Event *event.Event
	To    []string
}

// Lanes takes internal events to other agents.
type Lanes interface {
	// Send returns once they are durable, in this order and ahead of what is accepted later.
	Send(ctx context.Context, events []Outgoing) error
}

// Arrived is an internal event from another agent.
type Arrived struct {
	Pos   uint64
	From  string // agent
	Event []byte // empty: it cannot be read
}

// Source gives what arrived.
type Source interface {
	// Read gives the internal events from a position on, and where to go on; next == from
	// says that there is no more for now.
	Read(from uint64) (items []Arrived, next uint64, err error)
	// Wait returns once position pos exists.
	Wait(ctx context.Context, pos uint64) error
}

// Config of a Store. Dir and Agent are required.
type Config struct {
	Dir      string
	Agent    string // this one
	Quota    int64  // bytes
	Retain   time.Duration
	Lanes    Lanes
	Source   Source
	Cursor   uint64              // where to go on reading
	Save     func(cursor uint64) // notes it
	Position func() uint64       // behind the newest event here
	Needed   func() (uint64, error)
	Waiting  func(fn func(event []byte)) error // events that wait for a system though the position of Needed has passed them
	Free     func() int64                      // bytes of the disk; nil: not looked at
	Changed  func()                            // a document has come
	Alarm    func(kind, what, text string)     // something that a person must look at
	Logger   *slog.Logger
	Metrics  *Metrics
	Now      func() time.Time
	Tuning   Tuning            // zero: the defaults
	Hook     func(step string) // for crash tests
}

// Tuning shortens what tests would otherwise wait for.
type Tuning struct {
	SweepEvery time.Duration // default 10m
	AskAgain   time.Duration // default 5m
	AskAfter   time.Duration // how long a document may be missing before it is asked for; default 2s
	Retry      time.Duration // what could not be stored or sent; default 5s
}

func (c *Config) withDefaults() error {
	if c.Dir == "" || c.Agent == "" {
		return errors.New("documents: Config needs Dir and Agent")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Alarm == nil {
		c.Alarm = func(string, string, string) {}
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Hook == nil {
		c.Hook = func(string) {}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Retain, 30 * 24 * time.Hour}, {&c.Tuning.SweepEvery, 10 * time.Minute}, {&c.Tuning.AskAgain, 5 * time.Minute},
		{&c.Tuning.AskAfter, 2 * time.Second}, {&c.Tuning.Retry, 5 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return nil
}

// Limit changes quota and retain. Lower ones hold from the next look at what is kept.
func (s *Store) Limit(quota int64, retain time.Duration) {
	s.quota.Store(quota)
	s.kept.Store(int64(retain))
}

func (s *Store) retain() time.Duration { return time.Duration(s.kept.Load()) }

// Store is the open store. All methods are safe for concurrent use.
type Store struct {
	cfg  Config
	wake chan struct{} // there is something to ask for

	quota, kept atomic.Int64 // bytes; for how long, a duration

	joining sync.Mutex // held while parts grow or go; taken before mu

	mu     sync.Mutex // guards what follows
	held   map[string]*held
	parts  map[partKey]*part
	bytes  int64 // of whole documents and of parts
	fresh  int64 // of what is being written
	sent   map[sending]time.Time
	wanted map[string]*want
	cursor uint64
}

// held is what is known of a document without opening its file.
type held struct {
	size   int64     // of the file
	named  time.Time // when it was put, received, or named by an event last
	noted  time.Time // as the file has it
	doomed uint64    // its time was over when the journal was there; 0: it is not
}

// sending is a document on the way to an agent.
type sending struct{ sum, to string }

// want is a document that an event names and that is not here.
type want struct {
	from  []string // agents to ask in turn; none: it was put here
	next  int      // of from, whose turn it is
	since time.Time
	asked time.Time
	told  bool
	seen  time.Time // when somebody wanted it last
	// behind is where the journal ended when it was missed. While what came before that is not
	// read, its pieces may lie there: after an outage that takes longer than AskAfter.
	behind uint64
}

// Names splits the attribute's value.
func Names(value string) ([]string, error) {
	names := strings.Split(value, ",")
	if len(names) > MaxNamed {
		return nil, fmt.Errorf("%w: %d documents are named, at most %d may be", ErrInvalid, len(names), MaxNamed)
	}
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
		if !valid(names[i]) {
			return nil, fmt.Errorf("%w: %q is not a sha256 in lower hex", ErrInvalid, names[i])
		}
	}
	return names, nil
}

func valid(sum string) bool { return len(sum) == 64 && strings.Trim(sum, "0123456789abcdef") == "" }

// Has reports whether a document is here, and notes that an event names it.
func (s *Store) Has(sum string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[sum]
	if h == nil {
		return false
	}
	s.touch(sum, h)
	return true
}

// Lacking says which of the documents that an event names are not here, empty if all are.
// They are asked for from the agents that accepted such events, one after the other.
func (s *Store) Lacking(value, from string) string {
	names, err := Names(value)
	if err != nil {
		return "" // the door lets none through, so the attribute is somebody else's
	}
	var lacking []string
	for _, sum := range names {
		if !s.Has(sum) {
			lacking = append(lacking, sum)
			s.want(sum, from)
		}
	}
	if len(lacking) == 0 {
		return ""
	}
	return "the document " + strings.Join(lacking, ", ") + " that it names is not here"
}

func (s *Store) want(sum, from string) {
	if from == s.cfg.Agent {
		from = ""
	}
	behind := s.cfg.Position()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	w := s.wanted[sum]
	if w == nil {
		if len(s.wanted) >= maxWanted {
			return // it is asked for once others are here
		}
		w = &want{since: now, behind: behind}
		s.wanted[sum] = w
	}
	w.seen = now
	if from != "" && len(w.from) < maxAsked && !slices.Contains(w.from, from) {
		w.from = append(w.from, from)
	}
	s.cfg.Metrics.wanted.Set(float64(len(s.wanted)))
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
