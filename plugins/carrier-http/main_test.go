package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
)

// A test's program that has a description behind it is a plugin.
func TestMain(m *testing.M) {
	self, err := os.Executable()
	if err == nil {
		if text, err := own(self); err != nil || text != nil {
			main()
			return
		}
	}
	os.Exit(m.Run())
}

func description(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	out, _, _ := strings.Cut(rest, "```")
	file := filepath.Join(t.TempDir(), "wheels.yaml")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The program that is packed is started as any other plugin, and says what the file says before
// it is configured.
func TestPackedProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(t.TempDir(), "carrier-wheels")
	if runtime.GOOS == "windows" {
		packed += ".exe"
	}
	var out bytes.Buffer
	if err := run(t.Context(), self, []string{"pack", description(t), packed}, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "2 examples tried") {
		t.Errorf("it says %q", out.String())
	}
	cmd := exec.Command(packed)
	cmd.Env = []string{"GOCOVERDIR=" + t.TempDir()}
	c := carriertest.Program(t, cmd)
	d, err := c.Describe(t.Context())
	if err != nil || d.Name != "wheels" || len(d.Services) != 2 || len(d.Operations) != 5 {
		t.Fatalf("describe: %+v, %v", d, err)
	}
	err = c.Configure(t.Context(), sdk.Settings{"account": "7", "state": t.TempDir()})
	if e := sdk.AsError(err); e.Class != sdk.Validation || e.Field != "api-key" {
		t.Errorf("configure without the key: %v", err)
	}
	if err := c.Configure(t.Context(), sdk.Settings{"account": "7", "api-key": "k", "state": t.TempDir(), "base-url": "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Track(t.Context(), &carrier.TrackRequest{Tracking: []string{"1"}})
	if e := sdk.AsError(err); e.Class != sdk.Unavailable {
		t.Errorf("track without a provider: %v", err)
	}
	if err := pack(packed, nil, packed+"2"); err == nil {
		t.Error("a packed program packs another description")
	}
	if err := pack(self, nil, packed); err == nil {
		t.Error("a program is written over another")
	}
}

// What is wrong is said, and with an error.
func TestRunRefuses(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(description(t))
	if err != nil {
		t.Fatal(err)
	}
	lies := filepath.Join(t.TempDir(), "lies.yaml")
	if err := os.WriteFile(lies, bytes.Replace(text, []byte(`"price": 6.10`), []byte(`"price": 6.11`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "has no description"},
		{[]string{"serve"}, "carrier-http check FILE"},
		{[]string{"check", "none.yaml"}, "none.yaml"},
		{[]string{"check", "main.go"}, "main.go:"},
		{[]string{"check", lies}, ".rates[0].total.amount is 6.11, not 6.1"},
		{[]string{"pack", lies, filepath.Join(t.TempDir(), "out")}, "6.11"},
	} {
		if err := run(t.Context(), self, c.args, os.Stderr); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}

// A file that was cut is no program with another description.
func TestUnpack(t *testing.T) {
	whole := append([]byte("program"), "text\x00\x00\x00\x00\x00\x00\x00\x04"+mark...)
	if got, err := unpack(bytes.NewReader(whole), int64(len(whole))); err != nil || string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
	for at := range whole {
		if got, err := unpack(bytes.NewReader(whole[:at]), int64(at)); err != nil || got != nil {
			t.Errorf("cut at %d: %q, %v", at, got, err)
		}
	}
	long := append([]byte("program"), "text\x00\x00\x00\x00\x00\x00\xff\x04"+mark...)
	if _, err := unpack(bytes.NewReader(long), int64(len(long))); err == nil {
		t.Error("a description longer than the program is taken")
	}
}
