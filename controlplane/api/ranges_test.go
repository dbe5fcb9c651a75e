package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/serial"
)

func TestRangesAreListedAndReleased(t *testing.T) {
	b := newBench(t)
	span := serial.Span{Form: serial.Form{Lead: "30614141", Digits: 9, Check: serial.CheckMod10}, First: 1, Last: 1000}
	b.store.ranges = []model.RangeStatus{
		{NumberRange: model.NumberRange{Name: "pallets", Span: span, Sites: []string{"eu"}, Block: 100, Low: 50, Hourly: 7}, InForce: true, Next: 301, Sure: 201, Held: "who knows",
			Leases: []model.LeaseStatus{{Agent: "eu", Epoch: 2, Blocks: []model.NumberBlock{{First: 201, Last: 300}}, Leased: 300, Forfeited: 100, At: testNow}, {Agent: "na", Epoch: 1}}},
		{NumberRange: model.NumberRange{Name: "spent", Span: span}, Next: 1001, Sure: 1001},
	}
	b.store.agents = []model.Agent{{Name: "eu", Status: json.RawMessage(`{"at":"2026-05-04T10:00:00Z","numbers":[{"range":"other","left":1},{"range":"pallets","left":40,"used":60,"refused":"no"}]}`)},
		{Name: "na", Status: json.RawMessage(`"rubbish"`)}}
	var list RangeList
	b.want(b.do("GET", BasePath+"/ranges", ""), 200, &list)
	if len(list.Items) != 2 {
		t.Fatalf("%+v", list)
	}
	pallets, spent := list.Items[0], list.Items[1]
	if pallets.Left != 700 || !pallets.InForce || pallets.Held != "who knows" || pallets.Sure != 201 || pallets.Hourly != 7 || spent.Sure != 0 || pallets.Check != "mod10" || spent.Left != 0 || spent.InForce || spent.Leases == nil {
		t.Errorf("%+v", list.Items)
	}
	eu, na := pallets.Leases[0], pallets.Leases[1]
	if eu.Left != 40 || eu.Used != 60 || eu.Refused != "no" || !eu.Reported.Equal(time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)) || eu.Blocks[0].Last != 300 || !na.Reported.IsZero() {
		t.Errorf("%+v, %+v", eu, na)
	}
	var got NumberRange
	b.want(b.do("POST", BasePath+"/ranges/pallets/release", `{"next":500}`, "Idempotency-Key", "k"), 200, &got)
	if cmd := b.store.applied[0].(*model.ReleaseRange); cmd.Range != "pallets" || cmd.Next != 500 || cmd.RequestID != "ann/k" || got.Name != "pallets" {
		t.Errorf("release = %+v, answer %+v", cmd, got)
	}
	b.refused(b.do("POST", BasePath+"/ranges/none/release", `{"next":1}`), 404, "not_found")
	b.refused(b.do("POST", BasePath+"/ranges/pallets/release", `{}`), 400, "invalid")
}

// TestRangesNeverMakeNumbersAgain: neither a proposal may change them so, nor one that was made before.
func TestRangesNeverMakeNumbersAgain(t *testing.T) {
	b := newBench(t)
	b.store.people[0].Roles = []model.Role{model.Author, model.Approver}
	documents := func(spec string) policy.Bundle {
		return policy.Bundle{"policy.yaml": []byte(`apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: central-it, region: eu}
---
apiVersion: crossdock/v1
kind: NumberRange
metadata: {name: bins}
spec: {owner: logistics, sites: [eu], block: 10, ` + spec + `}
`)}
	}
	active, open := testRevision(1, model.RevisionActive), testRevision(2, model.RevisionProposed)
	open.Base.Number = 1
	before, over := documents("format: plain, width: 4, from: 1, to: 900"), documents("format: plain, width: 4, from: 2, to: 900")
	b.store.revisions = []model.Revision{active, open}
	b.store.bundles = map[uint64][]byte{1: before.Encode(), 2: over.Encode()}
	propose := func(bundle policy.Bundle) (int, string) {
		t.Helper()
		body, err := json.Marshal(Proposal{Note: "n", Bundle: toDocuments(bundle)})
		if err != nil {
			t.Fatal(err)
		}
		b.store.answer = func(model.Command) (any, error) { r := testRevision(3, model.RevisionProposed); return &r, nil }
		w := b.do("POST", BasePath+"/revisions", string(body))
		return w.Code, w.Body.String()
	}
	if code, body := propose(over); code != 400 || !strings.Contains(body, "only the end (to) changes") {
		t.Errorf("%d %s", code, body)
	}
	if len(b.store.applied) != 0 {
		t.Errorf("applied %+v", b.store.applied)
	}
	w := b.do("POST", BasePath+"/revisions/2/approve", `{"digest":"`+toDigest(open.Digest)+`"}`)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "bins") || len(b.store.applied) != 0 {
		t.Errorf("approved: %d %s", w.Code, w.Body)
	}
	if code, body := propose(documents("format: plain, width: 4, from: 1, to: 800, hourly: 30")); code != 201 {
		t.Errorf("%d %s", code, body)
	}
	cmd := b.store.applied[0].(*model.Propose)
	if len(cmd.Ranges) != 1 || cmd.Ranges[0].Span.Last != 800 || cmd.Ranges[0].Hourly != 30 || cmd.Ranges[0].Block != 10 || cmd.Ranges[0].Low != 5 {
		t.Errorf("ranges %+v", cmd.Ranges)
	}
}

// A repeat of a proposal is known by its bytes, so that the order of its ranges is always the same.
func TestRangesOfAPolicyAreInOrder(t *testing.T) {
	set := &policy.Set{Ranges: map[string]*policy.NumberRange{}}
	for i := range 20 {
		name := string(rune('a' + i))
		set.Ranges[name] = &policy.NumberRange{Meta: policy.Meta{Name: name}}
	}
	for i, r := range rangesOf(set) {
		if want := string(rune('a' + i)); r.Name != want {
			t.Fatalf("range %d is %s, want %s", i, r.Name, want)
		}
	}
}
