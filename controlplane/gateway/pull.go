package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

var (
	errReplaced = errors.New("a newer stream of this agent has begun")
	errRaised   = errors.New("the control plane went to another generation: open a new session, which says so")
	errRewound  = errors.New("the relay has gone back on a lane of this agent, because its destination or the relay has lost what it had: open a new session")
)

// stream is the open Pull of one agent.
type stream struct {
	agent  string
	site   string
	peer   transport.Peer
	since  time.Time
	cancel context.CancelCauseFunc
	mark   transport.Mark // of its session
	sent   atomic.Uint64  // highest mail position sent

	asks   chan *syncpb.Command // live commands to send
	turned chan struct{}        // the turn has changed

	mu      sync.Mutex // guards what follows
	waiting map[string]chan<- *syncpb.CommandAnswer
	given   map[string]bool // durable commands sent on this stream and not answered yet
	turn    turn
}

// turn is how the agent stands to its mail. One that runs out of room begins a new turn and
// drops what still comes of the one before; the mail of the new one begins with the oldest
// that is not acknowledged, once there is room. Only mail is held back: a new revision or a
// command may be what makes room.
type turn struct {
	number uint64
	full   bool // there is no room
}

// take notes how the agent stands to its mail, as an Ack of the stream's session tells.
func (s *stream) take(mark transport.Mark, t turn) {
	if s == nil || s.mark != mark {
		return
	}
	s.mu.Lock()
	changed := s.turn != t
	s.turn = t
	s.mu.Unlock()
	if changed {
		select {
		case s.turned <- struct{}{}:
		default:
		}
	}
}

func (s *stream) turnNow() turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.turn
}

func (g *Gateway) stream(agent string) *stream {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.streams[agent]
}

// begin makes a stream the agent's only one.
func (g *Gateway) begin(s *stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.streams[s.agent]; old != nil {
		old.cancel(errReplaced)
	}
	g.streams[s.agent] = s
	g.cfg.Metrics.Streams.Set(float64(len(g.streams)))
}

func (g *Gateway) end(s *stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.streams[s.agent] == s {
		delete(g.streams, s.agent)
	}
	g.cfg.Metrics.Streams.Set(float64(len(g.streams)))
}

// Pull is the one stream of a session: the revision in force when the agent's is older,
// then mail, commands as they come, and a beat.
func (g *Gateway) Pull(ctx context.Context, r *connect.Request[syncpb.PullRequest], out *connect.ServerStream[syncpb.PullResponse]) error {
	agent, err := g.caller(ctx)
	if err != nil {
		return err
	}
	mark, err := g.current(agent, r.Header())
	if err != nil {
		return err
	}
	if err := g.ready(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &stream{
		agent: agent.Name, site: agent.Site, since: g.cfg.Now(), cancel: cancel, mark: mark,
		asks: make(chan *syncpb.Command, maxAsks), turned: make(chan struct{}, 1), waiting: map[string]chan<- *syncpb.CommandAnswer{}, given: map[string]bool{},
	}
	s.peer, _ = transport.PeerFrom(ctx)
	back := g.takeRewinds(agent.Name)
	defer back.cancel()
	g.begin(s)
	defer s.hangUp()
	defer g.end(s)
	p := &puller{
		g: g, s: s, out: out, key: agent.Key, epoch: agent.Epoch, rewound: back.changed,
		held:  block.Revision{Generation: r.Msg.GetRevision().GetGeneration(), Number: r.Msg.GetRevision().GetNumber()},
		stage: r.Msg.GetStage(),
	}
	cluster, _ := g.cfg.Store.Cluster()
	p.life = cluster.Generation
	if p.secrets, err = g.secretMarks(r.Msg.GetSecrets()); err != nil {
		return err
	}
	p.position = g.resume(agent.Name, r.Msg.GetMailbox())
	s.sent.Store(p.position)
	err = p.run(ctx)
	if errors.Is(context.Cause(ctx), errReplaced) {
		return connect.NewError(connect.CodeAborted, errReplaced)
	}
	if errors.Is(err, errRewound) || errors.Is(err, errRaised) {
		return connect.NewError(connect.CodeAborted, err)
	}
	if ctx.Err() != nil {
		return connect.NewError(connect.CodeUnavailable, errors.New("the stream was ended; open a new session"))
	}
	return err
}

// resume turns the agent's hint into a position. One that this mailbox never gave out is
// of another history: then all is sent, and the agent drops what it knows.
func (g *Gateway) resume(agent string, hint uint64) uint64 {
	box := g.cfg.Store.Mailbox(agent)
	if hint >= box.Next || hint+1 < box.First {
		return 0
	}
	return hint
}

// puller feeds one stream. It alone sends on it.
type puller struct {
	g        *Gateway
	s        *stream
	out      *connect.ServerStream[syncpb.PullResponse]
	key      [32]byte // of the agent that called
	epoch    uint64   // likewise
	rewound  <-chan struct{}
	life     uint64 // generation in which the stream began
	held     block.Revision
	position uint64
	turn     uint64   // to which position belongs
	nodes    []string // whose addresses the agent was told on this stream
	stage    string   // of the release that the agent heard last

	secrets map[string]uint64 // version that the agent holds of each; as it said, and as was sent since
}

func (p *puller) run(ctx context.Context) error {
	store := p.g.cfg.Store
	wake := make(chan struct{}, 1)
	for _, topic := range []string{"mail/" + p.s.agent, "commands/" + p.s.agent, "epoch/" + p.s.agent, "policy", "releases", "revoked", "ready", "cluster"} {
		changed, cancel := store.Watch(topic)
		defer cancel()
		go forward(ctx, changed, wake)
	}
	moved, cancel := store.Watch("nodes")
	defer cancel()
	sealed, cancel := store.Watch("secrets/" + p.s.agent)
	defer cancel()
	beat := time.NewTicker(p.g.cfg.BeatEvery)
	defer beat.Stop()
	// The first beat comes at once: an agent that has nothing waiting learns that the
	// stream is open.
	if err := p.beat(); err != nil {
		return err
	}
	// Before any revision: one that refers to a secret should find it there.
	if err := p.sealed(); err != nil {
		return err
	}
	for {
		if err := p.sendAll(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.rewound:
			return errRewound
		case <-wake:
		case <-p.s.turned:
		case ask := <-p.s.asks:
			if err := p.out.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Command{Command: ask}}); err != nil {
				return err
			}
		case <-sealed:
			if err := p.sealed(); err != nil {
				return err
			}
		case <-moved: // an agent that loses its node needs to know the others
			if err := p.beat(); err != nil {
				return err
			}
		case <-beat.C:
			if err := p.beat(); err != nil {
				return err
			}
		}
	}
}

// forward joins the topics of a stream into one wake-up.
func forward(ctx context.Context, changed <-chan struct{}, wake chan<- struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			select {
			case wake <- struct{}{}:
			default: // it is awake already
			}
		}
	}
}

// sendAll sends everything that waits, until nothing does.
func (p *puller) sendAll(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		now := p.s.turnNow()
		if now.number != p.turn && !now.full {
			p.turn, p.position = now.number, 0
		}
		// Before the revision in force is looked up: nothing is to come to an agent that was
		// routed by a revision which is in force everywhere, and which it has not been sent.
		var batch []model.Mail
		if !now.full {
			batch = p.g.cfg.Store.Mail(p.s.agent, p.position, mailBatch)
		}
		// Asked before every batch: a revoked agent gets no more than one after it.
		if err := p.standing(); err != nil {
			return err
		}
		if cluster, _ := p.g.cfg.Store.Cluster(); cluster.Generation != p.life {
			return errRaised // by what another agent told
		}
		if err := p.policy(); err != nil {
			return err
		}
		if err := p.release(); err != nil {
			return err
		}
		if err := p.commands(); err != nil {
			return err
		}
		if err := p.live(); err != nil {
			return err
		}
		if len(batch) == 0 {
			return nil
		}
		for i := range batch {
			if p.s.turnNow() != now {
				break // the agent drops it
			}
			if batch[i].Damaged != "" {
				if err := p.lose(ctx, &batch[i]); err != nil {
					return err
				}
				break // what follows of its lane is gone with it, and must not be sent
			}
			if err := p.mail(&batch[i]); err != nil {
				return err
			}
		}
	}
}

// lose gives up a piece of mail that this node cannot read, so that its source sends it
// again. Where another node has it, that one is to be asked.
func (p *puller) lose(ctx context.Context, m *model.Mail) error {
	if err := p.g.cfg.Store.Spoiled(fmt.Sprintf("mail %d of %s: %s", m.Position, p.s.agent, clip(m.Damaged))); err != nil {
		return p.g.refuse("damaged", connect.CodeUnavailable, "%v", err)
	}
	p.g.cfg.Logger.Error("mail cannot be read; its source is asked to send it again", "agent", p.s.agent, "position", m.Position, "why", m.Damaged)
	_, err := p.g.apply(ctx, &model.LoseMail{At: p.g.cfg.Now(), Agent: p.s.agent, Position: m.Position, Node: p.g.cfg.Node, Why: clip(m.Damaged)})
	if err != nil {
		return err
	}
	p.g.cfg.Metrics.Recoveries.WithLabelValues("mail").Inc()
	p.position = m.Position
	return nil
}

// live sends the live commands that wait. Somebody waits for their answers, and an agent
// that is far behind may have mail without end.
func (p *puller) live() error {
	for {
		select {
		case ask := <-p.s.asks:
			if err := p.out.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Command{Command: ask}}); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// standing looks whether this node is still where the cluster is, the one who called is
// still the agent, and its lanes are where it was told they are.
func (p *puller) standing() error {
	select {
	case <-p.rewound:
		return errRewound
	default:
	}
	if err := p.g.ready(); err != nil {
		return err
	}
	agent, ok := p.g.cfg.Store.Agent(p.s.agent)
	if !ok || !agent.Revoked.IsZero() || agent.Key != p.key {
		return p.g.refuse("revoked", connect.CodePermissionDenied,
			"agent %s is revoked, or another copy of it was enrolled: enrol again with a new join token", p.s.agent)
	}
	if agent.Epoch != p.epoch {
		return p.g.refuse("epoch", connect.CodePermissionDenied,
			"epoch %d of agent %s is fenced, its epoch is %d: another copy of this agent has a later one", p.epoch, agent.Name, agent.Epoch)
	}
	return p.g.checkMark(agent, p.s.mark)
}

// rewind tells when a lane of an agent has gone back.
type rewind struct {
	changed <-chan struct{}
	cancel  func()
}

// watchRewinds begins to watch an agent's lanes before they are told to it, for the stream
// that is about to begin. A watch that no stream has taken over stays: it saw all that a
// newer one would.
func (g *Gateway) watchRewinds(agent string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rewinds[agent] == nil {
		g.rewinds[agent] = g.newRewind(agent)
	}
}

func (g *Gateway) newRewind(agent string) *rewind {
	changed, cancel := g.cfg.Store.Watch("rewound/" + agent)
	return &rewind{changed, cancel}
}

func (g *Gateway) takeRewinds(agent string) *rewind {
	g.mu.Lock()
	defer g.mu.Unlock()
	back := g.rewinds[agent]
	if back == nil {
		return g.newRewind(agent)
	}
	delete(g.rewinds, agent)
	return back
}

func (p *puller) policy() error {
	active, moves, ok := p.g.cfg.Store.RevisionFor(p.s.site)
	if !ok || !p.held.Less(active.ID) {
		return nil
	}
	message, ok := p.revision(&active)
	if !ok {
		return nil // superseded and gone between the two reads; the topic says so too
	}
	for _, m := range moves {
		message.Moves = append(message.Moves, &syncpb.MoveBegin{System: m.System, Revision: toRevision(m.Revision)})
	}
	if err := p.former(moves); err != nil {
		return err
	}
	err := p.out.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Policy{Policy: message}})
	if err == nil {
		p.held = active.ID
	}
	return err
}

// former sends what was in force before systems of this site were replaced, if the agent was
// away then: it has to finish with those systems as that revision had them.
func (p *puller) former(moves []model.Begun) error {
	slices.SortFunc(moves, func(a, b model.Begun) int { return cmp.Compare(a.Before.Number, b.Before.Number) })
	last := p.held
	for _, m := range moves {
		if m.OldSite != p.s.site || !last.Less(m.Before) {
			continue
		}
		last = m.Before
		row, ok := p.g.cfg.Store.Revision(m.Before.Number)
		if !ok {
			continue
		}
		message, ok := p.revision(&row)
		if !ok {
			p.g.cfg.Logger.Warn("the revision before a move is no longer kept; what its routes alone sent to the old system may have to be discarded there",
				"agent", p.s.agent, "system", m.Old, "revision", m.Before.String())
			continue
		}
		if err := p.out.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Former{Former: message}}); err != nil {
			return err
		}
	}
	return nil
}

func (p *puller) revision(r *model.Revision) (*syncpb.PolicyRevision, bool) {
	bundle, ok := p.g.cfg.Store.RevisionBundle(r.ID.Number)
	return &syncpb.PolicyRevision{Revision: toRevision(r.ID), Digest: r.Digest[:], Bundle: bundle}, ok
}

func toRevision(r block.Revision) *syncpb.Revision {
	return &syncpb.Revision{Generation: r.Generation, Number: r.Number}
}

// commands sends each durable command once on a stream; unanswered ones go again on the
// next.
func (p *puller) commands() error {
	for _, c := range p.g.cfg.Store.Commands(p.s.agent) {
		if !p.s.give(c.ID) {
			continue
		}
		command := &syncpb.Command{Id: c.ID, Kind: c.Kind, Arguments: c.Arguments}
		if err := p.out.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Command{Command: command}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) give(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given[id] {
		return false
	}
	s.given[id] = true
	return true
}

// settled forgets commands whose answers are in the state.
func (s *stream) settled(answers []model.CommandAnswer) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range answers {
		delete(s.given, a.ID)
	}
}

func (p *puller) mail(m *model.Mail) error {
	d := &syncpb.Delivery{Mailbox: m.Position, RelayedUnixMs: m.Relayed.UnixMilli(), Block: m.Block, Turn: p.turn}
	if m.Gap != nil {
		d.Source, d.Epoch = m.Gap.Source, m.Gap.Epoch
		d.Gap = &syncpb.Gap{Destination: m.Gap.Destination, First: m.Gap.First, Last: m.Gap.Last, Cause: m.Gap.Cause}
	}
	// Before it is sent, since the acknowledgement may be faster than this goroutine.
	p.s.sent.Store(m.Position)
	if err := p.out.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Delivery{Delivery: d}}); err != nil {
		return err
	}
	p.position = m.Position
	p.g.cfg.Metrics.Mail.Inc()
	return nil
}

// ready refuses what this node is not up to: it has lost the leader, so what it holds may be
// old. It may be of agents that are revoked, or mail that was acknowledged elsewhere.
func (g *Gateway) ready() error {
	if err := g.cfg.Store.Ready(); err != nil {
		return g.refuse("no_leader", connect.CodeUnavailable, "node %s: %v", g.cfg.Node, err)
	}
	return nil
}

// beat tells the agent that it is connected to a node that works.
func (p *puller) beat() error {
	if err := p.g.ready(); err != nil {
		return err
	}
	beat := &syncpb.Beat{NowUnixMs: p.g.cfg.Now().UnixMilli()}
	if nodes := p.g.nodes(); !slices.Equal(nodes, p.nodes) {
		beat.Nodes, p.nodes = nodes, nodes
	}
	return p.out.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Beat{Beat: beat}})
}
