package state

import (
	"crypto/subtle"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// maxAuditedRefusals bounds what somebody with a spent token can write into the record.
const maxAuditedRefusals = 16

// maxAgents bounds the agents.
const maxAgents = 4096

func (t *tx) enroll(c *model.Enroll) (*model.EnrollResult, *model.Error) {
	token := get[model.JoinToken](t.view, tableTokens, []byte(c.Token))
	if c.Token == "" || token == nil {
		return nil, model.Errorf(model.Unauthorized, "the join token is not known")
	}
	refuse := func(code model.Code, why string) *model.Error {
		return t.refuse(token, attempt{c.At, "agent:" + clip(c.Agent, maxName), "agent.enroll.refused", c.Secret}, code, why)
	}
	if subtle.ConstantTimeCompare(token.Hash[:], c.Secret[:]) != 1 {
		return nil, refuse(model.Unauthorized, "the join token is not known")
	}
	if token.Site == "" {
		return nil, refuse(model.Forbidden, "the join token is for node "+token.Node+", not for an agent")
	}
	name := c.Agent
	if name == "" {
		name = token.Site
	}
	old := get[model.Agent](t.view, tableAgents, []byte(name))
	switch {
	case again(c, token, old):
		return t.enrollAgain(c, token, old), nil
	case !token.Used.IsZero():
		err := refuse(model.Forbidden, "the join token was used at "+token.Used.Format(time.RFC3339)+"; ask for a new one")
		err.Text = usedText(token)
		return nil, err
	case !token.Expires.After(c.At):
		return nil, refuse(model.Forbidden, "the join token expired at "+token.Expires.Format(time.RFC3339)+"; ask for a new one")
	case name != token.Site:
		return nil, refuse(model.Forbidden, "the join token is for site "+token.Site+", whose agent has that name")
	}
	if old == nil && t.agents() >= maxAgents {
		return nil, model.Errorf(model.TooLarge, "there are %d agents already, which is the limit", maxAgents)
	}
	agent := model.Agent{Name: name, Site: token.Site, Epoch: 1, Key: c.Key, Serial: clip(c.Serial, maxName), Enrolled: c.At,
		Authority: clip(c.Authority, maxName)}
	if old != nil {
		// The old store is gone, or is a clone: what it numbered is fenced off.
		agent.Epoch = old.Epoch + 1
		t.endEpoch(old, c.At)
		t.except(&model.Exception{
			ID: fmt.Sprintf("%s/reenrolled/%d", name, agent.Epoch), Agent: name, Kind: "reenrolled", At: c.At,
			Text: fmt.Sprintf("agent %s was enrolled again and begins epoch %d; what its former store had not sent stays there", name, agent.Epoch),
		})
		t.changed("revoked")
	}
	token.Used = c.At
	put(t, tableTokens, []byte(token.ID), token)
	put(t, tableAgents, []byte(name), &agent)
	t.changed("agents")
	t.audit(c.At, "agent:"+name, "agent.enroll", name, map[string]any{
		"token": token.ID, "epoch": agent.Epoch, "key": hexOf(c.Key), "serial": agent.Serial,
		"again": old != nil, "wasRevoked": old != nil && !old.Revoked.IsZero(),
	})
	return &model.EnrollResult{Agent: agent}, nil
}

// usedText is what is told to who has the secret of a token that was used. The record keeps a
// shorter text that stays, because nodes of two versions must write the same.
func usedText(token *model.JoinToken) string {
	return fmt.Sprintf("the join token was used at %s by agent %s, and is good for one machine only: ask for a new one (crossdock token create --site %s). "+
		"If nobody knows of that use, somebody else has the identity of agent %s: revoke it (crossdock agents revoke %s)",
		token.Used.UTC().Format(time.RFC3339), token.Site, token.Site, token.Site, token.Site)
}

// again tells the repeat of an enrolment whose answer was lost: the same token, still alive,
// and the key that it registered.
func again(c *model.Enroll, token *model.JoinToken, agent *model.Agent) bool {
	return agent != nil && agent.Name == token.Site && !token.Used.IsZero() && token.Expires.After(c.At) &&
		agent.Enrolled.Equal(token.Used) && agent.Key == c.Key && agent.Revoked.IsZero()
}

// enrollAgain notes another certificate for an agent that has just been enrolled. Its epoch
// stays: the same store asks.
func (t *tx) enrollAgain(c *model.Enroll, token *model.JoinToken, agent *model.Agent) *model.EnrollResult {
	agent.Serial, agent.Authority = clip(c.Serial, maxName), clip(c.Authority, maxName)
	put(t, tableAgents, []byte(agent.Name), agent)
	t.audit(c.At, "agent:"+agent.Name, "agent.enroll.repeated", agent.Name, map[string]any{
		"token": token.ID, "epoch": agent.Epoch, "serial": agent.Serial,
	})
	return &model.EnrollResult{Agent: *agent}
}

// agents counts the agents by their keys. The statistics of the file do not count what the
// open transaction has changed, and would differ with how entries were batched.
func (t *tx) agents() (count int) {
	t.each(tableAgents, nil, nil, func(_, _ []byte) bool { count++; return true })
	return count
}

// attempt is one use of a token that was refused.
type attempt struct {
	at     time.Time
	by     string
	action string
	secret [32]byte
}

// refuse notes an attempt with a token that exists.
func (t *tx) refuse(token *model.JoinToken, a attempt, code model.Code, why string) *model.Error {
	token.Refused++
	put(t, tableTokens, []byte(token.ID), token)
	if token.Refused <= maxAuditedRefusals {
		t.audit(a.at, a.by, a.action, token.ID, map[string]any{
			"why": why, "secretMatches": subtle.ConstantTimeCompare(token.Hash[:], a.secret[:]) == 1,
		})
	}
	return model.Errorf(code, "%s", why)
}

// speaker finds an agent that may speak.
func (t *tx) speaker(name string) (*model.Agent, *model.Error) {
	agent := get[model.Agent](t.view, tableAgents, []byte(name))
	switch {
	case name == "" || agent == nil:
		return nil, model.Errorf(model.Forbidden, "agent %q is not enrolled", clip(name, maxName))
	case !agent.Revoked.IsZero():
		return nil, model.Errorf(model.Forbidden, "agent %s was revoked at %s", name, agent.Revoked.Format(time.RFC3339))
	}
	return agent, nil
}

// agentFor gives an agent to an operator who wants to change it.
func (t *tx) agentFor(by, name string) (*model.Agent, *model.Error) {
	if err := t.need(by, model.Operator); err != nil {
		return nil, err
	}
	agent := get[model.Agent](t.view, tableAgents, []byte(name))
	if agent == nil {
		return nil, model.Errorf(model.NotFound, "there is no agent %q", clip(name, maxName))
	}
	return agent, nil
}

func (t *tx) revoke(c *model.Revoke) *model.Error {
	agent, err := t.agentFor(c.By, c.Agent)
	if err != nil {
		return err
	}
	if !agent.Revoked.IsZero() {
		return model.Errorf(model.Conflict, "agent %s was revoked at %s already", agent.Name, agent.Revoked.Format(time.RFC3339))
	}
	agent.Revoked = c.At
	t.forfeit(agent, c.At)
	put(t, tableAgents, []byte(agent.Name), agent)
	t.changed("revoked")
	t.changed("agents")
	t.endLanes(agent.Name, agent.Epoch, c.At)
	t.flushMoves(c.At)
	t.audit(c.At, c.By, "agent.revoke", agent.Name, map[string]any{"epoch": agent.Epoch, "serial": agent.Serial})
	return nil
}
