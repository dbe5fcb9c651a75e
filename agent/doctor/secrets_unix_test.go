//go:build unix

package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

const (
	agentUser, agentGroup = 12345, 12346
	somebody              = 23456
)

// What is advised is done as it stands: after it the agent reads its secret, others do not,
// and the doctor is content. Whoever has written the file, and with whatever mode.
func TestSecretsAdviceIsFollowed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away: TestServiceAndPermissions has what others can try")
	}
	modes := []os.FileMode{0o600, 0o640, 0o660, 0o644, 0o604, 0o400, 0o040, 0o004, 0}
	advised := 0
	for _, owner := range []int{0, agentUser, somebody} {
		for _, group := range []int{0, agentGroup, somebody} {
			for _, mode := range modes {
				t.Run(fmt.Sprintf("%d:%d %04o", owner, group, mode), func(t *testing.T) {
					data, dir := places(t)
					if owner != 0 && group == 0 { // a directory of its own that the packages did not make
						own(t, dir, owner, agentGroup, 0o700)
					}
					file := filepath.Join(dir, "shop.token")
					own(t, file, owner, group, mode)
					if follow(t, Secrets(dir, data)) {
						advised++
					}
					if owner != 0 && group == 0 {
						follow(t, Secrets(dir, data)) // what the directory hid
					}
					check(t, Secrets(dir, data), OK)
					read(t, file, agentUser, agentGroup, true)
					read(t, file, somebody+1, somebody+1, false)
				})
			}
		}
	}
	if advised < 9 {
		t.Errorf("only %d of the combinations were found fault with", advised)
	}
}

// Before the agent has any data its group is known by the directory that the packages make.
func TestSecretsBeforeThereIsData(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	data, dir := places(t)
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "shop.token")
	own(t, file, 0, agentGroup, 0o640)
	check(t, Secrets(dir, data), OK)
	own(t, file, 0, 0, 0o600)
	check(t, Secrets(dir, data), Fail)
	follow(t, Secrets(dir, data))
	check(t, Secrets(dir, data), OK)
	read(t, file, agentUser, agentGroup, true)
	if err := os.Mkdir(data, 0o700); err != nil { // by root, who enrolled
		t.Fatal(err)
	}
	own(t, file, 0, 0, 0o644)
	follow(t, Secrets(dir, data))
	read(t, file, agentUser, agentGroup, true)
}

// The agent has the groups that the system has its user in, and not only that of its data.
func TestSecretsOfAFurtherGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	daemon, err := user.Lookup("daemon")
	if err != nil || daemon.Uid == "0" || daemon.Gid == "0" {
		t.Skipf("this system has no user daemon with a group of its own: %v", err)
	}
	id, err := strconv.Atoi(daemon.Uid)
	group, err2 := strconv.Atoi(daemon.Gid)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	data, dir := places(t)
	own(t, data, id, agentGroup, 0o700)
	file := filepath.Join(dir, "shop.token")
	own(t, file, 0, group, 0o640)
	check(t, Secrets(dir, data), OK)
	own(t, dir, 0, group, 0o750)
	check(t, Secrets(dir, data), OK)
	own(t, file, 0, somebody, 0o640)
	check(t, Secrets(dir, data), Fail)
}

// places makes a data directory of the agent's and one for secrets, as the packages do.
func places(t *testing.T) (data, dir string) {
	t.Helper()
	top := t.TempDir()
	if err := os.Chmod(filepath.Dir(top), 0o711); err != nil { // #nosec G302 -- the agent's user has to get through
		t.Fatal(err)
	}
	data, dir = filepath.Join(top, "data"), filepath.Join(top, "secrets")
	if err := errors.Join(os.Mkdir(data, 0o700), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	own(t, data, agentUser, agentGroup, 0o700)
	own(t, dir, 0, agentGroup, 0o750)
	return data, dir
}

// own makes a file, unless it is there, and whose it is.
func own(t *testing.T, path string, owner, group int, mode os.FileMode) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		if err := os.WriteFile(path, []byte("hush"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chown(path, owner, group), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// follow does what a finding says, and reports whether it says anything.
func follow(t *testing.T, f Finding) bool {
	t.Helper()
	if f.Level == OK {
		return false
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", f.Todo).CombinedOutput(); err != nil { // #nosec G204 -- the advice itself is what is tried
		t.Fatalf("%s: %v: %s", f.Todo, err, out)
	}
	return true
}

func read(t *testing.T, file string, user, group uint32, want bool) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "cat", file)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: group}}
	if out, err := c.CombinedOutput(); (err == nil) != want {
		t.Errorf("read by %d:%d: %v: %s", user, group, err, out)
	}
}
