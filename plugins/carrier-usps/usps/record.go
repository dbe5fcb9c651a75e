package usps

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

// recordVersion is of the types below, as this program writes them.
const recordVersion = 1

const (
	keepImages = 30 * 24 * time.Hour  // labels and forms, which are most of the book
	keepRest   = 400 * 24 * time.Hour // references and what became of them
)

// The kinds of keys. Behind each stands a space and a reference, and behind that of an image
// the key that it is of.
const (
	ofShipment = "shipment"
	ofPickup   = "pickup"
	ofManifest = "manifest"
	ofImage    = "image"
)

func shipmentKey(reference string) string { return ofShipment + " " + reference }
func pickupKey(reference string) string   { return ofPickup + " " + reference }
func manifestKey(reference string) string { return ofManifest + " " + reference }
func imageKey(of string) string           { return ofImage + " " + of }

// begun is written before a label is asked for. The key is the provider's way to find it again.
type begun struct {
	Reference string          `json:"reference"`
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
	Tracking string    `json:"tracking"`
	Rate     *rateLine `json:"rate,omitempty"`
	Warnings []warning `json:"warnings,omitempty"`
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
	Accepted bool      `json:"accepted"`
	Dispute  string    `json:"dispute,omitempty"`
	Warnings []warning `json:"warnings,omitempty"`
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
	Digest       string    `json:"-"` // of what was booked; the record has it
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
	Digest    string    `json:"-"` // the record has it
	State     string    `json:"state"`
	Shipments []string  `json:"shipments"` // references
	Number    string    `json:"number,omitempty"`
	Warnings  []warning `json:"warnings,omitempty"`
}

// image is a label or a form. It has a key of its own, so that it can be forgotten earlier.
type image struct {
	Kind   string `json:"kind"`
	Format string `json:"format"`
	Data   []byte `json:"data"`
}

// entry is what is kept in memory of a shipment; the rest is read from the book.
type entry struct {
	purchases.State
	returned bool
	service  string
	pounds   string
	date     string
	tracking string
	voiding  bool // it was asked for
	voided   *voided
	manifest string // reference of the manifest that names it and was not refused
	closed   bool   // that manifest was made
}

// record is the book, and what memory knows of it besides.
type record struct {
	*purchases.Record

	mu        sync.Mutex // of all below, which are taken from the lines of the book
	shipments map[string]*entry
	numbers   map[string]string // tracking number to reference
	pickups   map[string]*collection
	confirmed map[string]string // confirmation to reference
	manifests map[string]*closing
}

func openRecord(dir string, clock func() time.Time, log *slog.Logger) (*record, error) {
	r := &record{}
	keep := func(key string) time.Duration {
		if strings.HasPrefix(key, ofImage) {
			return keepImages
		}
		return keepRest
	}
	var err error
	r.Record, err = purchases.Open(purchases.Config{Dir: dir, Name: "book", Kind: "usps", Version: recordVersion, Setting: setState, Log: log, Now: clock,
		Keep: keep, Index: r.index})
	return r, err
}

func (r *record) index() func(*purchases.Line, purchases.State) error {
	r.shipments, r.numbers = map[string]*entry{}, map[string]string{}
	r.pickups, r.confirmed = map[string]*collection{}, map[string]string{}
	r.manifests = map[string]*closing{}
	return func(l *purchases.Line, s purchases.State) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		kind, reference, _ := strings.Cut(l.Key, " ")
		switch kind {
		case ofShipment:
			return r.takeShipment(reference, l, s)
		case ofPickup:
			return r.takePickup(reference, l, s)
		case ofManifest:
			return r.takeManifest(reference, l, s)
		case ofImage:
			return nil
		}
		return errors.New("the line says nothing that this program knows: use the newer program")
	}
}

// takeShipment takes in a line of a shipment. A note says that it is to be taken back, and once
// that has an answer, how it was.
func (r *record) takeShipment(reference string, l *purchases.Line, s purchases.State) error {
	if l.Phase == purchases.Begun {
		var b begun
		if err := json.Unmarshal(l.Body, &b); err != nil {
			return err
		}
		r.shipments[reference] = &entry{State: s, returned: b.Return, service: b.Service, pounds: b.Pounds, date: b.Date}
		return nil
	}
	e := r.shipments[reference]
	if e == nil {
		return errors.New("the shipment was never begun")
	}
	e.State = s
	switch {
	case l.Phase == purchases.Done:
		var b bought
		if err := json.Unmarshal(l.Body, &b); err != nil {
			return err
		}
		e.tracking = b.Tracking
		r.numbers[b.Tracking] = reference
	case l.Phase == purchases.Noted && l.Body == nil:
		e.voiding = true
	case l.Phase == purchases.Noted:
		e.voided = &voided{}
		return json.Unmarshal(l.Body, e.voided)
	}
	return nil
}

// takePickup takes in a pickup as it stands after a request. Notes are of what comes after the
// booking.
func (r *record) takePickup(reference string, l *purchases.Line, s purchases.State) error {
	p := &collection{Reference: reference, State: refused}
	if l.Phase != purchases.Undone {
		if err := json.Unmarshal(l.Body, p); err != nil {
			return err
		}
	}
	p.Digest = s.Digest
	r.pickups[reference] = p
	if p.Confirmation != "" {
		r.confirmed[p.Confirmation] = reference
	}
	return nil
}

func (r *record) takeManifest(reference string, l *purchases.Line, s purchases.State) error {
	m := &closing{Reference: reference, State: refused}
	if l.Phase != purchases.Undone {
		if err := json.Unmarshal(l.Body, m); err != nil {
			return err
		}
	} else if before := r.manifests[reference]; before != nil {
		m.Shipments = before.Shipments
	}
	m.Digest = s.Digest
	r.manifests[reference] = m
	for _, shipment := range m.Shipments {
		e := r.shipments[shipment]
		switch {
		case e == nil: // it was forgotten
		case m.State != refused:
			e.manifest, e.closed = reference, m.State == done
		case e.manifest == reference:
			e.manifest, e.closed = "", false
		}
	}
	return nil
}

// after is the error of a line that says what the provider has done: when it is not written,
// that is known to nobody.
func after(what string, err error) error {
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

// begun reads again how a label was asked for. What cannot be read may be there all the same.
func (r *record) begun(e *entry) (*begun, error) {
	b := &begun{}
	if err := r.Asked(e.State, b); err != nil {
		return nil, uncertain(err)
	}
	return b, nil
}

// bought reads again what the provider answered.
func (r *record) bought(e *entry) (*bought, error) {
	b := &bought{}
	if err := r.Answer(e.State, b); err != nil {
		return nil, uncertain(err)
	}
	return b, nil
}

// image gives a label or a form of what has a key; nil: it is not kept any more.
func (r *record) image(of string) (*image, error) {
	s, err := r.Find(imageKey(of))
	if err != nil || s.Phase != purchases.Done {
		return nil, err
	}
	picture := &image{}
	if err := r.Answer(s, picture); err != nil {
		return nil, uncertain(err)
	}
	return picture, nil
}

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
