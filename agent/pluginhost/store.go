package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// maxProgram is the size of the largest program.
const maxProgram = 1 << 30

// partly begins the names of copies that are not whole yet.
const partly = ".copy-"

// store keeps a copy of each program under its hash, where nobody else can change it.
type store struct {
	programs string
	shipped  string // "" if nothing is
	dir      string
	log      *slog.Logger
}

// path is where the program of a hash is kept. Windows runs no file without its ending.
func (s *store) path(sum string) string {
	if runtime.GOOS == "windows" {
		sum += ".exe"
	}
	return filepath.Join(s.dir, sum)
}

// open gives the program of a name, open for reading and with the wanted hash. It is hashed
// through what is given, at every start: a file that was right yesterday proves nothing.
func (s *store) open(name, want string) (*os.File, error) {
	if f, err := s.kept(want); err == nil {
		return f, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("the copy of a plugin's program is not what it was: it is copied again", "program", name, "error", err)
	}
	if err := s.copy(name, want); err != nil {
		return nil, err
	}
	return s.kept(want)
}

func (s *store) kept(want string) (_ *os.File, err error) {
	path := s.path(want)
	f, err := regular(openProgram(path))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	found, err := hashed(io.Discard, f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if found != want {
		return nil, wrongHash(path, want, found)
	}
	return f, nil
}

// copy takes a program over from the site's directory, or from what is shipped.
func (s *store) copy(name, want string) error {
	return s.either(func(dir string) error { return s.copyFrom(dir, name, want) })
}

// either does something in the site's directory and, where that fails, in that of what is
// shipped. What is wrong in the first is the site's to mend; the second need not have anything.
func (s *store) either(do func(dir string) error) error {
	err := do(s.programs)
	if err == nil || s.shipped == "" {
		return err
	}
	switch shipped := do(s.shipped); {
	case shipped == nil:
		return nil
	case !errors.Is(shipped, fs.ErrNotExist):
		return errors.Join(err, shipped)
	}
	return err
}

func (s *store) copyFrom(dir, name, want string) (err error) {
	source := filepath.Join(dir, name)
	in, err := openProgramIn(dir, name)
	if err != nil {
		return fmt.Errorf("%s: %w: put the plugin's program there", source, err)
	}
	defer in.Close() // opened for reading
	out, found, err := s.write(in)
	settle()
	if err == nil && found != want {
		err = wrongHash(source, want, found)
	}
	if err == nil {
		err = os.Rename(out, s.path(want))
	}
	if err != nil {
		if out != "" {
			_ = os.Remove(out) // sweep looks for it again
		}
		return err
	}
	return atomicfile.SyncDir(s.dir)
}

// openProgramIn opens what somebody has put into a directory under a name.
func openProgramIn(dir, name string) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return regular(openIn(root, name))
}

// write copies a program to a file that can no longer be written.
func (s *store) write(in io.Reader) (path, sum string, err error) {
	out, err := os.CreateTemp(s.dir, partly+"*")
	if err != nil {
		return "", "", err
	}
	sum, err = hashed(out, in)
	err = errors.Join(err, out.Chmod(0o500))
	err = errors.Join(err, out.Sync(), out.Close())
	if err != nil {
		err = fmt.Errorf("copy to %s: %w", out.Name(), err)
	}
	return out.Name(), sum, err
}

// Examine says why a program could not be run: it looks at the copy of a host with this Config,
// and at what the site has put there. The host need not run.
func (c *Config) Examine(spec Spec) error {
	if err := spec.check(c.Kinds); err != nil {
		return err
	}
	s := &store{programs: c.Programs, shipped: c.Shipped, dir: c.Dir, log: c.Log}
	if kept, err := s.kept(spec.SHA256); err == nil {
		return kept.Close()
	}
	return s.either(func(dir string) error { return examineIn(dir, spec) })
}

func examineIn(dir string, spec Spec) error {
	path := filepath.Join(dir, spec.Program)
	in, err := openProgramIn(dir, spec.Program)
	if err != nil {
		return fmt.Errorf("%s: %w: put the plugin's program there", path, err)
	}
	defer in.Close() // opened for reading
	found, err := hashed(io.Discard, in)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if found != spec.SHA256 {
		return wrongHash(path, spec.SHA256, found)
	}
	return nil
}

// sweep removes what is named by none of the wanted hashes. What cannot be removed now, since
// it runs, is tried again next time.
func (s *store) sweep(wanted map[string]bool) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.log.Warn("old plugin programs cannot be looked for", "error", err)
		return
	}
	for _, e := range entries {
		sum := strings.TrimSuffix(e.Name(), ".exe")
		raw, err := hex.DecodeString(sum)
		if err != nil || len(raw) != sha256.Size || wanted[sum] {
			continue
		}
		if err := atomicfile.Remove(filepath.Join(s.dir, e.Name())); err != nil {
			s.log.Debug("an old plugin program cannot be removed yet", "error", err)
		}
	}
}

// clean removes copies that never became whole, of a host that was killed.
func (s *store) clean() error {
	left, err := filepath.Glob(filepath.Join(s.dir, partly+"*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// regular closes again what would block or never end.
func regular(f *os.File, err error) (*os.File, error) {
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// hashed copies a program and gives its hash.
func hashed(out io.Writer, in io.Reader) (string, error) {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), io.LimitReader(in, maxProgram+1))
	if err == nil && n > maxProgram {
		err = fmt.Errorf("it has more than %d bytes, the most that a plugin's program may have", maxProgram)
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

func wrongHash(path, want, found string) error {
	return fmt.Errorf("%s is not the program that policy names: SHA-256 wanted %s, found %s; put the right file there or change the policy",
		path, want, found)
}
