// Package bundle owns the one file that a site gives to support: what is in it, in which
// form, and what is taken out of it.
//
// It refuses to know how anything comes about: what is collected is handed to it. Its
// invariants: what goes in was shown by name, size and meaning before; no secret that it was
// told of is in any byte of it; it is for its owner alone, complete or not there; and it
// leaves the machine only in somebody's hands.
package bundle

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Limits of a bundle.
const (
	MaxItem  = 8 << 20  // bytes of one item; of a longer one the end is kept
	MaxItems = 64       // in a bundle
	maxTotal = 64 << 20 // bytes of all
)

// Item is one file of a bundle.
type Item struct {
	Name string // in the bundle
	What string // it is, for who decides whether it may be given away
	Text []byte
}

// Bundle is what has been collected.
type Bundle struct {
	items  []Item
	secret secrets
}

// Secret has every form of a value taken out of all items, those of before too.
func (b *Bundle) Secret(value []byte) { b.secret.add(value) }

// Add puts an item in. An error stands in the place of what could not be had, and beside its
// meaning: that it is missing may be what support looks for, and who gives it away is to know.
func (b *Bundle) Add(name, what string, text []byte, err error) {
	if err != nil {
		text = []byte("not collected: " + err.Error() + "\n")
		what += "; not collected: " + strings.Join(strings.Fields(err.Error()), " ")
	}
	if len(b.items) == MaxItems {
		return
	}
	if len(text) > MaxItem {
		text = append([]byte("... the beginning was left out\n"), text[len(text)-MaxItem:]...)
	}
	b.items = append(b.items, Item{Name: name, What: what, Text: text})
}

// Items lists what will be written, as it will be written.
func (b *Bundle) Items() []Item {
	out := slices.Clone(b.items)
	total := 0
	for i := range out {
		out[i].What = string(b.secret.mask([]byte(out[i].What)))
		if total += len(out[i].Text); total > maxTotal {
			out[i].Text = []byte("left out: the bundle would be too large\n")
			continue
		}
		out[i].Text = b.secret.mask(out[i].Text)
	}
	return out
}

// Write writes the bundle as a zip file that only its owner can read. A file that is there is
// never written over.
func Write(path string, items []Item, at time.Time) (err error) {
	out, err := os.CreateTemp(filepath.Dir(path), ".bundle-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	if err := pack(out, items, at); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := out.Sync(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	mark, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := mark.Close(); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

func pack(w io.Writer, items []Item, at time.Time) error {
	archive := zip.NewWriter(w)
	for _, item := range items {
		header := &zip.FileHeader{Name: item.Name, Comment: item.What, Method: zip.Deflate, Modified: at}
		header.SetMode(0o600)
		f, err := archive.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, bytes.NewReader(item.Text)); err != nil {
			return err
		}
	}
	return archive.Close()
}
