package state

import (
	"slices"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// Limits on revisions.
const (
	maxBundle   = 1 << 20
	maxSites    = 4096
	bundlesKept = 500 // of the newest revisions, and the active one's
)

func (v view) active() *model.Revision {
	if n := v.counters().Active; n != 0 {
		return get[model.Revision](v, tableRevisions, key(n))
	}
	return nil
}

// inForce is like active, but sees what this batch has changed.
func (t *tx) inForce() *model.Revision {
	if t.n.Active == 0 {
		return nil
	}
	return get[model.Revision](t.view, tableRevisions, key(t.n.Active))
}

func (t *tx) base() block.Revision {
	if r := t.inForce(); r != nil {
		return r.ID
	}
	return block.Revision{}
}

func (t *tx) propose(c *model.Propose) (*model.Revision, *model.Error) {
	if err := t.need(c.By, model.Author); err != nil {
		return nil, err
	}
	switch {
	case len(c.Bundle) == 0 || c.Digest == [32]byte{}:
		return nil, model.Errorf(model.Invalid, "a revision needs its documents and their digest")
	case len(c.Bundle) > maxBundle:
		return nil, model.Errorf(model.TooLarge, "the documents have %d bytes, the limit is %d", len(c.Bundle), maxBundle)
	case len(c.Sites) > maxSites:
		return nil, model.Errorf(model.TooLarge, "the revision has %d sites, the limit is %d", len(c.Sites), maxSites)
	}
	sites := slices.Compact(slices.Sorted(slices.Values(c.Sites)))
	for _, s := range sites {
		if !validName(s) {
			return nil, model.Errorf(model.Invalid, "site %q: lower case letters, digits, dot, dash and underscore are allowed", clip(s, maxName))
		}
	}
	t.n.Revision++
	r := model.Revision{
		ID: block.Revision{Generation: t.cluster().Generation, Number: t.n.Revision}, Digest: c.Digest,
		State: model.RevisionProposed, Note: clip(c.Note, maxText), Author: c.By, Proposed: c.At, Base: t.base(), Sites: sites,
	}
	put(t, tableRevisions, key(r.ID.Number), &r)
	put(t, tableBundles, key(r.ID.Number), &bytesRow{c.Bundle})
	if n := t.n.Revision; n > bundlesKept && n-bundlesKept != t.n.Active {
		t.remove(tableBundles, key(n-bundlesKept))
	}
	t.changed("revisions")
	t.audit(c.At, c.By, "policy.propose", r.ID.String(), map[string]any{
		"digest": hexOf(r.Digest), "base": r.Base.String(), "note": r.Note,
	})
	return &r, nil
}

func (t *tx) approve(c *model.Approve) (*model.Revision, *model.Error) {
	r := get[model.Revision](t.view, tableRevisions, key(c.Number))
	if r == nil {
		return nil, model.Errorf(model.NotFound, "there is no revision %d", c.Number)
	}
	single := t.cluster().Approvals == model.ApprovalsSingle
	own := r.Author == c.By
	if own && !single {
		return nil, model.Errorf(model.Forbidden, "revision %s was proposed by %s; another person has to approve it", r.ID, c.By)
	}
	allowed := []model.Role{model.Approver}
	if own {
		allowed = append(allowed, model.Admin)
	}
	if err := t.need(c.By, allowed...); err != nil {
		return nil, err
	}
	switch {
	case r.State != model.RevisionProposed:
		return nil, model.Errorf(model.Conflict, "revision %s is %s already", r.ID, r.State)
	case r.Digest != c.Digest:
		return nil, model.Errorf(model.Conflict, "revision %s has the digest %s, not the one that was looked at", r.ID, hexOf(r.Digest))
	case r.Base != t.base():
		return nil, model.Errorf(model.Conflict, "revision %s was made from %s, but %s is in force: rebase and propose again", r.ID, r.Base, t.base())
	case t.raw(tableBundles, key(c.Number)) == nil:
		return nil, model.Errorf(model.Conflict, "the documents of revision %s are no longer kept: propose again", r.ID)
	}
	if old := t.inForce(); old != nil {
		old.State = model.RevisionSuperseded
		put(t, tableRevisions, key(old.ID.Number), old)
	}
	r.State, r.Approver, r.Approved = model.RevisionActive, c.By, c.At
	put(t, tableRevisions, key(r.ID.Number), r)
	t.n.Active = r.ID.Number
	t.sites = nil
	t.changed("policy")
	t.changed("revisions")
	t.audit(c.At, c.By, "policy.approve", r.ID.String(), map[string]any{
		"digest": hexOf(r.Digest), "author": r.Author, "single": single && own,
	})
	return r, nil
}

// destination says why an agent takes no mail; empty if it does. A site of the active
// revision has a mailbox before its agent has ever spoken.
func (t *tx) destination(name string) string {
	if agent := get[model.Agent](t.view, tableAgents, []byte(name)); agent != nil {
		if !agent.Revoked.IsZero() {
			return "agent " + name + " is revoked"
		}
		return ""
	}
	if t.sites == nil {
		t.sites = map[string]bool{}
		if r := t.inForce(); r != nil {
			for _, s := range r.Sites {
				t.sites[s] = true
			}
		}
	}
	if t.sites[name] {
		return ""
	}
	return "no agent " + clip(name, maxName) + " is enrolled, and the active revision has no such site"
}
