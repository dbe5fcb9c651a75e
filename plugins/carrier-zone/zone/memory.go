package zone

import (
	"errors"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

const bookName = "book"

// line is what a record of the book says. Exactly one of its parts beside the time is there.
type line struct {
	Time     time.Time
	Bought   *bought
	Voided   string // reference
	Pickup   *collection
	Manifest *closed
}

// bought is a shipment, with all that its labels are printed from. Of what was asked for, the
// book keeps no more than that.
type bought struct {
	Shipment carrier.Shipment
	Return   bool
	Digest   string // of what was asked for
	Tracking []string
	SSCC     []string
	Zone     string
	Rate     carrier.Rate
	Warnings []sdk.Warning
}

// collection is one pickup as it stands after a request.
type collection struct {
	Confirmation string
	Digest       string // of the request that booked it
	Cancelled    bool
	Request      carrier.PickupRequest
}

// closed is a day that was handed over.
type closed struct {
	Reference string
	Date      string
	Shipments []string // references
	Digest    string
	Number    string
	Parcels   int
}

// entryOf is what is kept in memory of a shipment; the rest is read from the file.
type entryOf struct {
	place    book.Place
	booked   time.Time
	tracking []string
	voided   time.Time
	manifest *closed
	closed   time.Time
}

// memory is what the plugin knows of its book. It is not safe for use by several at a time.
type memory struct {
	book *book.Book

	bytes     int64               // of all records
	newest    time.Time           // of all records
	shipments map[string]*entryOf // by reference
	numbers   map[string]string   // tracking numbers and SSCCs to references
	pickups   map[string]*collection
	manifests map[string]*closed // by reference
}

// remember reads the book, or begins one.
func remember(c book.Config) (*memory, error) {
	m := &memory{}
	m.forgetAll()
	b, err := book.Open(c, m.take)
	if err != nil {
		return nil, err
	}
	m.book = b
	return m, nil
}

func (m *memory) forgetAll() {
	m.bytes, m.newest = 0, time.Time{}
	m.shipments, m.numbers = map[string]*entryOf{}, map[string]string{}
	m.pickups, m.manifests = map[string]*collection{}, map[string]*closed{}
}

// take brings memory up to a record that stands in the book.
func (m *memory) take(r *book.Record) error {
	l, err := decodeLine(r)
	if err != nil {
		return err
	}
	m.note(l, r.Place)
	return nil
}

func (m *memory) note(l *line, at book.Place) {
	m.bytes += int64(at.Size())
	if l.Time.After(m.newest) {
		m.newest = l.Time
	}
	switch {
	case l.Bought != nil:
		ref := l.Bought.Shipment.Reference
		m.shipments[ref] = &entryOf{place: at, booked: l.Time, tracking: l.Bought.Tracking}
		for _, list := range [][]string{l.Bought.Tracking, l.Bought.SSCC} {
			for _, number := range list {
				if number != "" {
					m.numbers[number] = ref
				}
			}
		}
	case l.Voided != "":
		if e := m.shipments[l.Voided]; e != nil {
			e.voided = l.Time
		}
	case l.Pickup != nil:
		m.pickups[l.Pickup.Confirmation] = l.Pickup
	case l.Manifest != nil:
		m.manifests[l.Manifest.Reference] = l.Manifest
		for _, ref := range l.Manifest.Shipments {
			if e := m.shipments[ref]; e != nil {
				e.manifest, e.closed = l.Manifest, l.Time
			}
		}
	}
}

// write appends to the book, and is done when it is on disk.
func (m *memory) write(l *line) error {
	text, err := encodeLine(l)
	if err != nil {
		return sdk.Errorf(sdk.Internal, "it cannot be written: %v", err)
	}
	at, err := m.book.Append(recordVersion, text)
	if err != nil {
		return err
	}
	m.note(l, at)
	return nil
}

// read gives the whole entry of a shipment.
func (m *memory) read(e *entryOf) (*bought, error) {
	r, err := m.book.Read(e.place)
	if err != nil {
		return nil, err
	}
	l, err := decodeLine(r)
	if err == nil && l.Bought == nil {
		err = errors.New("it is no shipment")
	}
	if err != nil {
		return nil, sdk.Errorf(sdk.Internal, "the record of a shipment has changed since it was read: %v", err).
			Suggest("restore the state directory from a backup")
	}
	return l.Bought, nil
}

// forget takes out of the book what is older than some days, once that is more than half of
// it: a site that ships for years must not read years at each start. The days count back from
// the newest record if that is before now, so that a clock that runs ahead does not clear the
// book.
func (m *memory) forget(now time.Time, days int) error {
	if m.newest.Before(now) {
		now = m.newest
	}
	before := now.AddDate(0, 0, -days)
	old := int64(0)
	for _, e := range m.shipments {
		if e.booked.Before(before) {
			old += int64(e.place.Size())
		}
	}
	if old <= m.bytes/2 {
		return nil
	}
	kept := func(r *book.Record) bool {
		l, err := decodeLine(r)
		return err != nil || m.keeps(l, before)
	}
	next := &memory{}
	next.forgetAll()
	err := m.book.Rewrite(kept, next.take)
	if err != nil {
		return fmt.Errorf("what is older than %d days stays in the book: %w", days, err)
	}
	next.book = m.book
	*m = *next
	return nil
}

// keeps tells whether a line outlives a time. What became of a shipment is kept as long as it.
func (m *memory) keeps(l *line, before time.Time) bool {
	if l.Voided != "" {
		e := m.shipments[l.Voided]
		return e != nil && !e.booked.Before(before)
	}
	return !l.Time.Before(before)
}
