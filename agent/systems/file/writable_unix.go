//go:build unix

package filedriver

import (
	"os"

	"golang.org/x/sys/unix"
)

// writable asks whether this process could make and remove files in a folder, without doing it.
func writable(folder string) error {
	if err := unix.Access(folder, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "write to", Path: folder, Err: err}
	}
	return nil
}
