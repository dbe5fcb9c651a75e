package state

import (
	"encoding/json"
	"fmt"

	"github.com/crossdock/crossdock/controlplane/model"
)

// resolve leaves a durable command for the agent that holds the dead letter: only there can
// it be replayed or given up.
func (t *tx) resolve(c *model.Resolve) *model.Error {
	if err := t.need(c.By, model.Operator); err != nil {
		return err
	}
	row := get[letterRow](t.view, tableLetters, []byte(c.DeadLetter))
	if c.DeadLetter == "" || row == nil {
		return model.Errorf(model.NotFound, "there is no dead letter %q", clip(c.DeadLetter, maxID))
	}
	letter := row.Letter
	agent := get[model.Agent](t.view, tableAgents, []byte(letter.Agent))
	waiting := 0
	t.each(tableCommands, key(letter.Agent), nil, func(_, _ []byte) bool { waiting++; return true })
	switch {
	case row.Asked != 0:
		return model.Errorf(model.Conflict, "agent %s has already been asked about dead letter %s and has not answered", letter.Agent, letter.ID)
	case letter.State == model.DeadLetterDelivered || letter.State == model.DeadLetterDiscarded:
		return model.Errorf(model.Conflict, "dead letter %s is %s already", letter.ID, letter.State)
	case agent == nil || !agent.Revoked.IsZero():
		return model.Errorf(model.Conflict, "agent %s, which holds dead letter %s, is revoked; enrol it again first", letter.Agent, letter.ID)
	case c.Replay && letter.OnExhausted == "skip" && !c.Confirm:
		return model.Errorf(model.Conflict, "later events of key %q went on without dead letter %s; its replay comes out of order: confirm that this is meant", letter.Key, letter.ID)
	case waiting >= maxCommands:
		return model.Errorf(model.Unavailable, "%d commands wait for agent %s, which is the limit", waiting, letter.Agent)
	}
	kind := model.CommandDiscard
	if c.Replay {
		kind = model.CommandReplay
	}
	reason := clip(c.Reason, maxText)
	arguments, err := json.Marshal(model.ResolveArguments{
		DeadLetter: letter.ID, Ref: letter.Ref, System: letter.System, Confirm: c.Confirm, By: c.By, Reason: reason,
	})
	if err != nil {
		panic(fault{fmt.Errorf("arguments of %s: %w", kind, err)})
	}
	t.n.Command++
	number := t.n.Command
	put(t, tableCommands, key(letter.Agent, number), &model.AgentCommand{
		ID: commandID(number), Agent: letter.Agent, Kind: kind, Arguments: arguments, By: c.By, At: c.At,
	})
	letter.State, letter.By, letter.Reason = model.DeadLetterReplaying, c.By, reason
	t.storeLetter(row, &letter, number, c.At)
	t.changed("commands/" + letter.Agent)
	t.audit(c.At, c.By, "deadletter."+kind, letter.ID, map[string]any{
		"system": letter.System, "key": letter.Key, "event": letter.EventID, "confirm": c.Confirm, "reason": reason,
	})
	return nil
}

func (t *tx) resolveException(c *model.ResolveException) *model.Error {
	if err := t.need(c.By, model.Operator); err != nil {
		return err
	}
	row := get[exceptionRow](t.view, tableExceptions, []byte(c.Exception))
	if c.Exception == "" || row == nil {
		return model.Errorf(model.NotFound, "there is no exception %q", clip(c.Exception, maxID))
	}
	if !row.Exception.Resolved.IsZero() {
		return model.Errorf(model.Conflict, "exception %s was resolved by %s already", row.Exception.ID, row.Exception.By)
	}
	t.remove(tableExceptionOrder, exceptionKey(row))
	row.Exception.Resolved, row.Exception.By, row.Exception.Reason = c.At, c.By, clip(c.Reason, maxText)
	t.storeException(row)
	t.changed("exceptions")
	t.audit(c.At, c.By, "exception.resolve", row.Exception.ID, map[string]any{"kind": row.Exception.Kind, "reason": row.Exception.Reason})
	return nil
}
