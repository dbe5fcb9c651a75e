package state

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

const (
	mailOverhead = 256 // what a piece of mail counts for beside its block
	maxStatus    = 64 << 10
)

// lane is one lane that a push touches, as it stands within the command.
type lane struct {
	answer model.LaneAnswer
	before uint64
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
		return nil, model.Errorf(model.Forbidden, "epoch %d of agent %s is fenced; its epoch is %d", c.Epoch, c.Agent, agent.Epoch)
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
		l.answer.Refused = p.destination(destination)
	}
	if row := get[laneRow](p.view, tableLanes, p.laneKey(destination)); row != nil {
		l.answer.Highwater, l.before = row.Highwater, row.Highwater
	}
	p.byName[destination] = l
	p.lanes = append(p.lanes, l)
	return l
}

func (p *pushing) finish() *model.PushResult {
	result := &model.PushResult{Lanes: make([]model.LaneAnswer, 0, len(p.lanes))}
	for _, l := range p.lanes {
		if l.answer.Highwater != l.before {
			put(p.tx, tableLanes, p.laneKey(l.answer.Destination), &laneRow{l.answer.Highwater})
		}
		result.Lanes = append(result.Lanes, l.answer)
	}
	return result
}

// next says whether something that begins with first is next in line, and moves the lane
// if there is room for it. The control plane itself always has room.
func (p *pushing) next(l *lane, first, last uint64, size int64) bool {
	if l.answer.Refused != "" || first != l.answer.Highwater+1 {
		return false
	}
	if l.answer.Destination != block.Control && !p.room(l.answer.Destination, size) {
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
	return box.Acked == box.Last || box.Bytes+size+mailOverhead <= p.limits.MailboxBytes && p.n.RelayBytes+size <= p.limits.RelayBytes
}

func (p *pushing) block(e block.Envelope, text []byte) {
	var takers []string
	for _, to := range e.To {
		if !p.next(p.lane(to.Agent), to.First, e.Last(to.First), int64(len(text))) {
			continue
		}
		if to.Agent == block.Control {
			p.facts(p.cmd.Agent, p.cmd.Epoch, to.First, text, p.cmd.At)
			continue
		}
		takers = append(takers, to.Agent)
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
	for _, agent := range takers {
		p.mail(agent, &mailRow{Block: id, Relayed: p.cmd.At, Bytes: int64(len(text)) + mailOverhead, Events: uint64(e.Count)})
	}
}

func (p *pushing) gap(g *model.Gap) {
	gap := *g
	gap.Source, gap.Epoch, gap.Cause = p.cmd.Agent, p.cmd.Epoch, clip(g.Cause, maxText)
	if !p.next(p.lane(gap.Destination), gap.First, gap.Last, int64(len(gap.Cause))) {
		return
	}
	if gap.Destination != block.Control {
		p.mail(gap.Destination, &mailRow{Gap: &gap, Relayed: p.cmd.At, Bytes: int64(len(gap.Cause)) + mailOverhead})
	}
	p.except(&model.Exception{
		ID: fmt.Sprintf("%s/gap/%d/%s/%d", gap.Source, gap.Epoch, gap.Destination, gap.First), Agent: gap.Source, Kind: "gap", At: p.cmd.At,
		Text: fmt.Sprintf("events %d to %d from %s to %s were not sent: %s", gap.First, gap.Last, gap.Source, gap.Destination, gap.Cause),
	})
}

func (t *tx) box(agent string) *boxRow {
	if row := get[boxRow](t.view, tableBoxes, []byte(agent)); row != nil {
		return row
	}
	return &boxRow{}
}

func (t *tx) mail(agent string, m *mailRow) {
	box := t.box(agent)
	box.Last++
	box.Bytes += m.Bytes
	box.Events += m.Events
	put(t, tableMail, key(agent, box.Last), m)
	put(t, tableBoxes, []byte(agent), box)
	t.changed("mail/" + agent)
}

func (t *tx) ack(c *model.Ack) *model.Error {
	agent, err := t.speaker(c.Agent)
	if err != nil {
		return err
	}
	t.acknowledge(c.Agent, c.Mailbox)
	for _, a := range c.Answers {
		t.answered(c.Agent, a, c.At)
	}
	agent.LastSeen = c.At
	// A status that is none is passed over: telemetry must not hold back mail.
	if len(c.Status) > 0 && len(c.Status) <= maxStatus && json.Valid(c.Status) {
		agent.Status = c.Status
	}
	put(t, tableAgents, []byte(agent.Name), agent)
	return nil
}

// acknowledge removes an agent's mail up to a position. A position that was never given
// out belongs to another history of this mailbox, and removes nothing.
func (t *tx) acknowledge(agent string, upTo uint64) {
	box := t.box(agent)
	if upTo <= box.Acked || upTo > box.Last {
		return
	}
	var keys [][]byte
	t.each(tableMail, key(agent), nil, func(k, value []byte) bool {
		if last8(k) > upTo {
			return false
		}
		m := parse[mailRow](tableMail, k, value)
		box.Bytes -= m.Bytes
		box.Events -= m.Events
		if m.Gap == nil {
			t.release(m.Block)
		}
		keys = append(keys, slices.Clone(k))
		return true
	})
	for _, k := range keys {
		t.remove(tableMail, k)
	}
	box.Acked = upTo
	put(t, tableBoxes, []byte(agent), box)
}

// release gives up one reference to a block; the block goes with its last.
func (t *tx) release(id uint64) {
	refs := get[refsRow](t.view, tableBlockRefs, key(id))
	if refs == nil || refs.Refs == 0 {
		panic(fault{fmt.Errorf("block %d has mail but no reference", id)})
	}
	refs.Refs--
	if refs.Refs > 0 {
		put(t, tableBlockRefs, key(id), refs)
		return
	}
	t.remove(tableBlockRefs, key(id))
	t.remove(tableBlocks, key(id))
	t.n.Blocks--
	t.n.RelayBytes -= refs.Bytes
}

func commandID(number uint64) string { return "c" + strconv.FormatUint(number, 10) }

// answered takes an agent's answer to a command: it is done with, and an error goes to the
// dead letter that it was about. What became of the replay comes as a fact.
func (t *tx) answered(agent string, a model.CommandAnswer, at time.Time) {
	text, ok := strings.CutPrefix(a.ID, "c")
	number, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil {
		return
	}
	k := key(agent, number)
	cmd := get[model.AgentCommand](t.view, tableCommands, k)
	if cmd == nil {
		return
	}
	t.remove(tableCommands, k)
	t.changed("commands/" + agent)
	var args model.ResolveArguments
	if err := json.Unmarshal(cmd.Arguments, &args); err != nil {
		panic(fault{fmt.Errorf("arguments of command %s: %w", cmd.ID, err)}) // written here
	}
	row := get[letterRow](t.view, tableLetters, []byte(args.DeadLetter))
	if row == nil || row.Asked != number {
		return
	}
	letter := row.Letter
	if a.Error != "" && letter.State == model.DeadLetterReplaying {
		letter.State = model.DeadLetterOpen
		letter.Reason = clip(cmd.Kind+" failed: "+a.Error, maxText)
	}
	t.storeLetter(row, &letter, 0, at)
}
