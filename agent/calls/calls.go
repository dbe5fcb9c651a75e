// Package calls owns what this site asks of carriers and tax engines: each call that buys
// something or leaves a mark is on disk before it is made, and so is its outcome.
//
// It is a package of its own below agent because its promise is of another kind than those of
// queue and delivery: a delivery may be repeated, while a label must not be bought twice. It
// refuses to know how plugins run, how a request comes in and where events go. Its invariant:
// what may have been bought is looked for before it is bought again, through kill -9 at any
// step and in the recovery as well; what was accepted is done, or a person is told.
package calls

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/agent/shrink"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/protocol/event"
)

// Limits.
const (
	MaxKey       = 128    // bytes of an idempotency key
	MaxReference = 64     // bytes, as the carriers' contract has it
	MaxOpen      = 10_000 // calls that wait or whose outcome is unknown
	MaxInFlight  = 256    // calls that are being made for callers
	MaxList      = 1000   // calls in one list
	PageSize     = 100    // finished calls in one, unless it is said
	maxDepth     = 64     // nesting of a request
	maxRounds    = 2      // times that something is made while its caller waits
	maxStrikes   = 20     // times that a waiting call fails without the line being at fault

	// DefaultAnswerWithin is Config.AnswerWithin unless it is said.
	DefaultAnswerWithin = 45 * time.Second

	maxRetryAfter = time.Hour // that a plugin can have what waits wait longer
)

// Plugins hands out what can be asked. Errors are *sdk.Error: NotSupported if this site has no
// such plugin, Unavailable while it does not run.
type Plugins interface {
	Carrier(name string) (carrier.Carrier, error)
	Tax(name string) (tax.Engine, error)
}

// Policy is what the revision in force says of tax.
type Policy interface {
	// TaxOrder names the tax engines of this site; the first one's answer counts, the others
	// stand in for it.
	TaxOrder() []string
}

// Numbers gives numbers of this site's ranges; the same reference gets the same ones again.
type Numbers interface {
	Take(name, reference string, count int) ([]string, error)
}

// ErrNoNumbers is what Numbers answers where it has none now.
var ErrNoNumbers = errors.New("there are no numbers to give now")

// Documents keeps labels and other papers.
type Documents interface {
	Put(ctx context.Context, mediaType string, data []byte) error
}

// What Events answers for an event that it will never take.
var (
	ErrNoContract = errors.New("the policy has no contract for this event of the site's own")
	ErrRefused    = errors.New("the event does not satisfy its contract")
)

// Events takes what this site says of its own calls.
type Events interface {
	// Publish makes an event durable, and has papers go with it that Documents keeps, named by
	// their sha256; a repeat does no harm. Other errors than ErrNoContract and ErrRefused pass.
	Publish(ctx context.Context, e *event.Event, papers []string) error
}

// Config of a Service. Path and Site are required.
type Config struct {
	Path  string
	Site  string
	Epoch uint64

	Plugins   Plugins                          // nil: there are none
	MayCall   func(system, plugin string) bool // nil: every system may call every plugin
	Policy    Policy                           // nil: no tax engines
	Numbers   Numbers                          // nil: none are given
	Documents Documents                        // nil: papers are in the answers only
	Events    Events                           // nil: none leave

	Alarm   func(kind, what, text string) // tells people; it must not block
	Check   func(path string) error       // says whether a file can be opened
	Now     func() time.Time
	Uptime  func() time.Duration // since any moment, by a clock that never jumps
	Logger  *slog.Logger
	Metrics *Metrics
	Hook    func(step string) // called at the steps of a call, for crash tests

	Deadline     time.Duration // of what has to wait, where the caller names none
	AlarmAt      float64       // part of the time to the deadline after which people are told
	UnknownAfter time.Duration // that an outcome is unknown, after which people are told
	Rebuy        time.Duration // since it was asked for, within which what was surely not bought is bought again unasked
	Timeout      time.Duration // of one call to a plugin
	Patience     time.Duration // of who asked: after this nothing more is begun while they wait
	AnswerWithin time.Duration // of who asked: after this the call goes on without them
	PauseMin     time.Duration // between two tries of the same; doubles
	PauseMax     time.Duration
	LookEvery    time.Duration // at what waits, for deadlines and retention

	Retain      time.Duration // of finished calls
	RetainBytes int64         // of finished calls; the oldest go first
}

// DefaultConfig has every limit, and nothing else.
func DefaultConfig() Config {
	return Config{
		Deadline: 12 * time.Hour, AlarmAt: 0.5, UnknownAfter: 2 * time.Minute, Rebuy: 10 * time.Minute, Timeout: 20 * time.Second, Patience: 30 * time.Second, AnswerWithin: DefaultAnswerWithin,
		PauseMin: time.Second, PauseMax: time.Minute, LookEvery: 5 * time.Second,
		Retain: 30 * 24 * time.Hour, RetainBytes: 1 << 30,
	}
}

func (c *Config) setDefaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Uptime == nil {
		began := time.Now()
		c.Uptime = func() time.Duration { return time.Since(began) }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Alarm == nil {
		c.Alarm = func(string, string, string) {}
	}
	if c.Hook == nil {
		c.Hook = func(string) {}
	}
}

func (c *Config) validate() error {
	switch {
	case c.Path == "" || c.Site == "":
		return errors.New("calls: path and site are required")
	case min(c.Deadline, c.UnknownAfter, c.Timeout, c.Patience, c.AnswerWithin, c.PauseMin, c.PauseMax, c.LookEvery, c.Retain) <= 0 || c.RetainBytes <= 0:
		return errors.New("calls: every duration and size has to be positive")
	case c.AlarmAt <= 0 || c.AlarmAt > 1:
		return errors.New("calls: the part of the time after which people are told lies between 0 and 1")
	}
	return nil
}

// Service makes calls. Its methods are for any goroutine.
type Service struct {
	cfg    Config
	log    *slog.Logger
	store  *store
	claims claims
	leave  chan struct{} // has a token when an event waits to leave
	look   chan struct{} // has a token when something waits that has no worker yet

	life   context.Context // of calls to plugins; they outlive who asked
	cancel context.CancelFunc

	deadline, quota atomic.Int64 // see Limit

	reach   time.Time     // what horizon gave last; of Run's goroutine
	reached time.Duration // when that was, by Uptime

	mu          sync.Mutex // guards what follows
	closed      bool
	inFlight    int
	working     sync.WaitGroup    // requests and workers
	tries       map[string]*tries // by call
	workers     map[string]bool   // by plugin
	told        map[string]bool   // alarms raised by this process
	unpublished map[string]uint64 // events without a contract, by type
	undocuments uint64            // papers that could not be kept
}

// Open opens the journal of calls, or begins it, and starts nothing.
func Open(cfg Config) (*Service, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, log: cfg.Logger.With("part", "calls"), claims: claims{held: map[string]chan struct{}{}},
		leave: make(chan struct{}, 1), look: make(chan struct{}, 1), tries: map[string]*tries{}, workers: map[string]bool{},
		told: map[string]bool{}, unpublished: map[string]uint64{}}
	s.Limit(cfg.Deadline, cfg.RetainBytes)
	s.life, s.cancel = context.WithCancel(context.Background())
	var err error
	if s.store, err = openStore(&s.cfg, s.log); err != nil {
		s.cancel()
		return nil, err
	}
	s.shrink(shrink.AtStart)
	s.reach, s.reached = cfg.Now().Add(-cfg.Retain), s.cfg.Uptime()
	if ended, ok := s.store.oldest(); ok {
		s.reach = ended
	}
	return s, nil
}

// Limit changes the deadline of calls that come to wait from now on, and the quota of
// finished ones.
func (s *Service) Limit(deadline time.Duration, quota int64) {
	s.deadline.Store(int64(deadline))
	s.quota.Store(quota)
}

// Begin goes on in an epoch that was granted since this data is an old copy: what was bought
// before by the newer one is looked for first.
func (s *Service) Begin(epoch uint64) error {
	return s.store.doubt(epoch, s.cfg.Now().Add(s.cfg.Retain))
}

// Fenced says that another copy of this agent counts: what it buys is not known here, and is
// looked for first.
func (s *Service) Fenced() error {
	return s.store.doubt(0, s.cfg.Now().Add(s.cfg.Retain))
}

// stop ends calls in flight, whose outcome is found out at the next start.
func (s *Service) stop() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.working.Wait()
}

// Close ends all that is being done and closes the file.
func (s *Service) Close() error {
	s.stop()
	return s.store.close()
}

// enter counts a request in, unless there are to be no more.
func (s *Service) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return &Refusal{Code: Busy, Detail: "the agent is stopping", RetryAfter: time.Second}
	case s.inFlight >= MaxInFlight:
		return &Refusal{Code: Busy, Detail: "too many calls are being made at once", RetryAfter: time.Second}
	}
	s.inFlight++
	s.working.Add(1)
	return nil
}

func (s *Service) left() {
	s.mu.Lock()
	s.inFlight--
	s.mu.Unlock()
	s.working.Done()
}

// claims sees to it that one call is worked on by one goroutine.
type claims struct {
	mu   sync.Mutex
	held map[string]chan struct{} // guarded by mu; closed when it is given up
}

// take waits until nobody has any of the names.
func (c *claims) take(ctx context.Context, names []string) (release func(), err error) {
	for {
		release, busy := c.try(names)
		if busy == nil {
			return release, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try takes all the names, or gives what to wait for.
func (c *claims) try(names []string) (release func(), busy chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		if other := c.held[name]; other != nil {
			return nil, other
		}
	}
	mine := make(chan struct{})
	for _, name := range names {
		c.held[name] = mine
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, name := range names {
			delete(c.held, name)
		}
		close(mine)
	}, nil
}

func nudge(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
