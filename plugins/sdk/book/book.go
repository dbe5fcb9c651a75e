// Package book is the memory of a plugin that works without a provider: a file of records that
// is only appended to.
//
// It owns the file, its checksums and what a crash leaves of it, and refuses to know what a
// record says. Its invariant: what was appended without an error is on disk and is found by
// every later start, or the start is refused; nothing that was answered is ever cut off.
package book

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// MaxBody is the size of the largest record.
const MaxBody = 4 << 20

// Config says where a book is and whose it is.
type Config struct {
	Dir     string // made if it is not there; one process has it at a time
	Name    string // of the files in it: Name.log is the book
	Kind    string // what the records are of; a book of another kind is refused
	Version int    // of the newest records that the program can read, at least 1
	Setting string // that Dir comes from; errors of Open are at it
	Log     *slog.Logger

	// OpenFile opens the book's file, or makes it; nil: on the disk. Tests put one between
	// that fails.
	OpenFile func(path string) (File, error)
	// Exit ends the process after the disk failed in the middle of a write; nil: os.Exit.
	Exit func(code int)
}

// File is what a book needs of *os.File.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (os.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// Record is one entry of a book.
type Record struct {
	Version int
	Body    []byte // no end of line and no zero byte, as JSON has none
	Place   Place
}

// Place is where a record stands.
type Place struct {
	at   int64
	size int
}

// Size is what the record takes in the file.
func (p Place) Size() int { return p.size }

// Book is an open book. It may be used by several at a time.
type Book struct {
	c    Config
	path string
	lock io.Closer

	mu     sync.Mutex // of all below
	file   File
	size   int64
	broken error // a write may or may not be on disk: nothing is answered any more
}

// Open takes the directory, reads the book and hands each record to take, in order. An error of
// take refuses the book. What was read is on disk when Open returns.
func Open(c Config, take func(*Record) error) (*Book, error) {
	if c.OpenFile == nil {
		c.OpenFile = openFile
	}
	if c.Exit == nil {
		c.Exit = os.Exit
	}
	b := &Book{c: c, path: filepath.Join(c.Dir, c.Name+".log")}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, sdk.Errorf(sdk.Validation, "%v", err).At(c.Setting)
	}
	lock, err := lockFile(filepath.Join(c.Dir, c.Name+".lock"))
	if err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "%s: another process has the book: %v", c.Dir, err).At(c.Setting).
			Suggest("let the other process end, or give each its own directory")
	}
	b.lock = lock
	if err := b.open(take); err != nil {
		return nil, sdk.Errorf(sdk.Validation, "the book cannot be used: %v", errors.Join(err, lock.Close())).At(c.Setting)
	}
	return b, nil
}

func openFile(path string) (File, error) { return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) }

func (b *Book) open(take func(*Record) error) error {
	file, err := b.c.OpenFile(b.path)
	if err != nil {
		return err
	}
	b.file = file
	if err = syncDir(b.c.Dir); err == nil {
		err = b.load(take)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	return nil
}

// Append writes a record and returns when it is on disk. After an error of class Validation or
// Unavailable nothing was written. After one of class UnknownOutcome nobody knows: the book is
// of no use any more, and the process ends.
func (b *Book) Append(version int, body []byte) (Place, error) {
	text, err := encode(version, body)
	if err != nil {
		return Place{}, sdk.Errorf(sdk.Validation, "it cannot be kept: %v", err).Suggest("send less at once")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(); err != nil {
		return Place{}, err
	}
	if _, err := b.file.WriteAt(text, b.size); err != nil {
		// As long as nothing beyond the end was synced, taking it away is certain.
		if undo := errors.Join(b.file.Truncate(b.size), b.file.Sync()); undo != nil {
			return Place{}, b.fail(errors.Join(err, undo))
		}
		return Place{}, b.trouble(sdk.Unavailable, "cannot be written", err)
	}
	if err := b.file.Sync(); err != nil {
		return Place{}, b.fail(err)
	}
	place := Place{at: b.size, size: len(text)}
	b.size += int64(len(text))
	return place, nil
}

// fail makes the book unusable for good. A sync that failed once may succeed the next time
// without having written anything, so there is no second try in this process.
func (b *Book) fail(err error) error {
	b.broken = err
	b.c.Log.Error("the disk failed while a record was written; the process ends, and the next one reads what is there", "book", b.path, "error", err)
	b.c.Exit(1)
	return b.trouble(sdk.UnknownOutcome, "was being written when the disk failed", err)
}

func (b *Book) trouble(class sdk.Class, what string, err error) error {
	e := sdk.Errorf(class, "%s %s: %v", b.path, what, err).Suggest("look at the disk of " + b.c.Dir)
	e.Fault = sdk.FaultPlugin
	return e
}

func (b *Book) usable() error {
	if b.broken != nil {
		return b.trouble(sdk.Unavailable, "is not known to be on disk", b.broken)
	}
	return nil
}

// Usable is an error of class Unavailable once a write has failed halfway. What memory says is
// worth nothing then: that it lacks something does not mean that the disk does.
func (b *Book) Usable() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usable()
}

// Read gives a record again.
func (b *Book) Read(p Place) (*Record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(); err != nil {
		return nil, err
	}
	text := make([]byte, p.size)
	if _, err := b.file.ReadAt(text, p.at); err != nil {
		return nil, b.trouble(sdk.Unavailable, fmt.Sprintf("cannot be read at byte %d", p.at), err)
	}
	r, err := decode(text)
	if err != nil {
		return nil, b.changed(p, err)
	}
	r.Place = p
	return r, nil
}

// changed is the error for a record that is not what it was when it was taken.
func (b *Book) changed(p Place, err error) error {
	return sdk.Errorf(sdk.Internal, "%s is damaged at byte %d: %v", b.path, p.at, err).Suggest("restore the file from a backup")
}

// Close lets go of the book and of its directory.
func (b *Book) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.file.Close(), b.lock.Close())
}
