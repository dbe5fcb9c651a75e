package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/release"
)

func TestReleaseIsShownBySite(t *testing.T) {
	c := newCanned(t, map[string][]string{
		"GET /releases/1.4.0": {`{"release":{"version":"1.4.0","digest":"sha256:00","key":"AB","state":"paused","author":"bob","approver":"ann","files":[{"sha256":"x","size":9,"have":4}],"sites":["eu","na"],
			"first":["eu"],"everywhere":false,"bySelf":true,"reason":"1 agents of the stage have failed"},"manifest":"{}","items":[
			{"site":"na","agent":"na","connected":false,"running":"v1.3.0","wanted":"","state":"waiting","lastSeen":"2026-05-04T10:00:00Z"},
			{"site":"cz","agent":"cz","connected":true,"running":"1.4.1","wanted":"1.4.0","state":"newer","why":"1.4.1 runs here"},
			{"site":"fr","agent":"fr","connected":true,"running":"1.3.0","wanted":"1.4.0","state":"off"},
			{"site":"jp","agent":"jp","connected":false,"running":"","wanted":"1.3.0","state":"waiting"},
			{"site":"eu","agent":"eu","connected":true,"running":"1.3.0","wanted":"","state":"rolled-back","since":"2026-05-04T10:00:00Z","why":"no round\ntrip"}]}`},
		"POST /releases/1.4.0/approve": {`{"version":"1.4.0","state":"canary","sites":["eu"]}`},
		"GET /releases":                {`{"items":[{"version":"1.4.0","state":"paused","bySelf":true,"reason":"one failed","files":[],"sites":["eu"],"first":[]}]}`},
		"GET /agents":                  {`{"items":[{"name":"eu","connected":true,"status":{"version":"v1.3.0"}}]}`},
	})
	out, _ := c.run(0, "", "releases", "show", "1.4.0")
	sees(t, out, "paused by itself: 1 agents", "0 of 1", "eu,na")
	var rows []string
	for line := range strings.Lines(out) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	text := strings.Join(rows, "\n")
	sees(t, text, "eu 1.3.0 - rolled-back 2026-05-04 10:00:00Z - no round trip", "jp - 1.3.0 waiting - never -", "na 1.3.0 - waiting - ", "offline 2", "rolled-back 1", "waiting 2",
		"cz 1.4.1 1.4.0 newer - - 1.4.1 runs here", "fr 1.3.0 1.4.0 off ", "newer 1", "off 1")
	if strings.Index(text, "\neu ") > strings.Index(text, "\njp ") {
		t.Error("sites are not in their order")
	}
	_, stderr := c.run(0, "", "releases", "approve", "1.4.0", "--site", "eu", "--region", "north")
	sees(t, stderr, "added by bob", "key AB")
	if last := c.asked[len(c.asked)-1]; last != `POST /releases/1.4.0/approve {"digest":"sha256:00","regions":["north"],"sites":["eu"]}` {
		t.Errorf("asked %s", last)
	}
	out, _ = c.run(0, "", "releases", "list")
	sees(t, out, "paused by itself: one failed")
	out, _ = c.run(0, "", "agents")
	sees(t, out, "VERSION", " 1.3.0")
	c.answers["GET /releases"] = []string{`{"items":[{"version":"1.4.0","state":"withdrawn","files":[],"sites":["eu","na"],"first":["eu"]},
		{"version":"1.3.0","state":"withdrawn","files":[],"sites":[],"first":[],"everywhere":true},{"version":"1.2.0","state":"everywhere","files":[],"sites":[],"first":[],"everywhere":true}]}`}
	out, _ = c.run(0, "", "releases", "list")
	sees(t, strings.Join(strings.Fields(out), " "), "1.4.0 withdrawn to leave it: eu,na 0 of 0", "1.3.0 withdrawn to leave it: all 0 of 0", "1.2.0 everywhere all 0 of 0")
	c.answers["GET /releases/v1.4.0"] = []string{`{"release":{"version":"v1.4.0","files":[]},"items":[{"site":"na","running":"v1.3.0","wanted":"v1.4.0"}]}`}
	out, _ = c.run(0, "", "releases", "show", "v1.4.0")
	sees(t, strings.Join(strings.Fields(out), " "), "na v1.3.0 v1.4.0")
}

// A version that is a tag is shown as the releases are called; what is none stays as it is.
func TestVersionsAreShownInOneForm(t *testing.T) {
	for given, want := range map[string]string{
		"v1.4.0": "1.4.0", "v1.4-5-gabcdef0-dirty": "1.4-5-gabcdef0-dirty", "1.4.0": "1.4.0", "": "", "devel": "devel", "vnext": "vnext", "(devel)": "(devel)",
	} {
		if got := shortVersion(given); got != want {
			t.Errorf("%q is shown as %q, want %q", given, got, want)
		}
	}
}

// TestReleaseIsSentFromWhereItEnded: an upload that was cut off goes on with the pieces that
// are missing.
func TestReleaseIsSentFromWhereItEnded(t *testing.T) {
	data := bytes.Repeat([]byte("crossdock "), 2*model.ReleasePiece/10+3)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "linux-amd64"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "linux-amd64", "crossdock-agent"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCanned(t, nil)
	key := filepath.Join(dir, "key")
	c.run(0, "", "releases", "keygen", key, "--no-password")
	c.run(0, "", "releases", "sign", dir, "--release", "1.4.0", "--key", key)
	files, err := programsIn(dir, []string{"crossdock-agent"})
	if err != nil {
		t.Fatal(err)
	}
	sha := files[0].SHA256
	state := func(have int) string {
		return fmt.Sprintf(`{"version":"1.4.0","state":"uploading","key":"K","files":[{"sha256":%q,"size":%d,"have":%d}]}`, sha, len(data), have)
	}
	c.answers = map[string][]string{
		"POST /releases":                    {state(model.ReleasePiece)},
		"POST /releases/1.4.0/files/" + sha: {state(2 * model.ReleasePiece), `{"version":"1.4.0","state":"ready","key":"K"}`},
	}
	out, _ := c.run(0, "", "releases", "add", dir)
	sees(t, out, "1.4.0 is ready", "another person approves it: crossdock releases approve 1.4.0 --site SITE")
	at := model.ReleasePiece
	for _, asked := range c.asked[len(c.asked)-2:] {
		_, body, _ := strings.Cut(asked, "files/"+sha+" ")
		var piece api.ReleasePiece
		if err := json.Unmarshal([]byte(body), &piece); err != nil {
			t.Fatal(err)
		}
		if want := data[at:min(at+model.ReleasePiece, len(data))]; piece.Offset != int64(at) || !bytes.Equal(piece.Data, want) {
			t.Errorf("%d bytes at %d, want %d at %d", len(piece.Data), piece.Offset, len(want), at)
		}
		at += model.ReleasePiece
	}
}

// TestSignedIsWhatTheProgramsAre: a program of another version is not signed, and the v of a tag
// names no other release.
func TestSignedIsWhatTheProgramsAre(t *testing.T) {
	dir := t.TempDir()
	for platform, name := range map[string]string{"linux-amd64": "crossdock-agent", "windows-amd64": "crossdock-agent.exe"} {
		if err := os.Mkdir(filepath.Join(dir, platform), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, platform, name), []byte(platform+" crossdock-release:v1.1.0:of-this-program"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := newCanned(t, nil)
	key := filepath.Join(dir, "key")
	c.run(0, "", "releases", "keygen", key, "--no-password")
	_, said := c.run(2, "", "releases", "sign", dir, "--release", "1.2.0", "--key", key)
	sees(t, said, "crossdock-agent is version v1.1.0, and no agent would run it as release 1.2.0", "--release 1.1.0", "make release VERSION=v1.2.0")
	if _, err := os.Stat(filepath.Join(dir, release.ManifestFile)); err == nil {
		t.Error("it was signed all the same")
	}
	for _, version := range []string{"1.1.0", "v1.1.0"} {
		out, said := c.run(0, "", "releases", "sign", dir, "--release", version, "--key", key)
		sees(t, strings.Join(strings.Fields(out), " "), "release 1.1.0 signed by")
		if said != "" {
			t.Errorf("signing as %s says %q", version, said)
		}
	}
	other := filepath.Join(dir, "windows-amd64", "crossdock-agent.exe")
	if err := os.WriteFile(other, []byte("crossdock-release:1.1.1:of-this-program"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, said = c.run(2, "", "releases", "sign", dir, "--release", "1.1.0", "--key", key)
	sees(t, said, other+" is version 1.1.1")
	if err := os.WriteFile(other, []byte("built otherwise"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, said = c.run(0, "", "releases", "sign", dir, "--release", "1.1.0", "--key", key)
	sees(t, said, other+" does not tell its version")
}

// TestSignedReleaseIsCarriedToASite: one file for each platform has all that an upgrade by hand
// takes, under the name that the handbook says.
func TestSignedReleaseIsCarriedToASite(t *testing.T) {
	dir := t.TempDir()
	c := newCanned(t, nil)
	key := filepath.Join(dir, "key")
	c.run(0, "", "releases", "keygen", key, "--no-password")
	for path, text := range map[string]string{"linux-amd64/crossdock-agent": "of Linux", "windows-amd64/crossdock-agent.exe": "of Windows", "linux-arm64/other": "x"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o700), os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	sign := func() string {
		out, _ := c.run(0, "", "releases", "sign", dir, "--release", "v1.4.0", "--key", key, "--program", "crossdock-agent,other")
		return out
	}
	out := sign()
	signed := map[string]string{}
	for _, name := range []string{release.ManifestFile, release.SignatureFile} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		signed[name] = string(text)
	}
	if made, err := filepath.Glob(filepath.Join(dir, "*.tar.gz")); err != nil || len(made) != 2 {
		t.Errorf("made are %q, %v", made, err)
	}
	for name, program := range map[string][2]string{"crossdock-agent-upgrade-1.4.0-linux-amd64.tar.gz": {"crossdock-agent", "of Linux"},
		"crossdock-agent-upgrade-1.4.0-windows-amd64.tar.gz": {"crossdock-agent.exe", "of Windows"}} {
		sees(t, out, name)
		want := maps.Clone(signed)
		want[program[0]] = program[1]
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := unpacked(t, text); !maps.Equal(got, want) {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
		sign()
		if again, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%s is another one when it is signed again: %v", name, err)
		}
	}
	guide, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "handbook", "upgrades.md"))
	if err != nil {
		t.Fatal(err)
	}
	sees(t, string(guide), "crossdock-agent upgrade "+carriedName("1.4.0", "linux", "amd64"))
}

// unpacked gives the files of a .tar.gz.
func unpacked(t *testing.T, text []byte) map[string]string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[head.Name] = string(content)
	}
}

// Who approves is said as it holds in this cluster.
func TestWhoApprovesIsSaidAsItHolds(t *testing.T) {
	for approvals, want := range map[string]string{"dual": "another person approves it: ", "single": "approve it yourself, or have it approved: "} {
		c := newCanned(t, map[string][]string{"POST /revisions/1/rollback": {`{"number":2,"digest":"sha256:00"}`}})
		if approvals == "single" {
			c.header.Set(api.ApprovalsHeader, approvals)
		}
		out, _ := c.run(0, "", "policy", "rollback", "1")
		sees(t, out, want+"crossdock policy approve 2")
	}
}

// TestSigningKeyHasAPassword takes the seconds and the memory that guessing it is to take.
func TestSigningKeyHasAPassword(t *testing.T) {
	if testing.Short() {
		t.Skip("a key is made and opened, for which minisign takes 1 GB of memory each")
	}
	c := newCanned(t, nil)
	key := filepath.Join(t.TempDir(), "key")
	t.Setenv(passwordEnv, "")
	c.run(0, "open sesame\n", "releases", "keygen", key)
	a := &app{stdin: strings.NewReader("")}
	if _, err := a.signingKey(key); err == nil || !strings.Contains(err.Error(), passwordEnv) {
		t.Errorf("without a password: %v", err)
	}
	t.Setenv(passwordEnv, "open sesame")
	if _, err := a.signingKey(key); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, text[:len(text)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.signingKey(key); err == nil || !strings.Contains(err.Error(), "cannot be opened") {
		t.Errorf("a damaged key: %v", err)
	}
}
