package systems

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Below says which of some directories a path leads to or below, the innermost if there are
// several; empty: none. Links, dots and other spellings are seen through. Of what is not
// there yet the place counts where it would come to be.
func Below(path string, dirs ...string) (string, error) {
	known := make([]fs.FileInfo, len(dirs))
	for i, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		known[i] = info // nil: nothing is below it
	}
	at, err := resolve(path)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		path = filepath.Dir(path)
		at, err = resolve(path)
	}
	if err != nil {
		return "", err
	}
	for {
		info, err := os.Stat(at)
		if err != nil {
			return "", err
		}
		for i, one := range known {
			if one != nil && os.SameFile(info, one) {
				return dirs[i], nil
			}
		}
		if filepath.Dir(at) == at {
			return "", nil
		}
		at = filepath.Dir(at)
	}
}

func resolve(path string) (string, error) {
	at, err := filepath.EvalSymlinks(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && runtime.GOOS == "windows" {
		return filepath.Abs(path) // some shares are opened and not resolved; dots are words alone there
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(at)
}
