package bundle

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

const (
	maxListed = 20000
	maxSecret = 64 << 10 // bytes of a file that is read as a secret
)

// Listing tells names, sizes, modes and times of what is below a directory, and nothing of
// what is in it.
func Listing(dir string) ([]byte, error) {
	var out bytes.Buffer
	t := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err != nil {
			fmt.Fprintf(t, "\t\t\t%q: %v\n", name, err)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil // removed meanwhile
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%q\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), name)
		if n++; n == maxListed {
			fmt.Fprintln(t, "and more")
			return fs.SkipAll
		}
		return nil
	})
	err = firstOf(err, t.Flush()) // before the buffer is looked at
	return out.Bytes(), err
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// SecretFiles has the contents of the files below some paths taken out. What cannot be read
// cannot be in the bundle by way of these programs either.
func (b *Bundle) SecretFiles(paths ...string) {
	for _, path := range paths {
		_ = filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error { // see above
			if err != nil {
				return nil
			}
			info, err := os.Stat(file) // through links, as the agent reads secrets
			if err != nil || !info.Mode().IsRegular() || info.Size() > maxSecret {
				return nil
			}
			if text, err := os.ReadFile(file); err == nil {
				b.Secret(text)
			}
			return nil
		})
	}
}
