package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// Limits of a hello and of its answer.
const (
	maxLanes       = 4096 // inbound lanes that an agent tells of
	maxName        = 256  // bytes of a name in a message
	maxIncarnation = 128  // bytes
	maxJump        = 64   // generations that an agent may be ahead
	maxNodes       = 64   // addresses told to agents
)

// lostLifeMargin is how much earlier than the newest command in a backup a certificate may
// have been issued and still be unknown to it: clocks differ.
const lostLifeMargin = time.Hour

// Hello opens a session: it tells the agent what the relay holds of its lanes, and which
// epoch it was granted. Without a session number it is a look: nothing is changed by it.
func (g *Gateway) Hello(ctx context.Context, r *connect.Request[syncpb.HelloRequest]) (*connect.Response[syncpb.HelloResponse], error) {
	m := r.Msg
	agent, err := g.admit(ctx, m.GetEpoch())
	if err != nil {
		return nil, err
	}
	if err := g.checkHello(agent, m); err != nil {
		return nil, err
	}
	if err := g.catchUp(ctx, agent, m); err != nil {
		return nil, err
	}
	answer := &syncpb.HelloResponse{Protocol: min(m.GetProtocol(), ProtocolNewest), Node: g.cfg.Node, Epoch: agent.Epoch}
	switch {
	case m.GetNewEpoch():
		answer.Epoch, err = g.newEpoch(ctx, agent, m)
	case m.GetSession() == 0:
		// Agents try a node by a look. One that cannot lead them further is not worth a session.
		err = g.ready()
	default:
		answer.Epoch, answer.Stale, err = g.greet(ctx, agent, m)
	}
	if err != nil {
		return nil, err
	}
	cluster, ok := g.cfg.Store.Cluster() // as it is after all this
	if !ok {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("this node holds no cluster yet"))
	}
	answer.Cluster, answer.Generation, answer.Incarnation = cluster.ID, cluster.Generation, cluster.Incarnation
	answer.NowUnixMs = g.cfg.Now().UnixMilli()
	for _, l := range g.cfg.Store.Lanes(agent.Name, answer.Epoch) {
		answer.Outbound = append(answer.Outbound, &syncpb.Lane{Source: l.Source, Epoch: l.Epoch, Destination: l.Destination, Highwater: l.Highwater})
	}
	answer.Nodes = g.nodes()
	return connect.NewResponse(answer), nil
}

// nodes gives the addresses by which agents find the nodes.
func (g *Gateway) nodes() (addresses []string) {
	for _, n := range g.cfg.Store.Nodes() {
		addresses = append(addresses, n.Sync[:min(len(n.Sync), maxNodes-len(addresses))]...)
	}
	return addresses
}

func (g *Gateway) checkHello(agent model.Agent, m *syncpb.HelloRequest) error {
	if m.GetProtocol() < ProtocolOldest {
		return g.refuse("protocol", connect.CodeFailedPrecondition,
			"agent %s speaks version %d of the sync protocol, this node speaks %d to %d: upgrade the agent", agent.Name, m.GetProtocol(), ProtocolOldest, ProtocolNewest)
	}
	if len(m.GetInbound()) > maxLanes || len(m.GetWhy()) > maxText || len(m.GetIncarnation()) > maxIncarnation {
		return g.refuse("size", connect.CodeInvalidArgument, "hello with %d lanes, a reason of %d bytes and an incarnation of %d; the limits are %d, %d and %d",
			len(m.GetInbound()), len(m.GetWhy()), len(m.GetIncarnation()), maxLanes, maxText, maxIncarnation)
	}
	for i, l := range m.GetInbound() {
		if len(l.GetSource()) > maxName {
			return g.refuse("size", connect.CodeInvalidArgument, "hello: source of lane %d has %d bytes; the limit is %d", i, len(l.GetSource()), maxName)
		}
	}
	if len(m.GetNumbers().GetMarks()) > maxMarks {
		return g.refuse("size", connect.CodeInvalidArgument, "hello with %d number ranges; the limit is %d", len(m.GetNumbers().GetMarks()), maxMarks)
	}
	if nonce := len(m.GetNonce()); nonce != len(model.Greet{}.Nonce) && (m.GetSession() > 0 || m.GetNewEpoch()) {
		return g.refuse("nonce", connect.CodeInvalidArgument, "hello with a nonce of %d bytes, want %d", nonce, len(model.Greet{}.Nonce))
	}
	return nil
}

// admit gives the agent that calls. One that was enrolled in a life of the cluster that a
// restore has lost is taken in again: its certificate tells. Where it does not say its
// epoch (0), a later enrolment has a later one.
func (g *Gateway) admit(ctx context.Context, epoch uint64) (model.Agent, error) {
	id, ok := transport.IdentityFrom(ctx)
	if !ok {
		return g.caller(ctx) // which says so
	}
	agent, known := g.cfg.Store.Agent(id.Agent)
	cluster, _ := g.cfg.Store.Cluster()
	if known && epoch == 0 && newerThan(id, &agent) {
		epoch = agent.Epoch + 1
	}
	if ofLostLife(id, &cluster) && (!known || agent.Key != id.Key && agent.Epoch < epoch) {
		if err := g.readmit(ctx, id, max(epoch, 1)); err != nil {
			return agent, err
		}
	}
	return g.caller(ctx)
}

func (g *Gateway) readmit(ctx context.Context, id transport.Identity, epoch uint64) error {
	_, err := g.apply(ctx, &model.Readmit{
		At: g.cfg.Now(), Agent: id.Agent, Site: id.Site, Key: id.Key, Serial: id.Serial, Issued: id.Issued, Epoch: epoch,
	})
	if err == nil {
		g.cfg.Metrics.Recoveries.WithLabelValues("readmitted").Inc()
		g.cfg.Logger.Warn("agent of a life of the cluster that was lost is known again", "agent", id.Agent, "epoch", epoch, "issued", id.Issued)
	}
	return err
}

// ofLostLife reports whether a certificate was issued between the newest command in what
// the cluster was rebuilt from and the rebuilding.
func ofLostLife(id transport.Identity, cluster *model.Cluster) bool {
	r := cluster.Rebuilt
	return r != nil && id.Cluster == cluster.ID && !id.Issued.Before(r.From.Add(-lostLifeMargin)) && !id.Issued.After(r.At)
}

// catchUp goes beyond a generation that the agent has seen in another life of the cluster:
// generations order the revisions of policy, so two lives must not share one.
func (g *Gateway) catchUp(ctx context.Context, agent model.Agent, m *syncpb.HelloRequest) error {
	cluster, ok := g.cfg.Store.Cluster()
	if !ok || m.GetIncarnation() == "" || m.GetIncarnation() == cluster.Incarnation || m.GetGeneration() < cluster.Generation {
		return nil
	}
	if m.GetGeneration() > cluster.Generation+maxJump {
		return g.refuse("generation", connect.CodeInvalidArgument, "agent %s tells of generation %d, this cluster is in %d", agent.Name, m.GetGeneration(), cluster.Generation)
	}
	if _, err := g.apply(ctx, &model.RaiseGeneration{At: g.cfg.Now(), Above: m.GetGeneration(), Agent: agent.Name}); err != nil {
		return err
	}
	g.cfg.Metrics.Recoveries.WithLabelValues("generation").Inc()
	g.cfg.Logger.Warn("generation raised above one that an agent has seen in another life of the cluster", "agent", agent.Name, "seen", m.GetGeneration())
	return nil
}

func (g *Gateway) newEpoch(ctx context.Context, agent model.Agent, m *syncpb.HelloRequest) (uint64, error) {
	result, err := g.apply(ctx, &model.NewEpoch{
		At: g.cfg.Now(), Agent: agent.Name, Epoch: m.GetEpoch(), Nonce: [16]byte(m.GetNonce()), Why: clip(m.GetWhy()),
	})
	if err != nil {
		return 0, err
	}
	granted, ok := result.(*model.NewEpochResult)
	if !ok {
		return 0, g.refuse("internal", connect.CodeInternal, "the state answered a request for an epoch with %T", result)
	}
	g.cfg.Metrics.Recoveries.WithLabelValues("epoch").Inc()
	g.cfg.Logger.Warn("agent was granted a new epoch; all other copies of it are fenced", "agent", agent.Name, "epoch", granted.Epoch, "why", clip(m.GetWhy()))
	return granted.Epoch, nil
}

// greet opens a session by a command, so that this node knows by the answer everything that
// was decided before, and no copy of the agent shares it.
func (g *Gateway) greet(ctx context.Context, agent model.Agent, m *syncpb.HelloRequest) (epoch uint64, stale bool, err error) {
	greeted, err := g.applyGreet(ctx, agent, m)
	if err != nil {
		return 0, false, err
	}
	if m.GetEpoch() != greeted.Epoch {
		g.cfg.Metrics.Epochs.Inc()
		g.cfg.Logger.Warn("agent's epoch is not the one granted", "agent", agent.Name, "epoch", m.GetEpoch(), "granted", greeted.Epoch)
		return greeted.Epoch, greeted.Stale, nil // stale: an operator lets it ask for a new one
	}
	if greeted.Stale {
		g.cfg.Metrics.Recoveries.WithLabelValues("stale").Inc()
		g.cfg.Logger.Warn("agent opens a session that another copy of it has opened before", "agent", agent.Name, "epoch", m.GetEpoch(), "session", m.GetSession())
		return greeted.Epoch, true, nil
	}
	// From here on the stream is told when a lane goes back, even before it begins.
	g.watchRewinds(agent.Name)
	return greeted.Epoch, false, g.behind(ctx, agent, m)
}

func (g *Gateway) applyGreet(ctx context.Context, agent model.Agent, m *syncpb.HelloRequest) (*model.GreetResult, error) {
	result, err := g.apply(ctx, &model.Greet{
		At: g.cfg.Now(), Agent: agent.Name, Epoch: m.GetEpoch(), Session: m.GetSession(), Nonce: [16]byte(m.GetNonce()), Node: g.cfg.Node,
		Told: m.GetNumbers() != nil, Numbers: marksOf(m.GetNumbers()),
	})
	if err != nil {
		return nil, err
	}
	greeted, ok := result.(*model.GreetResult)
	if !ok {
		return nil, g.refuse("internal", connect.CodeInternal, "the state answered a greeting with %T", result)
	}
	return greeted, nil
}

// behind compares what the agent holds with what it has acknowledged, and has the sources
// send again what it has lost.
func (g *Gateway) behind(ctx context.Context, agent model.Agent, m *syncpb.HelloRequest) error {
	type lane struct {
		source string
		epoch  uint64
	}
	held := map[lane]uint64{}
	cmd := &model.Behind{At: g.cfg.Now(), Agent: agent.Name, Epoch: m.GetEpoch()}
	for _, l := range m.GetInbound() {
		held[lane{l.GetSource(), l.GetEpoch()}] = l.GetHighwater()
		cmd.Inbound = append(cmd.Inbound, model.Lane{Source: l.GetSource(), Epoch: l.GetEpoch(), Destination: agent.Name, Highwater: l.GetHighwater()})
	}
	lost := false
	for _, l := range g.cfg.Store.InboundLanes(agent.Name) {
		if have := held[lane{l.Source, l.Epoch}]; have < l.Acked {
			lost = true
			g.cfg.Logger.Warn("agent holds less of a lane than it has acknowledged", "agent", agent.Name, "source", l.Source, "epoch", l.Epoch,
				"holds", have, "acknowledged", l.Acked, "settled", l.Settled)
		}
	}
	if !lost {
		return nil
	}
	_, err := g.apply(ctx, cmd)
	if err == nil {
		g.cfg.Metrics.Recoveries.WithLabelValues("behind").Inc()
	}
	return err
}

// current checks that a call is of the agent's newest session. A copy of it, or a session
// that has been given up, may not speak beside that.
func (g *Gateway) current(agent model.Agent, header http.Header) (transport.Mark, error) {
	text := header.Get(transport.SessionHeader)
	if text == "" {
		return transport.Mark{}, nil
	}
	mark, err := transport.ParseMark(text)
	if err != nil {
		return mark, g.refuse("session", connect.CodeInvalidArgument, "%v", err)
	}
	return mark, g.checkMark(agent, mark)
}

func (g *Gateway) checkMark(agent model.Agent, mark transport.Mark) error {
	switch {
	case mark == transport.Mark{}:
		return nil // of no session in particular
	case mark.Epoch != agent.Epoch:
		return g.refuse("epoch", connect.CodePermissionDenied,
			"epoch %d of agent %s is fenced, its epoch is %d: another copy of this agent has a later one", mark.Epoch, agent.Name, agent.Epoch)
	case mark.Number != agent.Session || mark.Nonce != agent.Nonce:
		return g.refuse("session", connect.CodeAborted,
			"session %d of agent %s is over, %d was opened since: open a new one", mark.Number, agent.Name, agent.Session)
	}
	return nil
}
