package state

import (
	"fmt"
	"math"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// mailOverhead is what a piece of mail counts for beside its block.
const mailOverhead = 256

// lane is one lane that a push touches, as it stands within the command.
type lane struct {
	answer    model.LaneAnswer
	row       laneRow
	known     bool // it has a row
	forgotten bool // its destination: what is sent is taken and not kept
}

// pushing is one push under way.
type pushing struct {
	*tx
	cmd    *model.Push
	limits model.Limits
	lanes  []*lane // in the order of their first mention
	byName map[string]*lane
}

// push takes what is next in line on each lane and changes nothing on the others: whether
// a block comes twice, too early or again after a lost answer, the lane stays dense.
func (t *tx) push(c *model.Push) (*model.PushResult, *model.Error) {
	agent, err := t.speaker(c.Agent)
	if err != nil {
		return nil, err
	}
	if c.Epoch != agent.Epoch {
		return nil, fenced(agent, c.Epoch)
	}
	envelopes, err := checkPush(c)
	if err != nil {
		return nil, err
	}
	p := &pushing{tx: t, cmd: c, limits: t.cluster().Limits, byName: map[string]*lane{}}
	for i, e := range envelopes {
		p.block(e, c.Blocks[i])
	}
	for i := range c.Gaps {
		p.gap(&c.Gaps[i])
	}
	return p.finish(), nil
}

// checkPush looks at all of a push before anything is changed.
func checkPush(c *model.Push) ([]block.Envelope, *model.Error) {
	envelopes := make([]block.Envelope, len(c.Blocks))
	for i, text := range c.Blocks {
		e, err := block.ParseEnvelope(text)
		if err != nil {
			return nil, model.Errorf(model.Invalid, "block %d of the push: %v; send a gap for what cannot be sent", i, err)
		}
		if e.Origin.Agent != c.Agent || e.Origin.Epoch != c.Epoch {
			return nil, model.Errorf(model.Invalid, "block %d of the push is of agent %q, epoch %d", i, clip(e.Origin.Agent, maxName), e.Origin.Epoch)
		}
		seen := make(map[string]bool, len(e.To))
		for _, to := range e.To {
			if seen[to.Agent] {
				return nil, model.Errorf(model.Invalid, "block %d of the push names %q twice", i, clip(to.Agent, maxName))
			}
			seen[to.Agent] = true
		}
		envelopes[i] = e
	}
	for i, g := range c.Gaps {
		if g.First == 0 || g.Last < g.First || g.Last > math.MaxInt64 {
			return nil, model.Errorf(model.Invalid, "gap %d of the push goes from %d to %d", i, g.First, g.Last)
		}
	}
	return envelopes, nil
}

func (p *pushing) laneKey(destination string) []byte {
	return key(p.cmd.Agent, p.cmd.Epoch, []byte(destination))
}

func (p *pushing) lane(destination string) *lane {
	if l := p.byName[destination]; l != nil {
		return l
	}
	l := &lane{answer: model.LaneAnswer{Destination: destination}}
	if destination != block.Control {
		l.answer.Refused, l.forgotten = p.destination(destination)
	}
	if row := get[laneRow](p.view, tableLanes, p.laneKey(destination)); row != nil {
		l.row, l.known, l.answer.Highwater = *row, true, row.Highwater
	}
	p.byName[destination] = l
	p.lanes = append(p.lanes, l)
	return l
}

func (p *pushing) finish() *model.PushResult {
	result := &model.PushResult{Lanes: make([]model.LaneAnswer, 0, len(p.lanes))}
	whole := false
	for _, l := range p.lanes {
		result.Lanes = append(result.Lanes, l.answer)
		if l.answer.Highwater == l.row.Highwater {
			continue
		}
		again, to := l.row.Highwater < l.row.Peak, l.answer.Destination
		whole = whole || again && l.answer.Highwater >= l.row.Peak
		l.row.Highwater = l.answer.Highwater
		l.row.Peak = max(l.row.Peak, l.row.Highwater)
		if again {
			p.dropSpares(to, laneName{p.cmd.Agent, p.cmd.Epoch}, l.row.Highwater)
		}
		if !l.known {
			p.putRaw(tableInbound, key(to, p.cmd.Agent, p.cmd.Epoch), nil)
		}
		if l.forgotten {
			l.row.Acked, l.row.Settled = l.row.Highwater, l.row.Highwater
		}
		put(p.tx, tableLanes, p.laneKey(to), &l.row)
		if l.forgotten {
			p.forgotten(to, p.cmd.Agent, p.cmd.Epoch, &l.row, p.cmd.At)
		}
	}
	if whole {
		p.flushMoves(p.cmd.At)
	}
	return result
}

// next says whether something that begins with first is next in line, and moves the lane
// if there is room for it. The control plane itself always has room.
func (p *pushing) next(l *lane, first, last uint64, size int64) bool {
	if l.answer.Refused != "" || first != l.answer.Highwater+1 {
		return false
	}
	if !l.forgotten && l.answer.Destination != block.Control && !p.room(l.answer.Destination, size) {
		l.answer.Full = true
		return false
	}
	l.answer.Highwater = last
	return true
}

// room looks at both limits. An empty mailbox takes one piece in any case, so that mail
// for agents that are away never stops those that are there.
func (p *pushing) room(destination string, size int64) bool {
	box := p.box(destination)
	return box.Bytes == 0 || box.Bytes+size+mailOverhead <= p.limits.MailboxBytes && p.n.RelayBytes+size <= p.limits.RelayBytes
}

func (p *pushing) block(e block.Envelope, text []byte) {
	var takers []block.Lane
	for _, to := range e.To {
		l := p.lane(to.Agent)
		if !p.next(l, to.First, e.Last(to.First), int64(len(text))) {
			continue
		}
		if l.forgotten {
			l.row.Dropped += uint64(e.Count)
			continue
		}
		if to.Agent == block.Control {
			p.facts(p.cmd.Agent, p.cmd.Epoch, to.First, text, p.cmd.At)
			continue
		}
		takers = append(takers, to)
	}
	if len(takers) == 0 {
		return
	}
	p.n.Block++
	id := p.n.Block
	p.putRaw(tableBlocks, key(id), text)
	put(p.tx, tableBlockRefs, key(id), &refsRow{Refs: uint64(len(takers)), Bytes: int64(len(text))})
	p.n.Blocks++
	p.n.RelayBytes += int64(len(text))
	for _, to := range takers {
		p.mail(to.Agent, &mailRow{
			Block: id, Relayed: p.cmd.At, Bytes: int64(len(text)) + mailOverhead, Events: uint64(e.Count),
			Source: p.cmd.Agent, Epoch: p.cmd.Epoch, First: to.First, Last: e.Last(to.First),
		})
	}
}

func (p *pushing) gap(g *model.Gap) {
	gap := *g
	gap.Source, gap.Epoch, gap.Cause = p.cmd.Agent, p.cmd.Epoch, clip(g.Cause, maxText)
	l := p.lane(gap.Destination)
	if !p.next(l, gap.First, gap.Last, int64(len(gap.Cause))) || l.forgotten {
		return
	}
	missing := []model.Gap{gap}
	if gap.Destination != block.Control {
		l.answer.Highwater, missing = p.fill(gap, p.cmd.At)
	}
	for _, piece := range missing {
		p.missing(piece)
	}
}

// missing tells people of a gap.
func (p *pushing) missing(gap model.Gap) {
	// The lane of a new epoch begins with what the one before has brought already.
	first := max(gap.First, p.takenBefore(gap.Destination)+1)
	if first > gap.Last {
		return
	}
	p.except(&model.Exception{
		ID: fmt.Sprintf("%s/gap/%d/%s/%d", gap.Source, gap.Epoch, gap.Destination, gap.First), Agent: gap.Source, Kind: "gap", At: p.cmd.At,
		Text: fmt.Sprintf("events %d to %d from %s to %s were not sent: %s", first, gap.Last, gap.Source, gap.Destination, gap.Cause),
	})
}

// takenBefore is how far the lane to a destination had come in any earlier epoch. Numbers
// go on over epochs, so a gap up to there loses nothing.
func (p *pushing) takenBefore(destination string) (highest uint64) {
	p.each(tableInbound, key(destination, p.cmd.Agent), nil, func(k, _ []byte) bool {
		if epoch := last8(k); epoch < p.cmd.Epoch {
			if row := get[laneRow](p.view, tableLanes, key(p.cmd.Agent, epoch, []byte(destination))); row != nil {
				highest = max(highest, row.Highwater)
			}
		}
		return true
	})
	return highest
}
