package state

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Limits on certificate authorities.
const (
	maxAuthorities    = 8
	maxAuthorityBytes = 16 << 10 // of each of its parts
	maxNamed          = 10       // agents that a refusal names
)

func (t *tx) authorities() (list []*model.Authority) {
	t.each(tableAuthorities, nil, nil, func(k, value []byte) bool {
		list = append(list, parse[model.Authority](tableAuthorities, k, value))
		return true
	})
	return list
}

func checkAuthority(a *model.Authority) *model.Error {
	isHex := len(a.ID) == 64 && strings.Trim(a.ID, "0123456789abcdef") == ""
	switch {
	case !isHex:
		return model.Errorf(model.Invalid, "an authority's id is the SHA-256 of its public key, in hex")
	case len(a.Certificate) == 0 || len(a.SealedKey) == 0:
		return model.Errorf(model.Invalid, "an authority has a certificate and a sealed key")
	case max(len(a.Certificate), len(a.Cross), len(a.SealedKey)) > maxAuthorityBytes:
		return model.Errorf(model.TooLarge, "a part of the authority is larger than %d bytes", maxAuthorityBytes)
	}
	return nil
}

func (t *tx) storeAuthority(a *model.Authority) {
	put(t, tableAuthorities, []byte(a.ID), a)
	t.changed("authorities")
}

// firstAuthority takes the one that the cluster is made with.
func (t *tx) firstAuthority(a model.Authority, at time.Time) {
	a.State, a.Activated, a.Retired = model.AuthorityActive, at, time.Time{}
	if a.Created.IsZero() {
		a.Created = at
	}
	t.storeAuthority(&a)
}

func (t *tx) addAuthority(c *model.AddAuthority) (*model.Authority, *model.Error) {
	if err := t.need(c.By, model.Admin); err != nil {
		return nil, err
	}
	a := c.Authority
	if err := checkAuthority(&a); err != nil {
		return nil, err
	}
	held := t.authorities()
	for _, other := range held {
		switch {
		case other.ID == a.ID:
			return nil, model.Errorf(model.Conflict, "authority %s is %s already", a.ID, other.State)
		case other.State == model.AuthorityNext:
			return nil, model.Errorf(model.Conflict, "authority %s is waiting to be activated: crossdock cluster rotate-ca activate", other.ID)
		}
	}
	switch {
	case len(held) >= maxAuthorities:
		return nil, model.Errorf(model.TooLarge, "there are %d authorities already, which is the limit: remove retired ones", len(held))
	case len(a.Cross) == 0:
		return nil, model.Errorf(model.Invalid, "the new authority is not signed by the active one, so agents that know only that could not follow")
	}
	a.State, a.Created, a.Activated, a.Retired = model.AuthorityNext, c.At, time.Time{}, time.Time{}
	t.storeAuthority(&a)
	t.audit(c.At, c.By, "authority.add", a.ID, map[string]any{})
	// Its key and its cross-signature are for the nodes.
	return &model.Authority{ID: a.ID, Certificate: a.Certificate, State: a.State, Created: a.Created}, nil
}

// authorityFor gives an authority to an admin who wants to change it.
func (t *tx) authorityFor(by, id string) (*model.Authority, *model.Error) {
	if err := t.need(by, model.Admin); err != nil {
		return nil, err
	}
	a := get[model.Authority](t.view, tableAuthorities, []byte(id))
	if a == nil {
		return nil, model.Errorf(model.NotFound, "there is no authority %q", clip(id, maxName))
	}
	return a, nil
}

func (t *tx) activateAuthority(c *model.ActivateAuthority) *model.Error {
	a, err := t.authorityFor(c.By, c.ID)
	switch {
	case err != nil:
		return err
	case a.State != model.AuthorityNext:
		return model.Errorf(model.Conflict, "authority %s is %s, not next", a.ID, a.State)
	}
	before := ""
	for _, old := range t.authorities() {
		if old.State == model.AuthorityActive {
			old.State, old.Retired = model.AuthorityRetired, c.At
			t.storeAuthority(old)
			before = old.ID
		}
	}
	a.State, a.Activated = model.AuthorityActive, c.At
	t.storeAuthority(a)
	t.audit(c.At, c.By, "authority.activate", a.ID, map[string]any{"before": before})
	return nil
}

func (t *tx) removeAuthority(c *model.RemoveAuthority) *model.Error {
	a, err := t.authorityFor(c.By, c.ID)
	switch {
	case err != nil:
		return err
	case a.State == model.AuthorityActive:
		return model.Errorf(model.Conflict, "authority %s is active: activate another first", a.ID)
	}
	if users, more := t.certifiedBy(a.ID); a.State == model.AuthorityRetired && len(users) > 0 {
		names := strings.Join(users, ", ")
		if more {
			names += " and others"
		}
		return model.Errorf(model.Conflict, "the newest certificate of %s is of authority %s: wait until they have renewed, or revoke them", names, a.ID)
	}
	t.remove(tableAuthorities, []byte(a.ID))
	t.changed("authorities")
	t.audit(c.At, c.By, "authority.remove", a.ID, map[string]any{"state": a.State})
	return nil
}

// certifiedBy names agents whose newest certificate is of an authority, or of one that
// nobody noted: they could no longer prove who they are.
func (t *tx) certifiedBy(id string) (names []string, more bool) {
	t.each(tableAgents, nil, nil, func(k, value []byte) bool {
		a := parse[model.Agent](tableAgents, k, value)
		if a.Revoked.IsZero() && (a.Authority == id || a.Authority == "") {
			if len(names) == maxNamed {
				more = true
				return false
			}
			names = append(names, a.Name)
		}
		return true
	})
	return names, more
}

// Authorities lists the certificate authorities, the oldest first.
func (r *Reader) Authorities() []model.Authority {
	list := all[model.Authority](r, tableAuthorities, nil)
	slices.SortFunc(list, func(a, b model.Authority) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return list
}
