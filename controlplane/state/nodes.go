package state

import (
	"crypto/subtle"
	"reflect"
	"slices"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Limits on nodes.
const (
	maxNodes     = 16
	maxAddress   = 256
	maxAddresses = 16
)

// nodes counts them all, and those that are not being removed.
func (t *tx) nodes() (all, staying int) {
	t.each(tableNodes, nil, nil, func(k, value []byte) bool {
		all++
		if parse[model.Node](tableNodes, k, value).Leaving.IsZero() {
			staying++
		}
		return true
	})
	return all, staying
}

func (t *tx) putNode(c *model.PutNode) *model.Error {
	n := c.Node
	if !validName(n.ID) {
		return model.Errorf(model.Invalid, "node %q: lower case letters, digits, dot, dash and underscore are allowed", clip(n.ID, maxName))
	}
	if len(n.Sync) > maxAddresses {
		return model.Errorf(model.Invalid, "node %s listens at %d addresses, the limit is %d", n.ID, len(n.Sync), maxAddresses)
	}
	n.Peer, n.API, n.Version = clip(n.Peer, maxAddress), clip(n.API, maxAddress), clip(n.Version, maxName)
	n.Sync = slices.Clone(n.Sync)
	for i := range n.Sync {
		n.Sync[i] = clip(n.Sync[i], maxAddress)
	}
	n.Leaving = time.Time{}
	old := get[model.Node](t.view, tableNodes, []byte(n.ID))
	count, _ := t.nodes()
	switch {
	case old != nil:
		n.Joined, n.Leaving = old.Joined, old.Leaving
	case c.Known:
		return model.Errorf(model.NotFound, "there is no node %s, or not any more", n.ID)
	case count >= maxNodes:
		return model.Errorf(model.TooLarge, "there are %d nodes already, which is the limit", maxNodes)
	case n.Joined.IsZero():
		n.Joined = c.At
	}
	if old != nil && reflect.DeepEqual(*old, n) {
		return nil
	}
	put(t, tableNodes, []byte(n.ID), &n)
	t.changed("nodes")
	t.audit(c.At, "node:"+n.ID, "node.put", n.ID, map[string]any{"peer": n.Peer, "sync": n.Sync, "api": n.API, "version": n.Version})
	return nil
}

// admitNode uses up a node's join token. The row of the node comes with its PutNode.
func (t *tx) admitNode(c *model.AdmitNode) *model.Error {
	token := get[model.JoinToken](t.view, tableTokens, []byte(c.Token))
	if c.Token == "" || token == nil {
		return model.Errorf(model.Unauthorized, "the join token is not known")
	}
	refuse := func(code model.Code, why string) *model.Error {
		return t.refuse(token, attempt{c.At, "node:" + clip(c.Node, maxName), "node.admit.refused", c.Secret}, code, why)
	}
	if subtle.ConstantTimeCompare(token.Hash[:], c.Secret[:]) != 1 {
		return refuse(model.Unauthorized, "the join token is not known")
	}
	count, _ := t.nodes()
	switch {
	case token.Node == "":
		return refuse(model.Forbidden, "the join token is for an agent, not for a node")
	case c.Node != token.Node:
		return refuse(model.Forbidden, "the join token is for node "+token.Node)
	case !token.Expires.After(c.At):
		return refuse(model.Forbidden, "the join token expired at "+token.Expires.Format(time.RFC3339)+"; ask for a new one")
	case !token.Used.IsZero():
		return nil // the answer was lost
	case t.raw(tableNodes, []byte(c.Node)) != nil:
		return refuse(model.Conflict, "there is a node "+c.Node+" already; remove it first, or choose another name")
	case count >= maxNodes:
		return model.Errorf(model.TooLarge, "there are %d nodes already, which is the limit", maxNodes)
	}
	token.Used = c.At
	put(t, tableTokens, []byte(token.ID), token)
	t.audit(c.At, "node:"+c.Node, "node.admit", c.Node, map[string]any{"token": token.ID})
	return nil
}

func (t *tx) removeNode(c *model.RemoveNode) *model.Error {
	if err := t.need(c.By, model.Admin); err != nil {
		return err
	}
	node := get[model.Node](t.view, tableNodes, []byte(c.Node))
	switch _, staying := t.nodes(); {
	case node == nil:
		return model.Errorf(model.NotFound, "there is no node %q", clip(c.Node, maxName))
	case !node.Leaving.IsZero():
		return nil
	case staying == 1:
		return model.Errorf(model.Conflict, "node %s is the only one", c.Node)
	}
	node.Leaving = c.At
	put(t, tableNodes, []byte(c.Node), node)
	// Whoever still has the token that it joined with must not come back in its name.
	t.voidTokens(c.At, func(token *model.JoinToken) bool { return token.Node == c.Node })
	t.changed("nodes")
	t.audit(c.At, c.By, "node.remove", c.Node, map[string]any{})
	return nil
}

func (t *tx) forgetNode(c *model.ForgetNode) *model.Error {
	node := get[model.Node](t.view, tableNodes, []byte(c.Node))
	switch {
	case node == nil:
		return nil
	case node.Leaving.IsZero():
		return model.Errorf(model.Conflict, "node %s is not being removed", c.Node)
	}
	t.remove(tableNodes, []byte(c.Node))
	t.changed("nodes")
	t.audit(c.At, "node:"+clip(c.By, maxName), "node.forget", c.Node, map[string]any{})
	return nil
}

// Node gives a node of the control plane.
func (r *Reader) Node(id string) (model.Node, bool) {
	return one[model.Node](r, tableNodes, []byte(id))
}

// Nodes lists the nodes of the control plane by name.
func (r *Reader) Nodes() []model.Node { return all[model.Node](r, tableNodes, nil) }
