package versions

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/release"
)

// signed is a release whose manifest was verified.
type signed struct {
	manifest, signature []byte
	version             string
	file                release.File // for this platform
}

// verify reads a manifest that one of the keys has signed, and finds this platform's file.
func (s *Store) verify(manifest, signature []byte) (signed, error) {
	m, err := release.Parse(manifest, signature, s.keys)
	if errors.Is(err, release.ErrNoKeys) {
		return signed{}, fmt.Errorf("%w: set upgrades.keys in the agent's configuration; what the control plane says takes no part in it", err)
	} else if err != nil {
		return signed{}, err
	}
	file, ok := m.File(release.Agent, runtime.GOOS, runtime.GOARCH)
	if !ok {
		return signed{}, fmt.Errorf("release %s has no %s for %s/%s", m.Version, release.Agent, runtime.GOOS, runtime.GOARCH)
	}
	return signed{manifest: manifest, signature: signature, version: m.Version, file: file}, nil
}

// Program is where the program of a version is.
func (s *Store) Program(version string) string { return filepath.Join(s.dir, programIn(version)) }

// programIn is its name below the directory of versions.
func programIn(version string) string {
	name := release.Agent
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(version, name)
}

// Check verifies a version that is held: its manifest by the keys, its program by the manifest.
func (s *Store) Check(version string) error {
	_, err := s.held(version)
	return err
}

func (s *Store) held(version string) (r signed, err error) {
	err = s.within(func(root *os.Root) error {
		r, err = s.heldIn(root, version)
		return err
	})
	return r, err
}

func (s *Store) heldIn(root *os.Root, version string) (signed, error) {
	manifest, err := readLimited(root, filepath.Join(version, release.ManifestFile), release.MaxManifest)
	if err != nil {
		return signed{}, err
	}
	signature, err := readLimited(root, filepath.Join(version, release.SignatureFile), release.MaxSignature)
	if err != nil {
		return signed{}, err
	}
	r, err := s.verify(manifest, signature)
	if err != nil {
		return signed{}, fmt.Errorf("version %s held in %s: %w", version, s.dir, err)
	}
	if r.version != version {
		return signed{}, fmt.Errorf("%s holds version %s", filepath.Join(s.dir, version), r.version)
	}
	return r, checkFile(root, programIn(version), r.file)
}

// errDiffers is wrapped where a file is not that of the signed manifest.
var errDiffers = errors.New("not the file of the signed manifest")

// checkFile compares a file with what the manifest says of it.
func checkFile(root *os.Root, path string, want release.File) error {
	f, err := root.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, want.Size+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if found := hex.EncodeToString(sum.Sum(nil)); n != want.Size || found != want.SHA256 {
		return fmt.Errorf("%s is %w: it begins with %d bytes of sha256 %s, %d of %s are signed", path, errDiffers, n, found, want.Size, want.SHA256)
	}
	return nil
}

// place makes a version held whose program is in a file of this directory, and takes the file.
func (s *Store) place(r signed, file string) error {
	return s.within(func(root *os.Root) error { return placeIn(root, r, file) })
}

func placeIn(root *os.Root, r signed, file string) error {
	if err := checkFile(root, file, r.file); err != nil {
		return err
	}
	fresh := newVersion + r.version
	if err := root.RemoveAll(fresh); err != nil {
		return err
	}
	if err := root.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if err := errors.Join(
		atomicfile.WriteIn(root, filepath.Join(fresh, release.ManifestFile), r.manifest, 0o600),
		atomicfile.WriteIn(root, filepath.Join(fresh, release.SignatureFile), r.signature, 0o600),
		root.Chmod(file, 0o700)); err != nil { // it is a program, and only the agent's user may run it
		return err
	}
	if err := syncFile(root, file); err != nil {
		return err
	}
	if err := errors.Join(root.Rename(file, programIn(fresh)), atomicfile.SyncIn(root, fresh)); err != nil {
		return err
	}
	if err := root.RemoveAll(r.version); err != nil {
		return err
	}
	if err := root.Rename(fresh, r.version); err != nil {
		return err
	}
	return atomicfile.SyncIn(root, ".")
}

// prune removes the versions that nothing goes back to, and what was begun and is not wanted,
// but for a file that is just being received.
func (s *Store) prune(st State, wanted *signed, receiving bool) error {
	keep := []string{st.Current, st.Previous}
	if st.Trial != nil {
		keep = append(keep, st.Trial.Version)
	}
	part := ""
	if wanted != nil {
		keep, part = append(keep, wanted.version), s.part(wanted.file)
	}
	err := s.within(func(root *os.Root) error {
		entries, err := fs.ReadDir(root.FS(), ".")
		if err != nil {
			return err
		}
		var errs []error
		for _, e := range entries {
			name := e.Name()
			version := e.IsDir() && release.ValidVersion(name) && !slices.Contains(keep, name)
			begun := strings.HasPrefix(name, newVersion) || strings.HasPrefix(name, fetched) && name != part || name == handed && !receiving
			if version || begun {
				errs = append(errs, root.RemoveAll(name))
			}
		}
		return errors.Join(errs...)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// List gives the versions that are held.
func (s *Store) List() (versions []string, err error) {
	var entries []fs.DirEntry
	err = s.within(func(root *os.Root) (err error) {
		entries, err = fs.ReadDir(root.FS(), ".")
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() && release.ValidVersion(e.Name()) {
			versions = append(versions, e.Name())
		}
	}
	slices.SortFunc(versions, release.Compare)
	return versions, nil
}

// part is the file that a program is fetched into, in the directory of versions. It has the name of its hash, so that what
// was fetched before a break goes on with the same file and no other.
func (s *Store) part(f release.File) string { return fetched + f.SHA256 }

// partSize is how much of a file is there.
func (s *Store) partSize(f release.File) (size int64, err error) {
	err = s.within(func(root *os.Root) error {
		info, err := root.Stat(s.part(f))
		if err != nil {
			return err
		}
		if info.Size() > f.Size {
			return root.Remove(s.part(f))
		}
		size = info.Size()
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return size, err
}

// extend adds a piece. It is on disk when this returns: after a loss of power the length of
// the file says what is there.
func (s *Store) extend(f release.File, offset int64, piece []byte) error {
	return s.making(func(root *os.Root) error {
		out, err := root.OpenFile(s.part(f), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.NewOffsetWriter(out, offset), bytes.NewReader(piece))
		return errors.Join(err, out.Sync(), out.Close())
	})
}
