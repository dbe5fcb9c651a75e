package versions

import (
	"errors"
	"io/fs"
	"syscall"
)

const canExec = false

// fileFaults are what the system says of a file that is no program for it, beside that it is not
// there or not to be run: of another machine type, without a valid signature, marked as not to
// be run, of a bad format.
var fileFaults = []error{syscall.Errno(216), syscall.Errno(191), syscall.Errno(192), syscall.Errno(193)}

func replace(string, []string, []string) error {
	return errors.New("a process cannot be replaced by another program on Windows")
}

func (*Store) own(string) error { return nil } // files take over the rights of their directory

func foreign(fs.FileInfo, fs.FileInfo) string { return "" }
