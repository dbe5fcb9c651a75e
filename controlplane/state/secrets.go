package state

import (
	"bytes"
	"encoding/json"
	"math"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// secretsAtOnce bounds what one look at secrets reads in one transaction.
const secretsAtOnce = 100

// setSecret keeps what only the agent can open. The record tells who set which secret, and
// to which key it is sealed; nothing of what it holds.
func (t *tx) setSecret(c *model.SetSecret) *model.Error {
	agent, err := t.agentFor(c.By, c.Agent)
	if err != nil {
		return err
	}
	row := get[model.Secret](t.view, tableSecrets, key(c.Agent, []byte(c.Name)))
	fresh := row == nil
	if fresh {
		row = &model.Secret{Agent: c.Agent, Name: c.Name}
	}
	if err := t.maySet(c, agent, row); err != nil {
		return err
	}
	before := row.Bytes()
	row.Former, row.FormerKey, row.FormerUntil = nil, "", time.Time{}
	kept := c.KeepFormer && len(row.Sealed) > 0
	if kept {
		row.Former, row.FormerKey, row.FormerUntil = row.Sealed, row.Recipient, c.FormerUntil
	}
	row.Version, row.Sealed, row.Recipient = c.Version, c.Sealed, c.Recipient
	if grown := row.Bytes() - before; t.n.SecretBytes+grown > model.MaxSecretBytes {
		return model.Errorf(model.TooLarge, "all secrets together may take %d bytes, sealed: drop some", model.MaxSecretBytes)
	}
	if fresh && !t.roomForSecret(c.Agent) {
		return model.Errorf(model.TooLarge, "agent %s has %d secrets, which is the limit: drop some", c.Agent, model.MaxSecrets)
	}
	t.storeSecret(row, before, c.By, c.At)
	detail := map[string]any{"version": row.Version, "key": sealing.Fingerprint(row.Recipient), "bytes": len(row.Sealed)}
	if kept {
		detail["former"] = "kept"
		if !row.FormerUntil.IsZero() {
			detail["former"] = row.FormerUntil.UTC().Format(time.RFC3339)
		}
	}
	t.audit(c.At, c.By, "secret.set", c.Agent+"/"+c.Name, detail)
	return nil
}

// maySet says why a secret is not to be set.
func (t *tx) maySet(c *model.SetSecret, agent *model.Agent, row *model.Secret) *model.Error {
	switch said := announced(agent); {
	case !agent.Revoked.IsZero():
		return model.Errorf(model.Conflict, "agent %s is revoked: enrol it again, then seal the secret to its new key", agent.Name)
	case c.Name == "" || len(c.Name) > maxName || len(c.Sealed) == 0 || len(c.Sealed) > model.MaxSealed:
		return model.Errorf(model.Invalid, "a secret has a name of at most %d bytes and 1 to %d bytes as it is sealed", maxName, model.MaxSealed)
	case said == "":
		return model.Errorf(model.Conflict, "agent %s has not said to which key its secrets are to be sealed: it was never connected, or runs a version that takes none", agent.Name)
	case c.Recipient != said:
		return model.Errorf(model.Conflict, "the secret is sealed to key %s, and agent %s has key %s by now: set it again",
			sealing.Fingerprint(c.Recipient), agent.Name, sealing.Fingerprint(said))
	case c.Version <= row.Version:
		return model.Errorf(model.Conflict, "secret %s of agent %s has version %d by now: somebody else has changed it; look at it and set it again", row.Name, agent.Name, row.Version)
	}
	return nil
}

// announced is the key that an agent has last said to have.
func announced(agent *model.Agent) string { return statusOf(agent).Sealing.Recipient }

// heldVersion is the version of a secret that an agent has last said to hold; 0: none.
func heldVersion(agent *model.Agent, name string) (held uint64) {
	for _, one := range statusOf(agent).Secrets {
		if one.Name == name && one.Version < math.MaxUint64 { // there is always one above it
			held = max(held, one.Version)
		}
	}
	return held
}

// statusOf is what an agent has last said of itself; empty if that cannot be read.
func statusOf(agent *model.Agent) (said model.AgentStatus) {
	if len(agent.Status) == 0 || json.Unmarshal(agent.Status, &said) != nil { // an agent may say anything
		return model.AgentStatus{}
	}
	return said
}

// roomForSecret makes room for one more name of an agent by what is only kept of a dropped one.
func (t *tx) roomForSecret(agent string) bool {
	n := 0
	var oldest *model.Secret
	t.each(tableSecrets, key(agent), nil, func(k, value []byte) bool {
		row := parse[model.Secret](tableSecrets, k, value)
		if n++; len(row.Sealed) == 0 && (oldest == nil || row.At.Before(oldest.At)) {
			oldest = row
		}
		return true
	})
	if n >= model.MaxSecrets && oldest != nil {
		t.remove(tableSecrets, key(agent, []byte(oldest.Name)))
		n--
	}
	return n < model.MaxSecrets
}

// dropSecret takes a secret away. Its version stays, so that an agent that was away learns of it.
// An agent takes no version that is older than what it holds, and it holds a newer one where
// this state is of an older backup: so the version goes beyond that too, and what was dropped
// before the agent has told of it can be dropped again.
func (t *tx) dropSecret(c *model.DropSecret) *model.Error {
	agent, err := t.agentFor(c.By, c.Agent)
	if err != nil {
		return err
	}
	row, held := get[model.Secret](t.view, tableSecrets, key(c.Agent, []byte(c.Name))), heldVersion(agent, c.Name)
	switch {
	case row == nil || len(row.Sealed) == 0 && held <= row.Version:
		return model.Errorf(model.NotFound, "agent %s has no secret %q", c.Agent, clip(c.Name, maxName))
	case c.Former && held > row.Version:
		return model.Errorf(model.Conflict, "agent %s holds version %d of secret %s, which is newer than version %d here: set it anew or drop it whole", c.Agent, held, row.Name, row.Version)
	case c.Former && len(row.Former) == 0:
		return model.Errorf(model.Conflict, "secret %s of agent %s has no former value beside it", row.Name, c.Agent)
	}
	before := row.Bytes()
	row.Former, row.FormerKey, row.FormerUntil = nil, "", time.Time{}
	action := "secret.drop-former"
	if !c.Former {
		row.Sealed, row.Recipient, action = nil, "", "secret.drop"
	}
	row.Version = max(row.Version, held) + 1
	t.storeSecret(row, before, c.By, c.At)
	t.audit(c.At, c.By, action, c.Agent+"/"+c.Name, map[string]any{"version": row.Version})
	return nil
}

func (t *tx) storeSecret(row *model.Secret, before int64, by string, at time.Time) {
	row.By, row.At = by, at
	t.n.SecretBytes += row.Bytes() - before
	put(t, tableSecrets, key(row.Agent, []byte(row.Name)), row)
	t.changed("secrets/" + row.Agent)
}

// forgetSecrets removes what is sealed to an agent that never comes back.
func (t *tx) forgetSecrets(agent string) {
	var names []string
	t.each(tableSecrets, key(agent), nil, func(k, value []byte) bool {
		row := parse[model.Secret](tableSecrets, k, value)
		names = append(names, row.Name)
		t.n.SecretBytes -= row.Bytes()
		return true
	})
	for _, name := range names {
		t.remove(tableSecrets, key(agent, []byte(name)))
	}
}

// SecretsOf lists what is sealed to an agent, by name; dropped ones too.
func (r *Reader) SecretsOf(agent string) []model.Secret {
	return all[model.Secret](r, tableSecrets, key(agent))
}

// SecretMarks lists the secrets of an agent, or with "" of all, by agent and name; dropped ones
// too. What is sealed is not in them, and is read in parts: all of it may be hundreds of megabytes.
func (r *Reader) SecretMarks(agent string) (marks []model.SecretMark) {
	var prefix []byte
	if agent != "" {
		prefix = key(agent)
	}
	for from := prefix; ; {
		n := 0
		r.read(func(v view) {
			v.each(tableSecrets, prefix, from, func(k, value []byte) bool {
				marks = append(marks, parse[model.Secret](tableSecrets, k, value).Mark())
				from = append(bytes.Clone(k), 0) // just beyond it
				n++
				return n < secretsAtOnce
			})
		})
		if n < secretsAtOnce {
			return marks
		}
	}
}
