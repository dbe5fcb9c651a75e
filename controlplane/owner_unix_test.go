//go:build !windows

package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

// Root does not begin in a directory that is another user's, or that of the packages' user.
func TestBeginsAs(t *testing.T) {
	const other = 4711
	there := func(name string) (*user.User, error) { return &user.User{Username: name, Gid: "4294967000"}, nil }
	none := func(name string) (*user.User, error) { return nil, user.UnknownUserError(name) }
	own, others := t.TempDir(), t.TempDir()
	if os.Geteuid() == 0 {
		if err := os.Chown(others, other, other); err != nil {
			t.Fatal(err)
		}
	} else {
		own = filepath.Join(own, "not-there") // what is there is not root's
	}
	for _, tt := range []struct {
		data    string
		uid     int
		lookup  func(string) (*user.User, error)
		refused string
	}{
		{own, 0, there, ""},
		{filepath.Join(own, "none"), 0, there, ""},
		{others, other, there, ""},
		{others, 0, none, others},
		{packagedData, other, there, ""},
		{packagedData, 0, there, "install -d -o crossdock -g 4294967000 -m 0700 " + packagedData + " && setpriv --reuid crossdock --regid 4294967000 --init-groups crossdock server"},
	} {
		err := beginsAs(tt.data, tt.uid, tt.lookup)
		if (err != nil) != (tt.refused != "") || err != nil && !(strings.Contains(err.Error(), "setpriv --reuid ") && strings.Contains(err.Error(), tt.refused)) {
			t.Errorf("user %d in %s: %v", tt.uid, tt.data, err)
		}
	}
}

// What is advised works for who is in no list of users, and where a group is called otherwise.
func TestAccounts(t *testing.T) {
	const nobody = 4294967001
	if got, want := accountOf(nobody, 4294967002), (account{"4294967001", "4294967002", "clear"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	group := me.Gid
	if known, err := user.LookupGroupId(me.Gid); err == nil {
		group = known.Name
	}
	if got, want := accountOf(uint32(os.Geteuid()), nobody), (account{me.Username, group, "init"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := giveAll("/data"), fmt.Sprintf("chown -R %d:%d /data", os.Geteuid(), os.Getegid()); !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Who begins with the configuration of the example hears of it, and a directory that is another
// user's is told with what to do.
func TestFirstStart(t *testing.T) {
	var said bytes.Buffer
	config := NewConfig()
	config.Data = filepath.Join(t.TempDir(), "data")
	config.Sync.Listen, config.API.Listen, config.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	config.Sync.Names = []string{exampleName}
	enter := func() error {
		c, err := New(config, slog.New(slog.NewTextHandler(&said, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.enter()
		if err == nil {
			d.close()
		}
		return err
	}
	if err := enter(); err != nil || !strings.Contains(said.String(), "sync.names has the name of the example") {
		t.Errorf("%v, %s", err, &said)
	}
	if os.Geteuid() == 0 {
		config.Data = filepath.Join(t.TempDir(), "data")
		if err := errors.Join(os.Mkdir(config.Data, 0o700), os.Chown(config.Data, 4711, 4711)); err != nil {
			t.Fatal(err)
		}
		if err := enter(); err == nil || !strings.Contains(err.Error(), "4711") {
			t.Errorf("root begins in the directory of another: %v", err)
		}
		if left, err := os.ReadDir(config.Data); err != nil || len(left) > 0 {
			t.Errorf("left are %v, %v", left, err)
		}
		return
	}
	if err := os.Chmod(filepath.Join(config.Data, "lock"), 0); err != nil {
		t.Fatal(err)
	}
	if err := enter(); err == nil || !strings.Contains(err.Error(), "chown -R") {
		t.Errorf("%v", err)
	}
}
