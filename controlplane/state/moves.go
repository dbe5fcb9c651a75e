package state

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Limits on moves.
const (
	maxMoves   = 1000
	maxWaiting = 100 // agents named as those that a move waits for
)

// checkMoves looks at the moves of a proposal and gives them by the new systems' names.
func checkMoves(moves []model.Move, sites []string) ([]model.Move, *model.Error) {
	if len(moves) > maxMoves {
		return nil, model.Errorf(model.TooLarge, "the revision moves %d systems, the limit is %d", len(moves), maxMoves)
	}
	out := slices.SortedFunc(slices.Values(moves), func(a, b model.Move) int { return strings.Compare(a.System, b.System) })
	for i, m := range out {
		switch {
		case !validName(m.System) || !validName(m.Old) || m.System == m.Old:
			return nil, model.Errorf(model.Invalid, "system %q cannot replace %q", clip(m.System, maxName), clip(m.Old, maxName))
		case i > 0 && out[i-1].System == m.System:
			return nil, model.Errorf(model.Invalid, "system %s replaces two", m.System)
		case !slices.Contains(sites, m.Site) || !slices.Contains(sites, m.OldSite):
			return nil, model.Errorf(model.Invalid, "system %s moves from site %q to %q; both have to be in the revision", m.System, clip(m.OldSite, maxName), clip(m.Site, maxName))
		}
	}
	return out, nil
}

func (t *tx) moves() (list []*model.MoveStatus) {
	t.each(tableMoves, nil, nil, func(k, value []byte) bool {
		list = append(list, parse[model.MoveStatus](tableMoves, k, value))
		return true
	})
	return list
}

func (t *tx) storeMove(m *model.MoveStatus) {
	if old := get[model.MoveStatus](t.view, tableMoves, []byte(m.System)); old != nil && reflect.DeepEqual(old, m) {
		return
	}
	put(t, tableMoves, []byte(m.System), m)
	t.changed("moves")
}

// flushAgain sends moves back that wait for the old system only: an old copy of an agent may
// still send to it under a former revision.
func (t *tx) flushAgain() {
	for _, m := range t.moves() {
		if m.State != model.MoveDraining {
			continue
		}
		if waiting := t.unflushed(m); len(waiting) > 0 {
			m.State, m.Mark, m.Waiting = model.MoveFlushing, 0, waiting
			t.storeMove(m)
		}
	}
}

// beginMoves makes the rows of moves those of the revision in force. One that it had before
// goes on where it is.
func (t *tx) beginMoves(r *model.Revision, at time.Time) {
	for _, m := range t.moves() {
		if !slices.Contains(r.Moves, m.Move) {
			t.remove(tableMoves, []byte(m.System))
			t.changed("moves")
		}
	}
	for _, m := range r.Moves {
		if t.raw(tableMoves, []byte(m.System)) == nil {
			t.storeMove(&model.MoveStatus{Move: m, Revision: r.ID, Since: at, State: model.MoveFlushing})
		}
	}
	t.flushMoves(at)
}

// flushMoves looks whether all events that were routed to old systems have come to their
// agents. It walks the agents, so it is for when something has changed that it depends on.
func (t *tx) flushMoves(at time.Time) {
	for _, m := range t.moves() {
		if m.State != model.MoveFlushing {
			continue
		}
		m.Waiting = t.unflushed(m)
		if len(m.Waiting) == 0 {
			m.State, m.Mark, m.Waiting = model.MoveDraining, t.box(m.OldSite).Last, []string{m.OldSite}
		}
		t.storeMove(m)
	}
}

// unflushed names agents that may still have something for the old system: they have not
// sent all that they accepted under an earlier revision, or have to send it again.
func (t *tx) unflushed(m *model.MoveStatus) (names []string) {
	sites := map[string]bool{}
	if r := t.inForce(); r != nil {
		for _, s := range r.Sites {
			sites[s] = true
		}
	}
	again := map[string]bool{}
	for _, l := range t.inboundLanes(m.OldSite) {
		row := get[laneRow](t.view, tableLanes, key(l.Source, l.Epoch, []byte(l.Destination)))
		if row.Highwater < row.Peak && t.canResend(laneName{l.Source, l.Epoch}) {
			again[l.Source] = true
		}
	}
	t.each(tableAgents, nil, nil, func(k, value []byte) bool {
		a := parse[model.Agent](tableAgents, k, value)
		if a.Revoked.IsZero() && (sites[a.Site] && a.Flushed.Less(m.Revision) || again[a.Name]) {
			names = append(names, a.Name)
		}
		return len(names) < maxWaiting
	})
	return names
}

// unflushMoves sends draining moves from an agent back: its lanes went back, and what comes
// again comes beyond the mark.
func (t *tx) unflushMoves(oldSite string) {
	for _, m := range t.moves() {
		if m.State == model.MoveDraining && m.OldSite == oldSite {
			m.State, m.Mark = model.MoveFlushing, 0
			m.Waiting = t.unflushed(m)
			if len(m.Waiting) == 0 {
				m.State, m.Mark, m.Waiting = model.MoveDraining, t.box(m.OldSite).Last, []string{m.OldSite}
			}
			t.storeMove(m)
		}
	}
}

// restartMoves lets all moves that are not done begin anew, after a restore: what agents
// have said of themselves, they said of another life.
func (t *tx) restartMoves() {
	var flushed []*model.Agent
	t.each(tableAgents, nil, nil, func(k, value []byte) bool {
		if a := parse[model.Agent](tableAgents, k, value); a.Flushed.Generation != 0 || a.Flushed.Number != 0 {
			flushed = append(flushed, a)
		}
		return true
	})
	for _, a := range flushed {
		a.Flushed.Generation, a.Flushed.Number = 0, 0
		put(t, tableAgents, []byte(a.Name), a)
	}
	for _, m := range t.moves() {
		if m.State == model.MoveDraining {
			m.State, m.Mark = model.MoveFlushing, 0
		}
		if m.State == model.MoveFlushing {
			m.Waiting = t.unflushed(m)
			t.storeMove(m)
		}
	}
}

// moveReports takes what an agent says of moves. Pending counts only when the agent had
// acknowledged its mail up to the mark with an earlier call: then the count was made after
// all of it had come.
func (t *tx) moveReports(agent *model.Agent, c *model.Ack) {
	for _, report := range c.Moves[:min(len(c.Moves), maxReports)] {
		m := get[model.MoveStatus](t.view, tableMoves, []byte(report.System))
		if m == nil {
			continue
		}
		if m.State == model.MoveDraining && agent.Name == m.OldSite && report.Pending == 0 && t.box(m.OldSite).Acked >= m.Mark {
			t.releaseMove(m, "", c.At)
			t.audit(c.At, "agent:"+agent.Name, "system.release", m.System, map[string]any{"replaces": m.Old, "revision": m.Revision.String()})
		}
		if m.State == model.MoveReleased && agent.Name == m.Site && report.Holding {
			t.tellRelease(m, c.At)
		}
	}
}

func (t *tx) releaseMove(m *model.MoveStatus, by string, at time.Time) {
	m.State, m.Waiting, m.Released, m.By = model.MoveReleased, nil, at, by
	t.storeMove(m)
	t.tellRelease(m, at)
}

// tellRelease leaves the durable command for the new system's agent, unless it waits there.
func (t *tx) tellRelease(m *model.MoveStatus, at time.Time) {
	arguments, err := json.Marshal(model.ReleaseArguments{System: m.System, Revision: m.Revision})
	if err != nil {
		panic(fault{fmt.Errorf("arguments of release: %w", err)})
	}
	for _, c := range t.commands(m.Site) {
		if c.Kind == model.CommandRelease && string(c.Arguments) == string(arguments) {
			return
		}
	}
	t.n.Command++
	put(t, tableCommands, key(m.Site, t.n.Command), &model.AgentCommand{
		ID: commandID(t.n.Command), Agent: m.Site, Kind: model.CommandRelease, Arguments: arguments, By: m.By, At: at,
	})
	t.changed("commands/" + m.Site)
}

func (t *tx) releaseSystem(c *model.ReleaseSystem) *model.Error {
	if err := t.need(c.By, model.Operator); err != nil {
		return err
	}
	m := get[model.MoveStatus](t.view, tableMoves, []byte(c.System))
	switch {
	case c.System == "" || m == nil:
		return model.Errorf(model.NotFound, "no system %q is on the move", clip(c.System, maxName))
	case m.State == model.MoveReleased:
		return model.Errorf(model.Conflict, "system %s was released at %s already", m.System, m.Released.Format(time.RFC3339))
	}
	state, waiting := m.State, m.Waiting
	t.releaseMove(m, c.By, c.At)
	t.audit(c.At, c.By, "system.release", m.System, map[string]any{
		"replaces": m.Old, "revision": m.Revision.String(), "state": state, "waiting": waiting,
	})
	return nil
}

// Moves lists the moves of the revision in force, by the new systems' names.
func (r *Reader) Moves() []model.MoveStatus { return all[model.MoveStatus](r, tableMoves, nil) }
