package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// sealer is an agent as far as secrets are sealed to it.
type sealer struct {
	key    string
	target api.SecretTarget
}

func newSealer(t *testing.T, agent string) sealer {
	t.Helper()
	registered, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := sealing.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := sealing.RecipientOf(key)
	if err != nil {
		t.Fatal(err)
	}
	said, err := sealing.Announce("c1", agent, recipient, registered)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(said.Key)
	return sealer{key, api.SecretTarget{Cluster: "c1", Agent: agent, Recipient: recipient, Key: said.Key, Signature: said.Signature,
		RegisteredKey: hex.EncodeToString(sum[:]), Versions: map[string]uint64{"token": 4}, Held: map[string]uint64{"token": 4}}}
}

func targets(t *testing.T, names []string, list ...api.SecretTarget) string {
	t.Helper()
	text, err := json.Marshal(api.SecretTargets{Names: names, Items: list})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// posted gives what the newest call has sent.
func posted(t *testing.T, c *canned) (one api.NewSecret) {
	t.Helper()
	last := c.asked[len(c.asked)-1]
	if err := json.Unmarshal([]byte(strings.TrimPrefix(last, "POST /secrets ")), &one); err != nil {
		t.Fatalf("%s: %v", last, err)
	}
	return one
}

const canarySecret = "canary-of-the-erp"

func TestSecretSet(t *testing.T) {
	eu := newSealer(t, "eu")
	answer := `{"agent":"eu","owner":"erp","name":"token","version":5,"state":"waiting","key":"k","by":"ann","at":"2026-05-04T10:00:00Z","former":true}`
	c := newCanned(t, map[string][]string{"GET /secrets/targets": {targets(t, []string{"token"}, eu.target)}, "POST /secrets": {answer}})
	out, said := c.run(0, canarySecret+"\n", "secret", "set", "erp", "--rotate", "--fingerprint", strings.ToUpper(sealing.Fingerprint(eu.target.Recipient)))
	sees(t, out, "erp/token version 5 is sealed to agent eu", "until it is dropped")
	one := posted(t, c)
	got, err := sealing.Open(eu.key, sealing.Binding{Cluster: "c1", Agent: "eu", Name: "erp/token"}, one.Sealed)
	if err != nil || strings.TrimSpace(string(got.Value)) != canarySecret || got.Version != 5 || got.Only != nil || one.Version != 5 || !one.KeepFormer || !one.FormerUntil.IsZero() {
		t.Errorf("%q, version %d of %+v, %v", got.Value, got.Version, one, err)
	}
	if all := out + said + strings.Join(c.asked, "\n"); strings.Contains(all, canarySecret) {
		t.Errorf("the secret was shown or sent:\n%s", all)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(canarySecret), 0o600); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(said, "does not refer to") {
		t.Errorf("policy refers to it: %s", said)
	}
	_, said = c.run(0, "", "secret", "set", "erp/other.name", "--file", file, "--keep-former", "24h")
	sees(t, said, "does not refer to secret:other.name of erp", "it refers to token")
	if one := posted(t, c); one.Name != "other.name" || one.Version != 1 || !one.KeepFormer || one.FormerUntil.IsZero() {
		t.Errorf("sent %+v", one)
	}
	for _, args := range [][]string{
		{"erp", canarySecret}, {"erp/../x"}, {"/x"}, {"erp", "--rotate", "--keep-former", "1h"}, {"erp", "--keep-former", "-1h"}, {"erp", "--file", "/nowhere/at/all"}, {"erp"},
	} {
		c.run(exitUsage, " \n", append([]string{"secret", "set"}, args...)...)
	}
	c.run(exitUsage, strings.Repeat("x", sealing.MaxValue+1), "secret", "set", "erp")
	c.answers["GET /secrets/targets"] = []string{targets(t, []string{"ca", "token"}, eu.target)}
	_, said = c.run(exitUsage, canarySecret, "secret", "set", "erp")
	sees(t, said, "refers to ca, token")
}

// A control plane that lies gets nothing.
func TestSecretIsSealedToNobodyElse(t *testing.T) {
	eu, other := newSealer(t, "eu"), newSealer(t, "eu")
	for what, change := range map[string]func(*api.SecretTarget){
		"a key that the agent did not sign": func(s *api.SecretTarget) { s.Recipient = other.target.Recipient },
		"an announcement of another agent":  func(s *api.SecretTarget) { s.Agent = "us" },
		"of another cluster":                func(s *api.SecretTarget) { s.Cluster = "c2" },
		"signed by a key that is not its": func(s *api.SecretTarget) {
			s.Key, s.Signature, s.Recipient = other.target.Key, other.target.Signature, other.target.Recipient
		},
		"no registered key": func(s *api.SecretTarget) { s.RegisteredKey = "" },
		"no key":            func(s *api.SecretTarget) { s.Recipient = "" },
	} {
		target := eu.target
		change(&target)
		c := newCanned(t, map[string][]string{"GET /secrets/targets": {targets(t, []string{"token"}, eu.target, target)}, "POST /secrets": {`{}`}})
		var out, said strings.Builder
		if code := run(t.Context(), append([]string{"secret", "set", "erp"}, c.flags...), strings.NewReader(canarySecret), &out, &said); code == exitOK || len(c.asked) != 1 {
			t.Errorf("%s: exit code %d, asked %v", what, code, c.asked)
		}
	}
	// One that replaces everything, the registered key too, is found out by whoever compares.
	c := newCanned(t, map[string][]string{"GET /secrets/targets": {targets(t, []string{"token"}, other.target)}, "POST /secrets": {`{}`}})
	_, said := c.run(exitConflict, canarySecret, "secret", "set", "erp", "--fingerprint", sealing.Fingerprint(eu.target.Recipient))
	sees(t, said, "crossdock-agent status")
	if len(c.asked) != 1 {
		t.Errorf("asked %v", c.asked)
	}
}

func TestSecretListAndDrop(t *testing.T) {
	const list = `{"items":[
		{"agent":"eu","owner":"erp","name":"token","version":5,"state":"in use","key":"aaaa-bbbb","by":"ann","at":"2026-05-04T10:00:00Z","former":true,"formerUntil":"2026-05-05T10:00:00Z"},
		{"agent":"eu","owner":"plugin:zone","name":"key","version":1,"state":"former key","by":"ann","at":"2026-05-04T10:00:00Z","refused":"it is sealed to another key"},
		{"agent":"hq","owner":"plugin:zone","name":"key","version":2,"state":"waiting","by":"ann","at":"2026-05-04T10:00:00Z"},
		{"agent":"us","owner":"plugin:zone","name":"key","version":3,"state":"dropped","by":"ann","at":"2026-05-04T10:00:00Z"}]}`
	c := newCanned(t, map[string][]string{"GET /secrets": {`{"items":[]}`, list}, "GET /secrets/targets": {targets(t, []string{"token"})},
		"DELETE /secrets/eu/erp/token": {""}, "DELETE /secrets/eu/plugin:zone/key": {""}, "DELETE /secrets/hq/plugin:zone/key": {""}})
	out, _ := c.run(0, "", "secret", "list")
	sees(t, out, "there are no sealed secrets")
	out, _ = c.run(0, "", "secret", "list")
	sees(t, out, "erp/token", "in use", "aaaa-bbbb", "former value valid until 2026-05-05 10:00:00Z", "plugin:zone/key", "former key", "sealed to another key")
	if strings.Contains(out, "dropped") {
		t.Errorf("dropped ones are shown:\n%s", out)
	}
	out, _ = c.run(0, "", "secret", "list", "--all")
	sees(t, out, "dropped")
	out, said := c.run(0, "", "secret", "drop", "erp/token", "--former")
	if strings.Contains(said, "does without") {
		t.Errorf("the newest value stays: %s", said)
	}
	sees(t, out, "the former value of erp/token is dropped at eu")
	sees(t, strings.Join(c.asked, "\n"), "DELETE /secrets/eu/erp/token")
	out, said = c.run(0, "", "secret", "drop", "erp/token")
	if strings.Contains(out, "former") {
		t.Errorf("all of it is dropped: %s", out)
	}
	sees(t, said, "refers to secret:token: erp does without it")
	out, _ = c.run(0, "", "secret", "drop", "plugin:zone/key")
	sees(t, out, "dropped at eu, hq")
	c.run(exitFailed, "", "secret", "drop", "plugin:zone/key", "--former")
	c.run(exitFailed, "", "secret", "drop", "plugin:zone/key", "--site", "us")
	c.run(exitUsage, "", "secret", "drop", "erp")
}
