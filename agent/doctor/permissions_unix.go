//go:build unix

package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
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

// Secrets looks whether the agent can read each of its secrets, and not everybody. data tells
// whose the agent is, for root, who may read everything.
func Secrets(dir, data string) Finding {
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
	who := reader(dir, data)
	f.Seen = fmt.Sprintf("%d in %s: the agent can read them, and not everybody", len(entries), dir)
	if info, err := os.Stat(dir); err == nil && !who.may(dir, info, 0o5) {
		if !who.self && listed(dir) {
			return untold(f, dir)
		}
		f.Level, f.Seen, f.Todo = Fail, fmt.Sprintf("%s has mode %04o: the agent cannot look into it", dir, info.Mode().Perm()), who.close(dir, info, 0o700)
		return f
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path)
		if err != nil || info.IsDir() {
			continue
		}
		if !who.may(path, info, 0o4) {
			if !who.self && listed(path) {
				f = untold(f, path)
				continue
			}
			f.Level, f.Seen, f.Todo = Fail, fmt.Sprintf("%s has mode %04o: the agent cannot read it", path, info.Mode().Perm()), who.close(path, info, 0o600)
			return f
		}
		if f.Level == OK && info.Mode().Perm()&0o007 != 0 {
			f.Level, f.Seen, f.Todo = Warn, fmt.Sprintf("%s has mode %04o: everybody can use it", path, info.Mode().Perm()), who.close(path, info, 0o600)
		}
	}
	return f
}

// untold is a finding where the mode does not let the agent in, and a list beside it may.
func untold(f Finding, path string) Finding {
	f.Level, f.Seen = Warn, path+" has an access list: whether it lets the agent in cannot be told from here"
	f.Todo = "getfacl " + path + " tells; the doctor that is run as the agent's user does too"
	return f
}

// account is whom the agent runs as. No user: only its group is known.
type account struct {
	user   int64
	groups []uint32 // the first is its own
	self   bool     // it is who asks
}

// reader finds whom the agent runs as: who asks, or, where that is root, whose the data is,
// and before there are any, whom the packages let read the secrets.
func reader(dir, data string) account {
	if uid := os.Geteuid(); uid != 0 {
		who := account{user: int64(uid), groups: []uint32{uint32(os.Getegid())}, self: true} // #nosec G115 -- ids have 32 bits
		further, _ := os.Getgroups()                                                         // those that count are its own and what there are
		for _, g := range further {
			who.groups = append(who.groups, uint32(g)) // #nosec G115 -- as above
		}
		return who
	}
	if who, ok := whose(data); ok && who.user != 0 {
		who.groups = append(who.groups, groupsOf(who.user)...)
		return who
	}
	who, ok := whose(dir)
	if ok && who.user == 0 && who.groups[0] != 0 {
		who.user = -1
	}
	return who
}

// groupsOf gives the groups that the system has a user in: a service that runs as him has them too.
// They are not known of one that the system has no name for.
func groupsOf(id int64) (groups []uint32) {
	known, err := user.LookupId(strconv.FormatInt(id, 10))
	if err != nil {
		return nil
	}
	names, _ := known.GroupIds() // what there are
	for _, name := range names {
		if g, err := strconv.ParseUint(name, 10, 32); err == nil {
			groups = append(groups, uint32(g))
		}
	}
	return groups
}

// whose tells to whom a directory belongs.
func whose(dir string) (account, bool) {
	info, err := os.Stat(dir)
	if err != nil {
		return account{}, false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, false
	}
	return account{user: int64(s.Uid), groups: []uint32{s.Gid}}, true
}

// may reports whether the account has all of some rights, given as those of others.
func (a account) may(path string, info fs.FileInfo, rights fs.FileMode) bool {
	if a.self { // which may have more than the mode says
		return unix.Access(path, uint32(rights)) == nil
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	switch {
	case !ok || a.user == 0:
		return true
	case int64(s.Uid) == a.user:
		return mode>>6&rights == rights
	case slices.Contains(a.groups, s.Gid):
		return mode>>3&rights == rights
	}
	return mode&rights == rights
}

// close says how a file is made the agent's alone to read, whoever wrote it: mode is what it
// gets where it is the agent's own.
func (a account) close(path string, info fs.FileInfo, mode fs.FileMode) string {
	owner, ok := uid(info)
	if !ok || a.user == 0 || int64(owner) == a.user {
		return fmt.Sprintf("chmod %o %s", mode, path)
	}
	group := strconv.FormatUint(uint64(a.groups[0]), 10)
	if known, err := user.LookupGroupId(group); err == nil {
		group = known.Name
	}
	return fmt.Sprintf("chgrp %s %s && chmod %o %s", group, path, mode|mode>>3&0o050, path)
}
