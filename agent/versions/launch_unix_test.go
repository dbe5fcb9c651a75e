//go:build unix

package versions

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFillFollowsNoLink: what the agent's user has laid in the way is not written through.
func TestFillFollowsNoLink(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	o := s.offer("1.1.0", "", content)
	store := NewStore(filepath.Join(dir, "versions"), s.keys(), nil)
	r, err := store.verify(o.Manifest, o.Signature)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "another")
	if err := errors.Join(os.WriteFile(other, []byte("untouched"), 0o600), os.Mkdir(store.dir, 0o700), os.Symlink(other, store.part(r.file))); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Add(write(t, o, content, false)); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "untouched" {
		t.Errorf("it is written through: %d bytes, %v", len(text), err)
	}
	if err := store.Check("1.1.0"); err != nil {
		t.Error(err)
	}
}

// TestOwnStaysInTheDataDirectory: a link in place of the directory gives nobody what it leads to.
func TestOwnStaysInTheDataDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	const user = 12345
	outside, data := t.TempDir(), t.TempDir()
	file, dir := filepath.Join(outside, "file"), filepath.Join(data, "versions")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chown(data, user, user), os.Symlink(outside, dir)); err != nil {
		t.Fatal(err)
	}
	if err := own(data, dir); err == nil {
		t.Error("it goes where the link leads")
	}
	if got := userOf(t, file); got != 0 {
		t.Errorf("a file outside is of user %d now", got)
	}
	if err := errors.Join(os.Remove(dir), os.Mkdir(dir, 0o700), os.Symlink(file, filepath.Join(dir, "link")), os.WriteFile(filepath.Join(dir, "own"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := own(data, dir); err != nil {
		t.Fatal(err)
	}
	if outside, inside := userOf(t, file), userOf(t, filepath.Join(dir, "own")); outside != 0 || inside != user {
		t.Errorf("outside: user %d; inside: user %d", outside, inside)
	}
}

func userOf(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner is known here")
	}
	return int(stat.Uid)
}
