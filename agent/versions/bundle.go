package versions

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/crossdock/crossdock/protocol/release"
)

const maxEntries = 10_000 // of a directory or an archive that a release is looked for in

// bundle is a release as a file or a directory at the site.
type bundle interface {
	// each gives every regular file in it until found says that it was the one.
	each(found func(name string, size int64, content io.Reader) (bool, error)) error
}

func openBundle(path string) (bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return folder(path), nil
	}
	return archive(path), nil
}

type folder string

func (d folder) each(found func(string, int64, io.Reader) (bool, error)) error {
	entries := 0
	err := fs.WalkDir(os.DirFS(string(d)), ".", func(name string, e fs.DirEntry, err error) error {
		if entries++; entries > maxEntries {
			return fmt.Errorf("%s has more than %d files: name the directory of the release alone", string(d), maxEntries)
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		f, err := os.Open(filepath.Join(string(d), filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		defer f.Close() // opened for reading
		if done, err := found(name, info.Size(), f); err != nil || done {
			return errors.Join(err, fs.SkipAll)
		}
		return nil
	})
	if errors.Is(err, fs.SkipAll) && err.Error() == fs.SkipAll.Error() {
		return nil
	}
	return err
}

type archive string

func (a archive) each(found func(string, int64, io.Reader) (bool, error)) error {
	f, err := os.Open(string(a))
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s is neither a directory nor a .tar.gz: %w", string(a), err)
	}
	in := tar.NewReader(z)
	for range maxEntries {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", string(a), err)
		}
		if head.Typeflag != tar.TypeReg {
			continue
		}
		if done, err := found(head.Name, head.Size, in); err != nil || done {
			return err
		}
	}
	return fmt.Errorf("%s has more than %d entries", string(a), maxEntries)
}

// read takes the signed manifest of a bundle, and verifies it.
func (s *Store) read(from string, b bundle) (r signed, err error) {
	var manifest, signature []byte
	err = b.each(func(name string, _ int64, content io.Reader) (_ bool, err error) {
		switch path.Base(name) {
		case release.ManifestFile:
			manifest, err = io.ReadAll(io.LimitReader(content, release.MaxManifest+1))
		case release.SignatureFile:
			signature, err = io.ReadAll(io.LimitReader(content, release.MaxSignature+1))
		}
		return manifest != nil && signature != nil, err
	})
	switch {
	case err != nil:
		return r, err
	case manifest == nil:
		return r, fmt.Errorf("%s holds no %s: it is no release", from, release.ManifestFile)
	case signature == nil:
		return r, fmt.Errorf("%s holds no %s: the release is not signed", from, release.SignatureFile)
	}
	if r, err = s.verify(manifest, signature); err != nil {
		return r, fmt.Errorf("%s: %w", from, err)
	}
	return r, nil
}

// extract finds the file of a release in its bundle by size and hash, wherever it lies.
func extract(from string, b bundle, want release.File, to func(io.Reader) error) error {
	found, near := false, ""
	err := b.each(func(name string, size int64, content io.Reader) (bool, error) {
		if size != want.Size {
			if base := strings.TrimSuffix(path.Base(name), ".exe"); base == want.Name {
				near = name
			}
			return false, nil
		}
		sum := sha256.New()
		if err := to(io.TeeReader(content, sum)); err != nil {
			return false, err
		}
		found = hex.EncodeToString(sum.Sum(nil)) == want.SHA256
		if !found {
			near = name
		}
		return found, nil
	})
	switch {
	case err != nil:
		return err
	case !found && near != "":
		return fmt.Errorf("%s: %s is %w", from, near, errDiffers)
	case !found:
		return fmt.Errorf("%s has no %s for %s/%s, though its manifest lists it", from, want.Name, want.OS, want.Arch)
	}
	return nil
}

// fill writes a file of the directory of versions anew. It follows no link that lies there
// already: the user of the directory knows the name.
func fill(root *os.Root, file string) func(io.Reader) error {
	return func(content io.Reader) error {
		if err := root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		out, err := root.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, content)
		return errors.Join(err, out.Close())
	}
}

// Add makes a release of this machine a version that is held: the .tar.gz or directory that
// was brought here. It gives the version.
func (s *Store) Add(from string) (version string, err error) {
	b, err := openBundle(from)
	if err != nil {
		return "", err
	}
	r, err := s.read(from, b)
	if err != nil {
		return "", err
	}
	if held, err := s.held(r.version); err == nil && held.file == r.file {
		return r.version, nil
	}
	file := s.part(r.file)
	err = s.making(func(root *os.Root) error {
		if err := extract(from, b, r.file, fill(root, file)); err != nil {
			return err
		}
		return placeIn(root, r, file)
	})
	if err != nil {
		return "", errors.Join(err, s.removed(file))
	}
	return r.version, nil
}

// Send writes a version that is held as a Manager takes it: manifest, signature and program.
func (s *Store) Send(version string, out io.Writer) error {
	w := tar.NewWriter(out)
	return s.within(func(root *os.Root) error {
		for _, file := range []string{
			filepath.Join(version, release.ManifestFile), filepath.Join(version, release.SignatureFile), programIn(version),
		} {
			if err := pack(w, root, file); err != nil {
				return err
			}
		}
		return w.Close()
	})
}

func pack(w *tar.Writer, root *os.Root, file string) error {
	f, err := root.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: filepath.Base(file), Mode: 0o600, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// receive reads what Send has written, the program into a file of this directory; none where
// the version is held. It believes none of it: the manifest has to be signed, and place looks
// whether the program is the manifest's.
func (s *Store) receive(in io.Reader) (r signed, file string, err error) {
	t := tar.NewReader(in)
	var texts [2][]byte
	for i, most := range []int64{release.MaxManifest, release.MaxSignature} {
		if _, err := t.Next(); err != nil {
			return r, "", fmt.Errorf("read the release that was sent: %w", err)
		}
		if texts[i], err = io.ReadAll(io.LimitReader(t, most+1)); err != nil {
			return r, "", fmt.Errorf("read the release that was sent: %w", err)
		}
	}
	if r, err = s.verify(texts[0], texts[1]); err != nil {
		return r, "", err
	}
	if held, err := s.held(r.version); err == nil && held.file == r.file {
		return r, "", nil
	}
	if _, err := t.Next(); err != nil {
		return r, "", fmt.Errorf("read the program that was sent: %w", err)
	}
	err = s.making(func(root *os.Root) error {
		return errors.Join(fill(root, handed)(io.LimitReader(t, r.file.Size+1)), syncFile(root, handed))
	})
	if err != nil {
		return r, "", errors.Join(err, s.removed(handed))
	}
	return r, handed, nil
}
