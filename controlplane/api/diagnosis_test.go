package api

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
)

func TestAnAgentIsExaminedFromAfar(t *testing.T) {
	b := newBench(t)
	b.store.agents = []model.Agent{{Name: "eu", Site: "eu-west"}, {Name: "bad"}, {Name: "away"}, {Name: "old"}}
	b.agents["eu"] = func(_ context.Context, kind string, args json.RawMessage) (json.RawMessage, error) {
		if kind != "doctor" || string(args) != "{}" {
			t.Errorf("asked %s %s", kind, args)
		}
		return json.RawMessage(`{"version":1,"agent":"hq","site":"hq","program":"1.2","at":"2026-05-04T10:00:00Z","worst":"ok","summary":"1 failed, 1 warning","new":1,
			"findings":[{"id":"clock","level":"ok","seen":"right"},{"id":"link-quic","level":"warn","seen":"no answer","todo":"let UDP out","doc":"udp-blocked"},
			{"id":"x","level":"strange","seen":"` + strings.Repeat("x", 2*maxFinding) + `"}],"notTested":["capacity"]}`), nil
	}
	b.agents["bad"] = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`"what"`), nil
	}
	b.agents["old"] = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return nil, model.Errorf(model.Invalid, `agent old: this agent (1.0) does not know the command "doctor"`)
	}
	b.agents["away"] = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return nil, model.Errorf(model.Unavailable, "agent away is not connected: %v", errors.New("cut"))
	}
	var d Diagnosis
	b.want(b.do("GET", BasePath+"/agents/eu/doctor", ""), 200, &d)
	if d.Agent != "eu" || d.Site != "eu-west" || d.Program != "1.2" || d.Worst != FindingLevelFail || len(d.Findings) != 3 || len(d.NotTested) != 1 {
		t.Errorf("%+v", d)
	}
	if f := d.Findings[1]; f.ID != "link-quic" || f.Level != FindingLevelWarn || f.Doc != "udp-blocked" || f.Todo != "let UDP out" {
		t.Errorf("%+v", f)
	}
	if f := d.Findings[2]; f.Level != FindingLevelFail || len(f.Seen) > maxFinding+3 {
		t.Errorf("%s, %d bytes", f.Level, len(f.Seen))
	}
	for agent, status := range map[string]int{"bad": 503, "away": 503, "none": 404, "old": 400} {
		b.want(b.do("GET", BasePath+"/agents/"+agent+"/doctor", ""), status, nil)
	}
}
