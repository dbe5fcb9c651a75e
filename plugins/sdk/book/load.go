package book

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// load reads the file from its beginning. What a crash left of the one record that was being
// written was never answered, and is cut off. Anything else that cannot be read refuses the
// book, and leaves the file as it is.
func (b *Book) load(take func(*Record) error) error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	head := first(b.c.Kind)
	last, good, err := b.replay(info.Size(), head, take)
	if err != nil {
		return err
	}
	if good > 0 && good < info.Size() { // a part of the first line is written over
		if err := b.cut(good, info.Size()); err != nil {
			return err
		}
	}
	if good == 0 {
		last = head
	}
	// The last record is written once more: after a sync that failed, the system takes what was
	// not written for written, and only what is written again is synced.
	b.size = max(good, int64(len(head)))
	if _, err := b.file.WriteAt(last, b.size-int64(len(last))); err != nil {
		return err
	}
	return b.file.Sync()
}

// replay takes in all records and gives the last one and where it ends.
func (b *Book) replay(size int64, head []byte, take func(*Record) error) (last []byte, good int64, err error) {
	in := bufio.NewReaderSize(io.NewSectionReader(b.file, 0, size), 1<<16)
	for number := 1; ; number++ {
		line, err := readLine(in)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, fmt.Errorf("%s: %w", b.path, err)
		}
		if len(line) == 0 {
			return last, good, nil
		}
		r, fault := decode(line)
		switch {
		case fault != nil:
			return last, good, b.tail(number, good, size, head, fault)
		case number == 1:
			err = b.owned(line, head)
		case r.Version == 0 || r.Version > b.c.Version:
			err = fmt.Errorf("it is of version %d, and this program reads up to %d: use the newer program", r.Version, b.c.Version)
		default:
			r.Place = Place{at: good, size: len(line)}
			err = take(r)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("%s: record %d at byte %d: %w", b.path, number, good, err)
		}
		last = line
		good += int64(len(line))
	}
}

// owned refuses a book of another plugin or of a later program.
func (b *Book) owned(line, head []byte) error {
	if !bytes.Equal(line, head) {
		return fmt.Errorf("the book says that it is %q, and %q is wanted: name the right directory, or use the newer program",
			line[frameHead:len(line)-1], head[frameHead:len(head)-1])
	}
	return nil
}

// tail decides about a record that cannot be read: nil if it is the end that a crash leaves.
func (b *Book) tail(number int, good, size int64, head []byte, fault error) error {
	rest := make([]byte, min(size-good, int64(maxFrame)+1))
	if _, err := b.file.ReadAt(rest, good); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", b.path, err)
	}
	why := torn(rest, good)
	if good == 0 {
		if tornFirst(rest, head) {
			return nil
		}
		why = "the file is no book, or its beginning is lost"
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%s: record %d at byte %d is damaged (%w), and not by a crash: %s; restore the file from a backup, and if there is none, take the record out of the file and look up what became of it",
		b.path, number, good, fault, why)
}

// cut takes away what a crash left, after it was put into a file beside for whoever wants to
// know.
func (b *Book) cut(good, size int64) error {
	rest := make([]byte, size-good)
	if _, err := b.file.ReadAt(rest, good); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	beside := strings.TrimSuffix(b.path, ".log") + ".cut"
	if err := os.WriteFile(beside, rest, 0o600); err != nil {
		return err
	}
	if err := b.file.Truncate(good); err != nil {
		return err
	}
	b.c.Log.Warn("the book ended in a record that a crash broke off before it was answered; it was cut off", "book", b.path, "at", good,
		"bytes", len(rest), "kept", beside)
	return nil
}

// readLine reads a line with its end, and no more of it than a record may have.
func readLine(r *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		part, err := r.ReadSlice('\n')
		out = append(out, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(out) > maxFrame {
			return out, err
		}
	}
}

// Rewrite leaves out of the book what is not to be kept, and hands what is to take, as Open
// does. The new file is whole on disk before it takes the old one's name, and a crash leaves
// one of the two. It is for the start, before anything is answered: an error closes the book,
// but for one of class Unavailable, after which it is as it was.
func (b *Book) Rewrite(keep func(*Record) bool, take func(*Record) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := strings.TrimSuffix(b.path, ".log") + ".new"
	if err := b.copyKept(next, keep); err != nil {
		return b.trouble(sdk.Unavailable, "cannot be written anew", errors.Join(err, remove(next)))
	}
	// Systems other than Unix do not rename over a file that is open.
	err := b.file.Close()
	if err == nil {
		err = os.Rename(next, b.path)
	}
	if err == nil {
		err = syncDir(b.c.Dir)
	}
	if err == nil {
		err = b.open(take)
	}
	if err != nil {
		return fmt.Errorf("%s was being written anew: %w", b.path, errors.Join(err, b.lock.Close()))
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// copyKept writes the records that are kept into a file, and forces it to disk.
func (b *Book) copyKept(path string, keep func(*Record) bool) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriterSize(f, 1<<16)
	if _, err := out.Write(first(b.c.Kind)); err != nil {
		return err
	}
	_, good, err := b.replay(b.size, first(b.c.Kind), func(r *Record) error {
		if !keep(r) {
			return nil
		}
		text, err := encode(r.Version, r.Body)
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	if good != b.size { // not even one that looks like broken off: all of it was read before
		return fmt.Errorf("it can no longer be read from byte %d on", good)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return f.Sync()
}
