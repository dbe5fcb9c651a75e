//go:build !windows

package controlplane

import (
	"syscall"
	"testing"
	"time"
)

// A pipe in the place of a request keeps nobody waiting.
func TestARescueIsNoPipe(t *testing.T) {
	files := FilesIn(t.TempDir())
	if err := syscall.Mkfifo(files.rescue, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := takeRescue(files)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("it is taken")
		}
	case <-time.After(patience):
		t.Fatal("it is waited for")
	}
}
