package state

import (
	"fmt"
	"slices"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

const (
	generationShift = 40      // mailbox positions of a generation begin at generation << 40
	maxGeneration   = 1 << 20 // so that positions never come to their end
	issuedBefore    = time.Hour
)

// rebuild begins another life of the cluster. All that was said about the one before, by
// nodes that are no longer here and by agents to them, counts no more.
func (t *tx) rebuild(c *model.Rebuild) *model.Error {
	cluster := t.cluster()
	switch {
	case c.Incarnation == "":
		return model.Errorf(model.Invalid, "another life of the cluster needs a name")
	case c.Incarnation == cluster.Incarnation:
		return nil
	case cluster.Generation >= maxGeneration:
		return model.Errorf(model.TooLarge, "generation %d is the last", cluster.Generation)
	}
	rebuilt := c.Rebuilt
	if rebuilt.At.IsZero() {
		rebuilt.At = c.At
	}
	cluster.Generation++
	cluster.Incarnation, cluster.Rebuilt = clip(c.Incarnation, maxName), &rebuilt
	put(t, tableMeta, keyCluster, cluster)
	t.raiseBoxes()
	t.forgetNodes(rebuilt.Node)
	t.stays(rebuilt.Node, c.At)
	t.voidTokens(c.At, func(*model.JoinToken) bool { return true })
	t.restartMoves()
	t.changed("cluster")
	t.except(restored(cluster, c.At))
	t.skipLost(&rebuilt, c.At)
	t.audit(c.At, "node:"+clip(rebuilt.Node, maxName), "cluster.rebuild", cluster.ID, map[string]any{
		"generation": cluster.Generation, "incarnation": cluster.Incarnation, "cause": rebuilt.Cause, "from": rebuilt.From, "index": rebuilt.Index,
	})
	return nil
}

func restored(cluster *model.Cluster, at time.Time) *model.Exception {
	r := cluster.Rebuilt
	from := "a backup"
	if r.Cause == model.RebuiltFromSurvivor {
		from = "the data of one surviving node"
	}
	return &model.Exception{
		ID: fmt.Sprintf("%s/restored/%d", block.Control, cluster.Generation), Agent: block.Control, Kind: "restored", At: at,
		Text: fmt.Sprintf("The control plane was rebuilt at %s on node %s from %s, whose newest change is of %s. Changes made at the control plane "+
			"after that may be missing: revisions of policy and their approvals, principals, revoked agents (revoke them again), answers to dead "+
			"letters and exceptions, lines of the audit record. Sites may run a newer revision than the one in force here until another one is "+
			"approved. Events are not lost: agents send again what is missing, as far back as journal.retain goes. Join tokens made before are void.",
			r.At.UTC().Format(time.RFC3339), clip(r.Node, maxName), from, r.From.UTC().Format(time.RFC3339)),
	}
}

// forgetNodes leaves the one node that the cluster was rebuilt on. The others have another
// log: they join again.
func (t *tx) forgetNodes(but string) {
	var gone [][]byte
	t.each(tableNodes, nil, nil, func(k, _ []byte) bool {
		if string(k) != but {
			gone = append(gone, slices.Clone(k))
		}
		return true
	})
	for _, k := range gone {
		t.remove(tableNodes, k)
	}
	var beacons [][]byte
	t.each(tableBeacons, nil, nil, func(k, _ []byte) bool { beacons = append(beacons, slices.Clone(k)); return true })
	for _, k := range beacons {
		t.remove(tableBeacons, k)
	}
	put(t, tableMeta, keyVerdict, &verdictRow{})
	t.halted = nil
	t.changed("nodes")
}

// stays makes sure of the row of the node that the cluster was rebuilt on: it may be under
// another name than before, or have been about to leave.
func (t *tx) stays(id string, at time.Time) {
	if !validName(id) {
		return
	}
	node := get[model.Node](t.view, tableNodes, []byte(id))
	if node == nil {
		node = &model.Node{ID: id, Joined: at}
	}
	node.Leaving = time.Time{}
	put(t, tableNodes, []byte(id), node)
}

// voidTokens ends the tokens that were not used yet, as far as is known here: in the life
// that was lost they may have been.
func (t *tx) voidTokens(at time.Time, which func(*model.JoinToken) bool) {
	var void []*model.JoinToken
	t.each(tableTokens, nil, nil, func(k, value []byte) bool {
		if token := parse[model.JoinToken](tableTokens, k, value); token.Expires.After(at) && which(token) {
			void = append(void, token)
		}
		return true
	})
	for _, token := range void {
		token.Expires = at
		put(t, tableTokens, []byte(token.ID), token)
	}
}

func (t *tx) raiseGeneration(c *model.RaiseGeneration) *model.Error {
	if _, err := t.speaker(c.Agent); err != nil {
		return err
	}
	cluster := t.cluster()
	switch {
	case c.Above < cluster.Generation:
		return nil
	case c.Above >= maxGeneration/2: // agents never take away the room that restores need
		return model.Errorf(model.Invalid, "agent %s tells of generation %d, which cannot be", c.Agent, c.Above)
	}
	before := cluster.Generation
	cluster.Generation = c.Above + 1
	put(t, tableMeta, keyCluster, cluster)
	t.raiseBoxes()
	t.holdRanges(fmt.Sprint(cluster.Generation), fmt.Sprintf("agent %s has spoken with another copy of this control plane, which leases from the same ranges", c.Agent), c.At)
	t.changed("cluster")
	t.except(&model.Exception{
		ID: fmt.Sprintf("%s/generation/%d", block.Control, cluster.Generation), Agent: block.Control, Kind: "restored", At: c.At,
		Text: fmt.Sprintf("Agent %s has spoken with another copy of this control plane, in generation %d. This one went from generation %d to %d, so "+
			"that agents follow it. Make sure that no other copy is running: what is decided there is not known here.", c.Agent, c.Above, before, cluster.Generation),
	})
	t.audit(c.At, "agent:"+c.Agent, "cluster.generation", cluster.ID, map[string]any{"generation": cluster.Generation, "before": before})
	return nil
}

// readmit takes in an agent that enrolled in the life that was lost: its certificate says
// when, and that this cluster signed it.
func (t *tx) readmit(c *model.Readmit) *model.Error {
	rebuilt := t.cluster().Rebuilt
	old := get[model.Agent](t.view, tableAgents, []byte(c.Agent))
	switch {
	case rebuilt == nil:
		return model.Errorf(model.Forbidden, "agent %q is not enrolled, and this control plane was never restored", clip(c.Agent, maxName))
	case !validName(c.Agent) || !validName(c.Site) || c.Key == [32]byte{}:
		return model.Errorf(model.Invalid, "an agent's name and site are lower case letters, digits, dot, dash and underscore")
	case old != nil && old.Key == c.Key && old.Revoked.IsZero():
		return nil // in already; Greet takes over its epoch
	case c.Issued.Before(rebuilt.From.Add(-issuedBefore)) || c.Issued.After(rebuilt.At):
		return model.Errorf(model.Forbidden, "the certificate of agent %s was not signed in the time that the restore has lost; enrol it again", c.Agent)
	case c.Epoch == 0 || c.Epoch > maxEpoch:
		return model.Errorf(model.Invalid, "agent %s says epoch %d", c.Agent, c.Epoch)
	case old == nil && t.agents() >= maxAgents:
		return model.Errorf(model.TooLarge, "there are %d agents already, which is the limit", maxAgents)
	}
	if old != nil {
		if err := t.overtaken(old, c, rebuilt); err != nil {
			return err
		}
		t.endEpoch(old, c.At)
		t.changed("revoked")
	}
	put(t, tableAgents, []byte(c.Agent), &model.Agent{
		Name: c.Agent, Site: c.Site, Epoch: c.Epoch, Key: c.Key, Serial: clip(c.Serial, maxName), Enrolled: c.Issued,
	})
	t.changed("agents")
	t.except(&model.Exception{
		ID: fmt.Sprintf("%s/readmitted/%d", c.Agent, c.Epoch), Agent: c.Agent, Kind: "readmitted", At: c.At,
		Text: fmt.Sprintf("Agent %s was taken in again: it had enrolled after the backup that the control plane was restored from. If it was revoked "+
			"or replaced in that time, run: crossdock agents revoke %s", c.Agent, c.Agent),
	})
	t.audit(c.At, "agent:"+c.Agent, "agent.readmit", c.Agent, map[string]any{
		"epoch": c.Epoch, "key": hexOf(c.Key), "serial": clip(c.Serial, maxName), "issued": c.Issued, "known": old != nil,
	})
	return nil
}

// overtaken says why the agent that is known stays.
func (t *tx) overtaken(old *model.Agent, c *model.Readmit, rebuilt *model.Rebuilt) *model.Error {
	switch {
	case old.Revoked.After(rebuilt.At) || !old.Revoked.IsZero() && old.Key == c.Key:
		return model.Errorf(model.Forbidden, "agent %s was revoked at %s", old.Name, old.Revoked.Format(time.RFC3339))
	case old.Enrolled.After(rebuilt.At):
		return model.Errorf(model.Forbidden, "agent %s was enrolled again with another key meanwhile", old.Name)
	case c.Epoch <= old.Epoch:
		return model.Errorf(model.Forbidden, "agent %s is known with another key in epoch %d; this copy has epoch %d", old.Name, old.Epoch, c.Epoch)
	}
	return nil
}
