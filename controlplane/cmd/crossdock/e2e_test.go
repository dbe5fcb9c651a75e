package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
)

// node is a control plane in this process, reached as a person would: by the program's
// commands, over https.
type node struct {
	t      *testing.T
	config controlplane.Config
	plane  *controlplane.ControlPlane
	stop   func()
}

// A node that should be ready within a second gets this long before a test gives up.
const patience = 30 * time.Second

func startNode(t *testing.T, config controlplane.Config) *node {
	t.Helper()
	plane, err := controlplane.New(config, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(ctx) }()
	n := &node{t: t, config: config, plane: plane}
	stopped := false
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with %v", err)
		}
	}
	t.Cleanup(n.stop)
	select {
	case <-plane.Ready():
	case err := <-ended:
		stopped = true
		t.Fatalf("the node did not begin: %v", err)
	case <-time.After(patience):
		t.Fatal("the node is not ready")
	}
	return n
}

func testConfig(t *testing.T, approvals model.Approvals) controlplane.Config {
	t.Helper()
	for _, name := range []string{"CROSSDOCK_SERVER", "CROSSDOCK_TOKEN", "CROSSDOCK_CA", "CROSSDOCK_DATA"} {
		t.Setenv(name, "")
	}
	config := controlplane.NewConfig()
	config.Data = filepath.Join(t.TempDir(), "data")
	config.Approvals = approvals
	config.Sync.Listen, config.API.Listen, config.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	return config
}

// run runs a command on the node and wants an exit code.
func (n *node) run(want int, args ...string) (stdout, stderr string) {
	n.t.Helper()
	var out, said bytes.Buffer
	got := run(context.Background(), append(args, "--data", n.config.Data), strings.NewReader(""), &out, &said)
	if got != want {
		n.t.Fatalf("crossdock %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, want, &out, &said)
	}
	return out.String(), said.String()
}

// json runs a command with -o json and decodes what it shows.
func (n *node) json(out any, args ...string) {
	n.t.Helper()
	text, _ := n.run(0, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(text), out); err != nil {
		n.t.Fatalf("crossdock %s: %v in %s", strings.Join(args, " "), err, text)
	}
}

// person adds a principal and gives the flag with which it speaks.
func (n *node) person(name string, roles ...string) string {
	n.t.Helper()
	token, _ := n.run(0, "principals", "add", name, "--role", strings.Join(roles, ","))
	file := filepath.Join(n.t.TempDir(), name+".token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return "--token-file=" + file
}

// schemaStays proposes another schema under a version in force, and then as a version of its own.
func (n *node) schemaStays(author string) {
	n.t.Helper()
	dir := n.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/policy")); err != nil {
		n.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "policy.yaml"))
	if err != nil {
		n.t.Fatal(err)
	}
	documents := string(text)
	const old, changed = "version: 1.0.0, state: active, schema: schemas/order.captured-1.0.0.json", "state: active, schema: schemas/new.json"
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	write("schemas/new.json", `{"type": "object", "required": ["orderId", "note"], "properties": {"orderId": {"type": "string"}, "note": {"type": "string"}}}`)
	write("policy.yaml", strings.Replace(documents, old, "version: 1.0.0, "+changed, 1))
	_, said := n.run(exitFailed, "policy", "propose", dir, "-m", "a note", author)
	sees(n.t, said, "contract order.captured: the schema of version 1.0.0", "add a new version")
	write("policy.yaml", strings.Replace(documents, old+"}", old+"}\n    - {version: 2.0.0, "+changed+"}", 1))
	n.run(0, "policy", "propose", dir, "-m", "a note", author)
}

func TestTwoPeopleChangeThePolicy(t *testing.T) {
	config := testConfig(t, "")
	n := startNode(t, config)
	if info, err := os.Stat(filepath.Join(config.Data, "admin.token")); err != nil || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		t.Errorf("admin.token: %v, %v", info, err)
	}
	ann := n.person("ann", "author", "approver")
	bob := n.person("bob", "approver")
	eve := n.person("eve", "viewer")

	// Roles are kept by the state machine: the administrator may not write policy, a viewer nothing.
	_, said := n.run(exitDenied, "policy", "propose", "testdata/policy", "-m", "first")
	sees(t, said, "lacks the role author; ann has it", "crossdock principals add NAME --role author")
	n.run(exitDenied, "principals", "add", "mallory", "--role", "admin", eve)
	n.run(exitDenied, "token", "create", "--site", "eu", eve)
	n.run(exitConflict, "principals", "add", "ann", "--role", "admin")

	var first api.Revision
	n.json(&first, "policy", "propose", "testdata/policy", "-m", "first", ann)
	if first.Number != 1 || first.State != api.RevisionStateProposed || first.Author != "ann" {
		t.Errorf("proposed = %+v", first)
	}
	_, said = n.run(exitDenied, "policy", "approve", "1", ann)
	if !strings.Contains(said, "ann") {
		t.Errorf("self-approval: %s", said)
	}
	n.run(exitConflict, "policy", "approve", "1", bob, "--digest", "sha256:"+strings.Repeat("0", 64))
	n.run(exitFailed, "policy", "show") // nothing is in force yet
	_, said = n.run(0, "policy", "approve", "1", bob)
	if !strings.Contains(said, "added") {
		t.Errorf("the approver was not shown what changes: %s", said)
	}

	var diff diffAnswer
	n.json(&diff, "policy", "diff", "testdata/policy")
	if diff.From != 1 || len(diff.Changes) != 0 {
		t.Errorf("diff with itself = %+v", diff)
	}
	_, said = n.run(exitConflict, "policy", "propose", "testdata/policy", "-m", "the same again", ann)
	if !strings.Contains(said, "1") {
		t.Errorf("the same content again: %s", said)
	}
	n.json(&diff, "policy", "diff", "testdata/policy2")
	if len(diff.Changes) == 0 {
		t.Error("diff with another policy is empty")
	}
	n.run(0, "policy", "propose", "testdata/policy2", "-m", "second", ann)
	n.run(0, "policy", "approve", "2", bob)
	var back api.Revision
	n.json(&back, "policy", "rollback", "1", "-m", "too early", ann)
	if back.Number != 3 || back.Digest != first.Digest || back.State != api.RevisionStateProposed {
		t.Errorf("rollback = %+v", back)
	}
	n.run(0, "policy", "approve", "3", bob)

	var history api.RevisionList
	n.json(&history, "policy", "history", eve)
	if len(history.Items) != 3 || history.Items[0].State != api.RevisionStateActive || history.Items[2].Approver != "bob" {
		t.Errorf("history = %+v", history.Items)
	}
	n.schemaStays(ann)
	n.checkAudit(eve)
	n.disabledIsDenied(bob)

	n.restart(config, ann, eve)
}

// restart: everything is there again, and the administrator's token is still good.
func (n *node) restart(config controlplane.Config, ann, eve string) {
	n.t.Helper()
	n.stop()
	n.run(exitUnreachable, "status")
	n = startNode(n.t, config)
	var active api.RevisionBundle
	n.json(&active, "policy", "show", ann)
	if active.Revision.Number != 3 {
		n.t.Errorf("in force after the restart: %+v", active.Revision)
	}
	n.checkAudit(eve)
	var status statusAnswer
	n.json(&status, "status")
	if status.Cluster.Approvals != api.ApprovalsDual || !status.Health.Ready || status.Cluster.Active.Number != 3 {
		n.t.Errorf("status = %+v", status)
	}
}

func (n *node) checkAudit(who string) {
	n.t.Helper()
	var check api.AuditCheck
	n.json(&check, "audit", "verify", who)
	var list api.AuditList
	n.json(&list, "audit", who)
	if !check.Ok || check.Entries != uint64(len(list.Items)) || check.Entries < 7 {
		n.t.Errorf("audit = %+v with %d entries", check, len(list.Items))
	}
}

func (n *node) disabledIsDenied(bob string) {
	n.t.Helper()
	n.run(0, "principals", "disable", "bob")
	_, said := n.run(exitDenied, "status", bob)
	if !strings.Contains(said, "disabled") {
		n.t.Errorf("a disabled principal is told %q", said)
	}
}

func TestOnePersonIsToldSoWhereItMatters(t *testing.T) {
	config := testConfig(t, model.ApprovalsSingle)
	n := startNode(t, config)
	for _, args := range [][]string{
		{"status"}, {"cluster", "status"}, {"policy", "propose", "testdata/policy", "-m", "alone"}, {"policy", "approve", "1"},
		{"policy", "history"}, {"policy", "diff", "testdata/policy2"}, {"token", "create", "--site", "eu", "--ttl", "5m"}, {"token", "list"}, {"agents"},
		{"principals", "list"}, {"exceptions"}, {"deadletters", "list"}, {"systems", "moves"}, {"ranges"}, {"audit"}, {"audit", "verify"},
	} {
		out, said := n.run(0, args...)
		if strings.Contains(said, "single") {
			t.Errorf("crossdock %s said %q", strings.Join(args, " "), said)
		}
		if told := strings.Contains(out, "one person may approve"); told != (args[0] == "cluster") {
			t.Errorf("crossdock %s showed %q", strings.Join(args, " "), out)
		}
	}
	n.run(exitConflict, "policy", "approve", "1")
	n.run(exitFailed, "agents", "revoke", "nobody")
	_, said := n.run(exitFailed, "events", "trace", "10248")
	sees(t, said, "there is no agent yet")

	if _, said := n.run(exitFailed, "systems", "release", "erp"); !strings.Contains(said, "erp") {
		t.Errorf("said %q", said)
	}
	n.run(exitConflict, "policy", "promote", "1") // it is in force everywhere
	if _, said := n.run(exitConflict, "token", "create", "--node", "node-2"); !strings.Contains(said, "cluster.listen") {
		t.Errorf("a token that no node could use: %s", said)
	}
	n.run(exitFailed, "agents", "forget", "eu") // there is none
	n.canary()

	// The choice is for ever.
	n.stop()
	config.Approvals = model.ApprovalsDual
	plane, err := controlplane.New(config, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := plane.Run(ctx); err == nil || !strings.Contains(err.Error(), "to begin anew") {
		t.Errorf("another way to approve: %v", err)
	}
}

// canary: one site first, then back; again, then everywhere.
func (n *node) canary() {
	n.t.Helper()
	n.run(0, "policy", "propose", "testdata/policy2", "-m", "for eu first")
	n.run(exitFailed, "policy", "approve", "2", "--canary", "nowhere")
	n.run(0, "policy", "approve", "2", "--canary", "eu")
	if out, _ := n.run(0, "status"); !strings.Contains(out, "revision 2 at eu") || !strings.Contains(out, "revision 1, approved") {
		n.t.Errorf("status = %s", out)
	}
	var back api.Revision
	n.json(&back, "policy", "withdraw", "2", "-m", "too slow")
	if back.Number != 3 || back.State != api.RevisionStateActive {
		n.t.Errorf("withdrawn to %+v", back)
	}
	n.run(exitConflict, "policy", "promote", "2")
	n.run(0, "policy", "propose", "testdata/policy2", "-m", "again")
	n.run(0, "policy", "approve", "4", "--canary", "eu")
	n.run(0, "policy", "promote", "4")
	var status statusAnswer
	n.json(&status, "status")
	if status.Cluster.Active.Number != 4 || status.Cluster.Canary.Number != 0 {
		n.t.Errorf("in force: %+v, canary %+v", status.Cluster.Active, status.Cluster.Canary)
	}
}

func TestMonitoringSeesTheNode(t *testing.T) {
	n := startNode(t, testConfig(t, "single"))
	n.run(0, "agents")
	ops := "http://" + n.plane.Addresses().Ops
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/metrics": `crossdock_api_requests_total{method="GET",route="/api/v1/agents",status="200"} 1`,
	} {
		answer, err := http.Get(ops + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			t.Errorf("%s = %d, %v without %s", path, answer.StatusCode, err, want)
		}
	}
}

// A call of which nobody knows the outcome is repeated under the same key, and only then.
func TestCallsAreRepeatedUnderOneKey(t *testing.T) {
	for _, test := range []struct {
		code  string
		tries int
		exit  int
	}{
		{"unknown", 2, exitOK}, {"unavailable", 2, exitOK}, {"conflict", 1, exitConflict}, {"forbidden", 1, exitDenied},
		{"unauthorized", 1, exitDenied}, {"invalid", 1, exitFailed}, {"internal", 1, exitFailed},
	} {
		var keys []string
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			keys = append(keys, r.Header.Get("Idempotency-Key"))
			if len(keys) == 1 {
				w.WriteHeader(http.StatusTeapot)
				fmt.Fprintf(w, `{"code":%q,"detail":"no"}`, test.code)
			}
		}))
		c := &client{bases: []string{server.URL}, token: "t", http: server.Client(), told: func(http.Header) {}}
		err := c.post(t.Context(), "/x", struct{}{}, nil)
		server.Close()
		var coded *exitError
		if errors.As(err, &coded) {
			if coded.code != test.exit {
				t.Errorf("%s: exit code %d, want %d", test.code, coded.code, test.exit)
			}
		} else if test.exit != exitOK || err != nil {
			t.Errorf("%s: %v", test.code, err)
		}
		if len(keys) != test.tries || keys[0] == "" || keys[len(keys)-1] != keys[0] {
			t.Errorf("%s: keys = %q, want %d times the same", test.code, keys, test.tries)
		}
	}
}
