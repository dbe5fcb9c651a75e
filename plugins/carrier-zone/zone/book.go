package zone

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

const (
	bookName    = "book.log"
	bookVersion = 1
	maxLine     = 4 << 20 // bytes of one entry
	maxFirst    = 256     // bytes of the first line
)

// errTooLong is an entry that no line holds; nothing was written.
var errTooLong = fmt.Errorf("the entry is longer than %d bytes", maxLine)

// line is one entry of the book. Exactly one of its parts is there.
type line struct {
	Time     time.Time
	Book     int         `json:",omitempty"` // version; the first line
	Bought   *bought     `json:",omitempty"`
	Voided   string      `json:",omitempty"` // reference
	Pickup   *collection `json:",omitempty"`
	Manifest *closed     `json:",omitempty"`
}

// bought is a shipment, with all that its labels are printed from.
type bought struct {
	Shipment carrier.Shipment
	Return   bool   `json:",omitempty"`
	Digest   string // of what was asked for
	Tracking []string
	SSCC     []string
	Zone     string
	Rate     carrier.Rate
	Warnings []sdk.Warning `json:",omitempty"`
}

// collection is one pickup as it stands after a request.
type collection struct {
	Confirmation string
	Digest       string // of the request that booked it
	Cancelled    bool   `json:",omitempty"`
	Request      carrier.PickupRequest
}

// closed is a day that was handed over.
type closed struct {
	Request carrier.ManifestRequest
	Digest  string
	Number  string
	Parcels int
}

// entryOf is what is kept in memory of a shipment; the rest is read from the file.
type entryOf struct {
	at       int64
	size     int
	booked   time.Time
	tracking []string
	voided   time.Time
	manifest *closed
	closed   time.Time
}

// file is what the book needs of *os.File; tests put one between that fails.
type file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Close() error
}

// book is the plugin's memory: a file that is only appended to, each line with its checksum
// and forced to disk before anything is answered. It is not safe for use by several at a time.
type book struct {
	path string
	open func(path string) (file, int64, error)

	f      file
	size   int64
	broken error // a write failed: what the file holds is not known until it is read again

	newest    time.Time           // of all lines
	shipments map[string]*entryOf // by reference
	numbers   map[string]string   // tracking numbers and SSCCs to references
	pickups   map[string]*collection
	manifests map[string]*closed // by reference
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openFile(path string) (file, int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// openBook reads the book of a directory, or begins one.
func openBook(dir string, open func(string) (file, int64, error)) (*book, error) {
	b := &book{path: filepath.Join(dir, bookName), open: open}
	if err := b.load(); err != nil {
		return nil, err
	}
	return b, nil
}

// load reads the file from its beginning. A damaged end is what was being written when the
// process or the machine died: nobody was answered for it, so it is cut off, and kept beside.
// Damage before the end is none of that kind, and refused.
func (b *book) load() error {
	f, size, err := b.open(b.path)
	if err != nil {
		return err
	}
	b.f, b.size, b.broken, b.newest = f, 0, nil, time.Time{}
	b.shipments, b.numbers = map[string]*entryOf{}, map[string]string{}
	b.pickups, b.manifests = map[string]*collection{}, map[string]*closed{}
	good, err := b.replay(size)
	if err == nil && good < size {
		err = b.cutOff(good, size)
	}
	b.size = good
	if err == nil && good == 0 {
		err = b.append(&line{Time: time.Now().UTC(), Book: bookVersion})
	}
	if err != nil {
		b.broken = err
		return errors.Join(err, f.Close())
	}
	return nil
}

// replay takes in all lines and gives where the good ones end.
func (b *book) replay(size int64) (good int64, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(b.f, 0, size), 1<<16)
	at, number, bad := int64(0), 0, 0
	for {
		text, err := readLine(r)
		if err != nil && !errors.Is(err, io.EOF) {
			return good, err
		}
		if len(text) == 0 {
			return good, nil
		}
		number++
		l, fault := decodeLine(text)
		switch {
		case fault != nil && bad == 0:
			bad = number
		case fault == nil && bad > 0:
			return good, fmt.Errorf("%s: line %d is damaged, and good ones follow it: restore the file from a backup, or take the line out if you know what it was", b.path, bad)
		case fault == nil && number == 1 && l.Book == 0:
			return good, fmt.Errorf("%s: the first line does not say that it is a book; restore the file from a backup", b.path)
		case fault == nil:
			if err := b.take(l, at, len(text)); err != nil {
				return good, fmt.Errorf("%s: line %d: %w", b.path, number, err)
			}
			good = at + int64(len(text))
		}
		at += int64(len(text))
	}
}

// readLine reads a line with its end, and no more of it than a line may have.
func readLine(r *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		part, err := r.ReadSlice('\n')
		out = append(out, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(out) > maxLine {
			return out, err
		}
	}
}

// cutOff takes the damaged end away, after it was put into a file beside for whoever wants to
// know.
func (b *book) cutOff(good, size int64) error {
	if size-good > maxLine || good == 0 && size > maxFirst {
		return fmt.Errorf("%s: from byte %d on it is damaged, and that is more than one line: restore the file from a backup", b.path, good)
	}
	rest := make([]byte, size-good)
	if _, err := b.f.ReadAt(rest, good); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := os.WriteFile(b.path+".cut", rest, 0o600); err != nil {
		return err
	}
	if err := b.f.Truncate(good); err != nil {
		return err
	}
	return b.f.Sync()
}

// encodeLine makes "checksum json\n".
func encodeLine(l *line) ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	if len(text) > maxLine-16 {
		return nil, errTooLong
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text), nil
}

func decodeLine(text []byte) (*line, error) {
	if len(text) < 10 || text[8] != ' ' || text[len(text)-1] != '\n' {
		return nil, errors.New("no checksum, or no end")
	}
	sum, body := make([]byte, 4), text[9:len(text)-1]
	if _, err := hex.Decode(sum, text[:8]); err != nil {
		return nil, err
	}
	if got := crc32.Checksum(body, castagnoli); fmt.Sprintf("%08x", got) != string(text[:8]) {
		return nil, errors.New("the checksum does not fit")
	}
	l := &line{}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(l); err != nil {
		return nil, err
	}
	return l, nil
}

// take brings memory up to a line that stands in the file.
func (b *book) take(l *line, at int64, size int) error {
	if l.Time.After(b.newest) && l.Book == 0 {
		b.newest = l.Time
	}
	switch {
	case l.Book > 0:
		if l.Book > bookVersion {
			return fmt.Errorf("the book is of version %d, and this program knows %d: use the newer program", l.Book, bookVersion)
		}
	case l.Bought != nil:
		ref := l.Bought.Shipment.Reference
		b.shipments[ref] = &entryOf{at: at, size: size, booked: l.Time, tracking: l.Bought.Tracking}
		for _, list := range [][]string{l.Bought.Tracking, l.Bought.SSCC} {
			for _, number := range list {
				if number != "" {
					b.numbers[number] = ref
				}
			}
		}
	case l.Voided != "":
		if e := b.shipments[l.Voided]; e != nil {
			e.voided = l.Time
		}
	case l.Pickup != nil:
		b.pickups[l.Pickup.Confirmation] = l.Pickup
	case l.Manifest != nil:
		b.manifests[l.Manifest.Request.Reference] = l.Manifest
		for _, ref := range l.Manifest.Request.Shipments {
			if e := b.shipments[ref]; e != nil {
				e.manifest, e.closed = l.Manifest, l.Time
			}
		}
	default:
		return errors.New("the line says nothing that this program knows: use the newer program")
	}
	return nil
}

// append writes a line and forces it to disk. After an error nobody knows what the file holds.
func (b *book) append(l *line) error {
	text, err := encodeLine(l)
	if err != nil {
		return err
	}
	if _, b.broken = b.f.WriteAt(text, b.size); b.broken == nil {
		b.broken = b.f.Sync()
	}
	if b.broken != nil {
		return b.broken
	}
	at := b.size
	b.size += int64(len(text))
	return b.take(l, at, len(text))
}

// heal reads the file again after a write failed, so that memory says what the disk says.
func (b *book) heal() error {
	if b.broken == nil {
		return nil
	}
	_ = b.f.Close() // whatever it says, the file is opened anew
	return b.load()
}

// read gives the whole entry of a shipment.
func (b *book) read(e *entryOf) (*bought, error) {
	text := make([]byte, e.size)
	if _, err := b.f.ReadAt(text, e.at); err != nil {
		return nil, err
	}
	l, err := decodeLine(text)
	if err != nil || l.Bought == nil {
		return nil, fmt.Errorf("%s: the line at byte %d has changed since it was read: %w", b.path, e.at, err)
	}
	return l.Bought, nil
}

func (b *book) close() error { return b.f.Close() }
