package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
)

// errSilent ends a stream that says nothing, not even its beat.
var errSilent = errors.New("the control plane has been silent for too long")

// puller takes the one stream of a session, commits what comes, and acknowledges it.
type puller struct {
	u      *Uplink
	client syncpbconnect.SyncClient
	g      *greeting
	wake   chan struct{} // there is something to tell the relay at once
	mail   chan struct{} // there is mail to acknowledge
	heard  atomic.Bool   // the stream has carried something

	mu      sync.Mutex // guards what follows
	mailbox uint64     // everything up to here is committed
	answers []*syncpb.CommandAnswer
	report  bool                     // the status has changed in a way that should not wait
	running map[string]bool          // commands under way, so that a repeat is not run beside itself
	slots   map[string]chan struct{} // by kind of command
	turn    uint64                   // only mail of this one is taken
	full    bool                     // a piece of mail waits for room; nothing of this turn comes before it has some

	settled map[laneOf]uint64 // as last told in this session; only acknowledge touches it
	acked   uint64            // likewise: the mailbox
}

// laneOf names an inbound lane.
type laneOf struct {
	source string
	epoch  uint64
}

func newPuller(u *Uplink, client syncpbconnect.SyncClient, g *greeting) *puller {
	return &puller{u: u, client: client, g: g, wake: make(chan struct{}, 1), mail: make(chan struct{}, 1), running: map[string]bool{},
		slots: map[string]chan struct{}{}, settled: map[laneOf]uint64{}}
}

// run reads the stream until it ends or falls silent.
func (p *puller) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	beside, ctx := errgroup.WithContext(ctx) // what the stream does not wait for
	defer func() { cancel(nil); _ = beside.Wait() }()
	held := p.u.cfg.Policy.Held()
	// The mailbox position is left at zero: the relay begins with the oldest mail that this
	// agent has not acknowledged, which is what it has to know in any case.
	stream, err := p.client.Pull(ctx, marked(p.g, &syncpb.PullRequest{
		Revision: &syncpb.Revision{Generation: held.Generation, Number: held.Number}, Stage: p.u.heardStage(), Secrets: p.u.secretMarks()}))
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer stream.Close()
	silence := time.AfterFunc(p.u.cfg.Silence, func() { cancel(errSilent) })
	defer silence.Stop()
	for stream.Receive() {
		p.heard.Store(true)
		silence.Stop() // committing may take its time, a full disk most of all
		switch item := stream.Msg().Item.(type) {
		case *syncpb.PullResponse_Delivery:
			if err := p.take(ctx, item.Delivery, beside.Go); err != nil {
				return err
			}
		case *syncpb.PullResponse_Policy:
			p.offer(ctx, fromRevision(item.Policy), beside.Go)
		case *syncpb.PullResponse_Secret:
			p.secret(ctx, item.Secret, beside.Go)
		case *syncpb.PullResponse_Former:
			p.former(fromRevision(item.Former))
		case *syncpb.PullResponse_Wanted:
			p.u.want(item.Wanted)
			p.reportNow()
		case *syncpb.PullResponse_Command:
			if p.begin(item.Command.Id) {
				beside.Go(func() error { p.execute(ctx, item.Command); return nil })
			}
		case *syncpb.PullResponse_Beat:
			if len(item.Beat.Nodes) > 0 {
				if err := p.u.remember(p.g.answer.Generation, p.g.answer.Incarnation, item.Beat.Nodes); err != nil {
					return err
				}
			}
		}
		silence.Reset(p.u.cfg.Silence)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err := stream.Err(); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	return errors.New("pull: the control plane ended the stream")
}

// take commits one piece of mail. Where there is no room for it, it waits beside the stream:
// the turn is over, and the relay holds back all other mail until there is.
func (p *puller) take(ctx context.Context, d *syncpb.Delivery, beside func(func() error)) error {
	p.mu.Lock()
	past := d.Turn != p.turn
	early := !past && p.full
	p.mu.Unlock()
	switch {
	case past:
		return nil // it comes again
	case early:
		return fmt.Errorf("mail %d was sent while there was no room: the control plane is at fault", d.Mailbox)
	}
	err := p.store(ctx, d)
	switch {
	case err == nil:
		p.committed(d)
		return nil
	case !errors.Is(err, ErrFull):
		return fmt.Errorf("commit mail %d: %w", d.Mailbox, err)
	case p.g.answer.Protocol < turnsSince: // the node knows of no turns: all that it sends has to be taken
		return p.await(ctx, d, err)
	}
	p.mu.Lock()
	p.turn++
	p.full = true
	p.mu.Unlock()
	p.signal()
	beside(func() error { return p.await(ctx, d, err) })
	return nil
}

// await commits one piece of mail when there is room for it.
func (p *puller) await(ctx context.Context, d *syncpb.Delivery, err error) error {
	p.u.log.Warn("no room for mail: it waits until space returns", "err", err)
	p.u.setState(func(s *State) { s.NoRoom = time.Now() })
	for errors.Is(err, ErrFull) {
		p.u.cfg.Metrics.stopped()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(p.u.cfg.FullRetry):
		}
		err = p.store(ctx, d)
	}
	if err != nil {
		return fmt.Errorf("commit mail %d: %w", d.Mailbox, err)
	}
	p.u.setState(func(s *State) { s.NoRoom = time.Time{} })
	p.u.log.Info("room for mail again")
	p.committed(d)
	return nil
}

// committed has a piece of mail acknowledged.
func (p *puller) committed(d *syncpb.Delivery) {
	p.u.cfg.Metrics.received(len(d.Block))
	p.mu.Lock()
	p.mailbox = max(p.mailbox, d.Mailbox)
	waited := p.full
	p.full = false
	p.mu.Unlock()
	if waited {
		p.signal() // the relay holds back the rest until it hears of it
		return
	}
	nudge(p.mail)
}

func (p *puller) store(ctx context.Context, d *syncpb.Delivery) error {
	if d.Gap != nil {
		return p.u.cfg.Inbox.ReceiveGap(ctx, Gap{Source: d.Source, Epoch: d.Epoch, Destination: d.Gap.Destination,
			First: d.Gap.First, Last: d.Gap.Last, Cause: d.Gap.Cause})
	}
	return p.u.cfg.Inbox.Receive(ctx, d.Block, time.UnixMilli(d.RelayedUnixMs))
}

// offer hands a revision to the agent. A refused one is not fatal to the session: the
// agent goes on with the one it holds and reports why. One that could not be stored is
// offered again beside the stream, until it is, or a newer one.
func (p *puller) offer(ctx context.Context, r Revision, beside func(func() error)) {
	err := p.u.cfg.Policy.Offer(r)
	if err != nil {
		p.u.log.Error("policy revision refused; the one in force stays", "revision", r.Number, "held", p.u.cfg.Policy.Held(), "err", err)
	}
	if errors.Is(err, ErrNotKept) {
		beside(func() error {
			for errors.Is(err, ErrNotKept) {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(p.u.cfg.FullRetry):
				}
				err = p.u.cfg.Policy.Offer(r)
			}
			p.reportNow()
			return nil
		})
	}
	p.reportNow()
}

// former has a revision noted that was in force while this agent was away.
func (p *puller) former(r Revision) {
	if err := p.u.cfg.Policy.Former(r); err != nil {
		p.u.log.Error("a revision that was in force before a move cannot be read; what its routes alone sent to the old system waits there",
			"revision", r.Number, "err", err)
	}
}

// reportNow has the status told at once.
func (p *puller) reportNow() {
	p.mu.Lock()
	p.report = true
	p.mu.Unlock()
	p.signal()
}

func fromRevision(r *syncpb.PolicyRevision) Revision {
	number := func(r *syncpb.Revision) block.Revision {
		return block.Revision{Generation: r.GetGeneration(), Number: r.GetNumber()}
	}
	out := Revision{Number: number(r.GetRevision()), Digest: r.GetDigest(), Bundle: r.GetBundle(), Begun: map[string]block.Revision{}}
	for _, m := range r.GetMoves() {
		out.Begun[m.GetSystem()] = number(m.GetRevision())
	}
	return out
}

func (p *puller) begin(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running[id] || len(p.running) >= maxAnswers {
		return false
	}
	p.running[id] = true
	return true
}

// slot is what a command of a kind has to have while it runs: some kinds wait for a disk
// that is full, and the others, like the stream, do not wait behind them.
func (p *puller) slot(kind string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slots[kind] == nil {
		p.slots[kind] = make(chan struct{}, maxCommands)
	}
	return p.slots[kind]
}

func (p *puller) execute(ctx context.Context, c *syncpb.Command) {
	slot := p.slot(c.Kind)
	select {
	case slot <- struct{}{}:
		defer func() { <-slot }()
	case <-ctx.Done():
		return // it comes again
	}
	answer := &syncpb.CommandAnswer{Id: c.Id}
	result, err := p.u.cfg.Command(ctx, c.Id, c.Kind, c.Arguments)
	switch {
	case err != nil:
		answer.Error = err.Error()
	case len(result) > maxAnswerSize:
		answer.Error = fmt.Sprintf("the answer has %d bytes, the limit is %d: ask for less", len(result), maxAnswerSize)
	default:
		answer.Result = result
	}
	p.mu.Lock()
	delete(p.running, c.Id)
	p.answers = append(p.answers, answer)
	p.mu.Unlock()
	p.signal()
}

func (p *puller) signal() { nudge(p.wake) }

func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// acknowledge tells the relay what is committed, gives answers to commands, and reports
// the status at least every StatusEvery.
func (p *puller) acknowledge(ctx context.Context) error {
	status := time.NewTicker(p.u.cfg.StatusEvery)
	defer status.Stop()
	report := true
	for {
		if err := p.acknowledgeOnce(ctx, report); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
		var err error
		if report, err = p.occasion(ctx, status.C); err != nil {
			return err
		}
	}
}

// occasion waits until there is something to tell, and says whether it is the status. Mail
// waits a little for more: nobody waits for its acknowledgement, and each is a command of the
// control plane's log.
func (p *puller) occasion(ctx context.Context, status <-chan time.Time) (report bool, err error) {
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-p.wake:
			return false, nil
		case <-status:
			return true, nil
		case <-due:
			return false, nil
		case <-p.mail:
			if due == nil && p.unacknowledged() {
				due = time.After(p.u.cfg.AckPause)
			}
		}
	}
}

// unacknowledged reports whether mail was committed since the last acknowledgement began.
func (p *puller) unacknowledged() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mailbox > p.acked
}

func (p *puller) acknowledgeOnce(ctx context.Context, report bool) error {
	p.mu.Lock()
	request := &syncpb.AckRequest{Mailbox: p.mailbox, Turn: p.turn, Full: p.full}
	for size := 0; len(p.answers) > 0; p.answers = p.answers[1:] {
		if size += len(p.answers[0].Result); len(request.Answers) > 0 && size > maxAckAnswers {
			p.signal() // the rest goes with the next
			break
		}
		request.Answers = append(request.Answers, p.answers[0])
	}
	report = report || p.report
	p.report = false
	p.mu.Unlock()
	if report {
		p.tell(request)
	}
	ctx, cancel := context.WithTimeout(ctx, p.u.cfg.CallTimeout)
	defer cancel()
	// What is lost with a call that fails is told again: the session ends with it, and
	// commands are repeated until they are answered.
	if _, err := p.client.Ack(ctx, marked(p.g, request)); err != nil {
		return err
	}
	p.acked = request.Mailbox
	for _, l := range request.Settled {
		p.settled[laneOf{l.Source, l.Epoch}] = l.Highwater
	}
	return nil
}

// tell adds the status and what goes with it.
func (p *puller) tell(request *syncpb.AckRequest) {
	cfg := &p.u.cfg
	request.Status = cfg.Status()
	if cfg.Settled != nil {
		for _, h := range cfg.Settled() {
			if told, ok := p.settled[laneOf{h.Source, h.Epoch}]; ok && told == h.Number || h.Number == 0 {
				continue
			}
			if len(request.Settled) == maxSettled {
				break // the rest goes with the next status
			}
			request.Settled = append(request.Settled, &syncpb.Lane{Source: h.Source, Epoch: h.Epoch, Destination: cfg.Agent, Highwater: h.Number})
		}
	}
	if cfg.Flushed != nil {
		flushed := cfg.Flushed()
		request.Flushed = &syncpb.Revision{Generation: flushed.Generation, Number: flushed.Number}
	}
	if cfg.Moves != nil {
		for _, m := range cfg.Moves() {
			if len(request.Moves) == maxMoves {
				break
			}
			request.Moves = append(request.Moves, &syncpb.Move{System: m.System, Pending: m.Pending, Holding: m.Holding})
		}
	}
}
