package versions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// within works in the directory of versions. The caller may be root and the directory another
// user's, who can lay links in it, in its place, and while this looks: so nothing here goes by a
// path from the top, and no link leads out.
func (s *Store) within(work func(root *os.Root) error) error {
	above, err := os.OpenRoot(filepath.Dir(s.dir)) // its place is the administrator's choice, links and all
	if err != nil {
		return err
	}
	defer above.Close()
	name := filepath.Base(s.dir)
	root, err := above.OpenRoot(name)
	if err == nil {
		defer root.Close()
		if err = s.examine(above, root); err == nil {
			err = work(root)
		}
	}
	if disk := new(fs.PathError); errors.As(err, &disk) && !filepath.IsAbs(disk.Path) {
		return fmt.Errorf("%s: %w", s.dir, err) // what stands in it is named from here
	}
	return err
}

// making makes the directory where there is none, and works in it.
func (s *Store) making(work func(root *os.Root) error) error {
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o700); err != nil {
		return err
	}
	above, err := os.OpenRoot(filepath.Dir(s.dir))
	if err != nil {
		return err
	}
	defer above.Close()
	if err := above.Mkdir(filepath.Base(s.dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", s.dir, err)
	}
	return s.within(work)
}

// examine says why what was opened is not to be worked in.
func (s *Store) examine(above, root *os.Root) error {
	named, err := above.Lstat(filepath.Base(s.dir))
	if err != nil {
		return err
	}
	opened, err := root.Stat(".")
	if err != nil {
		return err
	}
	if !named.IsDir() || !os.SameFile(named, opened) {
		return &fs.PathError{Op: "open", Path: s.dir, Err: errors.New("it is a link, and has to be a directory of its own: move it away")}
	}
	parent, err := above.Stat(".")
	if err != nil {
		return err
	}
	if why := foreign(parent, opened); why != "" {
		return &fs.PathError{Op: "open", Path: s.dir, Err: errors.New(why)}
	}
	return nil
}

func readLimited(root *os.Root, name string, most int64) ([]byte, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", name)
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", name, info.Size(), most)
	}
	return root.ReadFile(name)
}

// removed takes a file away; one that is not there is no error.
func (s *Store) removed(file string) error {
	err := s.within(func(root *os.Root) error { return root.Remove(file) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncFile(root *os.Root, file string) error {
	f, err := root.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
