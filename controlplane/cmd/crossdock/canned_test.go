package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/crossdock/crossdock/controlplane/api"
)

// canned is an API with written answers, for what a real node cannot be brought to say at
// will: "METHOD /path" to the bodies that it answers, one after the other, the last again.
type canned struct {
	t       *testing.T
	answers map[string][]string
	header  http.Header
	flags   []string

	mu    sync.Mutex
	asked []string // "METHOD /path body"
}

func newCanned(t *testing.T, answers map[string][]string) *canned {
	t.Helper()
	for _, name := range []string{"CROSSDOCK_SERVER", "CROSSDOCK_TOKEN", "CROSSDOCK_CA", "CROSSDOCK_DATA"} {
		t.Setenv(name, "")
	}
	c := &canned{t: t, answers: answers, header: http.Header{}}
	server := httptest.NewTLSServer(c)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, text := range map[string][]byte{"ca.pem": ca, "token": []byte("xdk_1_2")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.flags = []string{"--server", server.URL, "--ca-file", filepath.Join(dir, "ca.pem"), "--token-file", filepath.Join(dir, "token")}
	return c
}

func (c *canned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	if _, err := body.ReadFrom(r.Body); err != nil {
		c.t.Error(err)
	}
	call := r.Method + " " + strings.TrimPrefix(r.URL.EscapedPath(), api.BasePath)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, strings.TrimSpace(call+" "+body.String()))
	for name, values := range c.header {
		w.Header()[name] = values
	}
	answers := c.answers[call]
	switch {
	case len(answers) == 0:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"code":"not_found","detail":"no answer is written for %s"}`, call)
		return
	case len(answers) > 1:
		c.answers[call] = answers[1:]
	}
	if answers[0] == cutOff {
		fmt.Fprint(w, "half of ")
		if err := http.NewResponseController(w).Flush(); err != nil {
			c.t.Error(err)
		}
		panic(http.ErrAbortHandler)
	}
	if code, refused := strings.CutPrefix(answers[0], "refused: "); refused {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, `{"code":%q,"detail":"no"}`, code)
		return
	}
	fmt.Fprint(w, answers[0])
}

const cutOff = "(cut off)"

// run runs a command with an answer on stdin and wants an exit code.
func (c *canned) run(want int, stdin string, args ...string) (stdout, stderr string) {
	c.t.Helper()
	var out, said bytes.Buffer
	got := run(context.Background(), append(args, c.flags...), strings.NewReader(stdin), &out, &said)
	if got != want {
		c.t.Fatalf("crossdock %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, want, &out, &said)
	}
	return out.String(), said.String()
}

// sees wants texts in what was shown.
func sees(t *testing.T, shown string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(shown, text) {
			t.Errorf("%q is not in\n%s", text, shown)
		}
	}
}

var (
	oldID, nextID = strings.Repeat("a", 64), strings.Repeat("b", 64)

	begun = `{"id":"xd-1","generation":2,"approvals":"dual","node":"n1","leaderNode":"n2","verdict":{"index":2048,"agreed":true},
		"rebuilt":{"at":"2026-05-04T10:00:00Z","cause":"backup","from":"2026-05-04T09:00:00Z","index":7,"node":"n1"},
		"nodes":[{"id":"n1","role":"voter","ready":true,"applied":12,"agents":0,"freeBytes":1610612736,"contact":"2026-05-04T10:00:00Z"},
			{"id":"n2","role":"voter","leader":true,"ready":true,"contact":"2026-05-04T10:00:00Z","ageSeconds":3,"version":"v1.2"},
			{"id":"n3","role":"none","problem":"no\u001b[31m route"}],
		"authorities":[{"id":"` + nextID + `","state":"next"},{"id":"` + oldID + `","state":"active","agents":3}]}`
	rotated = `{"id":"xd-1","nodes":[],"verdict":{"halted":"3 voters, 3 hashes"},
		"authorities":[{"id":"` + nextID + `","state":"active"},{"id":"` + oldID + `","state":"retired","agents":3}]}`
	finished = strings.ReplaceAll(rotated, `"agents":3`, `"agents":0`)
)

func TestClusterStatusSaysWhatIsWrong(t *testing.T) {
	c := newCanned(t, map[string][]string{"GET /cluster": {begun, rotated}})
	c.header.Set(api.StaleHeader, "no leader")
	out, said := c.run(0, "", "cluster", "status")
	sees(t, out, "equal on a majority at entry 2048", "from a backup on n1; changes after 2026-05-04 09:00:00Z may be missing",
		"1.5 GiB", "leader", "3s ago", " 1.2 ", "no member", "never", "rotate-ca activate")
	sees(t, said, "this may be old: no leader")
	if strings.Contains(out+said, "\x1b") {
		t.Error("a node moves the terminal's cursor")
	}
	out, _ = c.run(0, "", "cluster", "status")
	sees(t, out, "NOTHING IS WRITTEN: 3 voters, 3 hashes", "3 agents still have")
	c.answers["GET /cluster"] = []string{strings.ReplaceAll(rotated, `"agents":3`, `"agents":1`), finished}
	out, _ = c.run(0, "", "cluster", "status")
	sees(t, out, "1 agent still has")
	out, _ = c.run(0, "", "cluster", "status")
	sees(t, out, "no agent has a certificate of the retired authority any more")
}

func TestRotationFindsItsAuthorities(t *testing.T) {
	c := newCanned(t, map[string][]string{
		"GET /cluster": {begun}, "POST /cluster/authorities": {`{"id":"` + nextID + `","state":"next"}`},
		"POST /cluster/authorities/" + nextID + "/activate": {`{"id":"` + nextID + `","state":"active"}`},
		"DELETE /cluster/authorities/" + oldID:              {``},
	})
	out, _ := c.run(0, "", "cluster", "rotate-ca", "begin")
	sees(t, out, nextID, "rotate-ca activate")
	c.run(exitConflict, "", "cluster", "rotate-ca", "finish") // nothing is retired yet
	out, _ = c.run(0, "", "cluster", "rotate-ca", "activate")
	sees(t, out, nextID, "rotate-ca finish")

	c.answers["GET /cluster"] = []string{rotated}
	c.run(exitConflict, "", "cluster", "rotate-ca", "activate") // there is no next one
	// Whether an agent depends on it the control plane knows; nothing is promised before.
	end := "DELETE /cluster/authorities/" + oldID
	c.answers[end] = []string{"refused: conflict"}
	_, said := c.run(exitConflict, "yes\n", "cluster", "rotate-ca", "finish")
	if strings.Contains(said, "not trusted any more") || strings.Contains(said, "[yes") {
		t.Errorf("it says %q", said)
	}
	c.answers[end] = []string{``}
	c.answers["GET /cluster"] = []string{finished}
	_, said = c.run(0, "", "cluster", "rotate-ca", "finish")
	sees(t, said, "not trusted any more")
	if n := len(slices.DeleteFunc(slices.Clone(c.asked), func(s string) bool { return s != end })); n != 2 {
		t.Errorf("it was asked for %d times", n)
	}
}

func TestNodesAreRemovedAndLeadershipHandedOver(t *testing.T) {
	c := newCanned(t, map[string][]string{
		"DELETE /cluster/nodes/n3": {``}, "POST /cluster/transfer": {`{"leaderNode":"n2"}`}, "DELETE /cluster/nodes/n1": {"refused: conflict"},
	})
	_, said := c.run(0, "", "cluster", "remove", "n3")
	sees(t, said, "no member any more", "delete the rest")
	c.run(exitConflict, "", "cluster", "remove", "n1")
	out, _ := c.run(0, "", "cluster", "transfer", "n2")
	sees(t, out, "n2 leads")
	c.run(0, "", "cluster", "transfer")
	if !slices.Contains(c.asked, `POST /cluster/transfer {"to":"n2"}`) || !slices.Contains(c.asked, `POST /cluster/transfer {}`) {
		t.Errorf("asked %q", c.asked)
	}
}

// Whatever goes wrong, no file stays that somebody could take for a backup.
func TestABackupIsLeftWholeOrNotAtAll(t *testing.T) {
	c := newCanned(t, map[string][]string{"GET /cluster/backup": {cutOff, "not a backup", "refused: forbidden"}})
	dir := t.TempDir()
	out := filepath.Join(dir, "xd.backup")
	if err := os.WriteFile(out, []byte("the one of yesterday"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, said := c.run(exitUnreachable, "", "cluster", "backup", "--out", out)
	sees(t, said, "broke off")
	_, said = c.run(exitFailed, "", "cluster", "backup", "--out", out)
	sees(t, said, "no whole backup")
	c.run(exitDenied, "", "cluster", "backup", "--out", out)
	c.run(exitUsage, "", "cluster", "backup", "--out", filepath.Join(dir, "none", "xd.backup"))
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("files left: %v, %v", files, err)
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != "the one of yesterday" {
		t.Errorf("the old backup is %q, %v", text, err)
	}
	c.run(exitFailed, "", "cluster", "backup", "--verify", out)
}

func TestAReplayIsWaitedFor(t *testing.T) {
	letter := func(state string) string {
		return `{"id":"eu/1/erp","agent":"eu","state":"` + state + `","attempts":4,"cause":"422 no customer"}`
	}
	c := newCanned(t, map[string][]string{"POST /deadletters/eu%2F1%2Ferp/replay": {letter("replaying")}})
	show := "GET /deadletters/eu%2F1%2Ferp"
	replay := []string{"deadletters", "replay", "eu/1/erp"}

	out, _ := c.run(0, "", replay...)
	sees(t, out, "is replaying", "as soon as it is connected")
	c.answers[show] = []string{letter("replaying"), letter("delivered")}
	out, _ = c.run(0, "", append(replay, "--wait")...)
	sees(t, out, "is delivered")
	c.answers[show] = []string{letter("open")}
	_, said := c.run(exitFailed, "", append(replay, "--wait")...)
	sees(t, said, "failed again after 4 attempts: 422 no customer")
	c.answers[show] = []string{strings.Replace(letter("open"), `"attempts":4`, `"attempts":1`, 1)}
	_, said = c.run(exitFailed, "", append(replay, "--wait")...)
	sees(t, said, "failed again after 1 attempt: 422 no customer")
	c.answers[show] = []string{letter("replaying")}
	_, said = c.run(exitFailed, "", append(replay, "--wait=1ms")...)
	sees(t, said, "not delivered after 1ms", "agents show eu")
}

func TestTokensSayWhatTheyAreFor(t *testing.T) {
	c := newCanned(t, map[string][]string{"GET /agents": {`{"items":[{"name":"hq","site":"hq"}]}`, `{"items":[{"name":"old","site":"eu","revoked":"2026-05-04T10:00:00Z"},{"name":"eu","site":"eu","connected":true}]}`}, "POST /tokens": {
		`{"id":"1","site":"eu","token":"xd1.a","policy":true}`, `{"id":"2","site":"eu","token":"xd1.b"}`, `{"id":"3","node":"n2","token":"xd1.c"}`,
	}})
	out, said := c.run(0, "", "token", "create", "--site", "eu")
	if out != "xd1.a\n" || strings.Contains(said, "no policy") || strings.Contains(said, "revokes") {
		t.Errorf("shown %q, said %q", out, said)
	}
	out, said = c.run(0, "", "token", "create", "--site", "eu")
	if out != "xd1.b\n" {
		t.Errorf("shown %q", out)
	}
	sees(t, said, "no policy is in force yet", "site eu has an agent, eu, connected now: to enrol on another machine revokes it")
	if strings.Contains(said, "old") {
		t.Errorf("of one that is revoked already: %q", said)
	}
	out, said = c.run(0, "", "token", "create", "--node", "n2", "--ttl", "1h")
	if out != "xd1.c\n" || strings.Contains(said, "no policy") {
		t.Errorf("shown %q, said %q", out, said)
	}
	sees(t, said, "for node n2", "crossdock cluster join")
	if last := c.asked[len(c.asked)-1]; last != `POST /tokens {"lifetime":"1h0m0s","node":"n2"}` {
		t.Errorf("asked %s", last)
	}
}

func TestACanaryGoesOnOrBack(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	c := newCanned(t, map[string][]string{
		"POST /revisions/4/approve":  {`{"number":4,"state":"canary","canary":["eu","na"]}`},
		"POST /revisions/4/promote":  {`{"number":4,"state":"active","canary":["eu","na"]}`},
		"POST /revisions/4/withdraw": {`{"number":5,"state":"active"}`},
		"GET /revisions":             {`{"items":[{"number":4,"state":"canary","canary":["eu","na"]},{"number":3,"state":"active"}]}`},
	})
	out, _ := c.run(0, "", "policy", "approve", "4", "--digest", digest, "--canary", "eu,na")
	sees(t, out, "in force at eu, na", "policy promote 4", "policy withdraw 4")
	if c.asked[0] != `POST /revisions/4/approve {"canary":["eu","na"],"digest":"`+digest+`"}` {
		t.Errorf("asked %s", c.asked[0])
	}
	out, _ = c.run(0, "", "policy", "history")
	sees(t, out, "canary at eu,na", "active")
	out, _ = c.run(0, "", "policy", "promote", "4")
	if out != "revision 4 is in force\n" {
		t.Errorf("shown %q", out)
	}
	out, _ = c.run(0, "", "policy", "withdraw", "4", "-m", "slow")
	sees(t, out, "revision 4 is withdrawn", "as revision 5")
	if last := c.asked[len(c.asked)-1]; last != `POST /revisions/4/withdraw {"reason":"slow"}` {
		t.Errorf("asked %s", last)
	}
}

func TestRanges(t *testing.T) {
	c := newCanned(t, map[string][]string{
		"GET /ranges": {`{"items":[]}`, `{"items":[{"name":"pallets","inForce":true,"first":1,"last":1000,"next":301,"left":700,"sites":["eu","na"],"held":"who knows","leases":[` +
			`{"agent":"eu","epoch":2,"blocks":[{"first":1,"last":9},{"first":11,"last":20},{"first":21,"last":30},{"first":201,"last":300}],"leased":300,"forfeited":100,"reported":"2026-05-04T10:00:00Z","left":40,"used":60},` +
			`{"agent":"na","epoch":1,"blocks":[],"leased":0,"forfeited":0}]},` +
			`{"name":"old","inForce":false,"first":1,"last":9,"next":4,"left":6,"sites":[],"leases":[]},` +
			`{"name":"spent","inForce":true,"first":1,"last":9,"next":10,"left":0,"sites":[],"leases":[]},` +
			`{"name":"passed","inForce":true,"first":1,"last":90,"sure":4,"next":20,"left":71,"sites":[],"leases":[]}]}`},
		"POST /ranges/a%20b/release": {`{"name":"a b","next":500}`},
	})
	out, _ := c.run(0, "", "ranges")
	sees(t, out, "there are no number ranges")
	out, _ = c.run(0, "", "ranges")
	sees(t, out, "pallets", "eu na", "1-1000", "held: who knows", "4-19 passed over after a restore", "1 more 11-20 21-30 201-300", "no longer in force", "used up", "700", "?")
	c.run(exitUsage, "", "ranges", "release", "a b")
	out, _ = c.run(0, "", "ranges", "release", "a b", "--next", "500")
	sees(t, out, "a b leases numbers again, from 500 on")
	if last := c.asked[len(c.asked)-1]; last != `POST /ranges/a%20b/release {"next":500}` {
		t.Errorf("asked %s", last)
	}
}

func TestMovesAndAgents(t *testing.T) {
	c := newCanned(t, map[string][]string{
		"GET /systems/moves":          {`{"items":[]}`, `{"items":[{"system":"erp2","site":"hq","old":"erp","oldSite":"eu","state":"draining","waiting":["eu"]}]}`},
		"POST /systems/a%20b/release": {`{"system":"a b","site":"hq"}`},
		"GET /agents/eu":              {`{"name":"eu","site":"eu","revoked":"2026-05-04T10:00:00Z","connected":true}`},
		"POST /agents/eu/allow":       {`{"name":"eu"}`}, "POST /agents/eu/forget": {`{"name":"eu"}`}, "POST /agents/eu/revoke": {`{"name":"eu"}`},
	})
	out, _ := c.run(0, "", "systems", "moves")
	sees(t, out, "no system takes the place")
	out, _ = c.run(0, "", "systems", "moves")
	sees(t, out, "erp2", "draining", "eu")
	out, _ = c.run(0, "", "systems", "release", "a b")
	sees(t, out, "is released; agent hq")
	out, _ = c.run(0, "", "agents", "show", "eu")
	sees(t, out, "revoked    2026-05-04 10:00:00Z", "link       revoked")
	for verb, text := range map[string]string{"allow": "within a day", "forget": "exceptions", "revoke": "new join token"} {
		out, _ = c.run(0, "", "agents", verb, "eu")
		sees(t, out, text)
	}
}

// What was looked for in vain is a failure, and says where it can be.
func TestATraceOfNothing(t *testing.T) {
	const none = `{"key":"no\u001bsuch","hops":[],"agents":[{"agent":"eu","answered":true}`
	c := newCanned(t, map[string][]string{"GET /events": {none + `]}`, none + `,{"agent":"na","detail":"no line"}]}`,
		`{"key":"A-1","hops":[{"agent":"eu","hop":"accepted"}],"agents":[{"agent":"eu","answered":true}]}`}})
	out, said := c.run(exitFailed, "", "events", "trace", "nosuch")
	sees(t, said, "1 of 1 answered", "journal.retain", "under another key")
	if out != "" || strings.Contains(said, "missing") || strings.Contains(said, "\x1b") {
		t.Errorf("shown %q, said %q", out, said)
	}
	out, said = c.run(exitFailed, "", "events", "trace", "nosuch", "-o", "json")
	sees(t, out, `"hops": []`)
	sees(t, said, "1 of 2 answered", "at an agent that is missing")
	out, said = c.run(0, "", "events", "trace", "A-1")
	sees(t, out, "accepted")
	if said != "" {
		t.Errorf("said %q", said)
	}
}
