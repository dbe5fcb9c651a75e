package table

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// The files of the state directory.
const (
	bookName    = "finalised.log"
	damagedName = "finalised.damaged" // ends of the book that were cut off, one after the other
	lockName    = "finalised.lock"    // held as long as the book is open
)

// book is what was finalised, in a file that only grows: a line for each record, with its
// checksum in front. The latest record of a reference counts.
type book struct {
	mu     sync.Mutex // of all below
	file   bookFile
	lock   io.Closer
	size   int64
	index  map[string]*entry
	broken error // after which nothing is known of the file's end
}

// bookFile is what the book needs of a file.
type bookFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// record is a line of the book.
type record struct {
	Reference string      `json:"reference"`
	Sum       string      `json:"sum"`       // fingerprint of the document
	TaxPoint  string      `json:"tax_point"` // day whose rates were taken
	Voided    bool        `json:"voided,omitempty"`
	Reason    string      `json:"reason,omitempty"`
	Result    *tax.Result `json:"result,omitempty"`
}

// entry is what is in memory of a reference's latest record.
type entry struct {
	Sum      string
	TaxPoint string
	Voided   bool
	offset   int64
	length   int
}

// errInUse may pass by itself: a plugin that is started anew can meet the end of its former life.
var errInUse = errors.New("another process has it")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumLength is what stands before a record: eight digits and a space.
const checksumLength = 9

func openBook(dir string) (*book, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(lock); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w (%w): let it end, or give each its own directory", dir, errInUse, err), lock.Close())
	}
	b := &book{index: map[string]*entry{}, lock: lock}
	if err := b.open(dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return b, nil
}

func (b *book) open(dir string) error {
	name := filepath.Join(dir, bookName)
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	b.file = file
	total := int64(0)
	if b.size, total, err = b.load(file); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", name, err), file.Close())
	}
	if total > b.size {
		err = setAside(filepath.Join(dir, damagedName), io.NewSectionReader(file, b.size, total-b.size))
	}
	if err == nil {
		err = errors.Join(file.Truncate(b.size), file.Sync(), syncDir(dir))
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	return nil
}

// load reads the records and gives the size of what is whole, and of all. A damaged end is what
// a crash leaves of a record that was never answered; a damaged record before whole ones is a
// fault of the disk, and nothing is cut off.
func (b *book) load(from io.Reader) (whole, total int64, err error) {
	damaged := int64(-1)
	for in := bufio.NewReader(from); ; {
		line, err := in.ReadBytes('\n')
		at := total
		total += int64(len(line))
		switch {
		case errors.Is(err, io.EOF): // and a line without its end is not whole
			return whole, total, nil
		case err != nil:
			return 0, 0, err
		}
		r, ok := decode(line[:len(line)-1])
		switch {
		case !ok && damaged < 0:
			damaged = at
		case ok && damaged >= 0:
			return 0, 0, fmt.Errorf("the record at byte %d is damaged and later ones are whole: restore the file from a copy", damaged)
		case ok:
			b.note(r, at, len(line)-1)
			whole = total
		}
	}
}

func (b *book) note(r *record, offset int64, length int) {
	b.index[r.Reference] = &entry{r.Sum, r.TaxPoint, r.Voided, offset, length}
}

func encode(r *record) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text), nil
}

func decode(line []byte) (*record, bool) {
	if len(line) < checksumLength {
		return nil, false
	}
	text := line[checksumLength:]
	if string(line[:checksumLength]) != fmt.Sprintf("%08x ", crc32.Checksum(text, castagnoli)) {
		return nil, false
	}
	r := new(record)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, false
	}
	return r, true
}

// setAside keeps what is cut off the book, for people to look at.
func setAside(name string, tail io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.MultiReader(tail, strings.NewReader("\n")))
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes the file's name durable. Windows has no such call for directories.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// find gives the latest of a reference, or nil.
func (b *book) find(reference string) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.index[reference]
}

// result reads what was answered.
func (b *book) result(of *entry) (*tax.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	line := make([]byte, of.length)
	if _, err := b.file.ReadAt(line, of.offset); err != nil {
		return nil, sdk.Errorf(sdk.Internal, "%s cannot be read at byte %d: %v", bookName, of.offset, err)
	}
	r, ok := decode(line)
	if !ok || r.Result == nil {
		return nil, sdk.Errorf(sdk.Internal, "%s is damaged at byte %d", bookName, of.offset).Suggest("restore the file from a copy")
	}
	return r.Result, nil
}

// append writes a record and returns when it is on disk. An error of class Unavailable says
// that nothing was written; after one of class UnknownOutcome the plugin has to be started
// anew to know.
func (b *book) append(r *record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken != nil {
		return b.lost(sdk.Unavailable, b.broken)
	}
	line, err := encode(r)
	if err != nil {
		return sdk.Errorf(sdk.Internal, "%v", err)
	}
	if _, err := b.file.WriteAt(line, b.size); err != nil {
		if undo := errors.Join(b.file.Truncate(b.size), b.file.Sync()); undo != nil {
			b.broken = errors.Join(err, undo)
			return b.lost(sdk.UnknownOutcome, b.broken)
		}
		return b.lost(sdk.Unavailable, err)
	}
	if err := b.file.Sync(); err != nil {
		b.broken = err
		return b.lost(sdk.UnknownOutcome, err)
	}
	b.note(r, b.size, len(line)-1)
	b.size += int64(len(line))
	return nil
}

// lost is a failure of the disk, which is the plugin's own.
func (b *book) lost(class sdk.Class, err error) error {
	e := sdk.Errorf(class, "%s cannot be written: %v", bookName, err).Suggest("look at the disk of the state directory, and start the plugin anew")
	e.Fault = sdk.FaultPlugin
	return e
}

func (b *book) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.file.Close(), b.lock.Close())
}
