// Package gateway is the control plane's half of the sync protocol: it takes what agents
// call, checks that each speaks for itself only, and hands it to the state; and it sends
// each agent what waits for it.
//
// It refuses to know how the state is stored and replicated, and how the calls travel.
// Its invariant: nothing of an agent reaches the state under another name than the one
// proven by the caller's certificate, and nothing is sent to an agent that is revoked.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// The versions of the sync protocol that a node speaks: its own and the previous one.
const (
	ProtocolNewest = 1
	ProtocolOldest = 1
)

// Limits of one call.
const (
	maxBlocks     = 1024
	maxGaps       = 1024
	maxCause      = 1 << 10
	maxAnswers    = 1024
	maxStatus     = 64 << 10
	maxText       = 4 << 10 // of an error that an agent answers with
	mailBatch     = 1 << 20 // bytes of mail read at a time
	maxAsks       = 64      // live commands under way to one agent
	maxVersionLen = 128
)

// Store is the replicated state, as the gateway needs it. Errors are *model.Error.
type Store interface {
	Apply(ctx context.Context, cmd model.Command) (result any, err error)
	Ready() error // nil: commands can be taken
	Cluster() (model.Cluster, bool)
	Agent(name string) (model.Agent, bool)
	Lanes(source string, epoch uint64) []model.Lane
	// Mail lists what waits beyond a position: at least one piece if there is any.
	Mail(agent string, after uint64, maxBytes int) []model.Mail
	Mailbox(agent string) model.Mailbox
	Active() (model.Revision, bool)
	RevisionBundle(number uint64) ([]byte, bool)
	Commands(agent string) []model.AgentCommand
	// Watch gives a channel that gets a token after something of a topic has changed.
	Watch(topic string) (changed <-chan struct{}, cancel func())
}

// Authority signs the agents' certificates.
type Authority interface {
	CheckRequest(csr []byte) (key [32]byte, err error)
	NewSerial() string
	SignAgent(csr []byte, site, agent, serial string, life time.Duration, now time.Time) (chain [][]byte, err error)
	Certificates() [][]byte
	Hash() [32]byte
}

// Config is what a gateway is made of. Store, Authority and Node are required.
type Config struct {
	Store     Store
	Authority Authority
	Node      string
	Now       func() time.Time
	Logger    *slog.Logger
	Metrics   *Metrics

	AgentLife   time.Duration // of an agent's certificate
	BeatEvery   time.Duration
	LeaderLost  time.Duration // a node without a leader for so long ends its streams
	CallTimeout time.Duration // of a command to the state
	EnrollRate  rate.Limit    // attempts a second, of one address; ten times that of all
	EnrollBurst int
	RenewRate   rate.Limit // renewals a second, of one agent; each of them stays in the record
	RenewBurst  int
}

func (c *Config) defaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&c.AgentLife, 24*time.Hour)
	set(&c.BeatEvery, 10*time.Second)
	set(&c.LeaderLost, 10*time.Second)
	set(&c.CallTimeout, 30*time.Second)
	if c.EnrollRate == 0 {
		c.EnrollRate, c.EnrollBurst = 1, 10
	}
	if c.RenewRate == 0 {
		c.RenewRate, c.RenewBurst = rate.Every(time.Minute), 20
	}
}

// Gateway serves the sync protocol.
type Gateway struct {
	cfg     Config
	enrolls *limiter
	renews  *limiter

	mu      sync.Mutex // guards streams
	streams map[string]*stream
}

var _ syncpbconnect.SyncHandler = (*Gateway)(nil)

// New makes a gateway. It runs nothing: it lives in the calls that it is given.
func New(cfg Config) (*Gateway, error) {
	if cfg.Store == nil || cfg.Authority == nil || cfg.Node == "" {
		return nil, errors.New("gateway: store, authority and node must be given")
	}
	cfg.defaults()
	return &Gateway{cfg: cfg, enrolls: newLimiter(cfg.EnrollRate, cfg.EnrollBurst),
		renews: newLimiter(cfg.RenewRate, cfg.RenewBurst), streams: map[string]*stream{}}, nil
}

// Handler is the gateway as HTTP, for a transport's server.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(syncpbconnect.NewSyncHandler(g, transport.HandlerOptions()...))
	return mux
}

// Revoked reports whether a proven identity may not speak any more: its agent is revoked,
// or was enrolled again with another key. An agent that this node does not know may be
// one that it has not heard of yet; its calls are answered so.
func (g *Gateway) Revoked(id transport.Identity) bool {
	agent, ok := g.cfg.Store.Agent(id.Agent)
	return ok && (!agent.Revoked.IsZero() || agent.Key != id.Key)
}

// caller gives the agent that calls, as the state knows it.
func (g *Gateway) caller(ctx context.Context) (model.Agent, error) {
	id, ok := transport.IdentityFrom(ctx)
	if !ok {
		return model.Agent{}, g.refuse("no_identity", connect.CodeUnauthenticated, "no client certificate: enrol first")
	}
	agent, ok := g.cfg.Store.Agent(id.Agent)
	if !ok {
		return agent, g.refuse("unknown", connect.CodeUnavailable,
			"agent %s is not known at node %s: it has not heard of the enrolment yet, or its data is older; try again or enrol again", id.Agent, g.cfg.Node)
	}
	cluster, _ := g.cfg.Store.Cluster()
	switch {
	case !agent.Revoked.IsZero():
		return agent, g.refuse("revoked", connect.CodePermissionDenied,
			"agent %s was revoked at %s: enrol again with a new join token", agent.Name, agent.Revoked.Format(time.RFC3339))
	case agent.Key != id.Key:
		return agent, g.refuse("other_key", connect.CodePermissionDenied,
			"agent %s was enrolled again with another key: this copy of it may not speak any more; enrol it if it is the right one", agent.Name)
	case agent.Site != id.Site || cluster.ID != id.Cluster:
		return agent, g.refuse("other_site", connect.CodePermissionDenied,
			"certificate is for agent %s of site %s in cluster %s, the agent is of site %s in cluster %s: enrol again", id.Agent, id.Site, id.Cluster, agent.Site, cluster.ID)
	}
	return agent, nil
}

// apply gives the state a command and translates its refusal.
func (g *Gateway) apply(ctx context.Context, cmd model.Command) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.CallTimeout)
	defer cancel()
	result, err := g.cfg.Store.Apply(ctx, cmd)
	if err != nil {
		return nil, toWire(err)
	}
	return result, nil
}

// Hello opens a session: it tells the agent what the relay holds of its lanes, and which
// epoch it was granted. The agent draws the conclusions: it may be behind or ahead.
func (g *Gateway) Hello(ctx context.Context, r *connect.Request[syncpb.HelloRequest]) (*connect.Response[syncpb.HelloResponse], error) {
	agent, err := g.caller(ctx)
	if err != nil {
		return nil, err
	}
	if r.Msg.GetProtocol() < ProtocolOldest {
		return nil, g.refuse("protocol", connect.CodeFailedPrecondition,
			"agent %s speaks version %d of the sync protocol, this node speaks %d to %d: upgrade the agent", agent.Name, r.Msg.GetProtocol(), ProtocolOldest, ProtocolNewest)
	}
	if r.Msg.GetEpoch() != agent.Epoch {
		g.cfg.Metrics.Epochs.Inc()
		g.cfg.Logger.Warn("agent's epoch is not the one granted", "agent", agent.Name, "epoch", r.Msg.GetEpoch(), "granted", agent.Epoch)
	}
	cluster, ok := g.cfg.Store.Cluster()
	if !ok {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("this node holds no cluster yet"))
	}
	answer := &syncpb.HelloResponse{
		Protocol: min(r.Msg.GetProtocol(), ProtocolNewest), Cluster: cluster.ID, Node: g.cfg.Node,
		Generation: cluster.Generation, Epoch: agent.Epoch, NowUnixMs: g.cfg.Now().UnixMilli(),
	}
	for _, l := range g.cfg.Store.Lanes(agent.Name, agent.Epoch) {
		answer.Outbound = append(answer.Outbound, &syncpb.Lane{Source: l.Source, Epoch: l.Epoch, Destination: l.Destination, Highwater: l.Highwater})
	}
	return connect.NewResponse(answer), nil
}

// Push offers blocks and gaps to the relay. Blocks are looked at here so that a bad one
// costs no entry in the log; the state looks again.
func (g *Gateway) Push(ctx context.Context, r *connect.Request[syncpb.PushRequest]) (*connect.Response[syncpb.PushResponse], error) {
	agent, err := g.caller(ctx)
	if err != nil {
		return nil, err
	}
	push := &model.Push{At: g.cfg.Now(), Agent: agent.Name, Epoch: r.Msg.GetEpoch(), Blocks: r.Msg.GetBlocks()}
	if push.Epoch != agent.Epoch {
		return nil, g.refuse("epoch", connect.CodePermissionDenied,
			"epoch %d of agent %s is fenced, its epoch is %d: a copy of this agent was enrolled later", push.Epoch, agent.Name, agent.Epoch)
	}
	if len(push.Blocks)+len(r.Msg.GetGaps()) == 0 || len(push.Blocks) > maxBlocks || len(r.Msg.GetGaps()) > maxGaps {
		return nil, g.refuse("size", connect.CodeInvalidArgument, "push of %d blocks and %d gaps: give at least one of them, at most %d and %d",
			len(push.Blocks), len(r.Msg.GetGaps()), maxBlocks, maxGaps)
	}
	for i, text := range push.Blocks {
		if err := g.checkBlock(agent, i, text); err != nil {
			return nil, err
		}
	}
	for i, gap := range r.Msg.GetGaps() {
		if gap.GetFirst() == 0 || gap.GetLast() < gap.GetFirst() || len(gap.GetCause()) > maxCause {
			return nil, g.refuse("gap", connect.CodeInvalidArgument, "gap %d of the push: %d to %d, cause of %d bytes (limit %d)",
				i, gap.GetFirst(), gap.GetLast(), len(gap.GetCause()), maxCause)
		}
		push.Gaps = append(push.Gaps, model.Gap{Source: agent.Name, Epoch: agent.Epoch,
			Destination: gap.GetDestination(), First: gap.GetFirst(), Last: gap.GetLast(), Cause: gap.GetCause()})
	}
	result, err := g.apply(ctx, push)
	if err != nil {
		return nil, err
	}
	answer := &syncpb.PushResponse{}
	if result, ok := result.(*model.PushResult); ok {
		for _, l := range result.Lanes {
			answer.Lanes = append(answer.Lanes, &syncpb.LaneAnswer{Destination: l.Destination, Highwater: l.Highwater, Full: l.Full, Refused: l.Refused})
		}
	}
	g.cfg.Metrics.Blocks.Add(float64(len(push.Blocks)))
	return connect.NewResponse(answer), nil
}

func (g *Gateway) checkBlock(agent model.Agent, i int, text []byte) error {
	e, err := block.ParseEnvelope(text)
	if err != nil {
		return g.refuse("corrupt", connect.CodeInvalidArgument, "block %d of the push: %v; send a gap for what cannot be sent", i, err)
	}
	if e.Origin.Agent != agent.Name || e.Origin.Epoch != agent.Epoch {
		return g.refuse("origin", connect.CodePermissionDenied, "block %d of the push is of agent %q in epoch %d; %s may send its own of epoch %d only",
			i, clip(e.Origin.Agent), e.Origin.Epoch, agent.Name, agent.Epoch)
	}
	return nil
}

// Ack releases mail and commands, and takes the agent's status.
func (g *Gateway) Ack(ctx context.Context, r *connect.Request[syncpb.AckRequest]) (*connect.Response[syncpb.AckResponse], error) {
	agent, err := g.caller(ctx)
	if err != nil {
		return nil, err
	}
	if len(r.Msg.GetAnswers()) > maxAnswers || len(r.Msg.GetStatus()) > maxStatus {
		return nil, g.refuse("size", connect.CodeInvalidArgument, "ack with %d answers and a status of %d bytes; the limits are %d and %d",
			len(r.Msg.GetAnswers()), len(r.Msg.GetStatus()), maxAnswers, maxStatus)
	}
	live := g.stream(agent.Name)
	ack := &model.Ack{At: g.cfg.Now(), Agent: agent.Name, Mailbox: r.Msg.GetMailbox(), Status: r.Msg.GetStatus()}
	// A position is a number in one history of the mailbox. What was not sent on the open
	// stream is of another one, and would remove mail that the agent has never seen.
	if ack.Mailbox > 0 && (live == nil || ack.Mailbox > live.sent.Load()) {
		return nil, g.refuse("position", connect.CodeFailedPrecondition,
			"agent %s acknowledges mail %d, which was not sent to it on an open stream: pull again and acknowledge what comes", agent.Name, ack.Mailbox)
	}
	for _, a := range r.Msg.GetAnswers() {
		if isLive(a.GetId()) {
			live.answered(a) // one that nobody waits for any more is dropped
			continue
		}
		ack.Answers = append(ack.Answers, model.CommandAnswer{ID: a.GetId(), Error: clip(a.GetError())})
	}
	if ack.Mailbox > 0 || len(ack.Answers) > 0 || len(ack.Status) > 0 {
		if _, err := g.apply(ctx, ack); err != nil {
			return nil, err
		}
	}
	live.settled(ack.Answers)
	return connect.NewResponse(&syncpb.AckResponse{}), nil
}
