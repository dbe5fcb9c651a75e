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
	var as account
	if info, err := os.Stat(data); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
			as = accountOf(stat.Uid, stat.Gid)
		}
	}
	if as.user == "" && data == packagedData {
		if known, err := lookup(packagedUser); err == nil {
			as = accountNamed(known)
		}
	}
	if as.user == "" {
		return nil
	}
	return fmt.Errorf("%s is for user %s, who could not read what root leaves there: start the server as that user, as systemd does, or by hand: "+
		"install -d -o %[2]s -g %[3]s -m 0700 %[1]s && setpriv --reuid %[2]s --regid %[3]s --%[4]s-groups crossdock server; crossdock help install says more",
		data, as.user, as.group, as.groups)
}

// account is how commands are told to run as a user.
type account struct {
	user, group string
	groups      string // init: the user's others too; clear: none, since no list of users has it
}

// accountOf gives that of whose a directory is. A number need not be anybody's on this machine.
func accountOf(uid, gid uint32) account {
	number := strconv.Itoa(int(uid))
	if known, err := user.LookupId(number); err == nil {
		return accountNamed(known)
	}
	return account{user: number, group: strconv.Itoa(int(gid)), groups: "clear"}
}

// accountNamed gives that of a user, whose group may have another name.
func accountNamed(known *user.User) account {
	as := account{user: known.Username, group: known.Gid, groups: "init"}
	if group, err := user.LookupGroupId(known.Gid); err == nil {
		as.group = group.Name
	}
	return as
}

// giveAll is the command that gives a directory to the user of this process.
func giveAll(dir string) string {
	return fmt.Sprintf(", such as by chown -R %d:%d %s", os.Geteuid(), os.Getegid(), dir)
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
