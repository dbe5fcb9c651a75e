// Package secrets owns the way from a secret reference in a policy document to the secret's
// bytes: secret:OWNER/NAME among those that were sealed to this agent, file:NAME below one
// directory, env:NAME in the environment, or cred:NAME, a credential that the service manager
// or the operating system keeps for this program.
//
// It refuses to know what a secret is for. Its invariant: a name never leads outside the
// directory, be it by dots, by a link or by an absolute path, unless absolute paths are
// allowed by the agent's own configuration, and then not to what is the agent's own; what was
// sealed for certain hosts goes to nobody who has not said that it is sent to these only; and
// no error repeats a secret.
package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// MaxSecret bounds one secret; a certificate chain fits.
const MaxSecret = 64 << 10

// ErrNotFound marks a reference to nothing.
var ErrNotFound = errors.New("secret not found")

// Config says where secrets are.
type Config struct {
	Directory     string                      // of file: references; empty: there are none
	AllowAbsolute bool                        // file:/run/credentials/x may leave Directory
	Private       []string                    // no file: leads below these, but for Directory
	LookupEnv     func(string) (string, bool) // nil: os.LookupEnv
	Sealed        Sealed                      // of secret: references; nil: there are none
}

// Sealed opens what was sealed to this agent. Each value comes with the hosts that it may be
// sent to; none: any.
type Sealed interface {
	Value(name string) (value []byte, only []string, err error)
	// Former gives the value before the newest while it is valid beside it; a zero time: until
	// it is dropped.
	Former(name string) (value []byte, only []string, until time.Time, ok bool)
}

// Store resolves references. It reads at every call, so that a rotated secret is used at once.
type Store struct {
	cfg Config
	to  []string // URLs of whoever asks; empty: it is sent nowhere
}

// New makes a store; it opens nothing.
func New(cfg Config) *Store {
	if cfg.LookupEnv == nil {
		cfg.LookupEnv = os.LookupEnv
	}
	return &Store{cfg: cfg}
}

// For gives the store as it is for somebody who sends what it resolves, or what is got with it,
// to these URLs: every one of them has to be allowed.
func (s *Store) For(urls ...string) *Store { return &Store{cfg: s.cfg, to: urls} }

// Resolve gives the secret that ref names, without the line break at its end.
func (s *Store) Resolve(ref string) ([]byte, error) {
	kind, name, found := strings.Cut(ref, ":")
	switch {
	case found && kind == "secret" && name != "":
		return s.sealed(name)
	case found && kind == "file" && name != "":
		return s.file(name)
	case found && kind == "env" && name != "":
		return s.env(name)
	case found && kind == "cred" && name != "":
		return s.credential(name)
	}
	// The reference itself may be a secret that somebody pasted: it is not repeated.
	return nil, errors.New("not a secret reference: write secret:NAME, file:NAME, env:NAME or cred:NAME, never the secret itself")
}

// Former gives the secret before the newest that ref names, while both are valid, and until
// when that is. Only sealed secrets have one.
func (s *Store) Former(ref string) (value []byte, until time.Time, ok bool) {
	name, sealed := strings.CutPrefix(ref, "secret:")
	if !sealed || s.cfg.Sealed == nil {
		return nil, time.Time{}, false
	}
	value, only, until, ok := s.cfg.Sealed.Former(name)
	if !ok || s.elsewhere(name, only) != nil {
		return nil, time.Time{}, false
	}
	if value, err := trim(ref, value); err == nil {
		return value, until, true
	}
	return nil, time.Time{}, false
}

func (s *Store) sealed(name string) ([]byte, error) {
	if s.cfg.Sealed == nil {
		return nil, fmt.Errorf("%w: secret:%s is sealed to the agent; only the running agent opens it", ErrNotFound, name)
	}
	value, only, err := s.cfg.Sealed.Value(name)
	if err != nil {
		return nil, fmt.Errorf("secret:%s: %w", name, err)
	}
	if err := s.elsewhere(name, only); err != nil {
		return nil, err
	}
	return trim("secret:"+name, value)
}

// elsewhere says why a secret that was sealed for certain hosts is not for whoever asks.
func (s *Store) elsewhere(name string, only []string) error {
	if len(only) == 0 {
		return nil
	}
	allowed := strings.Join(only, ", ")
	if len(s.to) == 0 {
		return fmt.Errorf("secret:%s is %w: it is sealed for %s only, and policy uses it where no host is known; set it anew without hosts: crossdock secret set %s --anywhere",
			name, systems.ErrElsewhere, allowed, name)
	}
	for _, to := range s.to {
		if sealing.Allows(only, to) {
			continue
		}
		host, err := sealing.HostOf(to)
		if err != nil {
			host = "another"
		}
		return fmt.Errorf("secret:%s is %w: policy sends it to %s, and it is sealed for %s only; correct the policy or, if you know that host, crossdock secret set %s --only-to %s",
			name, systems.ErrElsewhere, host, allowed, name, host)
	}
	return nil
}

// Known gives the values that a reference leads to, for whoever has to find them in a text and
// sends them nowhere.
func (s *Store) Known(ref string) (values [][]byte) {
	name, sealed := strings.CutPrefix(ref, "secret:")
	if !sealed || s.cfg.Sealed == nil {
		if value, err := s.Resolve(ref); err == nil {
			values = append(values, value)
		}
		return values
	}
	newest, _, err := s.cfg.Sealed.Value(name)
	if newest, wrong := trim(ref, newest); err == nil && wrong == nil {
		values = append(values, newest)
	}
	former, _, _, ok := s.cfg.Sealed.Former(name)
	if former, wrong := trim(ref, former); ok && wrong == nil {
		values = append(values, former)
	}
	return values
}

func (s *Store) env(name string) ([]byte, error) {
	value, ok := s.cfg.LookupEnv(name)
	if !ok {
		return nil, fmt.Errorf("%w: the agent's environment has no %s", ErrNotFound, name)
	}
	return trim("env:"+name, []byte(value))
}

// credentialName is what a credential may be called, so that none leads out of its directory.
var credentialName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

func (s *Store) credential(name string) ([]byte, error) {
	if !credentialName.MatchString(name) {
		return nil, fmt.Errorf("secret cred:%s: the name of a credential is made of letters, digits, dot, dash and underscore", name)
	}
	content, err := s.openCredential(name)
	if err != nil {
		return nil, err
	}
	return trim("cred:"+name, content)
}

// content reads a file of dir.
func content(ref, dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", ref, err)
	}
	defer root.Close()
	file, err := root.Open(name)
	if err != nil {
		return nil, missing(ref, filepath.Join(dir, name), err)
	}
	defer file.Close()
	return read(ref, file)
}

// read gives what is in a file, one byte more than is allowed if there is more.
func read(ref string, file *os.File) ([]byte, error) {
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("secret %s is not a regular file", ref)
	}
	content, err := io.ReadAll(io.LimitReader(file, MaxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", ref, err)
	}
	return content, nil
}

func (s *Store) file(name string) ([]byte, error) {
	file, err := s.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := read("file:"+name, file)
	if err != nil {
		return nil, err
	}
	return trim("file:"+name, content)
}

func (s *Store) open(name string) (*os.File, error) {
	if filepath.IsAbs(name) {
		if !s.cfg.AllowAbsolute {
			return nil, fmt.Errorf("secret file:%s: an absolute path is not allowed by this agent's configuration", name)
		}
		if err := s.private(name, name); err != nil {
			return nil, err
		}
		file, err := os.Open(name)
		return file, missing("file:"+name, name, err)
	}
	if s.cfg.Directory == "" {
		return nil, fmt.Errorf("secret file:%s: this agent has no secrets directory", name)
	}
	if err := s.private(name, filepath.Join(s.cfg.Directory, filepath.FromSlash(name))); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(s.cfg.Directory)
	if err != nil {
		return nil, fmt.Errorf("secret file:%s: secrets directory: %w", name, err)
	}
	defer root.Close()
	file, err := root.Open(filepath.FromSlash(name))
	return file, missing("file:"+name, filepath.Join(s.cfg.Directory, filepath.FromSlash(name)), err)
}

// private refuses what is the agent's own: its keys would open all that is sealed to it, and
// who writes policy chooses where a secret is sent.
func (s *Store) private(name, path string) error {
	if len(s.cfg.Private) == 0 {
		return nil
	}
	dirs := s.cfg.Private
	if s.cfg.Directory != "" {
		dirs = append(slices.Clone(dirs), s.cfg.Directory)
	}
	in, err := systems.Below(path, dirs...)
	switch {
	case err != nil:
		return fmt.Errorf("secret file:%s: %w", name, err)
	case slices.Contains(s.cfg.Private, in):
		return fmt.Errorf("secret file:%s: %s is the agent's own directory and holds no secrets of systems: put it into a secrets directory below or beside it, or elsewhere", name, in)
	}
	return nil
}

func missing(ref, path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: there is no file %s", ErrNotFound, path)
	case err != nil:
		return fmt.Errorf("secret %s: %w", ref, err)
	}
	return nil
}

func trim(ref string, value []byte) ([]byte, error) {
	value = bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r"))
	switch {
	case len(value) == 0:
		return nil, fmt.Errorf("secret %s is empty", ref)
	case len(value) > MaxSecret:
		return nil, fmt.Errorf("secret %s is larger than %d bytes", ref, MaxSecret)
	}
	return value, nil
}
