//go:build !linux

package stage

import (
	"os"
	"os/exec"
)

// dieWithParent is only known on Linux; elsewhere a killed demo leaves its programs behind.
func dieWithParent(*exec.Cmd) {}

func interrupt(p *os.Process) error { return p.Signal(os.Interrupt) }
