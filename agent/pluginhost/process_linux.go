package pluginhost

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// command runs a program from the descriptor that it was hashed through, so that no other can
// be put in its place. The child has it at 3, where nothing else comes to lie. The kernel kills
// the child when the thread that starts it ends.
func command(program *os.File) *exec.Cmd {
	return &exec.Cmd{
		Path:        "/proc/self/fd/3",
		ExtraFiles:  []*os.File{program},
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
}

func start(cmd *exec.Cmd, _ int64) (release func(), err error) { return func() {}, cmd.Start() }

// resident gives the resident memory of a process in bytes.
func resident(pid int) (int64, error) {
	path := fmt.Sprintf("/proc/%d/statm", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, fmt.Errorf("%s: %q", path, text)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}
