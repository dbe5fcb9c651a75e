//go:build unix

package versions

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const canExec = true

// fileFaults are what a system says of a file that is no program for it, beside that it is not
// there or not to be run.
var fileFaults = []error{syscall.ENOEXEC, syscall.EINVAL, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG}

// replace makes this process another program, under the same number: who watches over it
// does not notice. It returns only an error.
func replace(program string, args, env []string) error {
	err := syscall.Exec(program, args, env) //nolint:gosec // it was verified, or is the installed program
	return &os.PathError{Op: "exec", Path: program, Err: err}
}

// own gives what another user has written here to the user of the data directory: the agent
// would not be able to read it.
func (s *Store) own(data string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(data)
	if err != nil {
		return err
	}
	to, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return s.within(func(root *os.Root) error {
		return fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return root.Lchown(path, int(to.Uid), int(to.Gid))
		})
	})
}

// foreign says why root is not to work in a directory: it is neither its own, nor of the user
// whose data it lies in.
func foreign(parent, dir fs.FileInfo) string {
	of, ok := dir.Sys().(*syscall.Stat_t)
	above, known := parent.Sys().(*syscall.Stat_t)
	if os.Geteuid() != 0 || !ok || !known || of.Uid == 0 || of.Uid == above.Uid {
		return ""
	}
	return fmt.Sprintf("it is of user %d, and the directory that it lies in of user %d: give it to that one, or move it away", of.Uid, above.Uid)
}
