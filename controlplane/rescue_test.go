package controlplane

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
)

// administrator tells whose token lies in a node's directory.
func (n *running) administrator() string {
	n.t.Helper()
	text, err := os.ReadFile(FilesIn(n.config.Data).AdminToken)
	if err != nil {
		return ""
	}
	if err := n.store.Fresh(n.ctx()); err != nil {
		n.t.Error(err)
	}
	p, known := n.store.Principal(api.HashPrincipalToken(strings.TrimSpace(string(text))))
	if !known || p.Disabled || !p.Has(model.Admin) {
		return ""
	}
	return p.Name
}

func (n *running) rescue() RescueInfo {
	n.t.Helper()
	info, err := Rescue(n.ctx(), n.config.Data)
	if err != nil {
		n.t.Fatal(err)
	}
	return info
}

func TestALostAdministratorIsRescued(t *testing.T) {
	one := run(t, nodeConfig(t, "node-1"))
	two := one.join(nodeConfig(t, "node-2"))
	if info := one.rescue(); !info.Kept || info.Principal != adminName || one.administrator() != adminName {
		t.Errorf("a token that is good is not kept: %+v", info)
	}
	// A node that joined has none; it gets its own, and the first one stays good.
	if info := two.rescue(); info.Kept || info.Principal != "admin@node-2" || two.administrator() != "admin@node-2" {
		t.Errorf("rescued %+v, the token is of %q", info, two.administrator())
	}
	if one.administrator() != adminName {
		t.Error("another's token has changed")
	}
	list := two.store.Audit(0, 1000)
	if last := list[len(list)-1]; last.Action != "principal.rescue" || last.By != "node:node-2" {
		t.Errorf("audit %+v", last)
	}
	if err := os.WriteFile(FilesIn(one.config.Data).AdminToken, []byte("of another time\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if info := one.rescue(); info.Kept || one.administrator() != "admin@node-1" {
		t.Errorf("rescued %+v, the token is of %q", info, one.administrator())
	}
	if left, err := os.ReadDir(two.config.Data); err != nil || strings.Contains(names(left), "rescue") || strings.Contains(names(left), nextToken) {
		t.Errorf("left behind: %s, %v", names(left), err)
	}

	two.stop()
	if _, err := Rescue(t.Context(), two.config.Data); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a server: %v", err)
	}
	if _, err := os.Stat(FilesIn(two.config.Data).rescue); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a request that nobody took stays: %v", err)
	}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Rescue(given, two.config.Data); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if _, err := os.Stat(FilesIn(two.config.Data).rescue); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a request that was given up stays: %v", err)
	}
	if _, err := Rescue(t.Context(), t.TempDir()); !errors.Is(err, ErrConfig) {
		t.Errorf("in the directory of no node: %v", err)
	}
}

func names(list []os.DirEntry) string {
	var all []string
	for _, e := range list {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// A request counts only as a file of its own that nobody else may have written.
func TestARescueIsAskedByTheOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("whose a file is, is told in another way there")
	}
	const good = `{"nonce":"n"}`
	for name, lay := range map[string]func(t *testing.T, file string) error{
		"a link": func(t *testing.T, file string) error {
			other := t.TempDir() + "/other"
			return errors.Join(os.WriteFile(other, []byte(good), 0o600), os.Symlink(other, file))
		},
		"a second name": func(t *testing.T, file string) error {
			return errors.Join(os.WriteFile(file+".old", []byte(good), 0o600), os.Link(file+".old", file))
		},
		"written by all": func(_ *testing.T, file string) error {
			return errors.Join(os.WriteFile(file, []byte(good), 0o600), os.Chmod(file, 0o666))
		},
		"of another user": func(t *testing.T, file string) error {
			err := errors.Join(os.WriteFile(file, []byte(good), 0o600), os.Chown(file, os.Geteuid()+1, -1))
			if err != nil {
				t.Skip("only root can give a file away:", err)
			}
			return nil
		},
		"nothing asked":   func(_ *testing.T, file string) error { return os.WriteFile(file, []byte("{}"), 0o600) },
		"not a file":      func(_ *testing.T, file string) error { return os.Mkdir(file, 0o700) },
		"not of the form": func(_ *testing.T, file string) error { return os.WriteFile(file, []byte("n"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			files := FilesIn(t.TempDir())
			if err := lay(t, files.rescue); err != nil {
				t.Fatal(err)
			}
			if request, err := takeRescue(files); err == nil || request != nil {
				t.Errorf("taken: %+v, %v", request, err)
			}
			if _, err := os.Lstat(files.rescue); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it stays and is looked at again: %v", err)
			}
		})
	}
	files := FilesIn(t.TempDir())
	if request, err := takeRescue(files); request != nil || err != nil {
		t.Errorf("where nothing is: %+v, %v", request, err)
	}
	if err := os.WriteFile(files.rescue, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if request, err := takeRescue(files); err != nil || request == nil || request.Nonce != "n" {
		t.Errorf("a good one: %+v, %v", request, err)
	}
	if request, err := takeRescue(files); request != nil || err != nil {
		t.Errorf("the same again: %+v, %v", request, err)
	}
}
