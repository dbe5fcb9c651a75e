//go:build !linux

package disk

import (
	"errors"
	"os"
	"testing"
)

// Disk is a file system whose power can be cut; there is none on this operating system.
type Disk struct{}

var errLinuxOnly = errors.New("the power of a disk can be cut on Linux only")

// New skips the test.
func New(t testing.TB, _ int64) *Disk {
	t.Helper()
	Missing(t, errLinuxOnly.Error())
	return nil
}

// Try says that there is no such disk.
func Try(testing.TB, int64) (*Disk, error) { return nil, errLinuxOnly }

// Missing skips a test aloud for what this machine does not have; where everything is
// required it fails.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("REQUIRE") == "all" {
		t.Fatal(why)
	}
	t.Skip("SKIPPED: " + why)
}

// Dir is never called: there is no disk.
func (*Disk) Dir() string { return "" }

// Cut is never called: there is no disk.
func (*Disk) Cut() {}

// Restore is never called: there is no disk.
func (*Disk) Restore() {}

// Fill is never called: there is no disk.
func (*Disk) Fill() {}

// Empty is never called: there is no disk.
func (*Disk) Empty() {}

// Freeze is never called: there is no disk.
func (*Disk) Freeze() {}

// Thaw is never called: there is no disk.
func (*Disk) Thaw() {}
