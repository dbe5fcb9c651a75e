package identity

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFullDiskLeavesRoomForSessions: an agent whose disk something else has filled still
// begins and opens sessions, again and again, and keeps room once more when there is some.
func TestFullDiskLeavesRoomForSessions(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		if os.Getenv("REQUIRE") == "all" {
			t.Fatalf("cannot mount a small disk: %v", err)
		}
		t.Skipf("SKIPPED: a small disk needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	enrolled(t, newAuthority(t), dir)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	for range 3 {
		id := opened(t, dir)
		if _, err := id.Baseline(map[string]uint64{"hq": 1}); err != nil {
			t.Fatal(err)
		}
		first := next(t, id)
		for n := range uint64(100) {
			if got := next(t, id); got != first+1+n {
				t.Fatalf("session %d after %d", got, first+n)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, spareFile)); err != nil {
			t.Fatalf("the room was given up for good: %v", err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	next(t, opened(t, dir))
	if info, err := os.Stat(filepath.Join(dir, spareFile)); err != nil || info.Size() != spareBytes {
		t.Errorf("no room is kept: %v", err)
	}
}
