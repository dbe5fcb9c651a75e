package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// WriteIn replaces a file below a directory that is open, and follows no link out of it: who
// may write there may be another user than the one who calls.
func WriteIn(root *os.Root, name string, content []byte, mode os.FileMode) (err error) {
	begun := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+rand.Text())
	f, err := root.OpenFile(begun, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	if err = fill(f, content, mode); err == nil {
		err = root.Rename(begun, name)
	}
	if err != nil {
		return fmt.Errorf("replace %s: %w", name, errors.Join(err, root.Remove(begun)))
	}
	return SyncIn(root, filepath.Dir(name))
}

// SyncIn is SyncDir for a directory below one that is open; "." is that one.
func SyncIn(root *os.Root, dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // opened for reading
	return d.Sync()
}
