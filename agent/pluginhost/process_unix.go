//go:build !windows

package pluginhost

import (
	"os"
	"syscall"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// lifeline tells a plugin that its standard input ends when the agent does.
var lifeline = []string{sdk.Lifeline + "=0"}

// guard keeps others out of a directory.
func guard(dir string) error { return os.Chmod(dir, 0o700) }

// openProgram opens a program without waiting, as one does for the other end of a pipe.
func openProgram(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// openIn is openProgram below a directory.
func openIn(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// settle waits until no process that was being forked while a copy was written holds it open
// for writing, since what is open for writing cannot be executed.
func settle() {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
}
