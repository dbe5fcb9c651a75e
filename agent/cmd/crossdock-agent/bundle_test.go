package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/bundle"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/revision"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/settings"
)

// Canaries, by where they are put. No bundle may hold one.
const (
	canarySecret = "canary-secret-4711"
	canaryToken  = "canary-token-that-is-long-enough"
	canaryKey    = "canaryKeyLineOfTheAgent0123456789"
	canaryProxy  = "canary-proxy-4711"
	canaryEvent  = "canary-event-4711"
	canaryShell  = "canary-shell-4711"
)

// contents unpacks a bundle.
func contents(t *testing.T, file string) map[string]string {
	t.Helper()
	r, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := map[string]string{}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name] = string(text)
	}
	return out
}

// site is the data of an agent in which canaries are everywhere.
func canarySite(t *testing.T) (data, file string) {
	t.Helper()
	data = t.TempDir()
	log := filepath.Join(t.TempDir(), "agent.log")
	file = filepath.Join(t.TempDir(), "agent.yaml")
	for path, text := range map[string]string{
		filepath.Join(data, "secrets", "erp"):      canarySecret + "\n",
		filepath.Join(data, "ops.token"):           canaryToken + "\n",
		filepath.Join(data, "identity", "key.pem"): "-----BEGIN PRIVATE KEY-----\n" + canaryKey + "\n-----END PRIVATE KEY-----\n",
		filepath.Join(data, "policy", "revision"):  "{\"revision\":{\"generation\":1,\"number\":4},\"digest\":\"x\"}\nnot a bundle " + canarySecret,
		log: `{"time":"2026-05-04T10:00:00Z","level":"WARN","msg":"a system repeats what it was sent: ` + canarySecret + `","proxy":"http://bob:` + canaryProxy + `@proxy:3128","header":"Bearer ` + canaryToken + `"}` + "\n",
		file: "data: " + data + "\ncontrolplane: {addresses: [\"127.0.0.1:1\"], proxy: \"http://bob:" + canaryProxy + "@127.0.0.1:1\"}\n" +
			"intake: {listen: \"127.0.0.1:0\"}\nops: {listen: \"127.0.0.1:1\"}\nlog: {file: " + log + "}\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q, err := queue.Open(queue.Config{Dir: filepath.Join(data, "journal"), Quota: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Append([][]byte{[]byte(`{"data":"` + canaryEvent + `"}`)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ERP_PASSWORD", canaryShell)
	return data, file
}

func clean(t *testing.T, what string, parts map[string]string, said ...string) {
	t.Helper()
	for _, canary := range []string{canarySecret, canaryToken, canaryKey, canaryProxy, canaryEvent, canaryShell} {
		for name, text := range parts {
			if strings.Contains(text, canary) {
				t.Errorf("%s: %s holds %s", what, name, canary)
			}
		}
		for _, text := range said {
			if strings.Contains(text, canary) {
				t.Errorf("%s: %s is said: %s", what, canary, text)
			}
		}
	}
}

func TestBundleOfAStoppedAgent(t *testing.T) {
	_, file := canarySite(t)
	out := filepath.Join(t.TempDir(), "x.zip")
	code, stdout, stderr := command(t, "support-bundle", "-c", file, "-o", out, "--yes", "--policy")
	if code != 0 || strings.TrimSpace(stdout) != out {
		t.Fatalf("%d %s %s", code, stdout, stderr)
	}
	parts := contents(t, out)
	clean(t, "stopped", parts, stdout, stderr)
	for name, want := range map[string]string{
		"about.json": "crossdock-agent", "config.yaml": "http://127.0.0.1:1", "status.json": "not running here", "journal.json": `"records": 1`,
		"doctor.json": `"version": 1`, "policy.json": `"number":4`, "policy.txt": "not collected", "log.txt": "repeats what it was sent: [masked]", "files.txt": `"identity/key.pem"`,
	} {
		if !strings.Contains(parts[name], want) {
			t.Errorf("%s does not say %q: %.2000s", name, want, parts[name])
		}
		if !strings.Contains(stderr, name) {
			t.Errorf("%s was not listed before: %s", name, stderr)
		}
	}
}

// Secrets lie outside the secrets directory too: policy says where.
func TestBundleMasksWhatPolicyRefersTo(t *testing.T) {
	data, file := canarySite(t)
	const outside, sealing = "canary-outside-4711", "AGE-SECRET-KEY-1CANARY4711"
	elsewhere := filepath.ToSlash(filepath.Join(t.TempDir(), "token"))
	log := filepath.Join(t.TempDir(), "agent.log")
	for path, text := range map[string]string{elsewhere: outside + "\n", filepath.Join(data, "identity", "sealing.key"): sealing + "\n", log: "it said " + outside + " and " + sealing + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(text), "log: ")
	if err := errors.Join(os.WriteFile(file, []byte(head+"log: {file: "+log+"}\n"), 0o600), os.Remove(filepath.Join(data, "policy", "revision"))); err != nil {
		t.Fatal(err)
	}
	held, err := revision.Open(filepath.Join(data, "policy"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	documents := policy.Bundle{"p.yaml": []byte("apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: eu}\nspec: {owner: it, region: eu}\n---\n" +
		"apiVersion: crossdock/v1\nkind: System\nmetadata: {name: erp}\nspec: {owner: it, site: eu, webhook: {url: 'https://erp.example.com', ca: 'secret:ca', secret: 'file:" + elsewhere + "'}}\n")}
	digest := documents.Digest()
	if err := held.Offer(revision.Offered{Number: block.Revision{Generation: 1, Number: 4}, Digest: digest[:], Bundle: documents.Encode()}); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "x.zip")
	if code, _, stderr := command(t, "support-bundle", "-c", file, "-o", out, "--yes", "--policy"); code != 0 {
		t.Fatalf("%d %s", code, stderr)
	}
	parts := contents(t, out)
	if !strings.Contains(parts["log.txt"], "it said [masked] and [masked]") || !strings.Contains(parts["policy.txt"], "kind: System") {
		t.Errorf("log %q, policy %q", parts["log.txt"], parts["policy.txt"])
	}
	for name, text := range parts {
		if strings.Contains(text, outside) || strings.Contains(text, sealing) {
			t.Errorf("%s holds a secret", name)
		}
	}
}

func TestBundleOfARunningAgent(t *testing.T) {
	data, _ := canarySite(t)
	cfg := agent.Config{Data: data}
	s, err := ops.New(ops.Config{Listen: "127.0.0.1:0", TokenFile: filepath.Join(data, "ops.token"), Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		Status: func() any {
			status := agent.Status{Agent: "eu", Data: cfg.Place()}
			status.Link.LastError = "http://bob:" + canaryProxy + "@proxy answered " + canarySecret
			return status
		},
		Queue: queueless{},
		Doctor: func(context.Context, bool) (any, error) {
			return doctor.NewReport("1.2", time.Now(), []doctor.Finding{{ID: "proxy", Level: doctor.Fail, Seen: canarySecret, Todo: "x"}}), nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	out := filepath.Join(t.TempDir(), "x.zip")
	code, stdout, stderr := command(t, "support-bundle", "-c", configFor(t, data, s.Addr()), "-o", out, "--yes")
	if code != 0 {
		t.Fatalf("%d %s", code, stderr)
	}
	parts := contents(t, out)
	clean(t, "running", parts, stdout, stderr)
	for name, want := range map[string]string{"status.json": `"agent":"eu"`, "goroutines.txt": "goroutine profile", "journal.json": "of the running agent", "doctor.json": `"program": "1.2"`} {
		if !strings.Contains(parts[name], want) {
			t.Errorf("%s does not say %q: %s", name, want, parts[name])
		}
	}
	if _, there := parts["policy.txt"]; there {
		t.Error("the policy's documents are in it, and nobody asked for them")
	}
}

// A configuration that is wrong is when a bundle is needed; its lines are not in it.
func TestBundleWithABrokenConfiguration(t *testing.T) {
	data, _ := canarySite(t)
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, []byte("controlplane:\n  proxyy: \"http://bob:"+canaryProxy+"@proxy\"\n nonsense: ["+canarySecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "x.zip")
	code, stdout, stderr := command(t, "support-bundle", "-c", file, "--data", data, "-o", out, "--yes")
	if code != 0 {
		t.Fatalf("%d %s", code, stderr)
	}
	parts := contents(t, out)
	clean(t, "broken", parts, stdout, stderr)
	if !strings.Contains(parts["config.yaml"], "proxyy: [masked]") || !strings.Contains(parts["doctor.json"], `"id": "config"`) || !strings.Contains(parts["journal.json"], `"records": 1`) {
		t.Errorf("%s\n%s\n%s", parts["config.yaml"], parts["doctor.json"], parts["journal.json"])
	}
}

func TestBundleAsksFirst(t *testing.T) {
	_, file := canarySite(t)
	for answer, want := range map[string]int{"": exitFailed, "n\n": exitFailed, "what\n": exitFailed, "y\n": 0, "YES": 0} {
		out := filepath.Join(t.TempDir(), "x.zip")
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{"support-bundle", "-c", file, "-o", out}, strings.NewReader(answer), &stdout, &stderr)
		if code != want || !strings.Contains(stderr.String(), "[y/N]") {
			t.Errorf("%q: %d, want %d: %s", answer, code, want, stderr.String())
		}
		if _, err := os.Stat(out); (err == nil) != (want == 0) {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

// What stands in the way of the file is said before anything is collected, and a folder gets it.
func TestBundleLooksAtItsTargetFirst(t *testing.T) {
	_, file := canarySite(t)
	folder := t.TempDir()
	there := filepath.Join(folder, "there.zip")
	if err := os.WriteFile(there, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(folder, "missing")
	for _, tt := range []struct {
		to   string
		code int
		says string
	}{
		{there, exitConflict, there + " is there already"},
		{"json", exitUsage, "-o names the file to write here, and no format"},
		{filepath.Join(missing, "x.zip"), exitFailed, "into the folder " + missing + " ("},
		{filepath.Join(there, "x.zip"), exitFailed, "into the folder " + there + " ("},
	} {
		code, stdout, stderr := command(t, "support-bundle", "-c", file, "-o", tt.to, "--yes")
		if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.says) || strings.Contains(stderr, "about.json") || strings.Contains(stderr, ".bundle-") {
			t.Errorf("%s: %d %s %s", tt.to, code, stdout, stderr)
		}
	}
	code, stdout, stderr := command(t, "support-bundle", "-c", file, "-o", folder, "--yes")
	made := strings.TrimSpace(stdout)
	if code != 0 || filepath.Dir(made) != folder || !strings.HasPrefix(filepath.Base(made), "crossdock-support-") {
		t.Fatalf("%d %s %s", code, stdout, stderr)
	}
	clean(t, "in a folder", contents(t, made), stdout, stderr)
	if left, err := os.ReadDir(folder); err != nil || len(left) != 2 {
		t.Errorf("%v, %v", left, err)
	}
}

// A log that is not in it is explained, in the list and in its place.
func TestBundleSaysWhereTheLogIs(t *testing.T) {
	_, file := canarySite(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(text), "log: ")
	tools, empty := t.TempDir(), filepath.Join(t.TempDir(), "empty.log")
	if err := errors.Join(os.WriteFile(filepath.Join(tools, "journalctl"), []byte("#!/bin/sh\n"), 0o700), os.WriteFile(empty, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(t.TempDir(), "none", "agent.log")
	cases := map[string]struct{ log, path, says string }{
		"no journald":      {"", t.TempDir(), "there is no journald here; the agent's log is where its standard error goes"},
		"nothing is there": {nowhere, "", "log.file is " + nowhere + ", and no agent has written there yet"},
		"it is empty":      {empty, "", empty + ", which log.file names, is empty"},
	}
	if runtime.GOOS != "windows" { // where no script is a program
		cases["journald has none"] = struct{ log, path, says string }{"", tools, "journald has no line of crossdock-agent; where the agent does not run as that service"}
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", tt.path)
			if err := os.WriteFile(file, []byte(head+"log: {file: '"+tt.log+"'}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "x.zip")
			code, _, stderr := command(t, "support-bundle", "-c", file, "-o", out, "--yes")
			if code != 0 {
				t.Fatalf("%d %s", code, stderr)
			}
			if in := contents(t, out)["log.txt"]; !strings.Contains(in, tt.says) || !strings.Contains(stderr, tt.says) {
				t.Errorf("want %q; in it: %s\nlisted: %s", tt.says, in, stderr)
			}
		})
	}
}

// What the configuration can say is known to the bundle: of the example nothing is masked.
func TestTheBundleKnowsEveryKey(t *testing.T) {
	text := agent.Example()
	for _, k := range settings.Keys(agent.Config{}) {
		if !strings.Contains(text, k.Name[strings.LastIndex(k.Name, ".")+1:]+":") {
			t.Errorf("%s is not in the example", k.Name)
		}
	}
	if shown := string(bundle.Configuration([]byte(strings.ReplaceAll(text, "[]", "[one]")))); strings.Contains(shown, "masked") || !strings.Contains(shown, "telemetry: 64MB") {
		t.Errorf("something is masked:\n%s", shown)
	}
}
