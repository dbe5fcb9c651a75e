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
	ProtocolNewest = 2
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
	maxSettled    = 4096    // lanes
	maxMoves      = 256
	maxVersionLen = 128
)

// Store is the replicated state, as the gateway needs it. Errors are *model.Error.
type Store interface {
	Apply(ctx context.Context, cmd model.Command) (result any, err error)
	Ready() error // nil: commands can be taken, and what is read is of now or of a moment ago
	Cluster() (model.Cluster, bool)
	Agent(name string) (model.Agent, bool)
	Lanes(source string, epoch uint64) []model.Lane
	InboundLanes(destination string) []model.Lane
	Nodes() []model.Node
	// Mail lists what waits beyond a position: at least one piece if there is any.
	Mail(agent string, after uint64, maxBytes int) []model.Mail
	Mailbox(agent string) model.Mailbox
	// Spoiled is told of what this node cannot read. Without an error no other node has it.
	Spoiled(what string) error
	// RevisionFor gives the revision that is in force at a site, and its moves.
	RevisionFor(site string) (model.Revision, []model.Begun, bool)
	Revision(number uint64) (model.Revision, bool)
	RevisionBundle(number uint64) ([]byte, bool)
	Commands(agent string) []model.AgentCommand
	// SecretsOf lists what is sealed to an agent.
	SecretsOf(agent string) []model.Secret
	// MayLease says why a request for numbers would be refused, and would change nothing.
	MayLease(cmd *model.LeaseNumbers) *model.Error
	// WantedRelease is what a site is to run, WantedStage the stage of it; ReleaseData gives bytes of a file from an offset on.
	WantedRelease(site string) model.WantedRelease
	WantedStage(site string) (version, stage string)
	ReleaseData(sha string, offset int64, most int) (data []byte, size int64, ok bool)
	// Watch gives a channel that gets a token after something of a topic has changed. The
	// topic "ready" is of Ready.
	Watch(topic string) (changed <-chan struct{}, cancel func())
}

// Authority signs the agents' certificates.
type Authority interface {
	CheckRequest(csr []byte) (key [32]byte, err error)
	NewSerial() string
	SignAgent(csr []byte, site, agent, serial string, life time.Duration, now time.Time) (chain [][]byte, err error)
	Certificates() [][]byte    // of all trusted authorities
	ID() string                // of the one that signs
	Trusts(hash [32]byte) bool // reports whether a join token's hash is of a trusted one
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
	set(&c.AgentLife, lifeOf(24*time.Hour))
	set(&c.BeatEvery, 10*time.Second)
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

	mu      sync.Mutex // guards what follows
	streams map[string]*stream
	rewinds map[string]*rewind // of sessions whose stream has not begun yet, by agent
}

var _ syncpbconnect.SyncHandler = (*Gateway)(nil)

// New makes a gateway. It runs nothing: it lives in the calls that it is given.
func New(cfg Config) (*Gateway, error) {
	if cfg.Store == nil || cfg.Authority == nil || cfg.Node == "" {
		return nil, errors.New("gateway: store, authority and node must be given")
	}
	cfg.defaults()
	return &Gateway{cfg: cfg, enrolls: newLimiter(cfg.EnrollRate, cfg.EnrollBurst),
		renews: newLimiter(cfg.RenewRate, cfg.RenewBurst), streams: map[string]*stream{}, rewinds: map[string]*rewind{}}, nil
}

// Handler is the gateway as HTTP, for a transport's server.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(syncpbconnect.NewSyncHandler(g, transport.HandlerOptions()...))
	return mux
}

// Revoked reports whether a proven identity may not speak any more: its agent is revoked,
// or was enrolled again with another key. An agent that this node does not know, or not by
// a key as new as this one, may be one that it has not heard of yet; its calls are answered so.
func (g *Gateway) Revoked(id transport.Identity) bool {
	agent, ok := g.cfg.Store.Agent(id.Agent)
	return ok && !newerThan(id, &agent) && (!agent.Revoked.IsZero() || agent.Key != id.Key)
}

// newerThan reports whether a certificate shows an enrolment that this node has not heard of:
// the key is another one, and was certified after all that is known here.
func newerThan(id transport.Identity, agent *model.Agent) bool {
	return agent.Key != id.Key && id.Issued.After(agent.Enrolled) && id.Issued.After(agent.Revoked)
}

// caller gives the agent that calls, as the state knows it.
func (g *Gateway) caller(ctx context.Context) (model.Agent, error) {
	id, ok := transport.IdentityFrom(ctx)
	if !ok {
		return model.Agent{}, g.refuse("no_identity", connect.CodeUnauthenticated, "no client certificate: enrol first")
	}
	agent, ok := g.cfg.Store.Agent(id.Agent)
	if !ok || newerThan(id, &agent) {
		return agent, g.refuse("unknown", connect.CodeUnavailable,
			"agent %s is not known at node %s with this key: it has not heard of the enrolment yet, or its data is older; try again or enrol again", id.Agent, g.cfg.Node)
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

// Push offers blocks and gaps to the relay. Blocks are looked at here so that a bad one
// costs no entry in the log; the state looks again.
func (g *Gateway) Push(ctx context.Context, r *connect.Request[syncpb.PushRequest]) (*connect.Response[syncpb.PushResponse], error) {
	agent, err := g.caller(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := g.current(agent, r.Header()); err != nil {
		return nil, err
	}
	push := &model.Push{At: g.cfg.Now(), Agent: agent.Name, Epoch: r.Msg.GetEpoch(), Blocks: r.Msg.GetBlocks()}
	if push.Epoch != agent.Epoch {
		return nil, g.refuse("epoch", connect.CodePermissionDenied,
			"epoch %d of agent %s is fenced, its epoch is %d: another copy of this agent has a later one", push.Epoch, agent.Name, agent.Epoch)
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
