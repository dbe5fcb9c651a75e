package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/agent/pluginhost"
	"github.com/crossdock/crossdock/agent/revision"
	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
)

func sumOf(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// pluginPolicy has one plugin at site eu and another elsewhere.
func pluginPolicy(sum string) policy.Bundle {
	here := runtime.GOOS + "/" + runtime.GOARCH
	return policy.Bundle{"policy.yaml": fmt.Appendf(nil, `apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {region: eu, tax: [table]}
---
apiVersion: crossdock/v1
kind: Site
metadata: {name: na}
spec: {region: na}
---
apiVersion: crossdock/v1
kind: Plugin
metadata: {name: table}
spec: {owner: tax, kind: tax, sites: [eu], program: table.bin, sha256: {%s: %s}, settings: {state: /s}, secrets: {key: "file:key"}, memory: 64MB, callTimeout: 3s}
---
apiVersion: crossdock/v1
kind: Plugin
metadata: {name: other}
spec: {owner: tax, kind: carrier, sites: [na], program: other, sha256: {%s: %s}}
`, here, sum, here, sum)}
}

// pluginAgent is as much of an agent as plugins need.
func pluginAgent(t *testing.T, data string, sum string) *Agent {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	holder, err := revision.Open(filepath.Join(t.TempDir(), "policy"), log)
	if err != nil {
		t.Fatal(err)
	}
	bundle := pluginPolicy(sum)
	digest := bundle.Digest()
	if err := holder.Offer(revision.Offered{Number: block.Revision{Generation: 1, Number: 1}, Digest: digest[:], Bundle: bundle.Encode()}); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Data, cfg.ControlPlane.Addresses = data, []string{"127.0.0.1:1"}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	a := &Agent{cfg: cfg, log: log, registry: prometheus.NewRegistry(), identity: &identity.Identity{Granted: identity.Granted{Agent: "eu", Site: "eu"}}, revision: holder, alarms: newAlarms("eu", log)}
	if err := a.openPlugins(); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *alarms) texts() (out []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, e := range a.waiting {
		out = append(out, id+" "+e.Text)
	}
	return out
}

func TestSpecsFollowThePolicy(t *testing.T) {
	a := pluginAgent(t, t.TempDir(), sumOf("x"))
	got := a.plugins.specs()
	if len(got) != 1 {
		t.Fatalf("specs %+v", got)
	}
	s := got[0]
	if s.Name != "table" || s.Kind != tax.Kind || s.Program != "table.bin" || s.SHA256 != sumOf("x") || s.Settings["state"] != "/s" || s.Secrets["key"] != "file:key" ||
		s.Memory != 64<<20 || s.CallTimeout.Seconds() != 3 {
		t.Errorf("the spec is %+v", s)
	}
	if policy.PluginCarrier != carrier.Kind || policy.PluginTax != tax.Kind {
		t.Error("policy and plugins have other words for their kinds")
	}
	if out := pluginSpecs(nil, "eu"); out != nil {
		t.Errorf("without a policy there is %+v", out)
	}
}

// A site whose plugins cannot be run at all shows it, and its agent goes on.
func TestAHostThatCannotBeHadIsNoEndOfTheAgent(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 110))
	blocked := t.TempDir()
	if err := os.WriteFile(filepath.Join(blocked, pluginsDir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{"a file in its place": blocked}
	if runtime.GOOS != "windows" {
		cases["a path that is too long"] = long
	}
	for what, data := range cases {
		t.Run(what, func(t *testing.T) {
			a := pluginAgent(t, data, sumOf("x"))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- a.plugins.run(ctx) }()
			<-a.alarms.wake
			told := a.alarms.texts()
			if len(told) != 1 || !strings.HasPrefix(told[0], "eu/plugins-not-run/host site eu runs none of its 1 plugins: ") {
				t.Errorf("told is %q", told)
			}
			if s := a.plugins.status(); len(s) != 1 || s[0].Plugin != "table" || s[0].State != pluginhost.StateDeactivated || s[0].LastError == "" {
				t.Errorf("the status is %+v", s)
			}
			if _, err := a.plugins.Tax("table"); sdk.ClassOf(err) != sdk.Unavailable {
				t.Errorf("tax: %v", err)
			}
			if _, err := a.plugins.Carrier("zone"); sdk.ClassOf(err) != sdk.Unavailable {
				t.Errorf("carrier: %v", err)
			}
			if err := a.plugins.activate("table"); !errors.Is(err, ops.ErrConflict) {
				t.Errorf("activate: %v", err)
			}
			select {
			case err := <-ended:
				t.Fatalf("the part ended with %v", err)
			default:
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// A host that could not be had at the start is tried again.
func TestAHostIsHadLater(t *testing.T) {
	a := pluginAgent(t, t.TempDir(), sumOf("x"))
	p, whole := a.plugins, a.plugins.open
	p.host, p.open = nil, func() (*pluginhost.Host, error) { return nil, errors.New("not now") }
	p.retry()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	<-a.alarms.wake // told: it waits for its next try
	if _, err := p.running(); err == nil {
		t.Error("there is a host")
	}
	p.mu.Lock()
	p.open = whole
	p.mu.Unlock()
	p.PolicyChanged()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) { // between looks at a condition
		if _, err := p.running(); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestADeactivatedPluginIsAnException(t *testing.T) {
	a := pluginAgent(t, t.TempDir(), sumOf("x"))
	for range 2 { // the same again is the same exception
		a.plugins.deactivated(pluginhost.Exception{Plugin: "table", Kind: "tax", Program: "table.bin", SHA256: sumOf("x"), Crashes: 5, Reason: "exit status 4",
			Words: []string{"first", "second", "a\x1b[31m", strings.Repeat("long", 100)}})
	}
	told := a.alarms.texts()
	if len(told) != 1 {
		t.Fatalf("told is %q", told)
	}
	for _, part := range []string{"eu/plugin-deactivated/table/" + sumOf("x")[:12] + " ", "at site eu after 5 crashes: exit status 4", "activate table", `"second", "a\x1b[31m", "long`} {
		if !strings.Contains(told[0], part) {
			t.Errorf("no %q in %q", part, told[0])
		}
	}
	if strings.Contains(told[0], `"first"`) || len(told[0]) > 1000 {
		t.Errorf("too much is told: %q", told[0])
	}
	if _, err := a.plugins.Carrier("zone"); sdk.ClassOf(err) != sdk.NotSupported {
		t.Errorf("carrier: %v", err)
	}
	if _, err := a.plugins.Tax("zone"); sdk.ClassOf(err) != sdk.NotSupported {
		t.Errorf("tax: %v", err)
	}
	if err := a.plugins.activate("zone"); !errors.Is(err, ops.ErrNotFound) {
		t.Errorf("activate: %v", err)
	}
}

func TestDoctorLooksAtPlugins(t *testing.T) {
	a := pluginAgent(t, t.TempDir(), sumOf("x"))
	look := func(secret error) map[string]string {
		seen := map[string]string{}
		for _, f := range examinePlugins(a.cfg, a.plugins.specs(), func(string) ([]byte, error) { return nil, secret }) {
			seen[string(f.Level)] += f.ID + ": " + f.Seen + "; " + f.Todo
		}
		return seen
	}
	program := filepath.Join(a.cfg.Plugins.Dir, "table.bin")
	if got := look(nil); !strings.Contains(got["fail"], program) || got["ok"] != "" {
		t.Errorf("without the program: %q", got)
	}
	if err := os.WriteFile(program, []byte("y"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := look(nil); !strings.Contains(got["fail"], "found "+sumOf("y")) {
		t.Errorf("with another program: %q", got)
	}
	if err := os.WriteFile(program, []byte("x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := look(nil); got["fail"] != "" || !strings.Contains(got["ok"], "plugin-table") {
		t.Errorf("with the program: %q", got)
	}
	if got := look(errors.New("no key")); !strings.Contains(got["fail"], "plugin-table: key: no key") {
		t.Errorf("without its secret: %q", got)
	}
	levels := ""
	for _, f := range ExamineStatus(Status{Plugins: []PluginStatus{{Plugin: "a", State: pluginhost.StateRunning}, {Plugin: "b", State: pluginhost.StateWaiting},
		{Plugin: "c", State: pluginhost.StateDeactivated, LastError: "why"}}}) {
		if !strings.HasPrefix(f.ID, "plugin-") {
			continue
		}
		levels += f.ID + " " + string(f.Level) + " "
		if f.Level == doctor.Fail && !strings.Contains(f.Seen, "why") {
			t.Errorf("it does not say why: %+v", f)
		}
	}
	if levels != "plugin-a ok plugin-b warn plugin-c fail " {
		t.Errorf("of a running agent it finds %s", levels)
	}
}
