package store

import (
	"context"
	"sync"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// lineWait is how long a push waits for the one before it. Its agent has sent that one
// already, so that only a loss on the way makes it late.
const lineWait = 2 * time.Second

// maxBack is how many lanes of an agent are noted as held back. For more, pushes may wait.
const maxBack = 1024

// lineup brings the pushes of an agent back into the order in which they were cut. An agent
// makes several calls at a time, and neither HTTP nor the way here from another node keeps
// them in order. The state takes only what is next in line: a push that has overtaken
// another would be refused, and all that was cut since sent again.
//
// It only waits, and decides nothing: the state does.
type lineup struct {
	mu    sync.Mutex
	lines map[lineName]*line // guarded by mu; of agents with a push here, or a lane that is held back
}

type lineName struct {
	agent string
	epoch uint64
}

type line struct {
	pushes int               // here, and not answered yet
	last   map[string]uint64 // by destination: up to where pushes have been submitted
	back   map[string]bool   // destinations without room, or refused: what is cut ahead for them is sent in vain
	turn   int               // counts answers by which a lane went back: nobody waits for what was before
	moved  chan struct{}     // closed when last or turn changes
}

// span is what a push carries for one destination.
type span struct{ first, last uint64 }

// spansOf reads what a push carries. What cannot be read is left to the state to refuse.
func spansOf(p *model.Push) map[string]span {
	spans := map[string]span{}
	add := func(destination string, first, last uint64) {
		s, known := spans[destination]
		if !known {
			s = span{first, last}
		}
		spans[destination] = span{min(s.first, first), max(s.last, last)}
	}
	for _, text := range p.Blocks {
		e, err := block.ParseEnvelope(text)
		if err != nil {
			continue
		}
		for _, to := range e.To {
			add(to.Agent, to.First, e.Last(to.First))
		}
	}
	for i := range p.Gaps {
		add(p.Gaps[i].Destination, p.Gaps[i].First, p.Gaps[i].Last)
	}
	return spans
}

func newLineup() *lineup { return &lineup{lines: map[lineName]*line{}} }

// enter waits until a push is next in line on all of its lanes, or has no reason to wait any
// longer. Highwaters gives how far the lanes are in the state. Leave must follow.
func (u *lineup) enter(ctx context.Context, name lineName, spans map[string]span, highwaters func() map[string]uint64) {
	l, turn := u.come(name)
	late := time.NewTimer(lineWait)
	defer late.Stop()
	for {
		if ready, _ := u.ready(l, turn, spans, nil); ready {
			return
		}
		ready, moved := u.ready(l, turn, spans, highwaters())
		if ready {
			return
		}
		select {
		case <-moved:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (u *lineup) come(name lineName) (l *line, turn int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l = u.lines[name]
	if l == nil {
		l = &line{last: map[string]uint64{}, back: map[string]bool{}, moved: make(chan struct{})}
		u.lines[name] = l
	}
	l.pushes++
	return l, l.turn
}

// ready says whether a push may go on, and gives what is closed when that may have changed.
func (u *lineup) ready(l *line, turn int, spans map[string]span, held map[string]uint64) (bool, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return l.turn != turn || l.next(spans, held), l.moved
}

// next says whether everything before spans has been submitted, or is held. A lane that is
// held back is no reason to wait: the other lanes of the push would wait with it.
func (l *line) next(spans map[string]span, held map[string]uint64) bool {
	for destination, s := range spans {
		if !l.back[destination] && s.first > max(l.last[destination], held[destination])+1 {
			return false
		}
	}
	return true
}

// submitted lets the next one in.
func (u *lineup) submitted(name lineName, spans map[string]span) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.lines[name]
	for destination, s := range spans {
		l.last[destination] = max(l.last[destination], s.last)
	}
	l.wake()
}

// leave takes the answer to a push. Where it shows less than was pushed, the agent goes back,
// and whoever waits behind it waits in vain.
func (u *lineup) leave(name lineName, spans map[string]span, a answer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.lines[name]
	back := a.Err != nil
	if result, ok := a.Value.(*model.PushResult); ok {
		for i := range result.Lanes {
			lane := &result.Lanes[i]
			if lane.Highwater >= spans[lane.Destination].last {
				delete(l.back, lane.Destination)
				continue
			}
			l.last[lane.Destination] = lane.Highwater
			back = true
			if (lane.Full || lane.Refused != "") && len(l.back) < maxBack {
				l.back[lane.Destination] = true // until all of a push is taken again
			}
		}
	}
	if back {
		l.turn++
	}
	l.wake()
	if l.pushes--; l.pushes > 0 {
		return
	}
	if clear(l.last); len(l.back) == 0 {
		delete(u.lines, name)
	}
}

func (l *line) wake() {
	close(l.moved)
	l.moved = make(chan struct{})
}

// offerPush submits a push when it is next in line.
func (s *Store) offerPush(ctx context.Context, p *model.Push, text []byte) (wait func() answer) {
	name, spans := lineName{p.Agent, p.Epoch}, spansOf(p)
	s.lineup.enter(ctx, name, spans, func() map[string]uint64 {
		held := map[string]uint64{}
		for _, lane := range s.Lanes(p.Agent, p.Epoch) {
			held[lane.Destination] = lane.Highwater
		}
		return held
	})
	r := s.submit(ctx, text)
	s.lineup.submitted(name, spans)
	return func() answer {
		a := s.wait(ctx, r)
		s.lineup.leave(name, spans, a)
		return a
	}
}
