//go:build unix

package versions

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const canExec = true

// replace makes this process another program, under the same number: who watches over it
// does not notice. It returns only an error.
func replace(program string, args, env []string) error {
	err := syscall.Exec(program, args, env) //nolint:gosec // it was verified, or is the installed program
	return &os.PathError{Op: "exec", Path: program, Err: err}
}

// own gives what another user has written here to the user of the data directory: the agent
// would not be able to read it.
func own(data, dir string) error {
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
	below, err := filepath.Rel(data, dir)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(data) // of a user who may lay links in it
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), filepath.ToSlash(below), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(path, int(to.Uid), int(to.Gid))
	})
}
