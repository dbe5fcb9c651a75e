//go:build unix

package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Private looks who may read a directory and what is right below it, and whose it is.
func Private(dir string) []Finding {
	access := Finding{ID: "data-permissions", Level: OK, Seen: dir + " is for its owner alone"}
	owner := Finding{ID: "data-owner", Level: OK, Seen: "all of it has one owner"}
	top, err := os.Stat(dir)
	if err != nil {
		access.Level, access.Seen, access.Todo = Fail, err.Error(), "make the data directory there, for the agent's user"
		return []Finding{access}
	}
	if mode := top.Mode().Perm(); mode&0o077 != 0 {
		access.Level, access.Seen = Warn, fmt.Sprintf("%s has mode %04o", dir, mode)
		access.Todo = "chmod 700 " + dir + ": events and the agent's key are below it"
	}
	for _, file := range []string{filepath.Join("identity", "key.pem"), "ops.token"} {
		path := filepath.Join(dir, file)
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			access.Level, access.Seen = Fail, fmt.Sprintf("%s has mode %04o", path, info.Mode().Perm())
			access.Todo = "chmod 600 " + path + "; who has read it can pass for this agent or its operator"
		}
	}
	whose, _ := uid(top)
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what cannot be read is not ours to judge
		if err != nil {
			return fs.SkipDir
		}
		if info, err := d.Info(); err == nil {
			if other, ok := uid(info); ok && other != whose {
				owner.Level, owner.Seen = Fail, fmt.Sprintf("%s belongs to user %d, and the directory to %d", path, other, whose)
				owner.Todo = fmt.Sprintf("chown -R --reference=%s %s: a command was run as another user", dir, dir)
				return fs.SkipAll
			}
		}
		if d.IsDir() && path != dir && filepath.Dir(path) != dir {
			return fs.SkipDir // two levels down tell it
		}
		return nil
	})
	return []Finding{access, owner}
}

func uid(info fs.FileInfo) (uint32, bool) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Uid, true
	}
	return 0, false
}

// Secrets looks whether the directory of secrets can be read, and by the agent alone.
func Secrets(dir string) Finding {
	f := Finding{ID: "secrets", Level: OK}
	entries, err := os.ReadDir(dir)
	switch {
	case os.IsNotExist(err):
		f.Seen = dir + " is not there: no secrets are kept in files"
		return f
	case err != nil:
		f.Level, f.Seen, f.Todo = Fail, err.Error(), "let the agent's user read it"
		return f
	}
	f.Seen = fmt.Sprintf("%d in %s, for their owner alone", len(entries), dir)
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path)
		if err != nil || info.IsDir() {
			continue
		}
		if err := unix.Access(path, unix.R_OK); err != nil {
			f.Level, f.Seen, f.Todo = Fail, path+": "+err.Error(), "let the agent's user read it"
			return f
		}
		if info.Mode().Perm()&0o007 != 0 {
			f.Level, f.Seen, f.Todo = Warn, fmt.Sprintf("%s has mode %04o", path, info.Mode().Perm()), "chmod 600 "+path
		}
	}
	return f
}
