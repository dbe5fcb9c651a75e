package uplink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
)

// lane is where the pusher is on the way to one destination. Only the pusher's own
// goroutine touches it.
type lane struct {
	taken   uint64    // the relay's high-water
	base    uint64    // taken in an earlier epoch: told as a gap and not sent again
	want    uint64    // number to send next, ahead of taken by what is under way
	pos     uint64    // journal position at or before the wanted number
	turn    int       // counts the times that the lane went back; answers of earlier turns say nothing about want
	blocked time.Time // full or refused: not before this
	probing bool      // it was, as last heard: a single block asks whether it still is
	refused string    // why, as last logged
}

// pusher sends the journal's blocks, several calls at a time, and goes back on a lane
// whenever the relay's answer shows less than was sent (go-back-N).
type pusher struct {
	u       *Uplink
	client  syncpbconnect.SyncClient
	g       *greeting
	lanes   map[string]*lane
	answers chan answer
	calls   int       // under way
	seen    uint64    // end of the journal before the last look at it
	cutTo   uint64    // where in the journal the next cut goes on
	cutAt   time.Time // the last one
}

// call is one push: what it carries, and up to where each lane goes with it.
type call struct {
	request *syncpb.PushRequest
	bytes   int
	last    map[string]uint64
	floor   map[string]uint64 // the relay held so much when the call was made
	turn    map[string]int
}

type answer struct {
	call  *call
	lanes []*syncpb.LaneAnswer
	err   error
}

func newPusher(u *Uplink, client syncpbconnect.SyncClient, g *greeting) (*pusher, error) {
	p := &pusher{u: u, client: client, g: g, lanes: map[string]*lane{}, answers: make(chan answer, maxCalls)}
	for _, l := range g.answer.Outbound {
		if l.Epoch == g.mark.Epoch {
			p.lanes[l.Destination] = &lane{taken: l.Highwater}
		}
	}
	for destination := range u.cfg.Outbox.Outbound() {
		l := p.lane(destination)
		l.base = u.cfg.Outbox.Earlier(destination)
		if err := p.goBack(destination, l.taken); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *pusher) lane(destination string) *lane {
	l := p.lanes[destination]
	if l == nil {
		l = &lane{}
		p.lanes[destination] = l
	}
	return l
}

// goBack makes the number after highwater the next to send.
func (p *pusher) goBack(destination string, highwater uint64) error {
	pos, err := p.u.cfg.Outbox.Seek(destination, highwater+1)
	if err != nil {
		return fmt.Errorf("find event %d of the lane to %s: %w", highwater+1, destination, err)
	}
	l := p.lane(destination)
	l.taken = max(l.taken, highwater)
	l.want, l.pos = highwater+1, pos
	p.cutTo = min(p.cutTo, pos)
	l.turn++
	p.u.cfg.Outbox.Taken(destination, l.taken)
	return nil
}

// run sends until the session ends. It holds no lock and no transaction while it waits.
func (p *pusher) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for {
			worked, pause, err := p.step(ctx, group)
			if err != nil {
				return err
			}
			if worked {
				continue
			}
			if err := p.await(ctx, pause); err != nil {
				return err
			}
		}
	})
	return group.Wait()
}

// step takes the answers that are there and sends one round of blocks; it says whether it
// found anything to do, or how long what there is waits for more.
func (p *pusher) step(ctx context.Context, group *errgroup.Group) (worked bool, pause time.Duration, err error) {
	for {
		select {
		case a := <-p.answers:
			if err := p.take(a); err != nil {
				return false, 0, err
			}
			continue
		default:
		}
		break
	}
	if p.calls >= maxCalls {
		return false, 0, nil
	}
	if pause := p.gathering(); pause > 0 {
		return false, pause, nil
	}
	p.seen = p.u.cfg.Outbox.Next()
	calls, moved, err := p.cut()
	if err != nil {
		return false, 0, err
	}
	for _, c := range calls {
		for p.calls >= maxCalls { // a round may make more calls than fit
			select {
			case a := <-p.answers:
				if err := p.take(a); err != nil {
					return false, 0, err
				}
			case <-ctx.Done():
				return false, 0, ctx.Err()
			}
		}
		p.calls++
		group.Go(func() error { p.send(ctx, c); return nil })
	}
	return moved, 0, nil
}

// gathering is how long what is new in the journal still waits for more to go with. Every
// call is a command of the control plane's log and a commit at the destination, and while
// one is under way another with little in it would only queue behind it.
func (p *pusher) gathering() time.Duration {
	if p.calls == 0 || p.u.cfg.Outbox.Next() >= p.cutTo+block.MaxEvents {
		return 0
	}
	return time.Until(p.cutAt.Add(p.u.cfg.PushPause))
}

// ready gives the lanes that have something to send.
func (p *pusher) ready() (want map[string]uint64, err error) {
	want = map[string]uint64{}
	now := time.Now()
	for destination, highest := range p.u.cfg.Outbox.Outbound() {
		l := p.lane(destination)
		if l.want == 0 { // a destination that is new since the session began
			if err := p.goBack(destination, 0); err != nil {
				return nil, err
			}
		}
		if l.want > highest || now.Before(l.blocked) {
			continue
		}
		want[destination] = l.want
	}
	return want, nil
}

// earlier makes the call that moves lanes over what the relay took of them in an earlier
// epoch of this agent: sent again, it would be received again.
func (p *pusher) earlier() ([]*call, error) {
	c := newCall(p.g.mark.Epoch)
	now := time.Now()
	for destination, l := range p.lanes {
		if l.base == 0 || l.want > l.base || now.Before(l.blocked) {
			continue
		}
		pos, err := p.u.cfg.Outbox.Seek(destination, l.base+1)
		if err != nil {
			return nil, fmt.Errorf("find event %d of the lane to %s: %w", l.base+1, destination, err)
		}
		c.request.Gaps = append(c.request.Gaps, gapToWire(&Gap{Destination: destination, First: l.want, Last: l.base, Cause: takenEarlier}))
		p.advance(c, destination, l.base)
		l.pos = pos
	}
	if len(c.request.Gaps) == 0 {
		return nil, nil
	}
	return []*call{c}, nil
}

// probe leaves in want only a lane that was held back, if there is one, with a single block
// to send until the answer: what a full mailbox refuses must not fill the line for others.
func (p *pusher) probe(want map[string]uint64) (blocks int) {
	for destination := range want {
		l := p.lane(destination)
		if !l.probing {
			continue
		}
		l.blocked = time.Now().Add(p.u.cfg.CallTimeout)
		number := want[destination]
		clear(want)
		want[destination] = number
		return 1
	}
	return maxCutBlocks
}

// lowest is where the first of the lanes goes on in the journal.
func (p *pusher) lowest(want map[string]uint64) (pos uint64) {
	first := true
	for destination := range want {
		if l := p.lane(destination); first || l.pos < pos {
			pos, first = l.pos, false
		}
	}
	return pos
}

func newCall(epoch uint64) *call {
	return &call{request: &syncpb.PushRequest{Epoch: epoch}, last: map[string]uint64{}, floor: map[string]uint64{}, turn: map[string]int{}}
}

// cut makes the calls of one round and moves the lanes ahead; it says whether it got any
// further in the journal.
func (p *pusher) cut() (calls []*call, moved bool, err error) {
	calls, err = p.earlier()
	if err != nil || len(calls) > 0 {
		return calls, true, err
	}
	want, err := p.ready()
	if err != nil || len(want) == 0 {
		return nil, false, err
	}
	most := p.probe(want)
	from := p.lowest(want)
	cuts, next, err := p.u.cfg.Outbox.Cut(want, from, most)
	if err != nil {
		return nil, false, fmt.Errorf("cut blocks from position %d: %w", from, err)
	}
	if most == 1 && len(cuts) == 0 { // nothing was asked, so nothing will be answered
		for destination := range want {
			p.lane(destination).blocked = time.Time{}
		}
	}
	for i := range cuts {
		cut := &cuts[i]
		size := len(cut.Block)
		if len(calls) == 0 || calls[len(calls)-1].bytes+size > maxCallBytes {
			calls = append(calls, newCall(p.g.mark.Epoch))
		}
		c := calls[len(calls)-1]
		c.bytes += size
		if cut.Gap != nil {
			c.request.Gaps = append(c.request.Gaps, gapToWire(cut.Gap))
			p.advance(c, cut.Gap.Destination, cut.Gap.Last)
			// The relay handles a call's blocks before its gaps, so nothing may follow a gap in one call.
			c.bytes = maxCallBytes
			continue
		}
		c.request.Blocks = append(c.request.Blocks, cut.Block)
		for _, l := range cut.Lanes {
			p.advance(c, l.Agent, l.First+uint64(cut.Count)-1)
		}
	}
	for destination := range want {
		if l := p.lane(destination); l.pos < next {
			l.pos = next
		}
	}
	p.cutTo, p.cutAt = next, time.Now()
	return calls, next > from, nil
}

func (p *pusher) advance(c *call, destination string, last uint64) {
	l := p.lane(destination)
	l.want = last + 1
	c.last[destination], c.turn[destination] = last, l.turn
	if _, ok := c.floor[destination]; !ok {
		c.floor[destination] = l.taken
	}
	p.u.offered[destination] = max(p.u.offered[destination], last)
}

func gapToWire(g *Gap) *syncpb.Gap {
	cause := g.Cause
	if len(cause) > maxCause {
		cause = cause[:maxCause]
	}
	return &syncpb.Gap{Destination: g.Destination, First: g.First, Last: g.Last, Cause: strings.ToValidUTF8(cause, "")}
}

func (p *pusher) send(ctx context.Context, c *call) {
	callCtx, cancel := context.WithTimeout(ctx, p.u.cfg.CallTimeout)
	defer cancel()
	response, err := p.client.Push(callCtx, marked(p.g, c.request))
	a := answer{call: c, err: err}
	if err == nil {
		a.lanes = response.Msg.Lanes
	}
	select {
	case p.answers <- a:
	case <-ctx.Done():
	}
}

// take learns from one answer. A failed call ends the session: the next Hello tells what
// of it arrived.
func (p *pusher) take(a answer) error {
	p.calls--
	if a.err != nil {
		return fmt.Errorf("push: %w", a.err)
	}
	answered := map[string]bool{}
	for _, l := range a.lanes {
		answered[l.Destination] = true
		if err := p.takeLane(a.call, l); err != nil {
			return err
		}
	}
	for destination := range a.call.last {
		if !answered[destination] {
			return fmt.Errorf("push: the answer leaves out the lane to %s", destination)
		}
	}
	p.u.cfg.Metrics.pushed(len(a.call.request.Blocks), a.call.bytes)
	return nil
}

func (p *pusher) takeLane(c *call, answer *syncpb.LaneAnswer) error {
	l := p.lane(answer.Destination)
	if answer.Highwater > p.u.most(answer.Destination) {
		return errBehind // the next hello tells so too, and then a new epoch begins
	}
	if answer.Highwater < c.floor[answer.Destination] {
		return errRewound
	}
	if answer.Highwater > l.taken {
		l.taken = answer.Highwater
		p.u.cfg.Outbox.Taken(answer.Destination, l.taken)
	}
	if answer.Full || answer.Refused != "" {
		l.blocked = time.Now().Add(p.u.cfg.FullRetry)
		p.u.cfg.Metrics.heldBack(answer.Destination)
		l.probing = true
		if answer.Refused != "" && answer.Refused != l.refused {
			p.u.log.Warn("the relay refuses a destination; its events wait here", "destination", answer.Destination, "cause", answer.Refused)
		}
		l.refused = answer.Refused
	} else if l.probing {
		l.probing, l.refused, l.blocked = false, "", time.Time{}
	}
	if l.taken >= c.last[answer.Destination] || c.turn[answer.Destination] != l.turn {
		return nil // all of it is there, or a later turn has seen to it
	}
	return p.goBack(answer.Destination, l.taken)
}

// await blocks until there may be something to do: an answer, new events, or a lane that
// was held back and may be tried again. What waits for more does so for the pause at most.
func (p *pusher) await(ctx context.Context, pause time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	grown, beyond := make(chan error, 1), p.seen
	var timer <-chan time.Time
	if next, ok := p.nextTry(); ok {
		timer = time.After(time.Until(next))
	}
	if pause > 0 { // shorter than any other
		timer, beyond = time.After(pause), p.cutTo+block.MaxEvents-1
	}
	if p.calls < maxCalls {
		go func() { grown <- p.u.cfg.Outbox.Wait(ctx, beyond) }()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case a := <-p.answers:
		return p.take(a)
	case <-timer:
		return nil
	case err := <-grown:
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return ctx.Err()
	}
}

func (p *pusher) nextTry() (next time.Time, ok bool) {
	now := time.Now()
	for _, l := range p.lanes {
		if l.blocked.After(now) && (!ok || l.blocked.Before(next)) {
			next, ok = l.blocked, true
		}
	}
	return next, ok
}
