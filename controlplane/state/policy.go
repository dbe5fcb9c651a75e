package state

import (
	"math"
	"slices"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// Limits on revisions.
const (
	maxBundle   = 1 << 20
	maxSites    = 4096
	maxCompared = 200 // revisions that a proposal is compared with
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
	sites, err := siteNames(c.Sites)
	if err != nil {
		return nil, err
	}
	moves, err := checkMoves(c.Moves, sites)
	if err != nil {
		return nil, err
	}
	ranges, err := t.checkRanges(c.Ranges, sites)
	if err != nil {
		return nil, err
	}
	if same := t.sameContent(c.Digest); same != nil {
		return nil, model.Errorf(model.Conflict, "revision %s, which is %s, has exactly this content already", same.ID, same.State)
	}
	r := &model.Revision{
		Digest: c.Digest, State: model.RevisionProposed, Note: clip(c.Note, maxText), Author: c.By, Proposed: c.At,
		Base: t.base(), Sites: sites, Moves: moves, Ranges: ranges,
	}
	t.storeRevision(r, c.Bundle)
	t.audit(c.At, c.By, "policy.propose", r.ID.String(), map[string]any{
		"digest": hexOf(r.Digest), "base": r.Base.String(), "note": r.Note,
	})
	return r, nil
}

func siteNames(names []string) ([]string, *model.Error) {
	sites := slices.Compact(slices.Sorted(slices.Values(names)))
	for _, s := range sites {
		if !validName(s) {
			return nil, model.Errorf(model.Invalid, "site %q: lower case letters, digits, dot, dash and underscore are allowed", clip(s, maxName))
		}
	}
	return sites, nil
}

// storeRevision gives a revision its number and keeps its documents.
func (t *tx) storeRevision(r *model.Revision, bundle []byte) {
	t.n.Revision++
	n := t.n.Revision
	r.ID = block.Revision{Generation: t.cluster().Generation, Number: n}
	put(t, tableRevisions, key(n), r)
	put(t, tableBundles, key(n), &bytesRow{bundle})
	if old := n - bundlesKept; n > bundlesKept && old != t.n.Active && old != t.n.Canary {
		t.remove(tableBundles, key(old))
	}
	t.changed("revisions")
}

// sameContent finds a revision of this content that is in force or can still come to be: a
// proposal that was made from an earlier base cannot. After a restore the active one may be
// proposed again, because sites that hold a newer one of the lost life take it only so.
func (t *tx) sameContent(digest [32]byte) (same *model.Revision) {
	base, looked := t.base(), 0
	t.eachBack(tableRevisions, nil, key(uint64(math.MaxUint64)), func(k, value []byte) bool {
		r := parse[model.Revision](tableRevisions, k, value)
		looked++
		open := r.State == model.RevisionCanary || r.State == model.RevisionProposed && r.Base == base ||
			r.State == model.RevisionActive && r.ID.Generation == t.cluster().Generation
		if open && r.Digest == digest {
			same = r
		}
		return same == nil && looked < maxCompared
	})
	if active := t.inForce(); same == nil && active != nil && active.Digest == digest && active.ID.Generation == t.cluster().Generation {
		same = active
	}
	return same
}

// approver checks that somebody may put a revision in force; own says that it is theirs.
func (t *tx) approver(r *model.Revision, by string) (own bool, err *model.Error) {
	return t.secondPerson(r.Author, by, "revision "+r.ID.String()+" was proposed")
}

// secondPerson checks that somebody may approve what its author has done.
func (t *tx) secondPerson(author, by, done string) (own bool, err *model.Error) {
	single := t.cluster().Approvals == model.ApprovalsSingle
	own = author == by
	if own && !single {
		return own, model.Errorf(model.Forbidden, "%s by %s; another person has to approve it", done, by)
	}
	allowed := []model.Role{model.Approver}
	if own {
		allowed = append(allowed, model.Admin)
	}
	return own, t.need(by, allowed...)
}

func (t *tx) approve(c *model.Approve) (*model.Revision, *model.Error) {
	r := get[model.Revision](t.view, tableRevisions, key(c.Number))
	if r == nil {
		return nil, model.Errorf(model.NotFound, "there is no revision %d", c.Number)
	}
	own, err := t.approver(r, c.By)
	if err != nil {
		return nil, err
	}
	switch {
	case r.State != model.RevisionProposed:
		return nil, model.Errorf(model.Conflict, "revision %s is %s already", r.ID, r.State)
	case r.Digest != c.Digest:
		return nil, model.Errorf(model.Conflict, "revision %s has the digest %s, not the one that was looked at", r.ID, hexOf(r.Digest))
	case t.n.Canary != 0:
		return nil, model.Errorf(model.Conflict, "revision %s is at its canary sites: promote or withdraw it first", t.canary().ID)
	case r.Base != t.base():
		return nil, model.Errorf(model.Conflict, "revision %s was made from %s, but %s is in force: rebase and propose again", r.ID, r.Base, t.base())
	case t.raw(tableBundles, key(c.Number)) == nil:
		return nil, model.Errorf(model.Conflict, "the documents of revision %s are no longer kept: propose again", r.ID)
	}
	// Another revision may have been at its canary sites since, and given numbers there.
	if err := t.neverGiven(r.Ranges); err != nil {
		return nil, err
	}
	detail := map[string]any{"digest": hexOf(r.Digest), "author": r.Author, "single": own}
	if len(c.Canary) > 0 {
		return r, t.approveCanary(r, c, detail)
	}
	r.Approver, r.Approved = c.By, c.At
	t.enforce(r, c.At)
	t.audit(c.At, c.By, "policy.approve", r.ID.String(), detail)
	return r, nil
}

// enforce puts a revision in force everywhere.
func (t *tx) enforce(r *model.Revision, at time.Time) {
	if old := t.inForce(); old != nil {
		old.State = model.RevisionSuperseded
		put(t, tableRevisions, key(old.ID.Number), old)
	}
	r.State = model.RevisionActive
	put(t, tableRevisions, key(r.ID.Number), r)
	t.n.Active = r.ID.Number
	t.keepRanges(r, at)
	t.policyChanged()
	t.beginMoves(r, at)
}

func (t *tx) policyChanged() {
	t.sites = nil
	t.changed("policy")
	t.changed("revisions")
}

// destination says why an agent takes no mail; empty if it does, or if all that is sent to
// it is given up because it is forgotten. A site of a revision in force has a mailbox
// before its agent has ever spoken.
func (t *tx) destination(name string) (refused string, forgotten bool) {
	if agent := get[model.Agent](t.view, tableAgents, []byte(name)); agent != nil {
		if !agent.Forgotten.IsZero() {
			return "", true
		}
		if !agent.Revoked.IsZero() {
			return "agent " + name + " is revoked", false
		}
		return "", false
	}
	if t.sites == nil {
		t.sites = map[string]bool{}
		for _, r := range []*model.Revision{t.inForce(), t.canary()} {
			if r != nil {
				for _, s := range r.Sites {
					t.sites[s] = true
				}
			}
		}
	}
	if t.sites[name] {
		return "", false
	}
	return "no agent " + clip(name, maxName) + " is enrolled, and the active revision has no such site", false
}
