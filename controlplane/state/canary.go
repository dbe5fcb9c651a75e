package state

import (
	"fmt"
	"slices"

	"github.com/crossdock/crossdock/controlplane/model"
)

// canary is the revision that canary sites have, as this batch has left it.
func (t *tx) canary() *model.Revision {
	if t.n.Canary == 0 {
		return nil
	}
	return get[model.Revision](t.view, tableRevisions, key(t.n.Canary))
}

// approveCanary puts a revision in force at some of its sites only.
func (t *tx) approveCanary(r *model.Revision, c *model.Approve, detail map[string]any) *model.Error {
	sites, err := siteNames(c.Canary)
	if err != nil {
		return err
	}
	for _, s := range sites {
		if !slices.Contains(r.Sites, s) {
			return model.Errorf(model.Invalid, "revision %s has no site %s to try it at", r.ID, s)
		}
	}
	if t.n.Active == 0 {
		return model.Errorf(model.Conflict, "there is no revision in force that the other sites could keep: approve revision %s for all", r.ID)
	}
	r.State, r.Approver, r.Approved, r.Canary = model.RevisionCanary, c.By, c.At, sites
	put(t, tableRevisions, key(r.ID.Number), r)
	t.n.Canary = r.ID.Number
	t.keepRanges(r, c.At)
	t.policyChanged()
	detail["canary"] = sites
	t.audit(c.At, c.By, "policy.approve", r.ID.String(), detail)
	return nil
}

// atCanary finds the revision that is at its canary sites, by the number that was asked for.
func (t *tx) atCanary(number uint64) (*model.Revision, *model.Error) {
	r := get[model.Revision](t.view, tableRevisions, key(number))
	switch {
	case r == nil:
		return nil, model.Errorf(model.NotFound, "there is no revision %d", number)
	case r.State != model.RevisionCanary:
		return nil, model.Errorf(model.Conflict, "revision %s is %s, not at canary sites", r.ID, r.State)
	}
	return r, nil
}

func (t *tx) promote(c *model.Promote) (*model.Revision, *model.Error) {
	r, err := t.atCanary(c.Number)
	if err != nil {
		return nil, err
	}
	own, err := t.approver(r, c.By)
	if err != nil {
		return nil, err
	}
	r.Promoted = c.At
	t.n.Canary = 0
	t.enforce(r, c.At)
	t.audit(c.At, c.By, "policy.promote", r.ID.String(), map[string]any{
		"digest": hexOf(r.Digest), "author": r.Author, "canary": r.Canary, "single": own,
	})
	return r, nil
}

// withdraw takes a canary revision back. Sites only go to higher numbers, so the active
// content gets a new one; who wrote and approved it stays, as nothing of it is new.
func (t *tx) withdraw(c *model.Withdraw) (*model.Revision, *model.Error) {
	r, err := t.atCanary(c.Number)
	if err != nil {
		return nil, err
	}
	if err := t.need(c.By, model.Approver, model.Author, model.Admin); err != nil {
		return nil, err
	}
	active := t.inForce()
	bundle := get[bytesRow](t.view, tableBundles, key(t.n.Active))
	if active == nil || bundle == nil {
		panic(fault{fmt.Errorf("revision %s is in canary, but the active revision %d is not kept", r.ID, t.n.Active)})
	}
	reason := clip(c.Reason, maxText/2)
	r.State = model.RevisionWithdrawn
	put(t, tableRevisions, key(r.ID.Number), r)
	t.n.Canary = 0
	note := fmt.Sprintf("content of %s again, as %s was withdrawn", active.ID, r.ID)
	if reason != "" {
		note += ": " + reason
	}
	again := &model.Revision{
		Digest: active.Digest, Note: note,
		Author: active.Author, Approver: active.Approver, Proposed: c.At, Approved: c.At, Base: active.ID, Sites: active.Sites, Moves: active.Moves,
		Ranges: active.Ranges,
	}
	t.storeRevision(again, bundle.Bytes)
	t.enforce(again, c.At)
	t.audit(c.At, c.By, "policy.withdraw", r.ID.String(), map[string]any{
		"digest": hexOf(r.Digest), "canary": r.Canary, "again": again.ID.String(), "reason": reason,
	})
	return again, nil
}

// RevisionFor gives the revision that is in force at a site, without its bundle: the canary
// revision at its canary sites, else the active one. With it come the moves that it has.
func (r *Reader) RevisionFor(site string) (revision model.Revision, moves []model.Begun, ok bool) {
	r.read(func(v view) {
		row := get[model.Revision](v, tableRevisions, key(v.counters().Canary))
		if row == nil || !slices.Contains(row.Canary, site) {
			row = v.active()
		}
		if row != nil {
			revision, moves, ok = *row, v.begun(row), true
		}
	})
	return revision, moves, ok
}

// begun tells where the moves of a revision began: one that the active revision has too with
// that one's, or before; another with the revision itself, which is at its canary sites.
func (v view) begun(r *model.Revision) (moves []model.Begun) {
	for _, m := range r.Moves {
		b := model.Begun{Move: m, Revision: r.ID, Before: r.Base}
		if status := get[model.MoveStatus](v, tableMoves, []byte(m.System)); status != nil && status.Move == m {
			b.Revision = status.Revision
		}
		if first := get[model.Revision](v, tableRevisions, key(b.Revision.Number)); first != nil {
			b.Before = first.Base
		}
		moves = append(moves, b)
	}
	return moves
}
