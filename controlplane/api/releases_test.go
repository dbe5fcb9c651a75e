package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"aead.dev/minisign"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/release"
)

var testHash = strings.Repeat("ab", 32)

// signed makes the body of an addition, signed with the key of a seed.
func signed(t *testing.T, seed byte) (body string, key minisign.PublicKey) {
	t.Helper()
	key, private, err := minisign.GenerateKey(rand.NewChaCha8([32]byte{seed}))
	if err != nil {
		t.Fatal(err)
	}
	manifest, signature, err := release.Sign(&release.Manifest{Format: 1, Version: "1.4.0", Files: []release.File{
		{Name: release.Agent, OS: "linux", Arch: "arm64", Size: 9, SHA256: testHash}, {Name: release.Agent, OS: "linux", Arch: "amd64", Size: 9, SHA256: testHash}}}, private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(ReleaseAddition{Manifest: string(manifest), Signature: string(signature)})
	if err != nil {
		t.Fatal(err)
	}
	return string(text), key
}

func TestReleasesAreCheckedAndAdded(t *testing.T) {
	b := newBench(t)
	b.store.releases = []model.Release{{Version: "1.4.0", State: model.ReleaseUploading, Author: "ann", Added: testNow, Files: []model.ReleaseFile{{SHA256: testHash, Size: 9, Have: 4}}}}
	body, key := signed(t, 1)
	var got Release
	b.want(b.do("POST", BasePath+"/releases", body, "Idempotency-Key", "k"), 201, &got)
	cmd := b.store.applied[0].(*model.AddRelease)
	if cmd.Version != "1.4.0" || len(cmd.Files) != 1 || cmd.Files[0] != (model.ReleaseFile{SHA256: testHash, Size: 9}) || cmd.Key != release.KeyID(key.ID()) || cmd.RequestID != "ann/k" {
		t.Errorf("%+v", cmd)
	}
	if got.Files[0].Have != 4 || got.State != ReleaseStateUploading || got.Stage != "" {
		t.Errorf("%+v", got)
	}
	for name, wrong := range map[string]string{
		"changed version":  strings.Replace(body, "1.4.0", "1.5.0", 1),
		"changed manifest": strings.Replace(body, `\"size\": 9`, `\"size\": 0`, 1),
		"no signature":     `{"manifest":"{}","signature":"x"}`,
	} {
		if wrong == body {
			t.Fatalf("%s changes nothing", name)
		}
		b.refused(b.do("POST", BasePath+"/releases", wrong), 400, "invalid")
	}
	b.refused(b.do("POST", BasePath+"/releases", `{"manifest":"`+strings.Repeat("x", 1<<20)+`","signature":"x"}`), 413, "too_large")

	for _, same := range []string{"v1.4.0", "1.4"} {
		b.store.releases[0].Version = same
		if p := b.refused(b.do("POST", BasePath+"/releases", body), 409, "conflict"); !strings.Contains(p.Detail, "release "+same+" is here, and 1.4.0 is the same version") {
			t.Errorf("detail = %q", p.Detail)
		}
	}
	b.store.releases[0].Version = "1.4.0"

	// With keys only what they signed is taken.
	b.server.releaseKeys = release.Keys{key}
	b.want(b.do("POST", BasePath+"/releases", body), 201, nil)
	foreign, _ := signed(t, 2)
	if p := b.refused(b.do("POST", BasePath+"/releases", foreign), 400, "invalid"); !strings.Contains(p.Detail, "not trusted") {
		t.Errorf("detail = %q", p.Detail)
	}
	if len(b.store.applied) != 2 {
		t.Errorf("a refusal was applied: %d", len(b.store.applied))
	}
}

func TestReleasePieces(t *testing.T) {
	b := newBench(t)
	b.store.releases = []model.Release{{Version: "1.4.0", Added: testNow, State: model.ReleaseUploading, Files: []model.ReleaseFile{{SHA256: testHash, Size: 1 << 20}}}}
	data := make([]byte, model.ReleasePiece)
	data[7] = 9
	path := BasePath + "/releases/1.4.0/files/" + testHash
	body := func(data []byte) string {
		return fmt.Sprintf(`{"offset":%d,"data":%q}`, model.ReleasePiece, base64.StdEncoding.EncodeToString(data))
	}
	b.want(b.do("POST", path, body(data)), 200, nil)
	if cmd := b.store.applied[0].(*model.PutReleasePiece); cmd.SHA256 != testHash || cmd.Offset != model.ReleasePiece || !slices.Equal(cmd.Data, data) {
		t.Errorf("%s at %d, %d bytes", cmd.SHA256, cmd.Offset, len(cmd.Data))
	}
	b.refused(b.do("POST", path, body(append(data, 1, 2, 3))), 400, "invalid")
	b.refused(b.do("POST", BasePath+"/releases/9.9.9/files/"+testHash, body(data)), 404, "not_found")
	b.refused(b.do("POST", BasePath+"/releases/1.4.0/files/"+strings.Repeat("0", 64), body(data)), 404, "not_found")
	b.refused(b.do("POST", path, `{"offset":-1,"data":"AA=="}`), 400, "invalid")
	b.refused(b.do("POST", path, fmt.Sprintf(`{"offset":%d,"data":"no base64!"}`, model.ReleasePiece)), 400, "invalid")
}

func TestRolloutIsSteered(t *testing.T) {
	b := newBench(t)
	b.store.people[0].Roles = []model.Role{model.Approver}
	b.store.releases = []model.Release{{Version: "1.4.0", Added: testNow, State: model.ReleasePaused, Step: 3, Reason: "2 agents failed", Sites: []string{"eu"}}}
	active := testRevision(1, model.RevisionActive)
	active.Sites = []string{"oslo", "riga", "rome"}
	b.store.revisions = []model.Revision{active}
	site := "apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: %s}\nspec: {owner: central-it, region: %s}\n"
	b.store.bundles = map[uint64][]byte{1: policy.Bundle{"p.yaml": []byte(fmt.Sprintf(site+"---\n"+site+"---\n"+site, "oslo", "north", "riga", "north", "rome", "south"))}.Encode()}
	path := BasePath + "/releases/1.4.0/"
	var got Release
	b.want(b.do("POST", path+"approve", `{"digest":"sha256:`+strings.Repeat("00", 32)+`","sites":["rome"],"regions":["north"]}`), 200, &got)
	if got.Stage != "1.4.0/0.3" || !got.BySelf || got.Reason == "" {
		t.Errorf("%+v", got)
	}
	b.want(b.do("POST", path+"promote", `{"regions":["south"]}`), 200, nil)
	b.want(b.do("POST", path+"promote", `{}`), 200, nil)
	b.want(b.do("POST", path+"pause", `{"reason":"slow"}`), 200, nil)
	b.want(b.do("POST", path+"resume", `{}`), 200, nil)
	b.want(b.do("POST", path+"withdraw", `{"reason":"bad"}`), 200, nil)
	want := []struct {
		verb   model.ReleaseVerb
		sites  []string
		reason string
	}{{model.ReleaseApprove, []string{"oslo", "riga", "rome"}, ""}, {model.ReleasePromote, []string{"rome"}, ""}, {model.ReleasePromote, nil, ""},
		{model.ReleasePause, nil, "slow"}, {model.ReleaseResume, nil, ""}, {model.ReleaseWithdraw, nil, "bad"}}
	for i, w := range want {
		if cmd := b.store.applied[i].(*model.SteerRelease); cmd.Verb != w.verb || !slices.Equal(cmd.Sites, w.sites) || cmd.Reason != w.reason || cmd.Version != "1.4.0" {
			t.Errorf("command %d is %+v, want %+v", i, cmd, w)
		}
	}
	for body, want := range map[string]string{
		`{"regions":["nort"]}`:                       `revision 1, which is in force, has no site in region "nort"; did you mean north?`,
		`{"regions":["north","overseas"]}`:           `has no site in region "overseas"; its regions are north, south`,
		`{"sites":["osol"]}`:                         `revision 1, which is in force, has no site "osol"; did you mean oslo?`,
		`{"sites":["rome","x"],"regions":["north"]}`: `has no site "x"; its sites are oslo, riga, rome`,
	} {
		for verb, body := range map[string]string{"promote": body, "approve": `{"digest":"sha256:` + strings.Repeat("00", 32) + `",` + body[1:]} {
			if p := b.refused(b.do("POST", path+verb, body), 400, "invalid"); !strings.Contains(p.Detail, want) {
				t.Errorf("%s %s: %s, want %s", verb, body, p.Detail, want)
			}
		}
	}
	if len(b.store.applied) != len(want) {
		t.Errorf("what was refused was applied: %d", len(b.store.applied))
	}
	b.store.revisions = nil
	b.refused(b.do("POST", path+"promote", `{"regions":["north"]}`), 409, "conflict")
	b.store.releases = nil
	b.want(b.do("POST", path+"withdraw", `{}`), 200, &got) // it was never approved: gone
	if got.State != ReleaseStateWithdrawn || got.Version != "1.4.0" {
		t.Errorf("%+v", got)
	}
	b.refused(b.do("POST", path+"pause", `{}`), 404, "not_found")
}

func TestReleaseIsShownBySite(t *testing.T) {
	b := newBench(t)
	b.store.releases = []model.Release{{Version: "1.4.0", Added: testNow, State: model.ReleaseCanary, Step: 2, Files: []model.ReleaseFile{{SHA256: testHash, Size: 9, Have: 9}}}}
	says := func(version, rel string) json.RawMessage {
		return json.RawMessage(`{"version":"` + version + `"` + rel + `}`)
	}
	report := func(stage, state string) string {
		return `,"release":{"running":"1.3.0","stage":"` + stage + `","state":"` + state + `","why":"because","since":"2026-05-04T09:00:00Z"}`
	}
	stages := map[string]string{"trial": "1.4.0/0.2", "earlier": "1.4.0/0.2", "before": "1.3.0/0.1", "odd": "1.4.0/0.2", "old": "1.4.0/0.2", "new": "1.4.0/0.2", "silent": "1.4.0/0.2", "rubbish": "1.4.0/0.2", "onTrial": "1.4.0/0.2",
		"hotfix": "1.4.0/0.2", "manual": "1.4.0/0.2", "tagged": "1.4.0/0.2", "before2": "1.3.0/0.1"}
	b.store.wanted = stages
	b.store.agents = []model.Agent{
		{Name: "trial", Status: says("1.4.0", report("1.4.0/0.2", "trial")), LastSeen: testNow},
		{Name: "earlier", Status: says("1.3.0", report("1.4.0/0.1", "failed"))},
		{Name: "before", Status: says("1.3.0", report("", "current"))},
		{Name: "odd", Status: says("1.3.0", report("1.4.0/0.2", "sleepy"))},
		{Name: "old", Status: says("1.2.0", "")},
		{Name: "new", Status: says("1.4.0", "")},
		{Name: "tagged", Status: says("v1.4.0", "")},
		{Name: "before2", Status: says("v1.3.0", `,"release":{"running":"v1.3.0","stage":"","state":"current"}`)},
		{Name: "silent"},
		{Name: "rubbish", Status: json.RawMessage(`7`)},
		{Name: "paused", Status: says("1.3.0", report("1.4.0/0.1", "rolled-back"))},
		{Name: "other", Status: says("1.3.0", report("1.3.0/0.1", "failed"))},
		{Name: "onTrial", Status: says("1.4.0", report("1.4.0/0.1", "trial"))},
		{Name: "hotfix", Status: says("1.4.1", report("1.4.0/0.2", model.AgentReleaseNewer))},
		{Name: "manual", Status: says("1.3.0", report("1.4.0/0.2", model.AgentReleaseOff))},
		{Name: "gone", Revoked: testNow},
	}
	for i := range b.store.agents {
		b.store.agents[i].Site = b.store.agents[i].Name
	}
	b.agents["trial"] = nil
	var got ReleaseReport
	b.want(b.do("GET", BasePath+"/releases/1.4.0", ""), 200, &got)
	want := map[string]string{"trial": "trial", "earlier": "waiting", "before": "current", "odd": "waiting", "old": "unsupported", "new": "current",
		"silent": "waiting", "rubbish": "waiting", "paused": "rolled-back", "other": "none", "onTrial": "trial", "hotfix": "newer", "manual": "off", "tagged": "current", "before2": "current"}
	if len(got.Items) != len(want) || got.Manifest != "manifest of 1.4.0" {
		t.Errorf("%+v", got)
	}
	for _, item := range got.Items {
		if string(item.State) != want[item.Site] {
			t.Errorf("%s is %s, want %s", item.Site, item.State, want[item.Site])
		}
	}
	if trial := got.Items[0]; trial.Running != "1.3.0" || trial.Wanted != "1.4.0" || trial.Why != "because" || trial.Since.IsZero() || trial.LastSeen.IsZero() || trial.Connected {
		t.Errorf("%+v", trial)
	}
	var list ReleaseList
	b.want(b.do("GET", BasePath+"/releases", ""), 200, &list)
	if len(list.Items) != 1 || list.Items[0].Files[0].Have != 9 || list.Items[0].Sites == nil {
		t.Errorf("%+v", list)
	}
	b.refused(b.do("GET", BasePath+"/releases/9.9.9", ""), 404, "not_found")
}

// TestWithdrawnReleaseIsShownBySite: who still has to go back, who has, and who stays.
func TestWithdrawnReleaseIsShownBySite(t *testing.T) {
	b := newBench(t)
	sites := []string{"away", "back", "before", "manual", "older", "tagged"}
	b.store.releases = []model.Release{{Version: "1.4.0", Added: testNow, State: model.ReleaseWithdrawn, Step: 2, Sites: sites}}
	b.store.wanted = map[string]string{"elsewhere": ""}
	for _, site := range sites {
		b.store.wanted[site] = "1.4.0/0.2"
	}
	says := func(version, stage, state, why string) json.RawMessage {
		return json.RawMessage(`{"version":"` + version + `","release":{"running":"` + version + `","stage":"` + stage + `","state":"` + state + `","why":"` + why + `"}}`)
	}
	b.store.agents = []model.Agent{
		{Name: "away", Status: says("1.4.0", "1.4.0/0.1", "current", "")},
		{Name: "back", Status: says("1.3.0", "1.4.0/0.1", "rolled-back", "it was withdrawn")},
		{Name: "before", Status: says("1.3.0", "", "current", "")},
		{Name: "manual", Status: says("1.4.0", "1.4.0/0.2", "newer", "a person has chosen it")},
		{Name: "older", Status: json.RawMessage(`{"version":"1.4.0"}`)},
		{Name: "tagged", Status: says("v1.4.0", "1.4.0/0.1", "current", "")},
		{Name: "elsewhere", Status: says("1.4.0", "", "current", "")},
	}
	for i := range b.store.agents {
		b.store.agents[i].Site = b.store.agents[i].Name
	}
	var got ReleaseReport
	b.want(b.do("GET", BasePath+"/releases/1.4.0", ""), 200, &got)
	want := map[string]string{"away": "waiting: it was withdrawn: the site goes back to what ran there before", "back": "rolled-back: it was withdrawn", "before": "none: ",
		"manual": "newer: a person has chosen it", "older": "waiting: it was withdrawn: the site goes back to what ran there before",
		"tagged": "waiting: it was withdrawn: the site goes back to what ran there before", "elsewhere": "none: "}
	for _, item := range got.Items {
		if text := string(item.State) + ": " + item.Why; text != want[item.Site] || item.Wanted != "" {
			t.Errorf("%s wants %q, %q, want %q", item.Site, item.Wanted, text, want[item.Site])
		}
	}
	if !slices.Equal(got.Release.Sites, sites) {
		t.Errorf("sites that go back: %v", got.Release.Sites)
	}
}
