package state

import (
	"fmt"
	"math"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// forgetAgent gives up what waits for a revoked agent. From then on its lanes count as
// done, so that their sources go on; should it be enrolled again, it begins behind them.
func (t *tx) forgetAgent(c *model.ForgetAgent) *model.Error {
	agent, err := t.agentFor(c.By, c.Agent)
	switch {
	case err != nil:
		return err
	case agent.Revoked.IsZero():
		return model.Errorf(model.Conflict, "agent %s is not revoked: revoke it first", agent.Name)
	case !agent.Forgotten.IsZero():
		return model.Errorf(model.Conflict, "agent %s was forgotten at %s already", agent.Name, agent.Forgotten.Format(time.RFC3339))
	}
	box := t.box(agent.Name)
	events, unsure, dropped := box.Events, uint64(0), map[laneName]uint64{}
	for _, m := range t.takeOut(agent.Name, box, func(uint64, *mailRow) bool { return true }, math.MaxUint64) {
		if m.Gap == nil {
			dropped[laneName{m.Source, m.Epoch}] += m.Events
			t.release(m.Block)
		}
	}
	box.Acked = box.Last
	put(t, tableBoxes, []byte(agent.Name), box)
	t.forgetSpares(agent.Name)
	for _, l := range t.inboundLanes(agent.Name) {
		k := key(l.Source, l.Epoch, []byte(agent.Name))
		row := get[laneRow](t.view, tableLanes, k)
		open := row.Acked - min(row.Settled, row.Acked)
		unsure += open
		row.Unsure += open
		row.Acked, row.Settled = row.Highwater, row.Highwater
		row.Dropped += dropped[laneName{l.Source, l.Epoch}]
		put(t, tableLanes, k, row)
		if row.Dropped+row.Unsure > 0 {
			t.forgotten(agent.Name, l.Source, l.Epoch, row, c.At)
		}
	}
	for _, cmd := range t.commands(agent.Name) {
		t.answered(agent.Name, model.CommandAnswer{ID: cmd.ID, Error: "its agent was revoked and forgotten"}, c.At)
	}
	t.forgetSecrets(agent.Name)
	agent.Forgotten = c.At
	put(t, tableAgents, []byte(agent.Name), agent)
	t.changed("agents")
	t.audit(c.At, c.By, "agent.forget", agent.Name, map[string]any{"events": events, "unsure": unsure})
	return nil
}

func (t *tx) commands(agent string) (list []*model.AgentCommand) {
	t.each(tableCommands, key(agent), nil, func(k, value []byte) bool {
		list = append(list, parse[model.AgentCommand](tableCommands, k, value))
		return true
	})
	return list
}

// forgotten keeps the one exception that counts what was given up of a lane. A person who
// has resolved it is not asked again with every block.
func (t *tx) forgotten(agent, source string, epoch uint64, lane *laneRow, at time.Time) {
	unsure := ""
	if lane.Unsure > 0 {
		unsure = fmt.Sprintf(" Besides, %d that %s had confirmed may not have been delivered by it: it had not said so.", lane.Unsure, agent)
	}
	e := model.Exception{
		ID: fmt.Sprintf("%s/forgotten/%s/%d", agent, source, epoch), Agent: agent, Kind: "forgotten", At: at,
		Text: fmt.Sprintf("%d events from %s for %s were given up, because %s is revoked and forgotten.%s They still stand in the journal of %s "+
			"for as long as it keeps them. Change the routes so that nothing goes there any more.", lane.Dropped, source, agent, agent, unsure, source),
	}
	row := get[exceptionRow](t.view, tableExceptions, []byte(e.ID))
	if row == nil {
		t.except(&e)
		return
	}
	row.Exception.Text, row.Exception.At = e.Text, at
	put(t, tableExceptions, []byte(e.ID), row)
	t.changed("exceptions")
}
