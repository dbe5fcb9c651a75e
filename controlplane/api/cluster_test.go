package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/policy"
)

func TestClusterIsShownWithItsNodes(t *testing.T) {
	b := newBench(t)
	b.store.cluster.Incarnation = "i2"
	b.store.cluster.Rebuilt = &model.Rebuilt{At: testNow, Cause: model.RebuiltFromBackup, From: testNow.Add(-time.Hour), Index: 7, Node: "a"}
	b.store.verdict = model.Verdict{Index: 1024, Halted: "no majority"}
	old, next := strings.Repeat("a", 64), strings.Repeat("b", 64)
	b.store.authority = []model.Authority{
		{ID: old, State: model.AuthorityActive, Created: testNow.Add(-time.Hour)}, {ID: next, State: model.AuthorityNext, Created: testNow},
	}
	b.store.agents = []model.Agent{{Name: "eu", Authority: old}, {Name: "na", Authority: old}, {Name: "gone", Authority: old, Revoked: testNow}}
	b.control.state = ClusterState{Node: "a", Leader: "b", Nodes: []NodeState{
		{Node: model.Node{ID: "c"}, Member: true, Seen: testNow.Add(-time.Minute), Error: "no route", FreeBytes: 9, Agents: 9},
		{Node: model.Node{ID: "b", Version: "1.2", Peer: "h:1"}, Member: true, Voter: true, Leader: true, Reached: true, Seen: testNow, Agents: 3, FreeBytes: -1},
		{Node: model.Node{ID: "a"}, Member: true, Voter: true, Self: true, Ready: true, Applied: 12, StateHash: [32]byte{0xab}, FreeBytes: 1 << 30},
		{Node: model.Node{ID: "d"}},
	}}
	b.store.revisions = []model.Revision{
		testRevision(5, model.RevisionProposed), testRevision(4, model.RevisionCanary), testRevision(3, model.RevisionActive),
	}
	var got Cluster
	b.want(b.do("GET", BasePath+"/cluster", ""), 200, &got)
	if got.Incarnation != "i2" || got.Rebuilt.Index != 7 || got.Rebuilt.Cause != RebuiltCauseBackup || got.Verdict.Halted == "" ||
		got.Node != "a" || got.LeaderNode != "b" || got.Active.Number != 3 || got.Canary.Number != 4 {
		t.Errorf("cluster = %+v", got)
	}
	if len(got.Authorities) != 2 || got.Authorities[0].ID != next || got.Authorities[1].Agents != 2 || got.Authorities[0].Agents != 0 {
		t.Errorf("authorities = %+v", got.Authorities)
	}
	if len(got.Nodes) != 4 {
		t.Fatalf("nodes = %+v", got.Nodes)
	}
	a, lead, c, d := got.Nodes[0], got.Nodes[1], got.Nodes[2], got.Nodes[3]
	if a.ID != "a" || a.Role != NodeRoleVoter || !a.Contact.Equal(testNow) || a.FreeBytes == nil || *a.FreeBytes != 1<<30 ||
		a.Agents == nil || !strings.HasPrefix(a.Hash, "ab00") || a.Applied != 12 {
		t.Errorf("self = %+v", a)
	}
	if !lead.Leader || lead.FreeBytes != nil || lead.Agents == nil || *lead.Agents != 3 || lead.Version != "1.2" {
		t.Errorf("leader = %+v", lead)
	}
	if c.Role != NodeRoleNonVoter || c.AgeSeconds != 60 || c.Problem != "no route" || c.Agents != nil || c.FreeBytes != nil {
		t.Errorf("a node that does not answer = %+v", c)
	}
	if d.Role != NodeRoleNone || !d.Contact.IsZero() {
		t.Errorf("no member = %+v", d)
	}
}

func TestCanaryIsFoundBehindManyProposals(t *testing.T) {
	b := newBench(t)
	for n := uint64(400); n > 0; n-- {
		b.store.revisions = append(b.store.revisions, testRevision(n, model.RevisionProposed))
	}
	if got, known := b.server.canary(); known {
		t.Errorf("found %+v where there is none", got)
	}
	b.store.revisions[250].State = model.RevisionCanary
	if got, known := b.server.canary(); !known || got.ID.Number != 150 {
		t.Errorf("found %+v", got)
	}
	// Below the one in force there is none.
	b.store.revisions[200].State = model.RevisionActive
	if got, known := b.server.canary(); known {
		t.Errorf("found %+v below the active one", got)
	}
}

func TestClusterIsChangedByAdminsOnly(t *testing.T) {
	id := strings.Repeat("a", 64)
	calls := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"DELETE", "/cluster/nodes/b", "", 204, "remove b by ann ann/k"},
		{"POST", "/cluster/transfer", `{"to":"b"}`, 200, "transfer b by ann ann/k"},
		{"POST", "/cluster/transfer", `{}`, 200, "transfer  by ann ann/k"},
		{"POST", "/cluster/authorities", "", 201, "add  by ann ann/k"},
		{"POST", "/cluster/authorities/" + id + "/activate", "", 200, "activate a by ann ann/k"},
		{"DELETE", "/cluster/authorities/" + id, "", 204, "end a by ann ann/k"},
		{"GET", "/cluster/backup", "", 200, "backup  by ann "},
		{"POST", "/tokens", `{"node":"b"}`, 201, ""},
	}
	for _, call := range calls {
		b := newBench(t)
		b.store.authority = []model.Authority{{ID: id, State: model.AuthorityActive}}
		b.control.backup = func(w io.Writer) error { _, err := w.Write([]byte("x")); return err }
		b.want(b.do(call.method, BasePath+call.path, call.body, "Idempotency-Key", "k"), call.status, nil)
		if call.want != "" && !slices.Equal(b.control.called, []string{call.want}) {
			t.Errorf("%s %s called %q, want %q", call.method, call.path, b.control.called, call.want)
		}
		b.store.applied, b.control.called = nil, nil
		b.store.people[0].Roles = []model.Role{model.Operator, model.Author, model.Approver, model.Viewer}
		b.refused(b.do(call.method, BasePath+call.path, call.body), 403, "forbidden")
		if len(b.control.called)+len(b.store.applied) != 0 {
			t.Errorf("%s %s was done for one who is no admin", call.method, call.path)
		}
		b.store.people[0].Roles = []model.Role{model.Admin}
		b.control.err = model.Errorf(model.Conflict, "it is the last voter")
		if call.want != "" {
			b.refused(b.do(call.method, BasePath+call.path, call.body), 409, "conflict")
		}
	}
}

func TestTokenForANode(t *testing.T) {
	b := newBench(t)
	b.store.revisions = []model.Revision{testRevision(1, model.RevisionActive)} // its sites are of no matter for a node
	var out CreatedToken
	b.want(b.do("POST", BasePath+"/tokens", `{"node":"node-2","lifetime":"1h"}`), 201, &out)
	token := b.store.applied[0].(*model.CreateJoinToken).Token
	if token.Node != "node-2" || token.Site != "" || out.Node != "node-2" || !out.Policy {
		t.Errorf("token = %+v, shown %+v", token, out)
	}
}

// get runs a request over a real connection, where cutting off is seen.
func (b *bench) get(path string) (*http.Response, error) {
	b.t.Helper()
	server := httptest.NewServer(b.server)
	b.t.Cleanup(server.Close)
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, server.URL+BasePath+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+b.token)
	return server.Client().Do(r)
}

func TestBackupIsStreamedWholeOrCutOff(t *testing.T) {
	piece := make([]byte, 64<<10)
	for i := range piece {
		piece[i] = byte(i * 7)
	}
	for _, fails := range []bool{false, true} {
		b := newBench(t)
		want := sha256.New()
		b.control.backup = func(w io.Writer) error {
			for range 50 {
				want.Write(piece)
				if _, err := w.Write(piece); err != nil {
					return err
				}
			}
			if fails {
				return errors.New("the disk is gone")
			}
			return nil
		}
		answer, err := b.get("/cluster/backup")
		if err != nil {
			t.Fatal(err)
		}
		got := sha256.New()
		_, err = io.Copy(got, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "application/octet-stream" || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("answer = %d %v", answer.StatusCode, answer.Header)
		}
		if (err != nil) != fails {
			t.Errorf("fails %v: read with %v", fails, err)
		}
		if !fails && string(got.Sum(nil)) != string(want.Sum(nil)) {
			t.Error("another file came than was sent")
		}
	}
	b := newBench(t)
	b.control.backup = func(io.Writer) error { return model.Errorf(model.Unavailable, "no leader") }
	b.refused(b.do("GET", BasePath+"/cluster/backup", ""), 503, "unavailable")
}

func TestAgentsAreAllowedAndForgotten(t *testing.T) {
	b := newBench(t)
	b.store.agents = []model.Agent{{Name: "eu", Allowed: testNow, Node: "node-2", Recoveries: 3}}
	var got Agent
	b.want(b.do("POST", BasePath+"/agents/eu/allow", "", "Idempotency-Key", "k"), 200, &got)
	if cmd := b.store.applied[0].(*model.AllowAgent); cmd.Agent != "eu" || cmd.By != "ann" || cmd.RequestID != "ann/k" {
		t.Errorf("allow = %+v", cmd)
	}
	if !got.Allowed.Equal(testNow) || got.Node != "node-2" || got.Recoveries != 3 {
		t.Errorf("agent = %+v", got)
	}
	b.agents["eu"] = func(context.Context, string, json.RawMessage) (json.RawMessage, error) { return nil, nil }
	healthy := b.refused(b.do("POST", BasePath+"/agents/eu/allow", ""), 409, "conflict")
	if !strings.Contains(healthy.Detail, "nothing is to be allowed") {
		t.Errorf("for an agent that is well: %+v", healthy)
	}
	b.store.exceptions = []model.Exception{{Agent: "eu", Kind: "fenced", Resolved: testNow}, {Agent: "na", Kind: "fenced"}, {Agent: "eu", Kind: "gap"}}
	b.refused(b.do("POST", BasePath+"/agents/eu/allow", ""), 409, "conflict")
	b.store.exceptions = append(b.store.exceptions, model.Exception{Agent: "eu", Kind: "key-copy"})
	b.want(b.do("POST", BasePath+"/agents/eu/allow", ""), 200, nil)
	b.store.applied = b.store.applied[:1]
	b.want(b.do("POST", BasePath+"/agents/eu/forget", ""), 200, nil)
	if cmd := b.store.applied[1].(*model.ForgetAgent); cmd.Agent != "eu" || cmd.By != "ann" {
		t.Errorf("forget = %+v", cmd)
	}
	b.refused(b.do("POST", BasePath+"/agents/na/forget", ""), 404, "not_found")
}

func TestCanaryIsApprovedPromotedAndWithdrawn(t *testing.T) {
	b := newBench(t)
	b.store.revisions = []model.Revision{testRevision(4, model.RevisionProposed)}
	b.store.answer = func(cmd model.Command) (any, error) {
		r := testRevision(4, model.RevisionCanary)
		r.Canary = []string{"eu"}
		r.Moves = []model.Move{{System: "erp2", Site: "hq", Old: "erp", OldSite: "eu"}}
		switch cmd.(type) {
		case *model.Promote:
			r.State, r.Promoted = model.RevisionActive, testNow
		case *model.Withdraw:
			r = testRevision(5, model.RevisionActive)
		}
		return &r, nil
	}
	var got Revision
	digest := toDigest([32]byte{4})
	b.want(b.do("POST", BasePath+"/revisions/4/approve", `{"digest":"`+digest+`","canary":["eu","na"]}`), 200, &got)
	if cmd := b.store.applied[0].(*model.Approve); !slices.Equal(cmd.Canary, []string{"eu", "na"}) || cmd.Digest != [32]byte{4} {
		t.Errorf("approve = %+v", cmd)
	}
	if got.State != RevisionStateCanary || !slices.Equal(got.Canary, []string{"eu"}) || len(got.Moves) != 1 || got.Moves[0].OldSite != "eu" {
		t.Errorf("approved = %+v", got)
	}
	b.want(b.do("POST", BasePath+"/revisions/4/promote", "", "Idempotency-Key", "k"), 200, &got)
	if cmd := b.store.applied[1].(*model.Promote); cmd.Number != 4 || cmd.RequestID != "ann/k" || got.State != RevisionStateActive || got.Promoted.IsZero() {
		t.Errorf("promote = %+v, answer %+v", cmd, got)
	}
	b.want(b.do("POST", BasePath+"/revisions/4/withdraw", `{"reason":"it is slow"}`), 200, &got)
	if cmd := b.store.applied[2].(*model.Withdraw); cmd.Number != 4 || cmd.Reason != "it is slow" || got.Number != 5 {
		t.Errorf("withdraw = %+v, answer %+v", cmd, got)
	}
}

func TestMovesAreListedAndReleased(t *testing.T) {
	b := newBench(t)
	move := func(system string, state model.MoveState, age time.Duration) model.MoveStatus {
		return model.MoveStatus{Move: model.Move{System: system, Site: "hq", Old: "old-" + system, OldSite: "eu"}, Since: testNow.Add(-age), State: state}
	}
	b.store.moves = []model.MoveStatus{
		move("a", model.MoveReleased, 0), move("b", model.MoveFlushing, time.Hour), move("c", model.MoveDraining, time.Minute),
		move("d", model.MoveReleased, time.Second),
	}
	b.store.moves[1].Waiting = []string{"eu"}
	var list MoveList
	b.want(b.do("GET", BasePath+"/systems/moves", ""), 200, &list)
	order := make([]string, 0, len(list.Items))
	for _, m := range list.Items {
		order = append(order, m.System)
	}
	if !slices.Equal(order, []string{"c", "b", "a", "d"}) || list.Items[1].Waiting[0] != "eu" || list.Items[0].Waiting == nil {
		t.Errorf("moves = %+v", list.Items)
	}
	var got Move
	b.want(b.do("POST", BasePath+"/systems/c/release", "", "Idempotency-Key", "k"), 200, &got)
	if cmd := b.store.applied[0].(*model.ReleaseSystem); cmd.System != "c" || cmd.RequestID != "ann/k" || got.Old != "old-c" {
		t.Errorf("release = %+v, answer %+v", cmd, got)
	}
	b.refused(b.do("POST", BasePath+"/systems/none/release", ""), 404, "not_found")
}

func TestProposalNamesItsMoves(t *testing.T) {
	b := newBench(t)
	b.store.answer = func(model.Command) (any, error) { r := testRevision(1, model.RevisionProposed); return &r, nil }
	const documents = `apiVersion: crossdock/v1
kind: Site
metadata: {name: hq}
spec: {owner: central-it, region: hq}
---
apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: central-it, region: eu}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: old}
spec: {owner: it, site: hq, role: crm}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: new}
spec: {owner: it, site: eu, role: crm, replaces: old}
`
	body, err := json.Marshal(Proposal{Note: "n", Bundle: Documents{"policy.yaml": documents}})
	if err != nil {
		t.Fatal(err)
	}
	b.store.people[0].Roles = []model.Role{model.Author}
	b.want(b.do("POST", BasePath+"/revisions", string(body)), 201, nil)
	want := []model.Move{{System: "new", Site: "eu", Old: "old", OldSite: "hq"}}
	if cmd := b.store.applied[0].(*model.Propose); !slices.Equal(cmd.Moves, want) {
		t.Errorf("moves = %+v", cmd.Moves)
	}
}

// TestSystemNeverChangesItsSite: neither a proposal may, nor one that was made before.
func TestSystemNeverChangesItsSite(t *testing.T) {
	b := newBench(t)
	b.store.people[0].Roles = []model.Role{model.Author, model.Approver}
	documents := func(site, role string) policy.Bundle {
		return policy.Bundle{"policy.yaml": []byte(`apiVersion: crossdock/v1
kind: Site
metadata: {name: hq}
spec: {owner: central-it, region: hq}
---
apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: central-it, region: eu}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: crm}
spec: {owner: it, site: ` + site + `, role: ` + role + `}
`)}
	}
	b.store.revisions = []model.Revision{testRevision(1, model.RevisionActive), testRevision(2, model.RevisionProposed), testRevision(3, model.RevisionProposed)}
	for i := range b.store.revisions[1:] {
		b.store.revisions[i+1].Base = b.store.revisions[0].ID
	}
	b.store.bundles = map[uint64][]byte{1: documents("hq", "crm").Encode(), 2: documents("eu", "crm").Encode(), 3: documents("hq", "erp").Encode()}
	b.store.answer = func(model.Command) (any, error) { return &b.store.revisions[2], nil }
	refused := func(what string, r *httptest.ResponseRecorder) {
		t.Helper()
		p := b.refused(r, 400, "invalid")
		for _, part := range []string{"crm", "hq", "eu", "replaces: crm"} {
			if !strings.Contains(p.Detail, part) {
				t.Errorf("%s: %q does not name %q", what, p.Detail, part)
			}
		}
	}
	propose := func(bundle policy.Bundle) *httptest.ResponseRecorder {
		body, err := json.Marshal(Proposal{Note: "n", Bundle: toDocuments(bundle)})
		if err != nil {
			t.Fatal(err)
		}
		return b.do("POST", BasePath+"/revisions", string(body))
	}
	approve := func(number byte) *httptest.ResponseRecorder {
		return b.do("POST", fmt.Sprintf("%s/revisions/%d/approve", BasePath, number), `{"digest":"`+toDigest([32]byte{number})+`"}`)
	}
	refused("proposal", propose(documents("eu", "crm")))
	refused("approval", approve(2))
	if len(b.store.applied) > 0 {
		t.Errorf("commands: %+v", b.store.applied)
	}
	b.want(propose(documents("hq", "erp")), 201, nil)
	b.want(approve(3), 200, nil)
}
