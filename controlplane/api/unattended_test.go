package api

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// What waits in a mailbox is in the trace by the word of who sent it, with why it waits; what
// its destination has told of itself is not told twice.
func TestTraceShowsWhatWaitsInMailboxes(t *testing.T) {
	b := newBench(t)
	b.store.agents = []model.Agent{{Name: "eu"}, {Name: "hq"}, {Name: "na"}, {Name: "old", Revoked: testNow}}
	at := testNow.Add(-time.Hour)
	b.store.relayed = map[string]time.Time{"br eu 3": at, "na eu 5": at, "old eu 6": at, "hq eu 7": at, "hq eu 8": at}
	b.agents["eu"] = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"hops":[{"event":"e1","source":"/s","hop":"accepted","system":"shop","at":"2026-05-04T09:00:00.001Z","sent":[
			{"to":"br","number":3},{"to":"na","number":5},{"to":"old","number":6},{"to":"hq","number":7},{"to":"hq","number":9}]},
			{"event":"e2","source":"/s","hop":"accepted","at":"2026-05-04T09:00:00.002Z","sent":[{"to":"hq","number":8}]}]}`), nil
	}
	b.agents["hq"] = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"hops":[{"event":"e1","source":"/s","hop":"received","peer":"eu","at":"2026-05-04T09:00:00.003Z"}]}`), nil
	}
	var trace Trace
	b.want(b.do("GET", BasePath+"/events?key=10248", ""), 200, &trace)
	var got []string
	for _, h := range trace.Hops {
		if h.Hop != "relayed" {
			continue
		}
		if !h.At.Equal(at) || h.System != "" {
			t.Errorf("hop = %+v", h)
		}
		got = append(got, strings.Join([]string{h.Agent, h.Event, h.Peer, h.Detail}, "|"))
	}
	slices.Sort(got)
	want := []string{
		"eu|e1|br|waits for site br: no agent has been enrolled there",
		"eu|e1|na|waits for site na: its agent is not connected",
		"eu|e1|old|waits for site old: its agent is revoked",
		"eu|e2|hq|waits for site hq to fetch it",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A site without an agent for which something waits is listed with the agents, and is an
// exception as long as that is so.
func TestSitesWithoutAnAgentAreSeen(t *testing.T) {
	b := newBench(t)
	since := testNow.Add(-time.Hour)
	b.store.unattended = []model.Unattended{{Site: "br", Events: 3, Bytes: 900, Since: since}}
	b.store.exceptions = []model.Exception{{ID: "eu/gap/1", Agent: "eu", Kind: "gap", At: since}}
	var agents AgentList
	b.want(b.do("GET", BasePath+"/agents", ""), 200, &agents)
	if want := []Unattended{{Site: "br", Events: 3, Bytes: 900, Since: since, Next: "crossdock token create --site br begins one"}}; !slices.Equal(agents.Unattended, want) {
		t.Errorf("unattended = %+v, want %+v", agents.Unattended, want)
	}
	var list ExceptionList
	b.want(b.do("GET", BasePath+"/exceptions", ""), 200, &list)
	if len(list.Items) != 2 || list.Items[0].ID != "@control/no-agent/br" || list.Items[0].Kind != "no-agent" || !list.Items[0].At.Equal(since) ||
		!strings.HasPrefix(list.Items[0].Text, "3 events wait for site br, where no agent has been enrolled") || list.Items[1].ID != "eu/gap/1" {
		t.Errorf("exceptions = %+v", list.Items)
	}
	b.want(b.do("GET", BasePath+"/exceptions?limit=1", ""), 200, &list)
	if len(list.Items) != 1 {
		t.Errorf("limit 1 gives %+v", list.Items)
	}
	var problem Problem
	b.want(b.do("POST", BasePath+"/exceptions/"+strings.ReplaceAll("@control/no-agent/br", "/", "%2F")+"/resolve", `{"reason":"seen"}`), 409, &problem)
	if !strings.Contains(problem.Detail, "crossdock token create --site br") || len(b.store.applied) != 0 {
		t.Errorf("problem = %+v, applied %v", problem, b.store.applied)
	}
}

// A site that no policy in force has, any more or yet, gets no token: the advice says what comes
// before it, wherever it stands.
func TestSitesThatPolicyDoesNotHaveGetAdviceThatWorks(t *testing.T) {
	b := newBench(t)
	b.store.people[0].Roles = []model.Role{model.Operator}
	b.store.unattended = []model.Unattended{{Site: "br", Events: 1, Since: testNow}}
	active, canary := testRevision(3, model.RevisionActive), testRevision(4, model.RevisionCanary)
	active.Sites = []string{"eu", "hq"}
	canary.Sites, canary.Canary = []string{"br", "eu", "hq"}, []string{"eu"}
	const back, begin, end = "no policy in force has site br: put it back", "crossdock token create --site br", "crossdock agents forget br"
	for _, tt := range []struct {
		name      string
		revisions []model.Revision
		code      int // of a token
		want, not []string
	}{
		{"none has it", []model.Revision{active}, 400, []string{back, begin, end}, nil},
		{"a canary elsewhere has it", []model.Revision{canary, active}, 409, []string{"promote it first; then " + begin, end}, []string{back}},
		{"none is in force", nil, 201, []string{begin}, []string{back, end}},
	} {
		b.store.revisions = tt.revisions
		if w := b.do("POST", BasePath+"/tokens", `{"site":"br"}`); w.Code != tt.code {
			t.Errorf("%s: a token: %d %s, want %d", tt.name, w.Code, w.Body, tt.code)
		}
		var agents AgentList
		var list ExceptionList
		var problem Problem
		b.want(b.do("GET", BasePath+"/agents", ""), 200, &agents)
		b.want(b.do("GET", BasePath+"/exceptions", ""), 200, &list)
		b.want(b.do("POST", BasePath+"/exceptions/@control%2Fno-agent%2Fbr/resolve", `{"reason":"seen"}`), 409, &problem)
		for _, text := range []string{agents.Unattended[0].Next, list.Items[0].Text, problem.Detail} {
			for _, part := range tt.want {
				if !strings.Contains(text, part) {
					t.Errorf("%s: %q does not say %q", tt.name, text, part)
				}
			}
			for _, part := range tt.not {
				if strings.Contains(text, part) {
					t.Errorf("%s: %q says %q", tt.name, text, part)
				}
			}
		}
	}
}
