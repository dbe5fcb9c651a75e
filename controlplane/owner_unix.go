//go:build !windows

package controlplane

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// The packages' unit runs as this user, on this data.
const (
	packagedUser = "crossdock"
	packagedData = "/var/lib/crossdock"
)

// beginsAs says why a user must not begin in a data directory: root would leave files that its
// owner, or the user of the packages, cannot read later.
func beginsAs(data string, uid int, lookup func(name string) (*user.User, error)) error {
	if uid != 0 {
		return nil
	}
	owner := ""
	if info, err := os.Stat(data); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
			owner = strconv.Itoa(int(stat.Uid))
			if known, err := user.LookupId(owner); err == nil {
				owner = known.Username
			}
		}
	}
	if owner == "" && data == packagedData {
		if known, err := lookup(packagedUser); err == nil {
			owner = known.Username
		}
	}
	if owner == "" {
		return nil
	}
	return fmt.Errorf("%s is for user %s, who could not read what root leaves there: start the server as that user, as systemd does, or by hand: "+
		"install -d -o %[2]s -g %[2]s -m 0700 %[1]s && setpriv --reuid %[2]s --regid %[2]s --init-groups crossdock server; crossdock help install says more", data, owner)
}

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
