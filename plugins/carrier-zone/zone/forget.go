package zone

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// forget takes out of the book what is older than some days, once that is more than half of
// it: a site that ships for years must not read years at each start. The days count back from
// the newest line if that is before now, so that a clock that runs ahead does not clear the
// book. The new file is whole on disk before it takes the old one's name, and a crash leaves
// one of the two.
func (b *book) forget(now time.Time, days int) error {
	if b.newest.Before(now) {
		now = b.newest
	}
	before := now.AddDate(0, 0, -days)
	old := int64(0)
	for _, e := range b.shipments {
		if e.booked.Before(before) {
			old += int64(e.size)
		}
	}
	if old <= b.size/2 {
		return nil
	}
	next := b.path + ".new"
	if err := b.copyKept(next, before); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	// Systems other than Unix do not rename over a file that is open.
	if err := b.f.Close(); err != nil {
		return err
	}
	if err := os.Rename(next, b.path); err != nil {
		return errors.Join(err, b.load())
	}
	if err := syncDir(filepath.Dir(b.path)); err != nil {
		return err
	}
	return b.load()
}

// copyKept writes the lines that are kept into a file, and forces it to disk.
func (b *book) copyKept(path string, before time.Time) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriterSize(f, 1<<16)
	r := bufio.NewReaderSize(io.NewSectionReader(b.f, 0, b.size), 1<<16)
	for {
		text, err := readLine(r)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(text) == 0 {
			break
		}
		l, err := decodeLine(text)
		if err != nil {
			return err
		}
		if !b.keeps(l, before) {
			continue
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// keeps tells whether a line outlives a time. What became of a shipment is kept as long as it.
func (b *book) keeps(l *line, before time.Time) bool {
	if l.Voided != "" {
		e := b.shipments[l.Voided]
		return e != nil && !e.booked.Before(before)
	}
	return l.Book > 0 || !l.Time.Before(before)
}
