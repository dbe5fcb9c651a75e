//go:build linux

package filedriver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/policy"
)

// readOnly makes a folder that nobody can write to, root neither.
func readOnly(t *testing.T, folder string) {
	t.Helper()
	if os.Getuid() != 0 {
		if err := os.Chmod(folder, 0o500); err != nil { // #nosec G302
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(folder, 0o700) }) // #nosec G302
		return
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skipf("a read-only folder cannot be had as root without a mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
}

func TestAFolderThatCannotBeWrittenIsToldBeforeAFileComes(t *testing.T) {
	for _, folder := range []string{"", "in"} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "in"), 0o700); err != nil {
			t.Fatal(err)
		}
		d, err := New(&policy.System{Meta: policy.Meta{Name: "wms"}, File: &policy.FileDriver{Directory: dir,
			Publish: &policy.FilePublish{Pattern: "in/*.json", Format: "json", Type: "a.v1"}}}, systems.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Check(t.Context()); err != nil {
			t.Fatalf("while it can be written: %v", err)
		}
		readOnly(t, filepath.Join(dir, folder))
		if err := d.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "write to") {
			t.Errorf("folder %q: %v", folder, err)
		}
	}
}
