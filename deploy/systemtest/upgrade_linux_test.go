package systemtest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/versions"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/protocol/release"
)

// signer is who may sign releases.
type signer struct {
	t      *testing.T
	public string
	secret minisign.PrivateKey
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	public, secret, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t, public.String(), secret}
}

// release is a directory with a program for this machine and its signed manifest.
func (s *signer) release(version string, program []byte) (dir string) {
	s.t.Helper()
	sum := sha256.Sum256(program)
	manifest, signature, err := release.Sign(&release.Manifest{Format: release.Format, Version: version, Files: []release.File{
		{Name: release.Agent, OS: runtime.GOOS, Arch: runtime.GOARCH, Size: int64(len(program)), SHA256: hex.EncodeToString(sum[:])},
	}}, s.secret)
	dir = s.t.TempDir()
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, release.ManifestFile), manifest, 0o600),
		os.WriteFile(filepath.Join(dir, release.SignatureFile), signature, 0o600),
		os.WriteFile(filepath.Join(dir, release.Agent), program, 0o600)); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// upgrades is the part of an agent's configuration that a test needs.
func (s *signer) upgrades(gate string) string {
	return "upgrades: {gate: " + gate + ", keys: [" + s.public + "]}\n"
}

// never is a version that opens its stores and never gets ready.
func never(t *testing.T, version string) []byte {
	t.Helper()
	const file, ready = "agent/agent.go", "func (a *Agent) ready() error {\n"
	text := read(t, filepath.Join("..", "..", filepath.FromSlash(file)))
	broken := strings.Replace(text, ready, ready+"\tif a != nil {\n\t\treturn errors.New(\"this version never gets ready\")\n\t}\n", 1)
	if broken == text {
		t.Fatalf("%s has no %q any more: this test breaks it there", file, ready)
	}
	return buildAgent(t, version, file, broken)
}

func upgradeWorld(t *testing.T) *world {
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	w.sites["hq"].cfg.Upgrades.Enabled = false // it runs in this process: that it takes no release pauses none
	w.sites["hq"].start()
	return w
}

// TestUpgradeAndRollbackWhileEventsFlow changes the version of a real agent, forth and back,
// by hand: no order is lost, and none comes twice.
func TestUpgradeAndRollbackWhileEventsFlow(t *testing.T) {
	w, key := upgradeWorld(t), newSigner(t)
	eu := w.sites["eu"]
	y := eu.serve(install(t, buildAgent(t, "1.0.0", "", "")), key.upgrades("1m"))
	eu.awaitRelease("1.0.0", versions.Current)
	before, err := eu.status()
	if err != nil {
		t.Fatal(err)
	}
	stop := w.trade(2)
	defer stop()
	w.more(20)
	newer := buildAgent(t, "1.1.0", "", "")
	good := key.release("1.1.0", newer)

	// What is not signed by the key, or was changed since, is refused and changes nothing.
	tampered := key.release("1.1.0", newer)
	if err := os.WriteFile(filepath.Join(tampered, release.Agent), append(bytes.Clone(newer), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	unsigned := key.release("1.1.0", newer)
	if err := os.Remove(filepath.Join(unsigned, release.SignatureFile)); err != nil {
		t.Fatal(err)
	}
	for want, dir := range map[string]string{"not the file of the signed manifest": tampered, "not signed": unsigned, "not trusted here": newSigner(t).release("1.1.0", newer)} {
		if out, err := y.command("upgrade", dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %v, want %q", out, err, want)
		}
	}

	y.must("upgrade", good)
	eu.awaitRelease("1.1.0", versions.Current)
	w.more(20)
	y.must("rollback", "--why", "it prints the wrong labels")
	if st := eu.awaitRelease("1.0.0", versions.RolledBack); st.Release.Why != "it prints the wrong labels" {
		t.Errorf("%+v", st.Release)
	}
	w.more(20)
	y.must("upgrade", good) // a person may try it again
	after := eu.awaitRelease("1.1.0", versions.Current)
	w.more(20)
	stop()
	w.settle(0)
	if y.lives() != 1 {
		t.Errorf("the process was started %d times; it is to go on under the same number", y.lives())
	}
	if after.Epoch != before.Epoch || after.Agent != before.Agent {
		t.Errorf("it was agent %s in epoch %d and is %s in %d", before.Agent, before.Epoch, after.Agent, after.Epoch)
	}
}

// TestBrokenVersionsGoBackByThemselves tries one that ends at once and one that never gets
// ready: each is left for the one before, and the control plane hears of it.
func TestBrokenVersionsGoBackByThemselves(t *testing.T) {
	w, key := upgradeWorld(t), newSigner(t)
	eu := w.sites["eu"]
	y := eu.serve(install(t, buildAgent(t, "1.0.0", "", "")), key.upgrades("10s"))
	eu.awaitRelease("1.0.0", versions.Current)
	w.shops["eu"].sellAll(t, "before", 2, 5)
	for version, broken := range map[string]struct {
		program []byte
		why     string
	}{
		"1.1.0": {[]byte("#!/bin/sh\nexit 1\n"), "started 3 times"},
		"1.2.0": {never(t, "1.2.0"), "did not work within 10s: this version never gets ready"},
	} {
		y.must("upgrade", key.release(version, broken.program))
		eu.awaitStatus("goes back from "+version, wentBack(version))
		if st := eu.awaitRelease("1.0.0", versions.RolledBack); !strings.Contains(st.Release.Why, broken.why) {
			t.Errorf("%+v, want %q", st.Release, broken.why)
		}
		until(t, "the control plane hears of it", func() string {
			for _, e := range w.plane.exceptions() {
				if e.Kind == "release-rolled-back" && strings.Contains(e.Text, version) {
					return ""
				}
			}
			return "no exception"
		})
		w.shops["eu"].sellAll(t, "after-"+version, 2, 5)
	}
	w.settle(0)
}

// TestOutageFailsNoVersionOnTrial: for longer than the gate connections are taken and nothing
// answers, and a good version waits; one that the control plane refuses is left by itself.
func TestOutageFailsNoVersionOnTrial(t *testing.T) {
	w, key := upgradeWorld(t), newSigner(t)
	eu := w.sites["eu"]
	const gate = 10 * time.Second
	y := eu.serve(install(t, buildAgent(t, "1.0.0", "", "")), key.upgrades(gate.String()))
	eu.awaitRelease("1.0.0", versions.Current)
	w.shops["eu"].sellAll(t, "before", 2, 5)
	w.settle(0)
	eu.line.Cut() // it takes TCP connections on, as a load balancer whose nodes are gone
	y.must("upgrade", key.release("1.1.0", buildAgent(t, "1.1.0", "", "")))
	eu.awaitStatus("waits for longer than the gate", func(st agent.Status) string {
		_, after, _ := strings.Cut(st.Release.Why, "gives none that counts, for ")
		lasted, _, _ := strings.Cut(after, " ")
		if silent, err := time.ParseDuration(lasted); err != nil || st.Version != "1.1.0" || st.Release.State != versions.OnTrial || silent < gate+gate/2 {
			return fmt.Sprintf("runs %s, %+v", st.Version, st.Release)
		}
		return ""
	})
	if out, err := y.command("versions"); err != nil || !strings.Contains(out, "a node takes connections and gives none that counts") {
		t.Errorf("versions does not say what it waits for: %s, %v", out, err)
	}
	eu.line.Restore()
	eu.awaitRelease("1.1.0", versions.Current)

	const file, speaks = "agent/uplink/uplink.go", "const ProtocolVersion = 2\n"
	text := read(t, filepath.Join("..", "..", filepath.FromSlash(file)))
	mute := strings.Replace(text, speaks, "const ProtocolVersion = 0\n", 1)
	if mute == text {
		t.Fatalf("%s has no %q any more: this test breaks it there", file, speaks)
	}
	y.must("upgrade", key.release("1.2.0", buildAgent(t, "1.2.0", file, mute)))
	eu.awaitStatus("goes back from 1.2.0", wentBack("1.2.0"))
	if st := eu.awaitRelease("1.1.0", versions.RolledBack); !strings.Contains(st.Release.Why, "the control plane has refused it for "+gate.String()) {
		t.Errorf("%+v", st.Release)
	}
	w.shops["eu"].sellAll(t, "after", 2, 5)
	w.settle(w.explained(1)) // the line was cut once
}

// wentBack looks for a version that was given up.
func wentBack(version string) func(agent.Status) string {
	return func(st agent.Status) string {
		if st.Release.Wanted != version || st.Release.State != versions.RolledBack {
			return fmt.Sprintf("%+v", st.Release)
		}
		return ""
	}
}
