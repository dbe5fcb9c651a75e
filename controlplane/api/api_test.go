package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Every route of the router, not of the document: what somebody adds by hand counts too.
func TestEveryRouteButHealthNeedsAToken(t *testing.T) {
	b := newBench(t)
	disabled, hash := MintPrincipalToken()
	b.store.people = append(b.store.people, model.Principal{Name: "gone", TokenHash: hash, Disabled: true})
	stranger, _ := MintPrincipalToken()
	walked := 0
	for _, route := range b.server.echo.Routes() {
		if !knownMethod(route.Method) {
			continue // the router's own entry for paths that nobody routes
		}
		walked++
		path := strings.NewReplacer(":name", "x", ":number", "1", ":id", "x", ":node", "x", ":authority", strings.Repeat("a", 64)).Replace(route.Path)
		for what, header := range map[string]string{
			"none": "", "stranger": "Bearer " + stranger, "disabled": "Bearer " + disabled,
			"basic": "Basic " + b.token, "prefix": "Bearer " + b.token[:len(b.token)-1], "long": "Bearer xdk_" + strings.Repeat("a", 500),
		} {
			w := b.do(route.Method, path, "", "Authorization", header)
			if route.Path == BasePath+"/health" {
				if w.Code != http.StatusOK {
					t.Errorf("health with %s = %d", what, w.Code)
				}
				continue
			}
			if w.Code != http.StatusUnauthorized {
				t.Errorf("%s %s with %s = %d, want 401", route.Method, route.Path, what, w.Code)
			}
			if w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s: no WWW-Authenticate", route.Method, route.Path)
			}
		}
	}
	if walked < 38 {
		t.Errorf("walked %d routes only", walked)
	}
	if len(b.store.applied)+len(b.control.called) != 0 {
		t.Errorf("%d commands were applied without a token, %q", len(b.store.applied), b.control.called)
	}
}

func TestDocumentOpensHealthOnly(t *testing.T) {
	ops, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	for key, op := range ops {
		if op.open != (key == "GET "+BasePath+"/health") {
			t.Errorf("%s open = %v", key, op.open)
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	b := newBench(t)
	b.refused(b.do("GET", BasePath+"/nothing", ""), 404, "not_found")
	b.refused(b.do("GET", "/elsewhere", ""), 404, "not_found")
	b.refused(b.do("DELETE", BasePath+"/agents", ""), 404, "not_found")
}

func TestSecurityHeadersStandOnEveryAnswer(t *testing.T) {
	b := newBench(t)
	for _, w := range []*httptest.ResponseRecorder{
		b.do("GET", BasePath+"/health", ""), b.do("GET", BasePath+"/whoami", "", "Authorization", ""),
		b.do("GET", "/nothing", ""), b.do("POST", BasePath+"/tokens", `{"site":"eu"}`, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"),
	} {
		for _, name := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cache-Control"} {
			if w.Header().Get(name) == "" {
				t.Errorf("status %d without %s", w.Code, name)
			}
		}
	}
}

func TestCrossOriginChangesAreRefused(t *testing.T) {
	b := newBench(t)
	w := b.do("POST", BasePath+"/tokens", `{"site":"eu"}`, "Sec-Fetch-Site", "cross-site")
	b.refused(w, 403, "cross_origin")
	if len(b.store.applied) != 0 {
		t.Error("it was applied")
	}
}

func TestBodiesAreHeldAgainstTheDocument(t *testing.T) {
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	tests := []struct {
		name, path, body, media, code, pointer string
		status                                 int
	}{
		{"missing field", "/tokens", `{}`, "", "invalid", "/site", 400},
		{"wrong type", "/tokens", `{"site": 4}`, "", "invalid", "/site", 400},
		{"unknown field", "/tokens", `{"site":"eu","x":1}`, "", "invalid", "", 400},
		{"bad role", "/principals", `{"name":"bob","roles":["author","king"]}`, "", "invalid", "/roles/1", 400},
		{"bad lifetime", "/tokens", `{"site":"eu","lifetime":"9y"}`, "", "invalid", "/lifetime", 400},
		{"too long a lifetime", "/tokens", `{"site":"eu","lifetime":"25h"}`, "", "invalid", "/lifetime", 400},
		{"not JSON", "/tokens", `{"site":`, "", "invalid", "", 400},
		{"no body", "/tokens", ``, "", "invalid", "", 400},
		{"two values", "/tokens", `{"site":"eu"}{}`, "", "invalid", "", 400},
		{"deep", "/tokens", `{"site":` + deep + `}`, "", "invalid", "", 400},
		{"large", "/tokens", `{"site":"` + strings.Repeat("a", MaxBody) + `"}`, "", "too_large", "", 413},
		{"other media type", "/tokens", `site: eu`, "application/yaml", "invalid", "", 400},
		{"a body where none is taken", "/agents/eu/revoke", `{}`, "", "invalid", "", 400},
		{"site and node", "/tokens", `{"site":"eu","node":"b"}`, "", "invalid", "/site", 400},
		{"bad node", "/tokens", `{"node":"../b"}`, "", "invalid", "/node", 400},
		{"no canary sites", "/revisions/1/approve", `{"digest":"sha256:` + strings.Repeat("0", 64) + `","canary":[]}`, "", "invalid", "/canary", 400},
		{"withdraw for no reason", "/revisions/1/withdraw", `{"reason":""}`, "", "invalid", "/reason", 400},
		{"bad authority", "/cluster/authorities/zz/activate", ``, "", "invalid", "authority", 400},
		{"bad digest", "/revisions/1/approve", `{"digest":"abc"}`, "", "invalid", "/digest", 400},
		{"bad number", "/revisions/none/approve", `{"digest":"sha256:` + strings.Repeat("0", 64) + `"}`, "", "invalid", "number", 400},
		{"empty reason", "/deadletters/a%2Fb%2Fc/discard", `{"reason":""}`, "", "invalid", "/reason", 400},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			headers := []string{}
			if test.media != "" {
				headers = []string{"Content-Type", test.media}
			}
			p := b.refused(b.do("POST", BasePath+test.path, test.body, headers...), test.status, test.code)
			if test.pointer != "" && (len(p.Errors) == 0 || p.Errors[0].Pointer != test.pointer) {
				t.Errorf("errors = %+v, want pointer %s", p.Errors, test.pointer)
			}
			if len(b.store.applied) != 0 {
				t.Error("it was applied")
			}
		})
	}
}

func TestQueriesAreHeldAgainstTheDocument(t *testing.T) {
	b := newBench(t)
	for path, pointer := range map[string]string{
		"/audit?limit=0": "limit", "/audit?limit=501": "limit", "/audit?limit=x": "limit", "/events": "key",
		"/deadletters?state=lost": "state", "/revisions?cursor=": "cursor",
	} {
		p := b.refused(b.do("GET", BasePath+path, ""), 400, "invalid")
		if len(p.Errors) == 0 || p.Errors[0].Pointer != pointer {
			t.Errorf("%s: errors = %+v", path, p.Errors)
		}
	}
	b.refused(b.do("GET", BasePath+"/revisions?cursor=abc", ""), 400, "invalid")
}

func TestCodedErrorsBecomeProblems(t *testing.T) {
	tests := []struct {
		err    error
		status int
		code   string
	}{
		{model.Errorf(model.Forbidden, "role operator is missing"), 403, "forbidden"},
		{model.Errorf(model.Conflict, "used"), 409, "conflict"},
		{model.Errorf(model.NotFound, "none"), 404, "not_found"},
		{model.Errorf(model.Invalid, "bad"), 400, "invalid"},
		{model.Errorf(model.TooLarge, "big"), 413, "too_large"},
		{model.Errorf(model.Unavailable, "no leader"), 503, "unavailable"},
		{model.Errorf(model.Unknown, "leadership lost"), 504, "unknown"},
		{fmt.Errorf("wrapped: %w", model.Errorf(model.Conflict, "used")), 409, "conflict"},
		{errors.New("disk at /var/lib is on fire"), 500, "internal"},
	}
	for _, test := range tests {
		b := newBench(t)
		b.store.answer = func(model.Command) (any, error) { return nil, test.err }
		w := b.do("POST", BasePath+"/tokens", `{"site":"eu"}`)
		p := b.refused(w, test.status, test.code)
		if test.code == "internal" && strings.Contains(p.Detail, "fire") {
			t.Error("an internal text was shown")
		}
		if (test.status == 503) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("Retry-After = %q", w.Header().Get("Retry-After"))
		}
	}
}

func TestAPanicIsAnInternalProblem(t *testing.T) {
	b := newBench(t)
	b.store.answer = func(model.Command) (any, error) { panic("secret") }
	p := b.refused(b.do("POST", BasePath+"/tokens", `{"site":"eu"}`), 500, "internal")
	if strings.Contains(p.Detail, "secret") {
		t.Error("the panic was shown")
	}
}

func TestTheCallersTraceIsKept(t *testing.T) {
	b := newBench(t)
	id := strings.Repeat("0af7", 8)
	p := b.refused(b.do("GET", BasePath+"/nothing", "", "traceparent", "00-"+id+"-00f067aa0ba902b7-01"), 404, "not_found")
	if p.TraceID != id {
		t.Errorf("traceId = %s", p.TraceID)
	}
	p = b.refused(b.do("GET", BasePath+"/nothing", "", "traceparent", "00-"+strings.Repeat("<b>x", 8)+"-00f067aa0ba902b7-01"), 404, "not_found")
	if strings.Contains(p.TraceID, "<") {
		t.Errorf("traceId = %s", p.TraceID)
	}
}

func TestPrincipalIsShownItsTokenOnce(t *testing.T) {
	b := newBench(t)
	var out CreatedPrincipal
	b.want(b.do("POST", BasePath+"/principals", `{"name":"bob","roles":["author"]}`, "Idempotency-Key", "k1"), 201, &out)
	cmd := b.store.applied[0].(*model.PutPrincipal)
	if !cmd.New || cmd.By != "ann" || cmd.RequestID != "ann/k1" || !cmd.At.Equal(testNow) {
		t.Errorf("asked = %+v", cmd.Asked)
	}
	if cmd.Principal.TokenHash != HashPrincipalToken(out.Token) || !strings.HasPrefix(out.Token, "xdk_") {
		t.Errorf("the token shown is not the one kept")
	}
	b.store.people = append(b.store.people, cmd.Principal)
	w := b.do("GET", BasePath+"/principals", "")
	if strings.Contains(w.Body.String(), out.Token) || strings.Contains(strings.ToLower(w.Body.String()), "hash") {
		t.Error("the list shows a token or its hash")
	}
	b.refused(b.do("POST", BasePath+"/principals", `{"name":"bob","roles":["admin"]}`), 409, "conflict")
	b.want(b.do("GET", BasePath+"/whoami", "", "Authorization", "bearer "+out.Token), 200, nil)

	b.want(b.do("POST", BasePath+"/principals/bob/disable", ""), 200, nil)
	last := b.store.applied[len(b.store.applied)-1].(*model.PutPrincipal)
	if !last.Principal.Disabled || last.Principal.TokenHash != cmd.Principal.TokenHash {
		t.Errorf("disable = %+v", last.Principal)
	}
	b.refused(b.do("POST", BasePath+"/principals/carl/disable", ""), 404, "not_found")
}

func TestTokensDiffer(t *testing.T) {
	a, _ := MintPrincipalToken()
	c, _ := MintPrincipalToken()
	if a == c || len(a) > maxTokenBytes || strings.Count(a, "_") != 2 {
		t.Errorf("%s %s", a, c)
	}
}

func TestJoinTokenIsMintedForItsLifetime(t *testing.T) {
	b := newBench(t)
	var out CreatedToken
	b.want(b.do("POST", BasePath+"/tokens", `{"site":"eu"}`), 201, &out)
	token := b.store.applied[0].(*model.CreateJoinToken).Token
	if out.Token != "xd1.eu" || token.Hash != [32]byte{1} || !token.Expires.Equal(testNow.Add(DefaultTokenLifetime)) || token.By != "ann" {
		t.Errorf("token = %+v, shown %+v", token, out)
	}
}

func TestApprovalsSingleIsSaid(t *testing.T) {
	b := newBench(t)
	if got := b.do("GET", BasePath+"/whoami", "").Header().Get(ApprovalsHeader); got != "" {
		t.Errorf("dual says %q", got)
	}
	b.store.cluster.Approvals = model.ApprovalsSingle
	if got := b.do("GET", BasePath+"/agents", "").Header().Get(ApprovalsHeader); got != "single" {
		t.Errorf("single says %q", got)
	}
	if got := b.do("GET", BasePath+"/health", "").Header().Get(ApprovalsHeader); got != "" {
		t.Errorf("a stranger is told %q", got)
	}
}

func TestHealth(t *testing.T) {
	b := newBench(t)
	b.store.ready = errors.New("disk /dev/sdb1 is slow")
	var h Health
	w := b.do("GET", BasePath+"/health", "")
	b.want(w, 503, &h)
	if h.Ready || strings.Contains(w.Body.String(), "sdb1") {
		t.Errorf("health = %s", w.Body)
	}
}

func TestDeadLetterIDsHoldSlashes(t *testing.T) {
	b := newBench(t)
	id := "eu/17.0/erp 100%"
	b.store.letters = []model.DeadLetter{{ID: id, State: model.DeadLetterOpen, Event: json.RawMessage(`{"id":"1"}`), At: testNow}}
	var d DeadLetter
	b.want(b.do("GET", BasePath+"/deadletters/eu%2F17.0%2Ferp%20100%25", ""), 200, &d)
	if d.ID != id || string(d.Event) != `{"id":"1"}` {
		t.Errorf("dead letter = %+v", d)
	}
	b.want(b.do("POST", BasePath+"/deadletters/eu%2F17.0%2Ferp%20100%25/replay", `{"confirm":true}`), 202, nil)
	cmd := b.store.applied[0].(*model.Resolve)
	if cmd.DeadLetter != id || !cmd.Replay || !cmd.Confirm {
		t.Errorf("resolve = %+v", cmd)
	}
	b.want(b.do("POST", BasePath+"/deadletters/eu%2F17.0%2Ferp%20100%25/discard", `{"reason":"twice"}`), 202, nil)
	if cmd := b.store.applied[1].(*model.Resolve); cmd.Replay || cmd.Reason != "twice" {
		t.Errorf("resolve = %+v", cmd)
	}
	var list DeadLetterList
	b.store.next = 9
	b.want(b.do("GET", BasePath+"/deadletters?state=open&system=erp&agent=eu&key=k&cursor=12&limit=3", ""), 200, &list)
	want := model.DeadLetterFilter{Agent: "eu", System: "erp", State: "open", Key: "k", Before: 12, Limit: 3}
	if b.store.filter != want || list.NextCursor != "9" || list.Items[0].Event != nil {
		t.Errorf("filter = %+v, list = %+v", b.store.filter, list)
	}
}

func TestRevisionPagesAndActive(t *testing.T) {
	b := newBench(t)
	b.refused(b.do("GET", BasePath+"/revisions/active", ""), 404, "not_found")
	for n := uint64(5); n > 0; n-- {
		b.store.revisions = append(b.store.revisions, testRevision(n, model.RevisionSuperseded))
	}
	b.store.revisions[1].State = model.RevisionActive
	var numbers []uint64
	cursor := ""
	for range 3 {
		var page RevisionList
		b.want(b.do("GET", BasePath+"/revisions?limit=2"+cursor, ""), 200, &page)
		for _, r := range page.Items {
			numbers = append(numbers, r.Number)
		}
		cursor = "&cursor=" + page.NextCursor
		if page.NextCursor == "" {
			break
		}
	}
	if !slices.Equal(numbers, []uint64{5, 4, 3, 2, 1}) {
		t.Errorf("pages = %v", numbers)
	}
	var active Revision
	b.want(b.do("GET", BasePath+"/revisions/active", ""), 200, &active)
	if active.Number != 4 {
		t.Errorf("active = %d", active.Number)
	}
	b.refused(b.do("GET", BasePath+"/revisions/77", ""), 404, "not_found")
}

// A site that only the canary has can be enrolled where the canary is in force.
func TestTokensAreForSitesThatAreInForceThere(t *testing.T) {
	b := newBench(t)
	canary, active := testRevision(2, model.RevisionCanary), testRevision(1, model.RevisionActive)
	active.Sites = []string{"eu"}
	canary.Sites, canary.Canary = []string{"eu", "away", "later"}, []string{"away"}
	b.store.revisions = []model.Revision{canary, active}
	for site, want := range map[string]int{"eu": 201, "away": 201, "later": 409, "nowhere": 400} {
		w := b.do("POST", BasePath+"/tokens", `{"site":"`+site+`"}`)
		if w.Code != want {
			t.Errorf("token for %s: %d, want %d: %s", site, w.Code, want, w.Body)
		}
	}
	b.control.alone = model.Errorf(model.Conflict, "set cluster.listen")
	p := b.refused(b.do("POST", BasePath+"/tokens", `{"node":"b"}`), 409, "conflict")
	if !strings.Contains(p.Detail, "cluster.listen") {
		t.Errorf("a node's token where none can join: %+v", p)
	}
}

func TestAuditPagesAndCheck(t *testing.T) {
	for _, count := range []uint64{0, 1, 2, 3, 7, 100} {
		b := newBench(t)
		for n := uint64(1); n <= count; n++ {
			b.store.audit = append(b.store.audit, model.AuditEntry{Number: n, At: testNow, Hash: [32]byte{byte(n)}})
		}
		var check AuditCheck
		b.want(b.do("GET", BasePath+"/audit/verify", ""), 200, &check)
		if !check.Ok || check.Entries != count || check.Head != toDigest([32]byte{byte(count)}) {
			t.Errorf("%d entries: check = %+v", count, check)
		}
	}
	for _, order := range []struct {
		query string
		want  []uint64
	}{{"", []uint64{1, 2, 3, 4, 5, 6}}, {"newest=true&", []uint64{6, 5, 4, 3, 2, 1}}} {
		b := newBench(t)
		for n := uint64(1); n <= 6; n++ {
			b.store.audit = append(b.store.audit, model.AuditEntry{Number: n, At: testNow})
		}
		var numbers []uint64
		for cursor := ""; ; {
			var page AuditList
			b.want(b.do("GET", BasePath+"/audit?"+order.query+"limit=2"+cursor, ""), 200, &page)
			for _, e := range page.Items {
				numbers = append(numbers, e.Number)
			}
			if page.NextCursor == "" {
				break
			}
			cursor = "&cursor=" + page.NextCursor
		}
		if !slices.Equal(numbers, order.want) {
			t.Errorf("pages of ?%s = %v, want %v", order.query, numbers, order.want)
		}
	}
	b := newBench(t)
	b.store.auditErr = errors.New("entry 4: hash")
	var check AuditCheck
	b.want(b.do("GET", BasePath+"/audit/verify", ""), 200, &check)
	if check.Ok || check.Detail == "" {
		t.Errorf("check = %+v", check)
	}
}

func TestTraceMergesInTimeAndNamesTheAbsent(t *testing.T) {
	b := newBench(t)
	b.store.agents = []model.Agent{
		{Name: "hq"}, {Name: "eu"}, {Name: "na", LastSeen: testNow.Add(-time.Hour)}, {Name: "old", Revoked: testNow}, {Name: "bad"},
	}
	b.agents["eu"] = func(_ context.Context, kind string, args json.RawMessage) (json.RawMessage, error) {
		if kind != "trace" || string(args) != `{"key":"10248","limit":1000}` {
			t.Errorf("asked %s %s", kind, args)
		}
		return json.RawMessage(`{"agent":"eu","now":"2026-05-04T10:00:00.500Z","hops":[
			{"agent":"hq","event":"e1","hop":"accepted","at":"2026-05-04T09:00:00.001Z"},{"event":"e2","hop":"pending","peer":"hq"}]}`), nil
	}
	b.agents["hq"] = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"hops":[
			{"event":"e1","hop":"delivered","system":"erp","at":"2026-05-04T09:00:00.003Z","attempts":2,"status":200,"new":1},
			{"event":"e1","hop":"received","peer":"eu","at":"2026-05-04T09:00:00.002Z"},
			{"event":"e1","hop":"relayed","at":"2026-05-04T09:00:00.002Z"}]}`), nil
	}
	b.agents["bad"] = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`"what"`), nil
	}
	var trace Trace
	b.want(b.do("GET", BasePath+"/events?key=10248", ""), 200, &trace)
	var got []string
	for _, h := range trace.Hops {
		got = append(got, h.Agent+" "+h.Hop)
	}
	if want := []string{"eu accepted", "hq relayed", "hq received", "hq delivered", "eu pending"}; !slices.Equal(got, want) {
		t.Errorf("hops = %v, want %v", got, want)
	}
	if trace.Complete || len(trace.Agents) != 4 {
		t.Fatalf("agents = %+v", trace.Agents)
	}
	bad, eu, hq, na := trace.Agents[0], trace.Agents[1], trace.Agents[2], trace.Agents[3]
	if bad.Answered || !eu.Answered || eu.SkewMs != 500 || !hq.Answered || na.Answered || na.AgeSeconds != 3600 {
		t.Errorf("agents = %+v", trace.Agents)
	}
}

// What happens to events of one moment is told event by event, each on its way.
func TestTraceOfOneMomentGoesTheWayOfEachEvent(t *testing.T) {
	b := newBench(t)
	b.store.agents = []model.Agent{{Name: "eu"}}
	b.agents["eu"] = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		const at = `"at":"2026-05-04T09:00:00.001Z"`
		return json.RawMessage(`{"hops":[
			{"event":"e2","hop":"unrouted",` + at + `},{"event":"e2","hop":"accepted",` + at + `},{"event":"e1","hop":"of another version",` + at + `},
			{"event":"e1","hop":"delivered",` + at + `},{"event":"e1","hop":"accepted",` + at + `}]}`), nil
	}
	var trace Trace
	b.want(b.do("GET", BasePath+"/events?key=10248", ""), 200, &trace)
	var got []string
	for _, h := range trace.Hops {
		got = append(got, h.Event+" "+h.Hop)
	}
	if want := []string{"e1 accepted", "e1 delivered", "e1 of another version", "e2 accepted", "e2 unrouted"}; !slices.Equal(got, want) {
		t.Errorf("hops = %v, want %v", got, want)
	}
}

// Who lacks a role is told who has it, and how somebody comes by it.
func TestALackingRoleIsSaidWithWhoHasIt(t *testing.T) {
	b := newBench(t)
	b.store.cluster.Approvals = model.ApprovalsSingle
	b.store.answer = func(model.Command) (any, error) {
		return nil, fmt.Errorf("wrapped: %w", model.Lacks("ann", model.Author, model.Approver))
	}
	for _, test := range []struct {
		add  []string
		want string
	}{
		{nil, "nobody has it"}, {[]string{"zoe"}, "zoe has it"}, {[]string{"bob"}, "bob, zoe have it"},
		{[]string{"c", "d", "e", "f"}, "bob, c, d, e, f and 1 more have it"},
	} {
		for i, name := range test.add {
			b.store.people = append(b.store.people, model.Principal{Name: name, Roles: []model.Role{model.Viewer, []model.Role{model.Author, model.Approver}[i%2]}},
				model.Principal{Name: "former." + name, Roles: []model.Role{model.Author}, Disabled: true})
		}
		p := b.refused(b.do("POST", BasePath+"/tokens", `{"site":"eu"}`), 403, "forbidden")
		want := "ann lacks the role author or approver; " + test.want + ". An administrator adds a person who has it: crossdock principals add NAME --role author"
		if p.Detail != want {
			t.Errorf("detail is %q, want %q", p.Detail, want)
		}
	}
	b.store.cluster.Approvals = model.ApprovalsDual
	p := b.refused(b.do("POST", BasePath+"/tokens", `{"site":"eu"}`), 403, "forbidden")
	if want := "more have it. Approvals are dual: one person proposes and another approves. An administrator adds"; !strings.Contains(p.Detail, want) {
		t.Errorf("detail is %q, want %q in it", p.Detail, want)
	}
	b.store.answer = func(model.Command) (any, error) { return nil, model.Lacks("ann", model.Admin) }
	if p := b.refused(b.do("POST", BasePath+"/tokens", `{"site":"eu"}`), 403, "forbidden"); strings.Contains(p.Detail, "dual") {
		t.Errorf("of a role that has nothing to do with approvals: %q", p.Detail)
	}
}
