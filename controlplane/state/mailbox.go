package state

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

const (
	maxStatus  = 64 << 10
	maxReports = 4096 // lanes or moves that one call may tell of
)

func (t *tx) box(agent string) *boxRow {
	if row := get[boxRow](t.view, tableBoxes, []byte(agent)); row != nil {
		return row
	}
	return &boxRow{Acked: t.floor(), Last: t.floor()}
}

// floor is the position that mailboxes go on from in this generation of the cluster. What
// an agent acknowledges from a life that was lost lies below it, and can never remove mail
// that was put in after the restore.
func (t *tx) floor() uint64 {
	if g := t.cluster().Generation; g > 1 {
		return g << generationShift
	}
	return 0
}

// raiseBoxes brings all mailboxes to the floor. Their mail keeps its positions.
func (t *tx) raiseBoxes() {
	var names [][]byte
	t.each(tableBoxes, nil, nil, func(k, _ []byte) bool { names = append(names, slices.Clone(k)); return true })
	for _, name := range names {
		box := get[boxRow](t.view, tableBoxes, name)
		box.Last = max(box.Last, t.floor())
		put(t, tableBoxes, name, box)
	}
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

// gapMail puts a gap into the mailbox of its destination.
func (t *tx) gapMail(gap *model.Gap, at time.Time) {
	t.mail(gap.Destination, &mailRow{
		Gap: gap, Relayed: at, Bytes: int64(len(gap.Cause)) + mailOverhead,
		Source: gap.Source, Epoch: gap.Epoch, First: gap.First, Last: gap.Last,
	})
}

func (t *tx) ack(c *model.Ack) *model.Error {
	agent, err := t.speaker(c.Agent)
	if err != nil {
		return err
	}
	if c.Epoch != 0 && c.Epoch != agent.Epoch {
		return fenced(agent, c.Epoch)
	}
	t.moveReports(agent, c) // before the rest: what it says is older than what it acknowledges now
	t.acknowledge(c.Agent, c.Mailbox)
	t.settle(c)
	for _, a := range c.Answers {
		t.answered(c.Agent, a, c.At)
	}
	agent.LastSeen = c.At
	if c.Node != "" {
		agent.Node = clip(c.Node, maxName)
	}
	// A status that is none is passed over: telemetry must not hold back mail.
	if len(c.Status) > 0 && len(c.Status) <= maxStatus && json.Valid(c.Status) {
		t.releaseReport(agent, c.Status, c.At)
		agent.Status = c.Status
	}
	flushed := agent.Flushed.Less(c.Flushed)
	if flushed {
		agent.Flushed = c.Flushed
	}
	put(t, tableAgents, []byte(agent.Name), agent)
	if flushed {
		t.flushMoves(c.At)
	}
	return nil
}

// acknowledge removes an agent's mail up to a position. A position that was never given
// out belongs to another history of this mailbox, and removes nothing.
func (t *tx) acknowledge(agent string, upTo uint64) {
	box := t.box(agent)
	if upTo <= box.Acked || upTo > box.Last {
		return
	}
	came := map[string]uint64{}
	var lanes []string // in the order of their mail
	for _, m := range t.takeOut(agent, box, func(position uint64, _ *mailRow) bool { return position <= upTo }, upTo) {
		k := string(key(m.Source, m.Epoch, []byte(agent)))
		if _, known := came[k]; !known {
			lanes = append(lanes, k)
		}
		came[k] = m.Last
		if m.Gap == nil {
			t.release(m.Block)
		}
	}
	box.Acked = upTo
	put(t, tableBoxes, []byte(agent), box)
	for _, k := range lanes {
		row := get[laneRow](t.view, tableLanes, []byte(k))
		if row != nil && came[k] > row.Acked {
			row.Acked = came[k]
			put(t, tableLanes, []byte(k), row)
		}
	}
}

// takeOut removes pieces of mail from a mailbox and from its counts, and gives them in
// their order. It looks at no position beyond last; the caller stores the box, and gives
// up the references to the blocks or puts the mail in again.
func (t *tx) takeOut(agent string, box *boxRow, which func(uint64, *mailRow) bool, last uint64) (out []*mailRow) {
	var keys [][]byte
	t.each(tableMail, key(agent), nil, func(k, value []byte) bool {
		position := last8(k)
		if position > last {
			return false
		}
		if m := parse[mailRow](tableMail, k, value); which(position, m) {
			out, keys = append(out, m), append(keys, slices.Clone(k))
			box.Bytes -= m.Bytes
			box.Events -= m.Events
		}
		return true
	})
	for _, k := range keys {
		t.remove(tableMail, k)
	}
	return out
}

// settle notes how far the deliveries of inbound lanes are done. It only goes up: what was
// delivered once is delivered, whatever copy of the agent speaks.
func (t *tx) settle(c *model.Ack) {
	for _, l := range c.Settled[:min(len(c.Settled), maxReports)] {
		k := key(l.Source, l.Epoch, []byte(c.Agent))
		if row := get[laneRow](t.view, tableLanes, k); row != nil && row.Settled < l.Settled {
			row.Settled = l.Settled
			put(t, tableLanes, k, row)
		}
	}
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
