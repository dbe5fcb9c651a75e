package state

import (
	"fmt"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Limits on epochs.
const (
	allowedFor = 24 * time.Hour
	maxEpoch   = 1 << 32 // what nobody comes to by honest means, and far from where numbers end
)

// fenced is the refusal of an epoch that is not the agent's own.
func fenced(agent *model.Agent, epoch uint64) *model.Error {
	return model.Errorf(model.Forbidden, "epoch %d of agent %s is fenced; its epoch is %d", epoch, agent.Name, agent.Epoch)
}

// exceptOnce raises an exception unless there is one of that id, resolved or not: agents
// come again and again with the same finding.
func (t *tx) exceptOnce(e *model.Exception) {
	if t.raw(tableExceptions, []byte(e.ID)) == nil {
		t.except(e)
	}
}

// fencedCopy tells people of a copy that was shut out.
func (t *tx) fencedCopy(agent *model.Agent, epoch uint64, at time.Time) {
	t.exceptOnce(&model.Exception{
		ID: fmt.Sprintf("%s/fenced/%d", agent.Name, epoch), Agent: agent.Name, Kind: "fenced", At: at,
		Text: fmt.Sprintf("A second copy of agent %s is running: it works with epoch %d, and the one that counts has epoch %d. What the second copy "+
			"sends is not taken; it stays at that machine. Stop the copy that is not meant. If this one is meant, stop the other and run: crossdock agents allow %s",
			agent.Name, epoch, agent.Epoch, agent.Name),
	})
}

// allowed says whether an operator has let in an old copy of the agent.
func allowed(agent *model.Agent, at time.Time) bool { return agent.Allowed.After(at) }

func (t *tx) greet(c *model.Greet) (*model.GreetResult, *model.Error) {
	agent, err := t.speaker(c.Agent)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Epoch < agent.Epoch:
		t.fencedCopy(agent, c.Epoch, c.At)
		return &model.GreetResult{Stale: allowed(agent, c.At), Epoch: agent.Epoch}, nil
	case c.Epoch > agent.Epoch:
		if err := t.adoptEpoch(agent, c.Epoch, c.At); err != nil {
			return nil, err
		}
	case c.Session == agent.Session && c.Nonce == agent.Nonce: // once more, on another path
	case c.Session <= agent.Session:
		return &model.GreetResult{Stale: true, Epoch: agent.Epoch}, nil
	case c.Told && fewerUsed(agent, c.Numbers): // put back while its session was open
		return &model.GreetResult{Stale: true, Epoch: agent.Epoch}, nil
	}
	agent.Session, agent.Nonce, agent.LastSeen = c.Session, c.Nonce, c.At
	if c.Told {
		t.ahead(agent, c.Numbers, c.At)
	}
	if c.Node != "" {
		agent.Node = clip(c.Node, maxName)
	}
	put(t, tableAgents, []byte(agent.Name), agent)
	return &model.GreetResult{Epoch: agent.Epoch}, nil
}

// adoptEpoch takes over an epoch that was granted in a life of the cluster that was lost.
// The caller stores the agent.
func (t *tx) adoptEpoch(agent *model.Agent, epoch uint64, at time.Time) *model.Error {
	if t.cluster().Rebuilt == nil || epoch > maxEpoch {
		return model.Errorf(model.Forbidden, "agent %s says epoch %d, but this control plane has granted %d and was never restored: enrol it again",
			agent.Name, epoch, agent.Epoch)
	}
	t.exceptOnce(&model.Exception{
		ID: fmt.Sprintf("%s/readmitted/%d", agent.Name, epoch), Agent: agent.Name, Kind: "readmitted", At: at,
		Text: fmt.Sprintf("Agent %s came back with epoch %d, which the restored control plane did not know (it knew %d). It was granted after the "+
			"backup, so it counts. Nothing is to be done.", agent.Name, epoch, agent.Epoch),
	})
	t.audit(at, "agent:"+agent.Name, "agent.epoch.adopt", agent.Name, map[string]any{"epoch": epoch, "before": agent.Epoch})
	t.endEpoch(agent, at)
	agent.Epoch, agent.EpochNonce, agent.Status = epoch, [16]byte{}, nil
	t.changed("epoch/" + agent.Name)
	return nil
}

func (t *tx) newEpoch(c *model.NewEpoch) (*model.NewEpochResult, *model.Error) {
	agent, err := t.speaker(c.Agent)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Nonce == [16]byte{}:
		return nil, model.Errorf(model.Invalid, "a new epoch is asked for with a nonce, so that a repeat is known")
	case c.Nonce == agent.EpochNonce:
		return &model.NewEpochResult{Epoch: agent.Epoch}, nil // the answer was lost
	case c.Epoch > agent.Epoch:
		if err := t.adoptEpoch(agent, c.Epoch, c.At); err != nil {
			return nil, err
		}
	case c.Epoch < agent.Epoch && !allowed(agent, c.At):
		t.fencedCopy(agent, c.Epoch, c.At)
		return nil, fenced(agent, c.Epoch)
	case c.Epoch < agent.Epoch:
		agent.Allowed = time.Time{} // once
	}
	t.endEpoch(agent, c.At)
	agent.Epoch++
	agent.EpochNonce = c.Nonce
	agent.Session, agent.Nonce, agent.Status = 0, [16]byte{}, nil // said by another copy
	agent.Flushed.Generation, agent.Flushed.Number = 0, 0
	put(t, tableAgents, []byte(agent.Name), agent)
	t.flushAgain()
	why := clip(c.Why, maxText/4)
	t.except(&model.Exception{
		ID: fmt.Sprintf("%s/old-copy/%d", agent.Name, agent.Epoch), Agent: agent.Name, Kind: "old-copy", At: c.At,
		Text: fmt.Sprintf("Agent %s runs on an old copy of its data (%s) and began epoch %d. It sends again what it does not know as sent; what "+
			"was sent before is recognised. What only the lost data held, and had not been sent, is gone: compare with the site's systems.",
			agent.Name, why, agent.Epoch),
	})
	t.changed("agents")
	t.changed("epoch/" + agent.Name)
	t.audit(c.At, "agent:"+agent.Name, "agent.epoch", agent.Name, map[string]any{"epoch": agent.Epoch, "before": c.Epoch, "why": why})
	return &model.NewEpochResult{Epoch: agent.Epoch}, nil
}

func (t *tx) allowAgent(c *model.AllowAgent) *model.Error {
	agent, err := t.agentFor(c.By, c.Agent)
	switch {
	case err != nil:
		return err
	case !agent.Revoked.IsZero():
		return model.Errorf(model.Conflict, "agent %s is revoked, every copy of it: it comes back with a new join token only "+
			"(crossdock token create --site %s)", agent.Name, agent.Site)
	case t.excepted(agent.Name+"/reenrolled/", time.Time{}) && !t.refusedCopy(agent):
		return model.Errorf(model.Conflict, "agent %s was enrolled again at %s, with another key: what was enrolled before comes back with a new "+
			"join token only (crossdock token create --site %s), and no other copy of it has been refused since",
			agent.Name, agent.Enrolled.Format(time.RFC3339), agent.Site)
	}
	agent.Allowed = c.At.Add(allowedFor)
	put(t, tableAgents, []byte(agent.Name), agent)
	t.changed("agents")
	t.audit(c.At, c.By, "agent.allow", agent.Name, map[string]any{"epoch": agent.Epoch, "until": agent.Allowed})
	return nil
}

// refusedCopy reports whether a copy of the agent was refused that an operator could let in.
// Recoveries are counted anew with an enrolment, so that what was said of them before it is
// not said again.
func (t *tx) refusedCopy(agent *model.Agent) bool {
	return t.excepted(agent.Name+"/fenced/", agent.Enrolled) || t.excepted(agent.Name+"/key-copy/", time.Time{})
}

// excepted reports whether there is an exception of a kind that is not older than that.
func (t *tx) excepted(prefix string, since time.Time) (found bool) {
	t.each(tableExceptions, []byte(prefix), nil, func(k, value []byte) bool {
		found = !parse[exceptionRow](tableExceptions, k, value).Exception.At.Before(since)
		return !found
	})
	return found
}
