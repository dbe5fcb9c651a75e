package state

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

type laneName struct {
	source string
	epoch  uint64
}

// goingBack is one lane of a destination that goes back.
type goingBack struct {
	laneName
	row    *laneRow
	resend bool   // its source can send again; else what waits is kept behind a gap
	from   uint64 // position in the mailbox from which its mail is taken out
	lost   uint64 // position of what cannot be read; 0: nothing of it

	high  uint64 // the new high-water, when the source sends again
	acked uint64 // what the destination holds
	gap   model.Gap
	mail  []*mailRow
	spoil *mailRow // at lost
}

// canResend says whether a lane's source can still push to it.
func (t *tx) canResend(l laneName) bool {
	agent := get[model.Agent](t.view, tableAgents, []byte(l.source))
	return agent != nil && agent.Revoked.IsZero() && agent.Epoch == l.epoch
}

// rewind sets lanes of one destination back. Mail that its source sends again is set aside;
// a gap stands before it where something is not to be sent again. Positions only rise: what
// stays behind a gap gets new ones.
func (t *tx) rewind(destination string, lanes []*goingBack, at time.Time) {
	byName := make(map[laneName]*goingBack, len(lanes))
	for _, l := range lanes {
		byName[l.laneName] = l
	}
	box := t.box(destination)
	out := t.takeOut(destination, box, func(position uint64, m *mailRow) bool {
		l := byName[laneName{m.Source, m.Epoch}]
		if l != nil && position == l.lost {
			l.spoil = m
		}
		return l != nil && position >= l.from
	}, math.MaxUint64)
	put(t, tableBoxes, []byte(destination), box)
	for _, m := range out {
		l := byName[laneName{m.Source, m.Epoch}]
		l.mail = append(l.mail, m)
	}
	for _, l := range lanes {
		if l.gap.First != 0 && l.gap.First <= l.gap.Last {
			l.gap.Source, l.gap.Epoch, l.gap.Destination = l.source, l.epoch, destination
			t.gapMail(&l.gap, at)
		}
		l.row.Acked = l.acked
		if l.resend {
			l.row.Highwater = l.high
			t.changed("rewound/" + l.source)
		}
		put(t, tableLanes, key(l.source, l.epoch, []byte(destination)), l.row)
		for _, m := range l.mail {
			switch {
			case m == l.spoil:
				t.release(m.Block)
			case !l.resend:
				t.mail(destination, m)
			case m.Gap != nil: // its source says so again
			case m.Last <= l.high:
				t.release(m.Block)
			default:
				t.setAside(destination, m)
			}
		}
	}
	t.unflushMoves(destination)
}

// behind sets back the lanes of which an agent holds less than it has acknowledged.
func (t *tx) behind(c *model.Behind) (*model.BehindResult, *model.Error) {
	agent, err := t.speaker(c.Agent)
	if err != nil {
		return nil, err
	}
	if c.Epoch != 0 && c.Epoch != agent.Epoch {
		return nil, fenced(agent, c.Epoch)
	}
	holds := make(map[laneName]uint64, len(c.Inbound))
	for _, l := range c.Inbound {
		holds[laneName{l.Source, l.Epoch}] = l.Highwater
	}
	var lanes []*goingBack
	var said []string
	result := &model.BehindResult{}
	for _, l := range t.inboundLanes(c.Agent) {
		name := laneName{l.Source, l.Epoch}
		if holds[name] >= l.Acked {
			continue
		}
		back, text := t.back(c.Agent, name, holds[name])
		lanes = append(lanes, back)
		if len(said) < 10 {
			said = append(said, text)
		}
		if back.resend && !slices.Contains(result.Sources, l.Source) {
			result.Sources = append(result.Sources, l.Source)
		}
	}
	if len(lanes) == 0 {
		return result, nil
	}
	t.rewind(c.Agent, lanes, c.At)
	if more := len(lanes) - len(said); more > 0 {
		said = append(said, fmt.Sprintf("and %d more", more))
	}
	t.except(&model.Exception{
		ID: fmt.Sprintf("%s/behind/%d/%d", agent.Name, agent.Epoch, agent.Session), Agent: agent.Name, Kind: "behind", At: c.At,
		Text: clip(fmt.Sprintf("Agent %s holds less than it had confirmed: its data is an old copy, or was lost. %s. What its systems got twice, they "+
			"got with the same idempotency key.", agent.Name, strings.Join(said, "; ")), maxText),
	})
	t.audit(c.At, "agent:"+agent.Name, "agent.behind", agent.Name, map[string]any{"lanes": len(lanes), "sources": result.Sources})
	return result, nil
}

// back decides how far a lane goes back, and says it for people.
func (t *tx) back(destination string, name laneName, holds uint64) (*goingBack, string) {
	row := get[laneRow](t.view, tableLanes, key(name.source, name.epoch, []byte(destination)))
	l := &goingBack{laneName: name, row: row, resend: t.canResend(name), acked: holds}
	settled := max(holds, min(row.Settled, row.Highwater))
	if l.resend {
		l.high = settled
		l.gap = model.Gap{First: holds + 1, Last: settled, Cause: "delivered before this copy of the agent's data"}
		if row.Dropped+row.Unsure > 0 {
			l.gap.Cause += ", or given up when the agent was forgotten"
		}
		return l, fmt.Sprintf("%s sends %d events again", name.source, row.Peak-min(settled, row.Peak))
	}
	l.gap = model.Gap{First: holds + 1, Last: row.Acked, Cause: "confirmed by a copy of the agent's data that is lost, and the sender cannot send it again"}
	lost := row.Acked - min(settled, row.Acked)
	if lost == 0 {
		return l, fmt.Sprintf("all from epoch %d of %s had been delivered", name.epoch, name.source)
	}
	return l, fmt.Sprintf("%s cannot send again %d events that may not have been delivered (%d to %d of its epoch %d)",
		name.source, lost, row.Acked-lost+1, row.Acked, name.epoch)
}

// loseMail gives up a piece of mail that a node cannot read. A piece that is gone already
// needs nothing.
func (t *tx) loseMail(c *model.LoseMail) *model.Error {
	if t.raw(tableAgents, []byte(c.Agent)) == nil && t.raw(tableBoxes, []byte(c.Agent)) == nil {
		return model.Errorf(model.NotFound, "there is no agent %q", clip(c.Agent, maxName))
	}
	m := get[mailRow](t.view, tableMail, key(c.Agent, c.Position))
	if m == nil || m.Gap != nil {
		return nil
	}
	name := laneName{m.Source, m.Epoch}
	row := get[laneRow](t.view, tableLanes, key(m.Source, m.Epoch, []byte(c.Agent)))
	if row == nil {
		panic(fault{fmt.Errorf("mail %d of %s is of no lane", c.Position, c.Agent)})
	}
	l := &goingBack{laneName: name, row: row, resend: t.canResend(name), from: c.Position, lost: c.Position, acked: row.Acked}
	// It may begin with what came before it already, and that is not lost.
	first := max(m.First, t.cameBefore(c.Agent, name, c.Position, row.Acked)+1)
	l.high = first - 1
	said := "is sent again by it"
	if !l.resend {
		said = "cannot be sent again, because that agent is gone or runs on other data: compare with its systems"
		l.gap = model.Gap{First: first, Last: m.Last, Cause: "damaged at the control plane, and the sender cannot send it again"}
	}
	t.rewind(c.Agent, []*goingBack{l}, c.At)
	t.except(&model.Exception{
		ID: fmt.Sprintf("%s/lost-mail/%d", c.Agent, c.Position), Agent: c.Agent, Kind: "lost-mail", At: c.At,
		Text: fmt.Sprintf("Events %d to %d from %s to %s could not be read at node %s (%s): what was lost %s. Check the disk of that node.",
			first, m.Last, m.Source, c.Agent, clip(c.Node, maxName), clip(c.Why, maxText/4), said),
	})
	t.audit(c.At, "node:"+clip(c.Node, maxName), "mail.lost", c.Agent, map[string]any{
		"position": c.Position, "source": m.Source, "epoch": m.Epoch, "first": first, "last": m.Last, "resent": l.resend,
	})
	return nil
}

// cameBefore is how far a lane has come before a position in its mailbox.
func (v view) cameBefore(agent string, l laneName, position, acked uint64) uint64 {
	v.each(tableMail, key(agent), nil, func(k, value []byte) bool {
		if last8(k) >= position {
			return false
		}
		if m := parse[mailRow](tableMail, k, value); m.Source == l.source && m.Epoch == l.epoch {
			acked = max(acked, m.Last)
		}
		return true
	})
	return acked
}

func (v view) inboundLanes(destination string) (lanes []model.Lane) {
	prefix := key(destination)
	v.each(tableInbound, prefix, nil, func(k, _ []byte) bool {
		epoch := last8(k)
		source := string(k[len(prefix) : len(k)-9])
		if row := get[laneRow](v, tableLanes, key(source, epoch, []byte(destination))); row != nil {
			lanes = append(lanes, row.lane(source, epoch, destination))
		}
		return true
	})
	return lanes
}

func (row *laneRow) lane(source string, epoch uint64, destination string) model.Lane {
	return model.Lane{
		Source: source, Epoch: epoch, Destination: destination,
		Highwater: row.Highwater, Acked: row.Acked, Settled: row.Settled,
	}
}

// InboundLanes lists the lanes to an agent, of all sources and epochs.
func (r *Reader) InboundLanes(destination string) (lanes []model.Lane) {
	r.read(func(v view) { lanes = v.inboundLanes(destination) })
	return lanes
}
