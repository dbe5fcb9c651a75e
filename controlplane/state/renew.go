package state

import (
	"fmt"

	"github.com/crossdock/crossdock/controlplane/model"
)

func (t *tx) renew(c *model.Renew) (*model.RenewResult, *model.Error) {
	agent, err := t.speaker(c.Agent)
	if err != nil {
		return nil, err
	}
	if agent.Key != c.Key {
		return nil, model.Errorf(model.Forbidden, "agent %s was enrolled again with another key meanwhile", agent.Name)
	}
	if c.Expired {
		if err := t.recover(agent, c); err != nil {
			return nil, err
		}
	}
	agent.Serial, agent.Authority = clip(c.Serial, maxName), clip(c.Authority, maxName)
	put(t, tableAgents, []byte(agent.Name), agent)
	t.audit(c.At, "agent:"+agent.Name, "agent.renew", agent.Name, map[string]any{
		"serial": agent.Serial, "authority": agent.Authority, "expired": c.Expired, "recoveries": agent.Recoveries,
	})
	return &model.RenewResult{Recoveries: agent.Recoveries}, nil
}

// recover counts a renewal with an expired certificate. Both sides count, so a copy of the
// key that was not part of all recoveries shows. The caller stores the agent.
func (t *tx) recover(agent *model.Agent, c *model.Renew) *model.Error {
	if c.Request != [32]byte{} && c.Request == agent.Recovery {
		return nil // the answer was lost
	}
	lostLife := c.Recoveries > agent.Recoveries && c.Recoveries < maxEpoch && t.cluster().Rebuilt != nil
	switch {
	case c.Recoveries == agent.Recoveries || lostLife: // counts only rise by our own answers
	case allowed(agent, c.At):
		// An operator vouches for this copy. Its epoch is fenced here, so that it has to
		// ask for a new one, and so are all other copies.
		t.endEpoch(agent, c.At)
		agent.Epoch++
		agent.EpochNonce = [16]byte{}
		t.changed("epoch/" + agent.Name)
	default:
		t.exceptOnce(&model.Exception{
			ID: fmt.Sprintf("%s/key-copy/%d/%d", agent.Name, agent.Recoveries, c.Recoveries), Agent: agent.Name, Kind: "key-copy", At: c.At,
			Text: fmt.Sprintf("A machine with the key of agent %s asked for a new certificate after the old one had expired. It counts %d such "+
				"recoveries, the control plane %d: there are two copies of this agent, or somebody has taken its key. It was refused. If it is the right "+
				"one, make sure that no other runs, and run: crossdock agents allow %s. Else run: crossdock agents revoke %s",
				agent.Name, c.Recoveries, agent.Recoveries, agent.Name, agent.Name),
		})
		return model.Errorf(model.Forbidden, "agent %s counts %d recoveries, the control plane %d: this is a second copy of it; an operator has to look",
			agent.Name, c.Recoveries, agent.Recoveries)
	}
	agent.Recoveries = max(agent.Recoveries, c.Recoveries) + 1
	agent.Recovery = c.Request
	t.exceptOnce(&model.Exception{
		ID: fmt.Sprintf("%s/recovered/%d", agent.Name, agent.Recoveries), Agent: agent.Name, Kind: "recovered", At: c.At,
		Text: fmt.Sprintf("Agent %s was away for longer than its certificate lives, and got a new one by its key. If its machine was not switched "+
			"off or cut off, ask why.", agent.Name),
	})
	return nil
}
