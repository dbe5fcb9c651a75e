package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/policy"
)

// A contract's version is the name of one schema: neither a proposal may give it another, nor one
// that was made before that was looked at. Only a rollback brings back the schema of then.
func TestAVersionKeepsItsSchema(t *testing.T) {
	b := newBench(t)
	b.store.people[0].Roles = []model.Role{model.Author, model.Approver}
	documents := func(versions string) policy.Bundle {
		return policy.Bundle{"policy.yaml": []byte(`apiVersion: crossdock/v1
kind: Contract
metadata: {name: order.placed}
spec: {owner: sales, authority: agent, key: .orderId, versions: [` + versions + `]}
`), "old.json": []byte(`{"required": ["orderId"], "properties": {"orderId": {"type": "string"}, "note": {"type": "string"}}}`),
			"new.json": []byte(`{"required": ["orderId", "note"], "properties": {"orderId": {"type": "string"}, "note": {"type": "string"}}}`)}
	}
	const first, instead, more = "{version: 1.0.0, state: active, schema: old.json}", "{version: 1.0.0, state: active, schema: new.json}", "{version: 2.0.0, state: active, schema: new.json}"
	active, open, past := testRevision(2, model.RevisionActive), testRevision(3, model.RevisionProposed), testRevision(1, "superseded")
	open.Base.Number = 2
	before, over, then := documents(first), documents(instead), documents("{version: 1.0.0, state: deprecated, sunset: 2027-06-30, schema: new.json}")
	active.Digest, open.Digest, past.Digest, past.Approved = before.Digest(), over.Digest(), then.Digest(), testNow
	b.store.revisions = []model.Revision{open, active, past}
	b.store.bundles = map[uint64][]byte{1: then.Encode(), 2: before.Encode(), 3: over.Encode()}
	b.store.answer = func(model.Command) (any, error) { r := testRevision(4, model.RevisionProposed); return &r, nil }
	propose := func(bundle policy.Bundle) (int, string) {
		t.Helper()
		body, err := json.Marshal(Proposal{Note: "n", Bundle: toDocuments(bundle)})
		if err != nil {
			t.Fatal(err)
		}
		w := b.do("POST", BasePath+"/revisions", string(body))
		return w.Code, w.Body.String()
	}
	if code, body := propose(over); code != 400 || !strings.Contains(body, "the schema of version 1.0.0, new.json,") || !strings.Contains(body, "add a new version") {
		t.Errorf("another schema under the same version: %d %s", code, body)
	}
	w := b.do("POST", BasePath+"/revisions/3/approve", `{"digest":"`+toDigest(open.Digest)+`"}`)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "order.placed") || len(b.store.applied) != 0 {
		t.Errorf("approved: %d %s, applied %+v", w.Code, w.Body, b.store.applied)
	}
	if code, body := propose(documents(first + ", " + more)); code != 201 {
		t.Errorf("a new version: %d %s", code, body)
	}
	if code, body := propose(documents("{version: 1.0.0, state: draft, schema: old.json}")); code != 400 || !strings.Contains(body, "no draft again") {
		t.Errorf("a draft again: %d %s", code, body)
	}
	if w := b.do("POST", BasePath+"/revisions/1/rollback", `{"note":"n"}`); w.Code != 201 {
		t.Errorf("rollback: %d %s", w.Code, w.Body)
	}
}

// A version that one revision leaves out has its schema still when a later one brings it back:
// as the newest one that was approved has it. Where nothing is kept, nothing is compared.
func TestAVersionKeepsItsSchemaWhereItWasLeftOut(t *testing.T) {
	b := newBench(t)
	b.store.people[0].Roles = []model.Role{model.Author, model.Approver}
	documents := func(name, schema string) policy.Bundle {
		return policy.Bundle{"policy.yaml": []byte(`apiVersion: crossdock/v1
kind: Contract
metadata: {name: ` + name + `}
spec: {owner: sales, authority: agent, key: .orderId, versions: [{version: 1.0.0, state: active, schema: s.json}]}
`), "s.json": []byte(`{"required": ["orderId"], "properties": {"orderId": {"type": "string"}, "` + schema + `": {"type": "string"}}}`)}
	}
	revision := func(number uint64, state model.RevisionState, bundle policy.Bundle, approved bool) {
		r := testRevision(number, state)
		r.Base.Number = number - 1
		if r.Digest = bundle.Digest(); approved {
			r.Approved = testNow
		}
		b.store.revisions = append([]model.Revision{r}, b.store.revisions...)
		b.store.bundles[number] = bundle.Encode()
	}
	b.store.revisions, b.store.bundles = nil, map[uint64][]byte{}
	revision(1, "superseded", documents("order.placed", "first"), true)
	revision(2, "superseded", documents("order.placed", "second"), true) // by a rollback, say
	revision(3, model.RevisionActive, documents("order.paid", "x"), true)
	revision(4, model.RevisionProposed, documents("order.placed", "never"), false)
	b.store.answer = func(model.Command) (any, error) { r := testRevision(5, model.RevisionProposed); return &r, nil }
	for _, tt := range []struct {
		schema string
		code   int
	}{{"third", 400}, {"never", 400}, {"second", 201}, {"first", 201}} { // the last is a rollback
		body, err := json.Marshal(Proposal{Note: "n", Bundle: toDocuments(documents("order.placed", tt.schema))})
		if err != nil {
			t.Fatal(err)
		}
		w := b.do("POST", BasePath+"/revisions", string(body))
		if w.Code != tt.code || tt.code == 400 && !strings.Contains(w.Body.String(), "the schema of version 1.0.0, s.json,") {
			t.Errorf("%s: %d %s, want %d", tt.schema, w.Code, w.Body, tt.code)
		}
	}
	if w := b.do("POST", BasePath+"/revisions/4/approve", `{"digest":"`+toDigest(b.store.revisions[0].Digest)+`"}`); w.Code != 400 {
		t.Errorf("approved: %d %s", w.Code, w.Body)
	}
	delete(b.store.bundles, 1)
	delete(b.store.bundles, 2)
	body, err := json.Marshal(Proposal{Note: "n", Bundle: toDocuments(documents("order.placed", "third"))})
	if err != nil {
		t.Fatal(err)
	}
	if w := b.do("POST", BasePath+"/revisions", string(body)); w.Code != 201 {
		t.Errorf("with what is not kept: %d %s", w.Code, w.Body)
	}
}
