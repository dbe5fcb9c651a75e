package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/service"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// passwordFile is the proxy's password, in the directory of secrets.
const passwordFile = "proxy.password"

// splitPassword takes the password out of the proxy's address, where a configuration has none.
func splitPassword(cfg *agent.Config) string {
	proxy, err := url.Parse(cfg.ControlPlane.Proxy)
	if err != nil {
		return "" // Validate says so
	}
	password, said := proxy.User.Password()
	if !said {
		return ""
	}
	proxy.User = url.User(proxy.User.Username())
	cfg.ControlPlane.Proxy, cfg.ControlPlane.ProxyPassword = proxy.String(), ""
	if password != "" {
		cfg.ControlPlane.ProxyPassword = "file:" + passwordFile
	}
	return password
}

// keptPassword is the file of the proxy's password: the enrolment reads it there, as the agent
// will.
type keptPassword struct {
	file    string
	former  []byte // nil: there was no file
	made    []string
	written bool
	passing bool // the configuration that stays does not name it
}

func (k *keptPassword) write(dir, password string) (err error) {
	if password == "" {
		return nil
	}
	k.file = filepath.Join(dir, passwordFile)
	if k.former, err = os.ReadFile(k.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for at := dir; !there(at); at = filepath.Dir(at) {
		k.made = append(k.made, at)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	k.written = true
	return k.put([]byte(password))
}

func (k *keptPassword) put(password []byte) error {
	if err := atomicfile.Write(k.file, password, 0o600); err != nil {
		return err
	}
	return service.Share(k.file)
}

// undo puts things back as they were.
func (k *keptPassword) undo() error {
	switch {
	case !k.written:
		return nil
	case k.former != nil:
		return k.put(k.former)
	}
	err := os.Remove(k.file)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, dir := range k.made {
		_ = os.Remove(dir) // somebody else has put something there
	}
	return err
}

func (k *keptPassword) done(w io.Writer) error {
	switch {
	case !k.written:
		return nil
	case k.passing:
		return k.undo()
	}
	fmt.Fprintf(w, "wrote the proxy's password to %s\n", k.file)
	return nil
}
