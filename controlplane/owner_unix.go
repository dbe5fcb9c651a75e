//go:build !windows

package controlplane

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ownFile says why an open file is not of the user of this process, nor of root.
func ownFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return errors.New("whose it is cannot be told")
	case int(stat.Uid) != os.Geteuid() && stat.Uid != 0:
		return fmt.Errorf("it is of user %d, and the server runs as user %d", stat.Uid, os.Geteuid())
	case stat.Nlink != 1, info.Mode().Perm()&0o022 != 0:
		return errors.New("others may have written it")
	}
	return nil
}
