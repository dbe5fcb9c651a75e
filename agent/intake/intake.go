// Package intake owns the door of a site: it takes events from the site's systems, over
// HTTP or from a driver in the same process, authenticates, limits, validates and routes
// them, and hands them to the journal. Through the same door systems take numbers to print,
// call carriers and tax engines, and put and get the documents that events name.
//
// It refuses to know how the journal stores, how events travel and what a delivery is.
// Its invariant: an event is answered as accepted only after the journal said that it is
// durable, and a refused request leaves nothing behind, conflicts with what the journal
// already holds apart.
package intake

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// Limits of one request. What bounds a single event stands in protocol/event.
const (
	MaxBatchEvents = 1000
	MaxBatchBytes  = 4 << 20
	MaxHeaderBytes = 32 << 10
	MaxErrors      = 100 // entries of errors in one problem
)

// DefaultWriteTimeout is Config.WriteTimeout unless it is said.
const DefaultWriteTimeout = 60 * time.Second

// What a Journal answers for an event that it does not take; adapters map their own.
var (
	ErrConflict = errors.New("the same source and id came before with other content")
	ErrFull     = errors.New("the journal is full")
	ErrNew      = errors.New("the event was not accepted before")
)

// FullError is ErrFull with how full the journal is, and from where on it refuses: parts
// of its quota, 0 to 1. Where something else than the quota is why, Why says it.
type FullError struct {
	Level, Limit float64
	Why          string
}

func (e *FullError) Error() string {
	if e.Why != "" {
		return fmt.Sprintf("%v: %s", ErrFull, e.Why)
	}
	return fmt.Sprintf("%v: %.0f %% used, refused from %.0f %% on", ErrFull, e.Level*100, e.Limit*100)
}

// Is makes it one of ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// Admitted is an event that passed the door, with the decision of where it goes.
type Admitted struct {
	Event    *event.Event
	Key      string // ordering key
	System   string // that published it
	Contract string
	Revision block.Revision
	Targets  []block.Target
	Data     []byte    // the event's canonical encoding
	Began    time.Time // when its validation began

	RepeatOnly bool // it names a document that is gone: it is taken only if it was accepted before
}

// Receipt says what became of one admitted event.
type Receipt struct {
	Pos    uint64 // in the journal; the first one's for a repeat
	Repeat bool
	Err    error // ErrConflict, ErrNew: this event was not taken
}

// Journal makes events durable.
type Journal interface {
	// Submit returns after the commit, with one receipt for each event in order. An error,
	// such as ErrFull, says that nothing is known to be stored.
	Submit(ctx context.Context, events []Admitted) ([]Receipt, error)
}

// Policy gives the revision in force, nil before the first. The same revision is the same
// pointer: what intake derives from it is kept until the pointer changes.
type Policy interface {
	Policy() *policy.Set
}

// Router decides where an event goes, by the revision that it was built for.
type Router interface {
	Decide(ctx context.Context, e *event.Event, data any, from *policy.System) []block.Target
}

// Secrets reads what a reference such as "file:shop.token" names.
type Secrets interface {
	Resolve(ref string) ([]byte, error)
}

// Formers is what Secrets can be as well: it knows the token before the newest while both are
// valid. A zero time: until somebody drops it.
type Formers interface {
	Former(ref string) (value []byte, until time.Time, ok bool)
}

// Config is what an operator sets.
type Config struct {
	Site              string        // this agent's site
	Listen            string        // address; default 127.0.0.1:7080
	TLS               *tls.Config   // nil: plain HTTP
	ReadHeaderTimeout time.Duration // default 5s
	ReadTimeout       time.Duration // whole request; default 30s
	WriteTimeout      time.Duration // whole answer; default DefaultWriteTimeout
	IdleTimeout       time.Duration // default 60s
	ShutdownTimeout   time.Duration // for requests in flight at the end; default 10s
}

func (c *Config) setDefaults() {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:7080"
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.ReadHeaderTimeout, 5 * time.Second}, {&c.ReadTimeout, 30 * time.Second},
		{&c.WriteTimeout, DefaultWriteTimeout}, {&c.IdleTimeout, 60 * time.Second},
		{&c.ShutdownTimeout, 10 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
}

// Parts are what intake works with. All but Numbers, Calls, Documents, Logger, Metrics and Now are
// required.
type Parts struct {
	Policy    Policy
	Journal   Journal
	Secrets   Secrets
	Numbers   Numbers                  // nil: none are given
	Calls     Calls                    // nil: none are made
	Documents Documents                // nil: none are kept
	NewRouter func(*policy.Set) Router // called once for each revision
	Logger    *slog.Logger
	Metrics   *Metrics
	Now       func() time.Time
}

// Service is the door. Its Accept is for drivers, its Handler for HTTP.
type Service struct {
	cfg   Config
	parts Parts
	log   *slog.Logger
	http  http.Handler

	view        atomic.Pointer[view] // of the newest revision seen
	secretsTurn atomic.Uint64        // how often secrets have changed

	mu       sync.Mutex
	listener net.Listener        // guarded by mu
	limiters map[string]*limiter // by system, guarded by mu; they outlive a revision
}

// New checks the parts and starts nothing.
func New(cfg Config, parts Parts) (*Service, error) {
	cfg.setDefaults()
	switch {
	case cfg.Site == "":
		return nil, errors.New("intake: the site is not named")
	case parts.Policy == nil, parts.Journal == nil, parts.Secrets == nil, parts.NewRouter == nil:
		return nil, errors.New("intake: policy, journal, secrets and router are all required")
	}
	if parts.Logger == nil {
		parts.Logger = slog.New(slog.DiscardHandler)
	}
	if parts.Metrics == nil {
		parts.Metrics = NewMetrics(nil)
	}
	if parts.Now == nil {
		parts.Now = time.Now
	}
	s := &Service{cfg: cfg, parts: parts, log: parts.Logger.With("part", "intake"), limiters: map[string]*limiter{}}
	s.http = s.routes()
	return s, nil
}

// Handler serves the HTTP API.
func (s *Service) Handler() http.Handler { return s.http }
