package delivery

import (
	"fmt"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
)

// An agent speaks for the systems of its own site, and a system for the contracts that the
// policy gave it when the event was accepted. That may have been another revision than the
// one in force here: so it is kept what every revision that was held here allowed.

var (
	voicesBucket    = []byte("voices")    // system -> its voice
	revisionsBucket = []byte("revisions") // those that the voices are of
)

// ownVoice is that of agents themselves, which tell what came of their calls. No system can be
// called so.
const ownVoice = "/" + policy.AgentRole

// voice is what a system may say, by any revision that was held here. It is not changed
// once it is made.
type voice struct {
	Site      string   `json:"site"` // by the last of them
	Contracts []string `json:"contracts"`
}

// claim is what an event says of where it comes from.
type claim struct {
	Agent    string         `json:"agent"`
	System   string         `json:"system"`
	Type     string         `json:"type"`
	Revision block.Revision `json:"revision"` // by which it was accepted
}

// keepVoices adds what a revision allows, and gives the index all that is known. e.mu is held.
func (e *Engine) keepVoices(x *policyIndex, set *policy.Set) (ops []func(tx *bolt.Tx) error) {
	last := !set.Revision.Less(e.revision)
	systems := map[string]*policy.System{ownVoice: agents(set)}
	maps.Copy(systems, set.Systems)
	for name, s := range systems {
		old := e.voices[name]
		next := &voice{Site: s.Site}
		if old != nil {
			next.Contracts = slices.Clone(old.Contracts)
			if !last {
				next.Site = old.Site
			}
		}
		for _, of := range s.Publishes {
			if c := set.Contracts[of]; c != nil && c.From(s) && !slices.Contains(next.Contracts, of) {
				next.Contracts = append(next.Contracts, of)
			}
		}
		if old != nil && old.Site == next.Site && len(old.Contracts) == len(next.Contracts) {
			continue
		}
		e.voices[name] = next
		ops = append(ops, func(tx *bolt.Tx) error {
			text, err := seal(next, nil)
			if err != nil {
				return err
			}
			return tx.Bucket(voicesBucket).Put([]byte(name), text)
		})
	}
	if !e.heard[set.Revision] {
		e.heard[set.Revision] = true
		revision := set.Revision
		ops = append(ops, func(tx *bolt.Tx) error {
			text, err := seal(revision, nil)
			if err != nil {
				return err
			}
			return tx.Bucket(revisionsBucket).Put([]byte(revision.String()), text)
		})
	}
	x.voices, x.heard, x.revision = maps.Clone(e.voices), maps.Clone(e.heard), set.Revision
	return ops
}

// agents is what every agent may publish itself, of no system: the contracts of which agents are
// the authority. It has no site, for each agent speaks for its own.
func agents(set *policy.Set) *policy.System {
	out := &policy.System{Meta: policy.Meta{Name: policy.AgentRole}, Role: policy.AgentRole}
	for _, name := range slices.Sorted(maps.Keys(set.Contracts)) {
		if set.Contracts[name].Authority == policy.AgentRole {
			out.Publishes = append(out.Publishes, name)
		}
	}
	return out
}

// loadVoices reads what this file keeps. What is damaged is told; of a revision that is not
// known any more, events pass.
func (e *Engine) loadVoices(tx *bolt.Tx) error {
	whole := true
	err := tx.Bucket(voicesBucket).ForEach(func(name, text []byte) error {
		v := &voice{}
		if _, err := unseal(text, v); err != nil {
			e.cfg.Logger.Error("what a system may publish cannot be read", "system", string(name), "error", err)
			whole = false
			return nil
		}
		e.voices[string(name)] = v
		return nil
	})
	if err != nil || !whole {
		return err
	}
	return tx.Bucket(revisionsBucket).ForEach(func(name, text []byte) error {
		var r block.Revision
		if _, err := unseal(text, &r); err != nil {
			e.cfg.Logger.Error("a revision that was held here cannot be read", "revision", string(name), "error", err)
			return nil
		}
		e.heard[r] = true
		return nil
	})
}

// foreign says why an event is not what it claims to be. A system's site never changes, so
// any revision that knows it can tell. A person who replays the dead letter vouches for it.
// later: a revision that is not here yet may still say that it is.
func (x *policyIndex) foreign(c *claim) (fault string, later bool) {
	if c.System == "" {
		return fmt.Sprintf("agent %s sent it as an event of no system: somebody may have taken that agent; look at it before this is replayed", c.Agent), false
	}
	name := c.System
	if name == policy.AgentRole {
		name = ownVoice
	}
	v := x.voices[name]
	contract, _, _ := policy.ParseType(c.Type)
	switch {
	case v != nil && v.Site != c.Agent && name != ownVoice:
		return fmt.Sprintf("agent %s sent it as an event of system %s, which is at site %s: somebody may have taken that agent; look at it before this is replayed",
			c.Agent, c.System, v.Site), false
	case v != nil && slices.Contains(v.Contracts, contract):
		return "", false
	case x.revision.Less(c.Revision):
		later = true
	case !x.heard[c.Revision]:
		// It was accepted by a revision that was in force while this agent was away, or
		// before it was there, and a system that was removed since may have sent it: what was
		// accepted is delivered. Whoever names such a revision is therefore believed.
		return "", false
	}
	if v == nil {
		return fmt.Sprintf("agent %s sent it as an event of system %s, accepted by revision %s, and no revision held here had that system: somebody may have taken that agent; look at it before this is replayed",
			c.Agent, c.System, c.Revision), later
	}
	return fmt.Sprintf("agent %s sent it as an event of system %s, accepted by revision %s, and no revision held here let that system publish %s: somebody may have taken that agent; look at it before this is replayed",
		c.Agent, c.System, c.Revision, c.Type), later
}
