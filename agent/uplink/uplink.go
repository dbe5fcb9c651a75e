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
	"fmt"
	"log/slog"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// ProtocolVersion is the newest version of the sync protocol that this agent speaks.
const ProtocolVersion = 1

// Limits of one session.
const (
	maxCallBytes  = 1 << 20 // of blocks in one push, beyond the first
	maxCalls      = 4       // pushes under way
	maxCutBlocks  = 8       // blocks cut ahead of the calls
	maxCommands   = 4       // commands executed at a time
	maxAnswers    = 256     // answers that wait for an Ack
	maxAnswerSize = 1 << 20
	maxAckAnswers = 2 << 20     // bytes of answers in one Ack
	maxCause      = 1 << 10     // bytes of why a gap is one; the relay takes no more
	renewPause    = time.Minute // least time between two renewals, good or bad
	renewLook     = time.Hour   // how often the clock is looked at again: it may have been set
)

// What an Inbox may say; anything else ends the session.
var (
	ErrFull = errors.New("no room for more mail")             // wait and try again
	ErrGap  = errors.New("mail is missing before this block") // resume from the oldest
)

// takenEarlier is the cause of the gap with which a new epoch begins.
const takenEarlier = "the relay took them in an earlier epoch of this agent; they are not sent twice"

// errBehind says that the relay knows later numbers of a lane than this agent has given:
// the agent runs on an old copy of its data. Going on would lose the new events as repeats.
var errBehind = errors.New("the control plane has taken more events from this agent than its journal holds: " +
	"its data is an old copy; enrol it again to begin a new epoch")

// errFenced says that another copy of this agent was enrolled later.
var errFenced = errors.New("another copy of this agent was enrolled later; stop this one, or enrol it again")

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

// Policy holds the revision that is in force here.
type Policy interface {
	Held() block.Revision
	// Offer puts a newer revision in force wholly, or not at all and says why.
	Offer(revision block.Revision, digest, bundle []byte) error
}

// Identity is the agent's certificate, as far as renewal needs it.
type Identity interface {
	RenewAt() time.Time
	Request() ([]byte, error)
	Replace(certificates, authorities [][]byte) error
}

// Dialer opens sessions.
type Dialer interface {
	Session(ctx context.Context, hello transport.Hello) (*transport.Session, error)
}

// Config is what an uplink needs. All fields but the durations are required.
type Config struct {
	Agent    string
	Epoch    uint64
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
	FullRetry     time.Duration // before a full lane or a full disk is tried again
	ReconnectMin  time.Duration
	ReconnectMax  time.Duration
	DisconnectLog time.Duration // how often an unreachable control plane is logged
}

// DefaultConfig has the durations of the protocol.
func DefaultConfig() Config {
	return Config{
		CallTimeout: 30 * time.Second, Silence: 30 * time.Second, StatusEvery: 5 * time.Second, FullRetry: 2 * time.Second,
		ReconnectMin: 200 * time.Millisecond, ReconnectMax: 5 * time.Second, DisconnectLog: time.Minute,
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
}

// Uplink keeps the session. New starts nothing.
type Uplink struct {
	cfg Config
	log *slog.Logger

	mu    sync.Mutex // guards state
	state State
}

// New makes an uplink.
func New(cfg Config) *Uplink {
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	return &Uplink{cfg: cfg, log: cfg.Logger, state: State{Since: time.Now()}}
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
	var logged time.Time
	for ctx.Err() == nil {
		err := u.session(ctx)
		u.cfg.Metrics.disconnected()
		wasConnected := false
		u.setState(func(s *State) {
			wasConnected = s.Connected
			// One that ends at once, each time, is not to be opened many times a second.
			if s.Connected && time.Since(s.Since) > u.cfg.ReconnectMax {
				retry.Reset()
			}
			*s = State{Since: s.Since, LastError: errText(err), Cluster: s.Cluster}
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
		if wasConnected || time.Since(logged) > u.cfg.DisconnectLog {
			u.log.Warn("no session with the control plane; the agent goes on alone", "err", err)
			logged = time.Now()
		}
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
	var hello *syncpb.HelloResponse
	var skew time.Duration
	var mu sync.Mutex // the dialer may try two hellos at a time
	session, err := u.cfg.Dialer.Session(ctx, func(ctx context.Context, client syncpbconnect.SyncClient) error {
		begun := time.Now()
		answer, err := client.Hello(ctx, connect.NewRequest(u.helloRequest()))
		if err != nil {
			return fmt.Errorf("hello: %w", err)
		}
		mu.Lock()
		defer mu.Unlock()
		hello = answer.Msg
		middle := begun.Add(time.Since(begun) / 2)
		skew = time.UnixMilli(hello.NowUnixMs).Sub(middle)
		return nil
	})
	if err != nil {
		return err
	}
	defer session.Close()
	mu.Lock()
	answer := hello
	mu.Unlock()
	u.setState(func(s *State) {
		*s = State{Connected: true, Transport: session.Transport, Address: session.Address, Reason: session.Reason,
			Since: time.Now(), Node: answer.Node, Cluster: answer.Cluster, SkewMs: skew.Milliseconds()}
	})
	u.cfg.Metrics.connected(session.Transport)
	u.log.Info("session with the control plane", "transport", session.Transport, "address", session.Address, "reason", session.Reason)
	return u.serve(ctx, session, answer)
}

func (u *Uplink) helloRequest() *syncpb.HelloRequest {
	held := u.cfg.Policy.Held()
	request := &syncpb.HelloRequest{
		Protocol: ProtocolVersion, Version: u.cfg.Version, Epoch: u.cfg.Epoch, NowUnixMs: time.Now().UnixMilli(),
		Revision: &syncpb.Revision{Generation: held.Generation, Number: held.Number},
	}
	for _, h := range u.cfg.Inbox.Highwaters() {
		request.Inbound = append(request.Inbound, &syncpb.Lane{
			Source: h.Source, Epoch: h.Epoch, Destination: u.cfg.Agent, Highwater: h.Number})
	}
	return request
}

// serve runs the parts of a session; the first that fails ends all of them.
func (u *Uplink) serve(ctx context.Context, session *transport.Session, hello *syncpb.HelloResponse) error {
	push, err := newPusher(u, session.Client, hello)
	if err != nil {
		return err
	}
	pull := newPuller(u, session.Client)
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
	err = group.Wait()
	if errors.Is(err, errSilent) && !pull.heard.Load() {
		session.Abandon(err) // the path let the handshake through and then carried nothing; a cut line is no such path
	}
	return err
}

// renew replaces the certificate when two thirds of its life are over. A renewal that
// fails ends nothing: events pass as long as the certificate is good, and a last third of
// its life is left to try again in.
func (u *Uplink) renew(ctx context.Context, client syncpbconnect.SyncClient) error {
	pause := time.Duration(0)
	for {
		left := time.Until(u.cfg.Identity.RenewAt())
		timer := time.NewTimer(max(min(left, renewLook), pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = 0
		if time.Now().Before(u.cfg.Identity.RenewAt()) {
			continue
		}
		pause = renewPause // a clock that is ahead asks for the next renewal at once
		if err := u.renewOnce(ctx, client); err != nil {
			u.log.Warn("the certificate could not be renewed; trying again", "pause", pause, "err", err)
			continue
		}
		u.log.Info("certificate renewed", "next", u.cfg.Identity.RenewAt())
	}
}

func (u *Uplink) renewOnce(ctx context.Context, client syncpbconnect.SyncClient) error {
	request, err := u.cfg.Identity.Request()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, u.cfg.CallTimeout)
	defer cancel()
	answer, err := client.Renew(ctx, connect.NewRequest(&syncpb.RenewRequest{CertificateRequest: request}))
	if err != nil {
		return err
	}
	return u.cfg.Identity.Replace(answer.Msg.Certificates, answer.Msg.Authorities)
}
