package state

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

func TestNodes(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.principal("olga", model.Operator)
	put := func(id, peer string) *model.PutNode {
		f.now = f.now.Add(time.Second)
		return &model.PutNode{At: f.now, Node: model.Node{ID: id, Peer: peer, Sync: []string{peer + "0"}}}
	}
	f.refused(model.Invalid, put("N 1", "a:1"))
	f.must(put("n1", "a:1"))
	joined := f.Nodes()[0].Joined
	lines := f.rows(tableAudit)
	f.must(put("n1", "a:1"))
	if f.rows(tableAudit) != lines {
		t.Error("a node that said the same again was written down")
	}
	f.must(put("n1", "a:2"))
	if got := f.Nodes(); len(got) != 1 || got[0].Peer != "a:2" || !got[0].Joined.Equal(joined) || !slices.Equal(got[0].Sync, []string{"a:20"}) {
		t.Errorf("nodes %+v", got)
	}
	f.refused(model.Conflict, &model.RemoveNode{Asked: f.by("root"), Node: "n1"})
	f.must(put("n2", "b:1"))
	f.refused(model.Forbidden, &model.RemoveNode{Asked: f.by("olga"), Node: "n2"})
	f.refused(model.NotFound, &model.RemoveNode{Asked: f.by("root"), Node: "n9"})
	f.remove("n2")
	if got := f.Nodes(); len(got) != 1 {
		t.Errorf("nodes %+v", got)
	}
	for i := range maxNodes - 1 {
		f.must(put(fmt.Sprint("x", i), "c:1"))
	}
	f.refused(model.TooLarge, put("one-more", "c:1"))
}

// remove takes a node out, in both steps.
func (f *fixture) remove(node string) {
	f.Helper()
	f.must(&model.RemoveNode{Asked: f.by("root"), Node: node})
	f.must(&model.ForgetNode{At: f.now, Node: node, By: "n1"})
}

// A removal may be cut short between its steps, and then be begun again; nothing that the
// node itself says ends it.
func TestNodeThatLeaves(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	put := func(id string, known bool) *model.PutNode {
		return &model.PutNode{At: f.now, Node: model.Node{ID: id, Peer: id + ":1"}, Known: known}
	}
	f.refused(model.NotFound, put("n1", true))
	f.must(put("n1", false))
	f.must(put("n2", false))
	f.must(&model.CreateJoinToken{Asked: f.by("root"), Token: model.JoinToken{ID: "n2", Hash: hashOf("n2"), Node: "n2", Expires: f.now.Add(time.Hour)}})
	forget := &model.ForgetNode{At: f.now, Node: "n2", By: "n1"}
	f.refused(model.Conflict, forget)
	for range 2 {
		f.must(&model.RemoveNode{Asked: f.by("root"), Node: "n2"})
		f.must(put("n2", true)) // it tells where it listens now
		if n, ok := f.Node("n2"); !ok || n.Leaving.IsZero() {
			t.Fatalf("it stays: %+v", n)
		}
	}
	f.refused(model.Conflict, &model.RemoveNode{Asked: f.by("root"), Node: "n1"}) // who would be left?
	f.refused(model.Forbidden, &model.AdmitNode{At: f.now.Add(time.Second), Token: "n2", Secret: hashOf("n2"), Node: "n2"})
	for range 2 {
		f.must(forget)
		f.refused(model.NotFound, put("n2", true))
		if _, ok := f.Node("n2"); ok {
			t.Fatal("its row is there")
		}
	}
	f.must(put("n2", false)) // it has joined again
	f.refused(model.Conflict, forget)

	// On whichever node the cluster is rebuilt, that one stays.
	f.must(&model.RemoveNode{Asked: f.by("root"), Node: "n2"})
	for i, id := range []string{"n2", "other"} {
		f.must(&model.Rebuild{At: f.now, Incarnation: id, Rebuilt: model.Rebuilt{Node: id, From: f.now}})
		if got := f.Nodes(); len(got) != 1 || got[0].ID != id || !got[0].Leaving.IsZero() {
			t.Errorf("rebuild %d: nodes %+v", i, got)
		}
		f.must(put(id, true))
	}
}

func TestAdmitNode(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.principal("olga", model.Operator)
	f.join("eu")
	token := func(id, node, site string) model.JoinToken {
		return model.JoinToken{ID: id, Hash: hashOf(id), Node: node, Site: site, Expires: f.now.Add(time.Hour)}
	}
	f.refused(model.Forbidden, &model.CreateJoinToken{Asked: f.by("olga"), Token: token("t", "n2", "")})
	f.refused(model.Invalid, &model.CreateJoinToken{Asked: f.by("root"), Token: token("t", "n2", "eu")})
	f.refused(model.Invalid, &model.CreateJoinToken{Asked: f.by("root"), Token: token("t", "", "")})
	f.must(&model.CreateJoinToken{Asked: f.by("olga"), Token: token("agent", "", "na")})
	f.must(&model.CreateJoinToken{Asked: f.by("root"), Token: token("node", "n2", "")})
	f.must(&model.CreateJoinToken{Asked: f.by("root"), Token: token("late", "n3", "")})
	f.must(&model.CreateJoinToken{Asked: f.by("root"), Token: token("again", "n2", "")})
	admit := func(id, secret, node string) *model.AdmitNode {
		return &model.AdmitNode{At: f.now, Token: id, Secret: hashOf(secret), Node: node}
	}
	f.refused(model.Unauthorized, admit("none", "none", "n2"))
	f.refused(model.Unauthorized, admit("node", "guess", "n2"))
	f.refused(model.Forbidden, admit("node", "node", "n3"))
	f.refused(model.Forbidden, admit("agent", "agent", "na"))
	f.refused(model.Forbidden, &model.Enroll{At: f.now, Token: "node", Secret: hashOf("node"), Agent: "n2", Key: hashOf("k")})
	f.refused(model.Forbidden, &model.Enroll{At: f.now, Token: "node", Secret: hashOf("node"), Key: hashOf("k")})
	for range 2 {
		f.must(admit("node", "node", "n2"))
		f.must(&model.PutNode{At: f.now, Node: model.Node{ID: "n2"}})
	}
	f.refused(model.Conflict, admit("again", "again", "n2"))
	f.must(&model.CreateJoinToken{Asked: f.by("root"), Token: token("gone", "n4", "")})
	f.must(admit("gone", "gone", "n4"))
	f.must(&model.PutNode{At: f.now, Node: model.Node{ID: "n4"}})
	f.remove("n4")
	f.refused(model.Forbidden, admit("gone", "gone", "n4")) // its token does not bring it back
	f.now = f.now.Add(2 * time.Hour)
	f.refused(model.Forbidden, admit("late", "late", "n3"))
	f.refused(model.Forbidden, admit("node", "node", "n2"))
	if tok, _ := f.JoinToken("node"); tok.Used.IsZero() || tok.Refused != 5 {
		t.Errorf("token %+v", tok)
	}
}
