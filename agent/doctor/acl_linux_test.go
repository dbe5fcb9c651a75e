package doctor

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a list may allow is not called forbidden, nor is it said to be allowed.
func TestSecretsWithAnAccessList(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	data, dir := places(t)
	file, other := filepath.Join(dir, "a.token"), filepath.Join(dir, "b.token")
	own(t, file, 0, 0, 0o600)
	check(t, Secrets(dir, data), Fail)
	letRead(t, file, agentUser, 4)
	check(t, Secrets(dir, data), Warn)
	read(t, file, agentUser, agentGroup, true)
	own(t, other, 0, 0, 0o600)
	check(t, Secrets(dir, data), Fail) // one that is surely not to be read goes first
	own(t, other, 0, agentGroup, 0o640)
	check(t, Secrets(dir, data), Warn)
	own(t, file, 0, agentGroup, 0o640)
	own(t, dir, 0, 0, 0o700)
	check(t, Secrets(dir, data), Fail)
	letRead(t, dir, agentUser, 5)
	check(t, Secrets(dir, data), Warn)
}

// letRead gives a file the list that setfacl -m u:USER:RIGHTS makes.
func letRead(t *testing.T, path string, reader uint32, rights uint16) {
	t.Helper()
	const nobody = ^uint32(0)
	list := binary.LittleEndian.AppendUint32(nil, 2) // the version of the format
	for _, e := range []struct {
		tag, rights uint16
		id          uint32
	}{{1, 7, nobody}, {2, rights, reader}, {4, 0, nobody}, {0x10, rights, nobody}, {0x20, 0, nobody}} { // owner, user, group, mask, others
		list = binary.LittleEndian.AppendUint16(list, e.tag)
		list = binary.LittleEndian.AppendUint16(list, e.rights)
		list = binary.LittleEndian.AppendUint32(list, e.id)
	}
	if err := unix.Setxattr(path, "system.posix_acl_access", list, 0); err != nil {
		t.Skipf("SKIPPED: the file system of %s keeps no access lists: %v", path, err)
	}
}
