package usps

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
)

const (
	recordVersion = 1
	keepImages    = 30 * 24 * time.Hour  // labels and forms, which are most of the book
	keepRest      = 400 * 24 * time.Hour // references and what became of them
)

// line is one record of the book. Exactly one of its parts is there.
type line struct {
	Time     time.Time   `json:"time"`
	Begun    *begun      `json:"begun,omitempty"`
	Bought   *bought     `json:"bought,omitempty"`
	Refused  string      `json:"refused,omitempty"` // reference of a shipment that was surely not bought
	Voiding  string      `json:"voiding,omitempty"` // reference of a shipment
	Voided   *voided     `json:"voided,omitempty"`
	Pickup   *collection `json:"pickup,omitempty"`
	Manifest *closing    `json:"manifest,omitempty"`
	Image    *image      `json:"image,omitempty"`
}

// begun is written before a label is asked for. The key is the provider's way to find it again.
type begun struct {
	Reference string          `json:"reference"`
	Digest    string          `json:"digest"` // of what the host asked for
	Key       string          `json:"key"`
	Return    bool            `json:"return,omitempty"`
	Service   string          `json:"service"`
	Parcel    string          `json:"parcel,omitempty"` // its reference
	Format    string          `json:"format"`
	Image     string          `json:"image"` // the provider's name of the format
	Date      string          `json:"date"`
	Pounds    string          `json:"pounds"`
	Body      json.RawMessage `json:"body"` // what is sent, and sent again
	Warnings  []warning       `json:"warnings,omitempty"`
}

// bought is what the provider answered.
type bought struct {
	Reference string    `json:"reference"`
	Tracking  string    `json:"tracking"`
	Rate      *rateLine `json:"rate,omitempty"`
	Warnings  []warning `json:"warnings,omitempty"`
}

type rateLine struct {
	Total    string       `json:"total"` // USD, like all amounts
	Charges  []chargeLine `json:"charges"`
	Delivery string       `json:"delivery,omitempty"`
}

type chargeLine struct {
	Kind   string `json:"kind"`
	Code   string `json:"code,omitempty"`
	Name   string `json:"name,omitempty"`
	Amount string `json:"amount"`
}

type warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}

// voided is how the provider took a label back.
type voided struct {
	Reference string    `json:"reference"`
	Accepted  bool      `json:"accepted"`
	Dispute   string    `json:"dispute,omitempty"`
	Warnings  []warning `json:"warnings,omitempty"`
}

// The states of a pickup and of a manifest.
const (
	asking     = "asking" // sent, or about to be
	refused    = "refused"
	done       = "done"
	cancelling = "cancelling"
	cancelled  = "cancelled"
)

// collection is one pickup as it stands after a request.
type collection struct {
	Reference    string    `json:"reference"`
	Digest       string    `json:"digest"` // of what was booked
	State        string    `json:"state"`
	Confirmation string    `json:"confirmation,omitempty"`
	Date         string    `json:"date"`
	Again        bool      `json:"again,omitempty"`   // asked for more than once: it may be booked twice
	Changed      string    `json:"changed,omitempty"` // digest of the last change that was made
	Warnings     []warning `json:"warnings,omitempty"`
}

// closing is one manifest.
type closing struct {
	Reference string    `json:"reference"`
	Digest    string    `json:"digest"`
	State     string    `json:"state"`
	Shipments []string  `json:"shipments"` // references
	Number    string    `json:"number,omitempty"`
	Warnings  []warning `json:"warnings,omitempty"`
}

// image is a label or a form. It is a record of its own, so that it can be forgotten earlier.
type image struct {
	Of     string `json:"of"` // label of ... or manifest of ...
	Kind   string `json:"kind"`
	Format string `json:"format"`
	Data   []byte `json:"data"`
}

func imageOfLabel(reference string) string    { return "label " + reference }
func imageOfManifest(reference string) string { return "manifest " + reference }

// entry is what is kept in memory of a shipment; the rest is read from the book.
type entry struct {
	begin    book.Place
	result   book.Place // of bought
	digest   string
	returned bool
	service  string
	pounds   string
	date     string
	state    string // asking, refused or done
	tracking string
	voiding  bool
	voided   *voided
	manifest string // reference of the manifest that names it and was not refused
	closed   bool   // that manifest was made
}

// record is the book, and what memory knows of it.
type record struct {
	now  func() time.Time
	book *book.Book

	mu        sync.Mutex // guards all below
	shipments map[string]*entry
	numbers   map[string]string // tracking number to reference
	pickups   map[string]*collection
	confirmed map[string]string // confirmation to reference
	manifests map[string]*closing
	images    map[string]book.Place
	size      int64 // of the records
	old       int64 // of those that need not be kept
}

func openRecord(dir string, clock func() time.Time, log *slog.Logger) (*record, error) {
	r := &record{now: clock}
	now := clock()
	take := func(b *book.Record) error { return r.load(b, now) }
	r.empty()
	b, err := book.Open(book.Config{Dir: dir, Name: "book", Kind: "usps", Version: recordVersion, Setting: setState, Log: log}, take)
	if err != nil {
		return nil, err
	}
	r.book = b
	if r.old <= r.size/2 {
		return r, nil
	}
	log.Info("the book is written anew without what is old", "bytes", r.size, "old", r.old)
	r.empty()
	err = b.Rewrite(func(b *book.Record) bool {
		l, err := decodeLine(b)
		return err != nil || !l.stale(now)
	}, take)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *record) empty() {
	r.shipments, r.numbers = map[string]*entry{}, map[string]string{}
	r.pickups, r.confirmed = map[string]*collection{}, map[string]string{}
	r.manifests, r.images = map[string]*closing{}, map[string]book.Place{}
	r.size, r.old = 0, 0
}

// stale tells whether a line need not be kept.
func (l *line) stale(now time.Time) bool {
	age := now.Sub(l.Time)
	return age > keepRest || l.Image != nil && age > keepImages
}

func decodeLine(b *book.Record) (*line, error) {
	l := &line{}
	if err := json.Unmarshal(b.Body, l); err != nil {
		return nil, err
	}
	return l, nil
}

func (r *record) load(b *book.Record, now time.Time) error {
	l, err := decodeLine(b)
	if err != nil {
		return err
	}
	r.size += int64(b.Place.Size())
	if l.stale(now) {
		r.old += int64(b.Place.Size())
	}
	return r.take(l, b.Place)
}

// take brings memory up to a line that stands in the book. What a line builds on may have been
// forgotten before it.
func (r *record) take(l *line, place book.Place) error {
	switch {
	case l.Begun != nil:
		b := l.Begun
		r.shipments[b.Reference] = &entry{begin: place, digest: b.Digest, returned: b.Return, service: b.Service, pounds: b.Pounds, date: b.Date, state: asking}
	case l.Bought != nil:
		if e := r.shipments[l.Bought.Reference]; e != nil {
			e.state, e.result, e.tracking = done, place, l.Bought.Tracking
			r.numbers[e.tracking] = l.Bought.Reference
		}
	case l.Refused != "":
		if e := r.shipments[l.Refused]; e != nil {
			e.state = refused
		}
	case l.Voiding != "":
		if e := r.shipments[l.Voiding]; e != nil {
			e.voiding = true
		}
	case l.Voided != nil:
		if e := r.shipments[l.Voided.Reference]; e != nil {
			e.voided = l.Voided
		}
	case l.Pickup != nil:
		r.pickups[l.Pickup.Reference] = l.Pickup
		if l.Pickup.Confirmation != "" {
			r.confirmed[l.Pickup.Confirmation] = l.Pickup.Reference
		}
	case l.Manifest != nil:
		r.takeManifest(l.Manifest)
	case l.Image != nil:
		r.images[l.Image.Of] = place
	default:
		return fmt.Errorf("the record says nothing that this program knows: use the newer program")
	}
	return nil
}

func (r *record) takeManifest(m *closing) {
	r.manifests[m.Reference] = m
	for _, reference := range m.Shipments {
		e := r.shipments[reference]
		switch {
		case e == nil:
		case m.State != refused:
			e.manifest, e.closed = m.Reference, m.State == done
		case e.manifest == m.Reference:
			e.manifest, e.closed = "", false
		}
	}
}

// write appends a line and takes it in.
func (r *record) write(l *line) error {
	l.Time = r.now().UTC()
	text, err := json.Marshal(l)
	if err != nil {
		return sdk.Errorf(sdk.Internal, "the book: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	place, err := r.book.Append(recordVersion, text)
	if err != nil {
		return err
	}
	return r.take(l, place)
}

// before writes a line ahead of what is asked of the provider: when it fails nothing was done.
func (r *record) before(l *line) error {
	err := r.write(l)
	if e := sdk.AsError(err); err != nil && e.Class == sdk.UnknownOutcome {
		e.Class = sdk.Unavailable
	}
	return err
}

// after writes what the provider has done: when it fails, that is known to nobody.
func (r *record) after(what string, l *line) error {
	err := r.write(l)
	if err == nil {
		return nil
	}
	e := sdk.Errorf(sdk.UnknownOutcome, "%s, and that cannot be written down: %v", what, err)
	e.Fault = sdk.FaultPlugin
	return e
}

// shipment gives a copy of what memory knows of a reference; nil: nothing.
func (r *record) shipment(reference string) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.shipments[reference]
	if e == nil {
		return nil
	}
	out := *e
	return &out
}

// referenceOf gives the shipment that a tracking number is of; empty: none that is known.
func (r *record) referenceOf(tracking string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.numbers[tracking]
}

// pickup gives a copy of a pickup by its reference, or else by its confirmation; nil: it is not
// known.
func (r *record) pickup(reference, confirmation string) *collection {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pickups[reference]
	if p == nil {
		p = r.pickups[r.confirmed[confirmation]] // no pickup has an empty reference
	}
	if p == nil {
		return nil
	}
	out := *p
	return &out
}

func (r *record) manifest(reference string) *closing {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.manifests[reference]
	if m == nil {
		return nil
	}
	out := *m
	return &out
}

// read gives a line again.
func (r *record) read(place book.Place) (*line, error) {
	b, err := r.book.Read(place)
	if err != nil {
		return nil, err
	}
	l, err := decodeLine(b)
	if err != nil {
		return nil, sdk.Errorf(sdk.Internal, "the book has changed since it was read: %v", err)
	}
	return l, nil
}

// image gives a label or a form; nil: it is not kept any more.
func (r *record) image(of string) (*image, error) {
	r.mu.Lock()
	place, there := r.images[of]
	r.mu.Unlock()
	if !there {
		return nil, nil
	}
	l, err := r.read(place)
	if err != nil {
		return nil, err
	}
	return l.Image, nil
}

func (r *record) usable() error { return r.book.Usable() }

func (r *record) close() error { return r.book.Close() }

func warningsOf(list []sdk.Warning) []warning {
	var out []warning
	for _, w := range list {
		out = append(out, warning(w))
	}
	return out
}

func sdkWarnings(lists ...[]warning) []sdk.Warning {
	var out []sdk.Warning
	for _, list := range lists {
		for _, w := range list {
			out = append(out, sdk.Warning(w))
		}
	}
	return out
}
