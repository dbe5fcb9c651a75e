package systemtest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/crossdock/crossdock/agent"
)

// canaries are secrets by what they are. None of these texts comes about by chance.
type canaries map[string]string

// mint makes one up.
func (c canaries) mint(what string) string {
	c[what] = "canary-" + strings.ReplaceAll(what, " ", "-") + "-9f3Kq7Zx"
	return c[what]
}

// search reports where a canary stands in a text: as it is, in base64 or in hexadecimal, or
// in what is compressed in it.
func (c canaries) search(t *testing.T, where string, text []byte) {
	t.Helper()
	for _, part := range append(unpacked(t, text), text) {
		for what, value := range c {
			for form, canary := range map[string]string{"": value, " in base64": base64.RawStdEncoding.EncodeToString([]byte(value)), " in hexadecimal": hex.EncodeToString([]byte(value))} {
				if bytes.Contains(part, []byte(canary)) {
					t.Errorf("%s%s stands in %s", what, form, where)
				}
			}
		}
	}
}

// unpacked gives what is compressed in a text: blocks, bundles and backups.
func unpacked(t *testing.T, text []byte) (parts [][]byte) {
	t.Helper()
	magic, most := []byte{0x28, 0xb5, 0x2f, 0xfd}, int64(32<<20)
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for from := 0; ; {
		at := bytes.Index(text[from:], magic)
		if at < 0 {
			return parts
		}
		from += at + 1
		if r.Reset(bytes.NewReader(text[from-1:])) == nil {
			part, _ := io.ReadAll(io.LimitReader(r, most)) // what follows a frame is none
			parts = append(parts, part)
		}
	}
}

// parrot is a system that repeats all that it is sent, in every form, and refuses it until
// it is told to take it.
type parrot struct {
	url     string
	handler http.Handler

	mu    sync.Mutex
	takes bool
	heard []string // Authorization of what it took
}

func newParrot(t *testing.T) *parrot {
	p := &parrot{}
	p.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		said := r.Header.Get("Authorization")
		echo := fmt.Sprintf("you sent %q and %s and %s and %s", said, url.QueryEscape(said), base64.StdEncoding.EncodeToString([]byte(strings.TrimPrefix(said, "Bearer "))),
			base64.StdEncoding.EncodeToString([]byte(said)))
		w.Header().Set("X-Echo", said)
		if !p.takes {
			http.Error(w, echo, http.StatusUnprocessableEntity)
			return
		}
		p.heard = append(p.heard, said)
		_, _ = io.WriteString(w, echo) // the agent may be gone
	})
	server := httptest.NewServer(p.handler)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *parrot) take() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takes = true
}

func (p *parrot) took(authorization string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.heard, authorization)
}

// secretsRun is one site whose systems and plugin have secrets of all kinds.
type secretsRun struct {
	*testing.T
	canaries
	c      *cluster
	eu     *site
	parrot *parrot
	config string // of the agent, for its commands
	bundle map[string]string
}

func newSecretsRun(t *testing.T) *secretsRun {
	t.Helper()
	x := &secretsRun{T: t, canaries: canaries{}, parrot: newParrot(t), c: startCluster(t, 1, clusterOptions{level: "debug", advertise: nowhere})}
	x.bundle = policyFor([]string{"eu"}, nil)
	var systems strings.Builder
	for name, driver := range map[string]string{
		"sealed": `http: {url: '%s', hosts: [127.0.0.1], auth: {bearer: 'secret:token'}, deliver: {path: /events}}`,
		"basic":  `http: {url: '%s', hosts: [127.0.0.1], auth: {basic: {user: me, password: 'file:basic'}}, deliver: {path: /events}}`,
		"env":    `http: {url: '%s', hosts: [127.0.0.1], auth: {bearer: 'env:CANARY_OF_TEST'}, deliver: {path: /events}}`,
		"hook":   `webhook: {url: '%s', hosts: [127.0.0.1], secret: 'secret:signing'}`,
	} {
		fmt.Fprintf(&systems, "apiVersion: crossdock/v1\nkind: System\nmetadata: {name: %s}\nspec: {owner: it, site: eu, delivery: {breaker: {failures: 100000, pause: 200ms}}, %s}\n---\n"+
			"apiVersion: crossdock/v1\nkind: Route\nmetadata: {name: to-%[1]s}\nspec: {owner: it, from: {type: %[3]s}, to: [{system: %[1]s}], onExhausted: skip}\n---\n",
			name, fmt.Sprintf(driver, x.parrot.url), orderCaptured)
	}
	x.bundle["policy.yaml"] = systems.String() + strings.Replace(x.bundle["policy.yaml"], "file:shop-eu", "secret:token", 1)
	x.bundle = callsBundle(t, x.bundle, "sealed", plugin{name: "courier", kind: "carrier", program: "courier", sites: "eu",
		settings: "provider: 'http://127.0.0.1:9'", more: "  secrets: {password: 'secret:key'}\n"})
	x.c.plane.approve(x.bundle)
	x.eu = newSite(t, x.c.plane, "eu")
	x.eu.line = startLine(t, x.c.nodes[0].sync)
	x.eu.cfg.ControlPlane.Addresses = []string{x.eu.line.Addr()}
	x.eu.usePlugins()
	x.eu.secret("basic", x.mint("a password in a file"))
	t.Setenv("CANARY_OF_TEST", x.mint("a token of the environment"))
	x.config = filepath.Join(t.TempDir(), "agent.yaml")
	text := fmt.Sprintf("data: %q\ncontrolplane: {addresses: [%q]}\nintake: {listen: %q}\nops: {listen: %q}\nplugins: {dir: %q}\n",
		x.eu.cfg.Data, x.eu.line.Addr(), x.eu.cfg.Intake.Listen, x.eu.cfg.Ops.Listen, x.eu.cfg.Plugins.Dir)
	if err := os.WriteFile(x.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return x
}

const logEverything = "log: {level: debug, format: json}\n"

// set sets a secret as an operator does, and tries until the agent has said its key.
func (x *secretsRun) set(name, value string, flags ...string) {
	x.Helper()
	until(x.T, "secret "+name+" is set", func() string {
		out, err := x.c.nodes[0].crossdock(value+"\n", append([]string{"secret", "set", name}, flags...)...)
		if err != nil && strings.Contains(err.Error(), "has not said") {
			return err.Error()
		} else if err != nil {
			x.Fatal(err)
		}
		x.search(x.T, "the answer of secret set", []byte(out))
		return ""
	})
}

// crossdockAgent runs a command of the agent's program, and gives all that it says.
func (x *secretsRun) crossdockAgent(args ...string) []byte {
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	out, _ := exec.CommandContext(ctx, filepath.Join(programs(x.T), "crossdock-agent"), append(args, "--config", x.config)...).CombinedOutput() // a doctor that finds something fails
	return out
}

// sell posts an order with a token and gives the status; 0: nobody answered.
func (x *secretsRun) sell(id, token string) int {
	body := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":%q,"data":{"orderId":%[1]q}}`, id, orderCaptured)
	request, err := http.NewRequestWithContext(x.Context(), http.MethodPost, "http://"+x.eu.cfg.Intake.Listen+"/v1/events", strings.NewReader(body))
	if err != nil {
		x.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/cloudevents+json")
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		x.Fatal(err)
	}
	x.search(x.T, "the answer of intake", text)
	return answer.StatusCode
}

func (x *secretsRun) sells(id, token string, status int) {
	x.Helper()
	until(x.T, fmt.Sprintf("order %s is answered with %d", id, status), func() string {
		if got := x.sell(id, token); got != status {
			return fmt.Sprint(got)
		}
		return ""
	})
}

// inUse waits until the agent has said that it holds the secrets as they are.
func (x *secretsRun) inUse(n int) {
	x.Helper()
	until(x.T, "secrets are in use", func() string {
		var list struct{ Items []struct{ State string } }
		x.c.plane.must("GET", "/secrets", nil, &list)
		in := 0
		for _, s := range list.Items {
			if s.State == "in use" {
				in++
			}
		}
		if in != n {
			return fmt.Sprintf("%d of %d: %+v", in, n, list.Items)
		}
		return ""
	})
}

// TestSecretsStayIn sets secrets of all kinds and has the real programs use them: deliver,
// fail at systems that repeat what they are sent, rotate, be killed, work cut off. Then it
// looks for them in all that was written, kept, shown and answered.
func TestSecretsStayIn(t *testing.T) {
	x := newSecretsRun(t)
	run := x.eu.startProgram(logEverything)
	first, second, token := x.mint("the first token of a shop"), x.mint("the second token of a shop"), x.mint("a sealed token")
	signing := base64.StdEncoding.EncodeToString([]byte(x.mint("a signing key")))
	x.canaries["a signing key as it is set"] = signing
	x.set("shop-eu", first)
	x.set("sealed/token", token)
	x.set("hook/signing", "whsec_"+signing)
	x.set("plugin:courier/key", x.mint("a secret of a plugin"))
	x.inUse(4)

	x.sells("k1", first, http.StatusAccepted)
	x.masked("k1")
	x.set("shop-eu/token", second, "--rotate")
	x.sells("k2", second, http.StatusAccepted)
	x.sells("k3", first, http.StatusAccepted)
	if _, err := x.c.nodes[0].crossdock("", "secret", "drop", "shop-eu/token", "--former"); err != nil {
		t.Fatal(err)
	}
	x.sells("k4", first, http.StatusUnauthorized)
	x.sells("k5", second, http.StatusAccepted)
	x.bundle["note.yaml"] = "apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: na}\nspec: {owner: it, region: na}\n"
	x.c.plane.approve(x.bundle) // policy is put in force anew

	x.inUse(4)
	x.eu.line.Cut()
	run.signal(syscall.SIGKILL)
	<-run.ended
	x.parrot.take()
	x.eu.startProgram(logEverything)
	x.sells("k6", second, http.StatusAccepted)
	x.sells("k7", first, http.StatusUnauthorized)
	until(t, "a delivery while the line is cut", func() string {
		if !x.parrot.took("Bearer " + token) {
			return "none with the sealed token"
		}
		return ""
	})
	x.eu.line.Restore()
	x.eu.awaitStatus("connected", func(s agent.Status) string {
		if !s.Link.Connected {
			return s.Link.LastError
		}
		return ""
	})
	x.replayAll()
	x.searchAll()
}

// masked waits for the dead letters of an order, and looks what they kept of the answers.
func (x *secretsRun) masked(key string) {
	x.Helper()
	want := []string{"basic", "env", "hook", "sealed"}
	until(x.T, "systems refuse it", func() string {
		letters := map[string]string{}
		for _, l := range x.c.plane.deadLetters("key=" + key) {
			letters[l.System] = l.Answer
		}
		for _, system := range want {
			answer, is := letters[system]
			if !is {
				return system + " has no dead letter yet"
			}
			if system != "hook" && strings.Count(answer, "[secret]") < 4 { // it has no Authorization
				x.Errorf("what system %s answered is kept as %s", system, answer)
			}
		}
		return ""
	})
}

// replayAll has what was refused delivered.
func (x *secretsRun) replayAll() {
	x.Helper()
	until(x.T, "dead letters are delivered", func() string {
		left := ""
		for _, l := range x.c.plane.deadLetters("") {
			if l.State == "open" {
				x.c.plane.must("POST", "/deadletters/"+url.PathEscape(l.ID)+"/replay", map[string]any{"reason": "repaired", "confirm": true}, nil)
			}
			if l.State != "delivered" {
				left = l.ID + " is " + l.State
			}
		}
		return left
	})
}

// ways are all that people and programs can get out of a running installation, besides its
// files: what shows more is one more of them.
func (x *secretsRun) ways() map[string]func() []byte {
	backup := filepath.Join(x.TempDir(), "backup")
	ways := map[string]func() []byte{
		"metrics of the agent":         func() []byte { return fetch(x.T, "http://"+x.eu.cfg.Ops.Listen+"/metrics") },
		"metrics of the control plane": func() []byte { return fetch(x.T, "http://"+x.c.nodes[0].op+"/metrics") },
		"status in JSON":               func() []byte { return fetch(x.T, "http://"+x.eu.cfg.Ops.Listen+"/v1/status") },
		"the backup": func() []byte {
			if _, err := x.c.nodes[0].crossdock("", "cluster", "backup", "--out", backup); err != nil {
				x.Fatal(err)
			}
			return []byte(read(x.T, backup))
		},
	}
	for _, path := range []string{"/health", "/whoami", "/cluster", "/principals", "/tokens", "/agents", "/agents/eu", "/revisions", "/revisions/active", "/revisions/1/bundle",
		"/revisions/2/diff", "/systems/moves", "/ranges", "/events?key=k1", "/events?key=k6", "/deadletters", "/exceptions", "/audit?limit=500", "/secrets",
		"/secrets/targets?owner=sealed", "/secrets/targets?owner=plugin:courier"} {
		ways["GET "+path] = func() []byte {
			status, text := x.c.plane.call("GET", path, nil)
			if status != http.StatusOK {
				x.Errorf("GET %s: %d %s", path, status, text)
			}
			return text
		}
	}
	for _, l := range x.c.plane.deadLetters("") {
		ways["dead letter "+l.ID] = func() []byte {
			_, text := x.c.plane.call("GET", "/deadletters/"+url.PathEscape(l.ID), nil)
			return text
		}
	}
	for _, args := range [][]string{{"status"}, {"doctor"}, {"plugins"}, {"queue", "inspect"}, {"queue", "export"}, {"queue", "dead"}, {"calls"}, {"documents"}, {"numbers"}} {
		ways["crossdock-agent "+strings.Join(args, " ")] = func() []byte { return x.crossdockAgent(args...) }
	}
	for _, args := range [][]string{{"secret", "list", "--all"}, {"status"}, {"audit"}, {"deadletters", "list"}, {"events", "trace", "k1"}} {
		ways["crossdock "+strings.Join(args, " ")] = func() []byte { out, _ := x.c.nodes[0].crossdock("", args...); return []byte(out) }
	}
	return ways
}

func fetch(t *testing.T, address string) []byte {
	t.Helper()
	answer, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// searchAll looks everywhere.
func (x *secretsRun) searchAll() {
	x.Helper()
	for what, text := range x.c.plane.tokens {
		if what != "the administrator's token" {
			x.canaries[what] = secretOf(text)
		}
	}
	x.canaries["the key of eu"] = x.eu.keyLine()
	sealingKey := strings.TrimSpace(read(x.T, filepath.Join(x.eu.cfg.IdentityDir(), "sealing.key")))
	x.canaries["the sealing key of eu"] = sealingKey
	for way, give := range x.ways() {
		text := give()
		if len(text) == 0 {
			x.Errorf("%s gives nothing", way)
		}
		x.search(x.T, way, text)
	}
	homes := []string{filepath.Join(x.eu.cfg.Data, "secrets"), filepath.Join(x.eu.cfg.IdentityDir(), "key.pem"), filepath.Join(x.eu.cfg.IdentityDir(), "sealing.key")}
	seen, sealed := 0, 0
	for _, root := range []string{x.c.nodes[0].data, filepath.Dir(x.c.nodes[0].log), x.eu.cfg.Data, filepath.Dir(x.eu.log)} {
		err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || slices.ContainsFunc(homes, func(home string) bool { return strings.HasPrefix(file, home) }) {
				return err
			}
			text, err := os.ReadFile(file)
			x.search(x.T, file, text)
			if seen++; strings.HasPrefix(file, filepath.Join(x.eu.cfg.Data, "sealed")) {
				sealed++
			}
			return err
		})
		if err != nil {
			x.Fatal(err)
		}
	}
	if seen < 15 || sealed != 4 {
		x.Errorf("%d files were looked at, %d of them sealed secrets", seen, sealed)
	}
}
