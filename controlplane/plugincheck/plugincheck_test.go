package plugincheck

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

func TestMain(m *testing.M) {
	if os.Getenv(sdk.Handshake.MagicCookieKey) == "" {
		os.Exit(m.Run())
	}
	tax.Serve(&engine{}, sdk.Logger())
}

type engine struct{ tax.Engine }

func (*engine) Describe(context.Context) (*tax.Description, error) {
	return &tax.Description{Description: sdk.Description{Name: "flat", Version: strconv.Itoa(os.Getpid()), Config: []sdk.Setting{{Name: "tables"}}}}, nil
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAskTellsTheKind(t *testing.T) {
	p, err := Read(self(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Kind != tax.Kind || got.Name != "flat" || len(got.Config) != 1 {
		t.Errorf("it says %+v", got)
	}
	if p.Platform != Here {
		t.Errorf("it is for %q, want %q", p.Platform, Here)
	}
	pid, err := strconv.Atoi(got.Version)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.FindProcess(pid); err == nil && left.Signal(syscall.Signal(0)) == nil {
		t.Errorf("process %d is still there", pid)
	}
	p.Sum = strings.Repeat("0", 64)
	if got, err := p.Ask(t.Context()); err == nil {
		t.Errorf("another program than was hashed is started: %+v", got)
	}
}

// Programs that Go did not make say it by their headers.
func TestPlatformOfOtherPrograms(t *testing.T) {
	path, err := exec.LookPath("true")
	if err != nil {
		t.Skipf("this system has no program to look at: %v", err)
	}
	p, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if p.Platform != Here {
		t.Errorf("it is for %q, want %q", p.Platform, Here)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if p, err = Read(script); err != nil || p.Platform != "" {
		t.Errorf("a script: %+v, %v", p, err)
	}
	if _, err := Read(t.TempDir()); err == nil {
		t.Error("a directory is taken for a program")
	}
}
