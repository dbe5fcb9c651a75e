package stage

import (
	"os"
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel end the program when the demo is gone, however it went.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

func interrupt(p *os.Process) error { return p.Signal(os.Interrupt) }
