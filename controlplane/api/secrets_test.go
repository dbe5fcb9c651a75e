package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// sealedPolicy has a system and a plugin that refer to sealed secrets.
const sealedPolicy = `apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: it, region: eu}
---
apiVersion: crossdock/v1
kind: Site
metadata: {name: hq}
spec: {owner: it, region: eu}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: erp}
spec:
  owner: it
  site: eu
  http: {url: https://erp.example.com, ca: "secret:ca", auth: {bearer: "secret:token"}, deliver: {path: /events}}
---
apiVersion: crossdock/v1
kind: Plugin
metadata: {name: zone}
spec: {owner: it, kind: carrier, sites: [eu, hq], program: p, sha256: {linux/amd64: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}, secrets: {password: "secret:api-key"}}
`

func secretsBench(t *testing.T) *bench {
	b := newBench(t)
	b.store.people[0].Roles = []model.Role{model.Operator}
	active := testRevision(3, model.RevisionActive)
	b.store.revisions = append(b.store.revisions, active)
	b.store.bundles[3] = policy.Bundle{"p.yaml": []byte(sealedPolicy)}.Encode()
	said, err := json.Marshal(model.AgentStatus{Sealing: sealing.Announcement{Recipient: "age1new", Key: []byte("key"), Signature: []byte("sig"), Only: true},
		Secrets: []model.AgentSecret{{Name: "erp/token", Version: 4, Only: []string{"erp.example.com"}}, {Name: "erp/ca", Version: 9, Only: []string{"x"}}, {Name: "shop/token", Version: 1, Refused: "no"}, {Name: "erp/gone", Version: 2}, {Name: "erp/stays", Version: 5}}})
	if err != nil {
		t.Fatal(err)
	}
	b.store.agents = []model.Agent{{Name: "eu", Site: "eu", Key: [32]byte{7}, Status: said}, {Name: "hq", Site: "hq", Status: json.RawMessage(`"rubbish"`)}}
	secret := func(agent, name string, version uint64, recipient string) model.Secret {
		return model.Secret{Agent: agent, Name: name, Version: version, Recipient: recipient, Sealed: []byte("age"), By: "ann", At: testNow}
	}
	b.store.secrets = []model.Secret{
		secret("eu", "erp/ca", 2, "age1new"), secret("eu", "erp/token", 4, "age1new"), secret("eu", "erp/waits", 1, "age1new"), secret("eu", "erp/old", 1, "age1old"),
		secret("eu", "shop/token", 1, "age1new"), {Agent: "eu", Name: "erp/gone", Version: 2, By: "ann", At: testNow}, {Agent: "eu", Name: "erp/going", Version: 2, By: "ann", At: testNow},
		{Agent: "eu", Name: "erp/stays", Version: 2, By: "ann", At: testNow},
		secret("hq", "plugin:zone/api-key", 6, "age1hq"),
	}
	b.store.secrets[1].Former = []byte("age")
	b.store.secrets[1].FormerUntil = testNow.Add(time.Hour)
	return b
}

func TestSecretsAreListed(t *testing.T) {
	b := secretsBench(t)
	var list SecretList
	answer := b.do("GET", BasePath+"/secrets", "")
	b.want(answer, 200, &list)
	got := map[string]string{}
	for _, s := range list.Items {
		got[s.Owner+"/"+s.Name] = s.State
	}
	want := map[string]string{"erp/ca": secretNewer, "erp/token": secretInUse, "erp/waits": secretWaiting, "erp/old": secretFormerKey, "shop/token": secretRefused,
		"erp/gone": secretDropped, "erp/going": secretDropping, "erp/stays": secretNewer, "plugin:zone/api-key": secretWaiting}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if first := list.Items[0]; first.Only != nil {
		t.Errorf("the hosts of another version: %+v", first)
	}
	if s := list.Items[1]; !slices.Equal(s.Only, []string{"erp.example.com"}) || !s.Former || !s.FormerUntil.Equal(testNow.Add(time.Hour)) || s.Key != sealing.Fingerprint("age1new") || s.Held != 4 {
		t.Errorf("got %+v", s)
	}
	if strings.Contains(answer.Body.String(), base64.StdEncoding.EncodeToString([]byte("age"))) {
		t.Error("the list gives what is sealed")
	}
}

func TestSecretTargets(t *testing.T) {
	b := secretsBench(t)
	get := func(query string) (out SecretTargets) {
		t.Helper()
		b.want(b.do("GET", BasePath+"/secrets/targets?"+query, ""), 200, &out)
		return out
	}
	erp := get("owner=erp")
	if !slices.Equal(erp.Names, []string{"ca", "token"}) || len(erp.Items) != 1 {
		t.Fatalf("got %+v", erp)
	}
	eu := erp.Items[0]
	if eu.Agent != "eu" || eu.Cluster != "c1" || eu.Recipient != "age1new" || string(eu.Key) != "key" || string(eu.Signature) != "sig" ||
		!strings.HasPrefix(eu.RegisteredKey, "0700") || eu.Fingerprint != sealing.Fingerprint("age1new") {
		t.Errorf("got %+v", eu)
	}
	if want := map[string][]string{"token": {"erp.example.com"}, "ca": {"x"}}; !eu.TakesOnly || !reflect.DeepEqual(eu.Only, want) {
		t.Errorf("hosts: got %t, %v, want %v", eu.TakesOnly, eu.Only, want)
	}
	if want := map[string][]string{"token": {"https://erp.example.com"}, "ca": {"https://erp.example.com"}}; !reflect.DeepEqual(erp.Hosts, want) {
		t.Errorf("hosts of policy: got %v, want %v", erp.Hosts, want)
	}
	if want := map[string]uint64{"ca": 9, "token": 4, "waits": 1, "old": 1, "gone": 2, "going": 2, "stays": 5}; !reflect.DeepEqual(eu.Versions, want) {
		t.Errorf("got %v, want %v", eu.Versions, want)
	}
	if want := map[string]uint64{"ca": 9, "token": 4, "gone": 2, "stays": 5}; !reflect.DeepEqual(eu.Held, want) {
		t.Errorf("held at the agent: got %v, want %v", eu.Held, want)
	}
	zone := get("owner=plugin:zone")
	if len(zone.Hosts) != 0 || zone.Items[1].TakesOnly || len(zone.Items) != 2 || zone.Items[1].Agent != "hq" || zone.Items[1].Recipient != "" || zone.Items[1].Versions["api-key"] != 6 {
		t.Errorf("got %+v", zone)
	}
	if one := get("owner=plugin:zone&site=hq"); len(one.Items) != 1 || one.Items[0].Agent != "hq" {
		t.Errorf("got %+v", one)
	}
	if early := get("owner=not-yet&site=eu"); len(early.Items) != 1 || early.Items[0].Agent != "eu" || early.Names == nil {
		t.Errorf("got %+v", early)
	}
	targets := BasePath + "/secrets/targets"
	b.refused(b.do("GET", targets+"?owner=not-yet", ""), 404, "not_found")
	b.refused(b.do("GET", targets+"?owner=erp&site=hq", ""), 400, "invalid")
	b.refused(b.do("GET", targets+"?owner=erp/token", ""), 400, "invalid")
	b.refused(b.do("GET", targets+"?owner=not-yet&site=nowhere", ""), 409, "conflict")
	b.store.agents[0].Revoked = testNow
	b.refused(b.do("GET", targets+"?owner=erp", ""), 409, "conflict")
	b.store.people[0].Roles = []model.Role{model.Viewer, model.Author, model.Approver, model.Admin}
	b.refused(b.do("GET", targets+"?owner=erp", ""), 403, "forbidden")
}

// At a canary site the revision that it has counts as well; elsewhere it does not yet.
func TestSecretTargetsOfACanary(t *testing.T) {
	b := secretsBench(t)
	canary := testRevision(4, model.RevisionCanary)
	canary.Canary = []string{"eu"}
	b.store.revisions = append([]model.Revision{canary}, b.store.revisions...)
	trial := strings.ReplaceAll(sealedPolicy, `bearer: "secret:token"`, `bearer: "secret:token-2"`)
	trial = strings.ReplaceAll(trial, "secret:api-key", "secret:api-key-2") + `---
apiVersion: crossdock/v1
kind: System
metadata: {name: near}
spec: {owner: it, site: eu, http: {url: "https://new.example.com", auth: {bearer: "secret:key"}, deliver: {path: /events}}}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: far}
spec: {owner: it, site: hq, http: {url: "https://far.example.com", auth: {bearer: "secret:key"}, deliver: {path: /events}}}
`
	b.store.bundles[4] = policy.Bundle{"p.yaml": []byte(trial)}.Encode()
	for query, want := range map[string]string{
		"owner=erp":                 "[eu] [ca token token-2]",
		"owner=near":                "[eu] [key]",
		"owner=plugin:zone":         "[eu hq] [api-key api-key-2]",
		"owner=plugin:zone&site=eu": "[eu] [api-key api-key-2]",
		"owner=plugin:zone&site=hq": "[hq] [api-key]",
		"owner=far&site=hq":         "[hq] []",
	} {
		var out SecretTargets
		b.want(b.do("GET", BasePath+"/secrets/targets?"+query, ""), 200, &out)
		var agents []string
		for _, one := range out.Items {
			agents = append(agents, one.Agent)
		}
		if got := fmt.Sprint(agents, " ", out.Names); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	b.refused(b.do("GET", BasePath+"/secrets/targets?owner=far", ""), 404, "not_found")
}

func TestSecretsAreSetAndDropped(t *testing.T) {
	b := secretsBench(t)
	body := func(sealed, more string) string {
		return `{"agent":"eu","owner":"erp","name":"token","version":5,"recipient":"age1new","sealed":"` + base64.StdEncoding.EncodeToString([]byte(sealed)) + `"` + more + `}`
	}
	var got Secret
	b.want(b.do("POST", BasePath+"/secrets", body(sealedBegins+"x", `,"keepFormer":true,"formerUntil":"2026-05-05T10:00:00+02:00"`), "Idempotency-Key", "k"), 200, &got)
	want := &model.SetSecret{Asked: model.Asked{By: "ann", At: testNow, RequestID: "ann/k"}, Agent: "eu", Name: "erp/token", Version: 5, Recipient: "age1new",
		Sealed: []byte(sealedBegins + "x"), KeepFormer: true, FormerUntil: time.Date(2026, 5, 5, 8, 0, 0, 0, time.UTC)}
	if !reflect.DeepEqual(b.store.applied[0], model.Command(want)) || got.Name != "token" {
		t.Errorf("applied %+v, answer %+v", b.store.applied[0], got)
	}
	b.want(b.do("DELETE", BasePath+"/secrets/eu/plugin:zone/api-key?former=true", "", "Idempotency-Key", "d"), 204, nil)
	if cmd := b.store.applied[1].(*model.DropSecret); cmd.Name != "plugin:zone/api-key" || !cmd.Former || cmd.Agent != "eu" || cmd.RequestID != "ann/d" {
		t.Errorf("applied %+v", cmd)
	}
	plain := b.refused(b.do("POST", BasePath+"/secrets", body("hunter2-in-the-clear", "")), 400, "invalid")
	if len(b.store.applied) != 2 || strings.Contains(plain.Detail, "hunter2") {
		t.Errorf("a secret in the clear went on: %+v", plain)
	}
	b.want(b.do("POST", BasePath+"/secrets", body(sealedBegins+strings.Repeat("x", sealing.MaxValue), "")), 200, nil)
	b.refused(b.do("POST", BasePath+"/secrets", body(strings.Repeat("x", MaxSecretBody), "")), 413, "too_large")
	for _, bad := range []string{`"owner":"erp/x"`, `"owner":"Plugin:x"`, `"name":"../x"`, `"name":""`, `"version":0`} {
		field := strings.SplitN(bad, ":", 2)[0]
		text := body(sealedBegins, "")
		for _, one := range []string{`"owner":"erp"`, `"name":"token"`, `"version":5`} {
			if strings.HasPrefix(one, field) {
				text = strings.Replace(text, one, bad, 1)
			}
		}
		b.refused(b.do("POST", BasePath+"/secrets", text), 400, "invalid")
	}
}
