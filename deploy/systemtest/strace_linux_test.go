package systemtest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func tryStrace() error {
	if text, err := exec.Command("strace", "-V").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	return nil
}

// inject has strace tamper with the syncs of a process from now on.
func inject(t *testing.T, pid int, how string) *program {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace.log")
	p := launch(t, log, nil, nil, "strace", "-f", "-p", strconv.Itoa(pid), "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:"+how)
	until(t, "strace holds the process", func() string {
		text := read(t, log)
		if !p.running() || !strings.Contains(text, "attached") {
			return text
		}
		return ""
	})
	return p
}

// failSync has a sync of a process fail, and waits until it ends for that.
func failSync(t *testing.T, pid int, ended <-chan struct{}, name string) {
	t.Helper()
	tracer := inject(t, pid, "error=EIO:when=1")
	gone := comes(ended)
	tracer.signal(syscall.SIGKILL)
	<-tracer.ended
	if !gone {
		t.Errorf("a sync of %s failed, and it went on", name)
	}
}
