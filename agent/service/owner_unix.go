//go:build !windows

package service

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// KeepOwner gives what an administrator has written below a directory to the user whose the
// directory is: what only root can read no service can.
func KeepOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return nil
	}
	return giveTo(dir, int(stat.Uid), int(stat.Gid))
}

// Share lets the service read a file that an administrator has just written: it is the owner's of
// its directory, and where that is root, it is read by the group that may enter there.
func Share(path string) error {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := os.Lchown(path, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if stat.Uid != 0 || stat.Gid == 0 || info.Mode().Perm()&0o010 == 0 {
		return nil
	}
	return os.Chmod(path, 0o640) // nobody but root could have laid a link here
}

// Protect has nothing to do: what is written has its mode.
func Protect(...string) error { return nil }

// giveTo makes a directory and all below it a user's. Links in it are made his and not
// followed: he may have laid them.
func giveTo(dir string, uid, gid int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an agent that runs removes files
		}
		if err != nil {
			return err
		}
		if err := root.Lchown(path, uid, gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}
