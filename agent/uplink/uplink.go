// Package uplink owns the agent's half of the sync protocol: it keeps a session with the
// control plane, offers the journal's blocks to the relay, commits what the relay has for
// this agent, and carries policy, commands and status.
//
// It refuses to know what events mean and how they are stored. Its invariant: it keeps no
// truth of its own. After any failure it asks both sides for their high-waters and goes
// on from there; an event counts as taken only when the relay's high-water says so, and
// mail is acknowledged only when it is committed here.
package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/transport"
)

// ProtocolVersion is the newest version of the sync protocol that this agent speaks.
const ProtocolVersion = 2

// turnsSince is the version from which on nodes hold back the mail alone when it has no room.
const turnsSince = 2

// Limits of one session.
const (
	maxCallBytes  = 1 << 20 // of blocks in one push, beyond the first
	maxCalls      = 4       // pushes under way
	maxCutBlocks  = 8       // blocks cut ahead of the calls
	maxCommands   = 4       // commands of a kind executed at a time
	maxAnswers    = 256     // answers that wait for an Ack
	maxAnswerSize = 1 << 20
	maxAckAnswers = 2 << 20     // bytes of answers in one Ack
	maxCause      = 1 << 10     // bytes of why a gap is one; the relay takes no more
	maxSettled    = 4096        // lanes in one Ack; the relay takes no more
	maxMoves      = 256         // likewise
	renewPause    = time.Minute // least time between two renewals, good or bad
	renewLook     = time.Hour   // how often the clock is looked at again: it may have been set
)

// What an Inbox may say; anything else ends the session.
var (
	ErrFull = errors.New("no room for more mail")             // wait and try again
	ErrGap  = errors.New("mail is missing before this block") // resume from the oldest
)

// ErrNotKept is what a Policy says of a revision that it could not store: it is offered
// again.
var ErrNotKept = errors.New("the revision could not be stored")

// takenEarlier is the cause of the gap with which a new epoch begins.
const takenEarlier = "the relay took them in an earlier epoch of this agent; they are not sent twice"

// errBehind says that the relay holds numbers of a lane that this agent has not sent: it
// runs on an old copy of its data, or another copy of it is running. Going on would lose
// its new events as repeats; it needs a new epoch.
var errBehind = errors.New("the control plane has taken events from this agent that this copy of it has not sent: " +
	"its data is an old copy, or another copy is running; it needs a new epoch")

// errFenced says that another copy of this agent was granted a later epoch.
var errFenced = errors.New("another copy of this agent has a later epoch: this one keeps its events and sends nothing; " +
	"stop it, or stop the other one and let this one in with `crossdock agents allow`, or enrol it again")

// errRewound says that the relay holds less of a lane than it did in this session.
var errRewound = errors.New("the relay has gone back on a lane: the destination or the relay lost what it had; asking again")

// Cut is one block, or one gap, ready to be pushed.
type Cut struct {
	Block []byte
	Lanes []block.Lane
	Count int
	Gap   *Gap // instead of a block
}

// Gap is a range of one lane that cannot travel.
type Gap struct {
	Source      string // of an inbound gap
	Epoch       uint64
	Destination string // of an outbound gap
	First, Last uint64
	Cause       string
}

// Outbox gives the events that go to other agents, in lane order.
type Outbox interface {
	// Cut makes blocks of the entries at and after a journal position that carry the
	// wanted lane numbers, and says where to go on.
	Cut(want map[string]uint64, from uint64, maxBlocks int) (cuts []Cut, next uint64, err error)
	// Seek finds the position of a lane number.
	Seek(destination string, number uint64) (uint64, error)
	// Outbound lists the highest number given on each lane.
	Outbound() map[string]uint64
	// Next is the position that the next event will get.
	Next() uint64
	// Wait returns when Next is beyond a position.
	Wait(ctx context.Context, pos uint64) error
	// Earlier is up to where the relay took a lane in an earlier epoch, 0 once Taken has
	// come that far in this one.
	Earlier(destination string) uint64
	// Taken notes that the relay holds a lane up to a number.
	Taken(destination string, number uint64)
}

// Inbox commits what comes from other agents.
type Inbox interface {
	// Receive commits a block with its lane's high-water. Repeats are fine. ErrFull, ErrGap.
	Receive(ctx context.Context, text []byte, relayed time.Time) error
	// ReceiveGap moves a lane over events that cannot come.
	ReceiveGap(ctx context.Context, gap Gap) error
	// Highwaters lists what is committed of each inbound lane.
	Highwaters() []Highwater
}

// Highwater is what this agent holds of an inbound lane.
type Highwater struct {
	Source string
	Epoch  uint64
	Number uint64
}

// Revision is a revision of policy as the control plane sends it.
type Revision struct {
	Number block.Revision
	Digest []byte
	Bundle []byte
	Begun  map[string]block.Revision // systems that take the place of others: the revision that brought it about
}

// Policy holds the revision that is in force here.
type Policy interface {
	Held() block.Revision
	// Offer puts a newer revision in force wholly, or not at all and says why. ErrNotKept.
	Offer(r Revision) error
	// Former notes a revision that was in force before, and is not to be here: systems that
	// are replaced in the one that is offered next were delivered to as it says.
	Former(r Revision) error
}

// Identity is the agent's certificate and what has to be on disk before the control plane
// is told of it.
type Identity interface {
	RenewAt() time.Time
	// Request gives a certificate request: the same one until Replace.
	Request() ([]byte, error)
	// Recoveries counts the renewals with an expired certificate.
	Recoveries() uint64
	Replace(certificates, authorities [][]byte, recoveries uint64) error
	// RequestEpoch notes that a new epoch is needed; PendingEpoch says so until one begins.
	RequestEpoch(why string) (nonce [16]byte, err error)
	PendingEpoch() (nonce [16]byte, why string, ok bool)
	// Baseline keeps the numbers given as of when this copy of the agent last began without
	// agreeing with the control plane, until Agreed.
	Baseline(given map[string]uint64) (map[string]uint64, error)
	Agreed() error
}

// Dialer opens sessions.
type Dialer interface {
	Session(ctx context.Context, hello transport.Hello) (*transport.Session, error)
}

// Move is what this agent knows of a system that takes the place of another.
type Move struct {
	System  string // the new one
	Pending uint64 // deliveries to the old one that are not done; of the old one's agent
	Holding bool   // the new one is held; of its agent
}

// Config is what an uplink needs. All fields but the durations are required where nothing
// else is said.
type Config struct {
	Agent string
	// Epoch is the one in force.
	Epoch func() uint64
	// BeginEpoch makes a granted epoch the one in force, durably, and sees to it that the
	// journal cuts its lanes in it from now on. It is called between sessions. Without it an
	// agent on an old copy of its data never speaks.
	BeginEpoch func(epoch uint64, why string) error
	// NextSession counts the sessions on disk. Without it the sessions are not counted, and a
	// copy of this agent may stay unnoticed.
	NextSession func() (uint64, error)
	// Known and Remember keep what was heard of the control plane: its generation, its
	// incarnation and the addresses of its nodes. Both may be nil.
	Known    func() (generation uint64, incarnation string)
	Remember func(generation uint64, incarnation string, nodes []string) error
	// Settled lists up to where all is done of each inbound lane; Flushed is the revision
	// before which everything that was accepted has left this agent; Moves are the systems
	// here that replace another or are replaced. They are asked with each status. All may be nil.
	Settled func() []Highwater
	Flushed func() block.Revision
	Moves   func() []Move
	// Fenced is told whether another copy of this agent has a later epoch, and why; whenever
	// that changes, and once at the first session. It must not block. It may be nil.
	Fenced func(fenced bool, why string)

	// Numbers may be nil: then none are leased.
	Numbers Numbers
	// Releases may be nil: then no other version is fetched.
	Releases Releases
	// Secrets may be nil: then none are taken.
	Secrets Secrets

	Version  string
	Dialer   Dialer
	Outbox   Outbox
	Inbox    Inbox
	Policy   Policy
	Identity Identity
	// Command carries out what the control plane asks for and gives a JSON answer. The id
	// is the same when a command comes again because its answer was lost.
	Command func(ctx context.Context, id, kind string, arguments []byte) ([]byte, error)
	// Status gives the agent's report.
	Status func() json.RawMessage
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics

	CallTimeout   time.Duration // of a unary call
	Silence       time.Duration // a stream that says nothing for so long is left
	StatusEvery   time.Duration
	PushPause     time.Duration // what is new waits so long for more while a push is under way
	AckPause      time.Duration // mail that is committed waits so long for more, to be acknowledged with it
	FullRetry     time.Duration // before a full lane or a full disk is tried again
	ReconnectMin  time.Duration
	ReconnectMax  time.Duration
	DisconnectLog time.Duration // how often an unreachable control plane is logged
	Grace         time.Duration // without a session before that is worth a warning
	RecoverRetry  time.Duration // between renewals of an expired certificate that are refused
	LeaseRetry    time.Duration // before numbers are asked for again that were not given
}

// DefaultConfig has the durations of the protocol.
func DefaultConfig() Config {
	return Config{
		CallTimeout: 30 * time.Second, Silence: 30 * time.Second, StatusEvery: 5 * time.Second, PushPause: 20 * time.Millisecond, AckPause: 20 * time.Millisecond, FullRetry: 2 * time.Second,
		ReconnectMin: 200 * time.Millisecond, ReconnectMax: 5 * time.Second, DisconnectLog: time.Minute,
		Grace: 3 * time.Second, RecoverRetry: time.Minute, LeaseRetry: 10 * time.Second,
	}
}

// State is the link as status shows it.
type State struct {
	Connected bool      `json:"connected"`
	Transport string    `json:"transport,omitempty"`
	Address   string    `json:"address,omitempty"`
	Reason    string    `json:"reason,omitempty"` // why not QUIC
	Since     time.Time `json:"since"`
	LastError string    `json:"lastError,omitempty"`
	Node      string    `json:"node,omitempty"`
	Cluster   string    `json:"cluster,omitempty"`
	SkewMs    int64     `json:"skewMs"` // the control plane's clock less ours
	Fenced    string    `json:"fenced,omitempty"`
	NoRoom    time.Time `json:"noRoom,omitzero"` // mail waits for room since
	Hindrance Hindrance `json:"-"`               // what LastError says about this program
}

// Uplink keeps the session. New starts nothing.
type Uplink struct {
	cfg Config
	log *slog.Logger

	// Only Run and what it calls between sessions touch these; the pusher of a session has
	// offered meanwhile.
	given   map[string]uint64 // when this process began
	offered map[string]uint64 // sent or about to be sent by this process, by destination
	begun   bool              // given is as the identity keeps it
	agreed  bool              // the control plane holds nothing that is not of this copy
	sure    bool              // so it was noted for the numbers, when this session began
	told    bool              // Fenced was
	refused time.Time         // no renewal of an expired certificate before this
	refusal error             // and why

	mu    sync.Mutex // guards what follows
	state State
	stage string // of the release that was heard of last
}

// New makes an uplink. It is made before anything is accepted: what the journal has given
// by now is what this copy of the agent began with.
func New(cfg Config) *Uplink {
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	return &Uplink{cfg: cfg, log: cfg.Logger, state: State{Since: time.Now()}, given: cfg.Outbox.Outbound(), offered: map[string]uint64{}}
}

// State tells how the link is.
func (u *Uplink) State() State {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

func (u *Uplink) setState(change func(*State)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(&u.state)
}

// Run keeps a session until ctx ends. Nothing that the other side or the line does ends
// it: an agent that cannot connect goes on alone.
func (u *Uplink) Run(ctx context.Context) error {
	// A pause is up to half as long again as the interval, by chance: agents that were cut off
	// together do not come back together. ReconnectMax bounds the pause.
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(u.cfg.ReconnectMin), backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxInterval(max(u.cfg.ReconnectMin, u.cfg.ReconnectMax*2/3)), backoff.WithMaxElapsedTime(0))
	var alone absence
	for ctx.Err() == nil {
		err := u.session(ctx)
		u.cfg.Metrics.disconnected()
		wasConnected, lasted := false, false
		u.setState(func(s *State) {
			wasConnected = s.Connected
			// One that ends at once, each time, is not to be opened many times a second.
			if lasted = s.Connected && time.Since(s.Since) > u.cfg.ReconnectMax; lasted {
				retry.Reset()
			}
			*s = State{Since: s.Since, LastError: errText(err), Hindrance: hindrance(err), Cluster: s.Cluster, Fenced: s.Fenced}
			if wasConnected {
				s.Since = time.Now()
			}
		})
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, transport.ErrBetterPath) {
			u.log.Info("moving the session to QUIC")
			continue
		}
		u.tell(&alone, wasConnected, lasted, err)
		select {
		case <-ctx.Done():
		case <-time.After(retry.NextBackOff()):
		}
	}
	return nil
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// session opens one session and serves it until its first failure.
func (u *Uplink) session(ctx context.Context) error {
	session, err := u.cfg.Dialer.Session(ctx, u.look)
	if errors.Is(err, transport.ErrExpired) {
		if err = u.recover(ctx); err == nil {
			session, err = u.cfg.Dialer.Session(ctx, u.look)
		}
	}
	if err != nil {
		return err
	}
	defer session.Close()
	err = u.attend(ctx, session)
	if elsewhere(err) {
		session.Leave(err)
	}
	return err
}

func (u *Uplink) attend(ctx context.Context, session *transport.Session) error {
	g, err := u.greet(ctx, session.Client)
	if err != nil {
		return err
	}
	u.setState(func(s *State) {
		*s = State{Connected: true, Transport: session.Transport, Address: session.Address, Reason: session.Reason,
			Since: time.Now(), Node: g.answer.Node, Cluster: g.answer.Cluster, SkewMs: g.skew.Milliseconds()}
	})
	u.cfg.Metrics.connected(session.Transport)
	u.log.Info("session with the control plane", "transport", session.Transport, "address", session.Address, "reason", session.Reason, "node", g.answer.Node)
	return u.serve(ctx, session, g)
}

// serve runs the parts of a session; the first that fails ends all of them.
func (u *Uplink) serve(ctx context.Context, session *transport.Session, g *greeting) error {
	push, err := newPusher(u, session.Client, g)
	if err != nil {
		return err
	}
	pull := newPuller(u, session.Client, g)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		select {
		case <-session.Done():
			return session.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	group.Go(func() error { return push.run(ctx) })
	group.Go(func() error { return pull.run(ctx) })
	group.Go(func() error { return pull.acknowledge(ctx) })
	group.Go(func() error { return u.renew(ctx, session.Client) })
	group.Go(func() error { return u.lease(ctx, session.Client, g) })
	group.Go(func() error { return u.fetch(ctx, session.Client, g) })
	err = group.Wait()
	if errors.Is(err, errSilent) && !pull.heard.Load() {
		session.Abandon(err) // the path let the handshake through and then carried nothing; a cut line is no such path
	}
	return err
}
