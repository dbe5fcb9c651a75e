//go:build unix

package versions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/crossdock/crossdock/protocol/release"
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
	if err := errors.Join(os.WriteFile(other, []byte("untouched"), 0o600), os.Mkdir(store.dir, 0o700), os.Symlink(other, filepath.Join(store.dir, store.part(r.file)))); err != nil {
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

// outsider is a directory beside the data that nothing here may touch.
type outsider struct {
	t    *testing.T
	path string
	had  string
}

func newOutsider(t *testing.T) *outsider {
	t.Helper()
	o := &outsider{t: t, path: t.TempDir()}
	file := filepath.Join(o.path, "1.1.0", release.Agent)
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("untouched"), 0o640),
		os.WriteFile(filepath.Join(o.path, "state.json"), []byte("{}"), 0o640)); err != nil {
		t.Fatal(err)
	}
	o.had = o.look()
	return o
}

// look lists all that is there, with contents, rights, owners and times.
func (o *outsider) look() (text string) {
	o.t.Helper()
	err := filepath.WalkDir(o.path, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		var content []byte
		if info.Mode().IsRegular() {
			content, err = os.ReadFile(path)
		}
		text += fmt.Sprintf("%s %v %d %v %q\n", path, info.Mode(), userOf(o.t, path), info.ModTime(), content)
		return err
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return text
}

func (o *outsider) untouched() {
	o.t.Helper()
	if now := o.look(); now != o.had {
		o.t.Errorf("outside there was\n%s and is now\n%s", o.had, now)
	}
}

const user = 12345 // whose the data directory is, where the test runs as root

func dataOfUser(t *testing.T) string {
	t.Helper()
	data := t.TempDir()
	if os.Geteuid() == 0 {
		if err := os.Chown(data, user, user); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// TestUpgradeOfAStoppedAgentFollowsNoLink: its user has laid a link wherever a file or a
// directory is to come. Whether the upgrade is refused or the link is replaced, nothing changes
// where it leads.
func TestUpgradeOfAStoppedAgentFollowsNoLink(t *testing.T) {
	s := newSigner(t)
	o := s.offer("1.1.0", "", content)
	from := write(t, o, content, false)
	store := NewStore("", s.keys(), nil)
	r, err := store.verify(o.Manifest, o.Signature)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		link, to string // below data, and below the outside
		want     string // in the refusal; empty: it is done
	}{
		{"versions", ".", "versions: "},
		{"versions", "nowhere", "versions: "},
		{"versions/1.1.0", "1.1.0", ""},
		{"versions/.new-1.1.0", "1.1.0", ""},
		{"versions/" + store.part(r.file), "1.1.0/crossdock-agent", ""},
		{"versions/state.json", "state.json", "state.json"},
	} {
		t.Run(c.link+" to "+c.to, func(t *testing.T) {
			outside, data := newOutsider(t), dataOfUser(t)
			dir, link := filepath.Join(data, "versions"), filepath.Join(data, filepath.FromSlash(c.link))
			if link != dir {
				if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, userOf(t, data), -1)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(filepath.Join(outside.path, filepath.FromSlash(c.to)), link); err != nil {
				t.Fatal(err)
			}
			stopped := Stopped{Store: NewStore(dir, s.keys(), nil), Data: data, Installed: "1.0.0"}
			_, err := stopped.Upgrade(from)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if c.want == "" {
				if err := stopped.Store.Check("1.1.0"); err != nil {
					t.Error(err)
				}
				if got, want := userOf(t, stopped.Store.Program("1.1.0")), userOf(t, data); got != want {
					t.Errorf("the program is of user %d, the data of %d", got, want)
				}
			}
			if _, err := stopped.Rollback("no"); err != nil && c.want == "" {
				t.Error(err)
			}
			outside.untouched()
			if _, err := os.Lstat(filepath.Join(outside.path, "nowhere")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("made where the link leads: %v", err)
			}
		})
	}
}

// TestLinkWithinTheDataIsRefusedToo: the agent's other files are no place for versions.
func TestLinkWithinTheDataIsRefusedToo(t *testing.T) {
	s, data := newSigner(t), dataOfUser(t)
	dir, queue := filepath.Join(data, "versions"), filepath.Join(data, "queue")
	if err := errors.Join(os.Mkdir(queue, 0o700), os.Symlink("queue", dir)); err != nil {
		t.Fatal(err)
	}
	stopped := Stopped{Store: NewStore(dir, s.keys(), nil), Data: data, Installed: "1.0.0"}
	if _, err := stopped.Upgrade(write(t, s.offer("1.1.0", "", content), content, false)); err == nil || !strings.Contains(err.Error(), "it is a link") {
		t.Error(err)
	}
	if left, err := os.ReadDir(queue); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

// TestRootWorksInNoDirectoryOfAnother: one that belongs neither to root nor to the user of the
// data directory was brought there by somebody else.
func TestRootWorksInNoDirectoryOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root writes into the directories of others")
	}
	s, data := newSigner(t), dataOfUser(t)
	dir := filepath.Join(data, "versions")
	stopped := Stopped{Store: NewStore(dir, s.keys(), nil), Data: data, Installed: "1.0.0"}
	from := write(t, s.offer("1.1.0", "", content), content, false)
	for _, c := range []struct {
		owner int
		want  string
	}{{user + 1, "it is of user 12346, and the directory that it lies in of user 12345"}, {0, ""}, {user, ""}} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chown(dir, c.owner, c.owner)); err != nil {
			t.Fatal(err)
		}
		_, err := stopped.Upgrade(from)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("of user %d: %v, want %q", c.owner, err, c.want)
		}
	}
}

// TestOwnStaysInTheDataDirectory: a link gives nobody what it leads to.
func TestOwnStaysInTheDataDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	outside, data := newOutsider(t), dataOfUser(t)
	dir := filepath.Join(data, "versions")
	store := NewStore(dir, nil, nil)
	if err := os.Symlink(outside.path, dir); err != nil {
		t.Fatal(err)
	}
	if err := store.own(data); err == nil {
		t.Error("it goes where the link leads")
	}
	outside.untouched()
	if err := errors.Join(os.Remove(dir), os.Mkdir(dir, 0o700), os.Symlink(outside.path, filepath.Join(dir, "link")),
		os.WriteFile(filepath.Join(dir, "own"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := store.own(data); err != nil {
		t.Fatal(err)
	}
	outside.untouched()
	if got := userOf(t, filepath.Join(dir, "own")); got != user {
		t.Errorf("a file within is of user %d", got)
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
