package mydhl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
)

// lineVersion is of the lines below, as this program writes them.
const lineVersion = 1

// line is one entry of the record. Exactly one of its parts is there.
type line struct {
	Time    time.Time `json:"time"`
	Begun   *begun    `json:"begun,omitempty"`   // before an order is sent
	Undone  string    `json:"undone,omitempty"`  // its key: it was surely not done
	Sold    *sold     `json:"sold,omitempty"`    // the shipment that came of it
	Picked  *picked   `json:"picked,omitempty"`  // the collection
	Dropped string    `json:"dropped,omitempty"` // its key: the collection is cancelled
}

// begun is an order that is about to be sent, with what it is looked for by.
type begun struct {
	Key     string   `json:"key"`
	Digest  string   `json:"digest"`         // of what was asked for
	Mark    string   `json:"mark,omitempty"` // the reference as the provider has it
	Product string   `json:"product,omitempty"`
	Date    string   `json:"date,omitempty"`
	Back    bool     `json:"back,omitempty"`
	Customs bool     `json:"customs,omitempty"`
	Account string   `json:"account,omitempty"`
	Parcels []string `json:"parcels,omitempty"` // the caller's references
	Weight  string   `json:"weight,omitempty"`  // of all, in kilograms
}

// sold is a shipment that exists at the provider.
type sold struct {
	Key       string     `json:"key"`
	Shipment  string     `json:"shipment"`
	Tracking  []string   `json:"tracking"` // in the order of the parcels
	Labels    []int      `json:"labels"`   // of each parcel, in Documents; -1: none of its own
	Documents []document `json:"documents,omitempty"`
	Price     *price     `json:"price,omitempty"`
	Warnings  []note     `json:"warnings,omitempty"`
}

type document struct {
	Kind   string `json:"kind"`
	Format string `json:"format"`
	Data   []byte `json:"data"`
}

type price struct {
	Currency string   `json:"currency"`
	Total    number   `json:"total"`
	Charges  []charge `json:"charges"`
}

type charge struct {
	Kind   string `json:"kind"`
	Code   string `json:"code,omitempty"`
	Name   string `json:"name,omitempty"`
	Amount number `json:"amount"`
}

type note struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// picked is a collection that exists at the provider.
type picked struct {
	Key          string `json:"key"`
	Confirmation string `json:"confirmation"`
	Date         string `json:"date"`
	Ready        string `json:"ready"`
	Close        string `json:"close"`
	Warnings     []note `json:"warnings,omitempty"`
}

// How far an order has come.
const (
	phaseNone   = iota // never begun, or surely not done
	phaseBegun         // it was sent, or was about to be, and nobody knows more
	phaseDone          // it exists at the provider
	phaseFailed        // the same as none: it stays for its digest
)

// state is what memory holds of a key.
type state struct {
	phase  int
	since  time.Time
	begun  begun
	place  book.Place // of the line with the outcome
	number string     // the provider's, of a shipment or a collection
}

// record is what was ordered: the provider cannot be asked for it at once, and never for a
// label again.
type record struct {
	book *book.Book
	log  *slog.Logger
	now  func() time.Time

	mu       sync.Mutex // of all below
	states   map[string]*state
	tracking map[string]string // tracking numbers and shipment numbers to keys
	size     int64             // bytes of all lines
	newest   time.Time         // of all lines
	times    map[string]lasting
}

// lasting is what a key takes in the file, and since when.
type lasting struct {
	size int64
	last time.Time
}

func openRecord(dir string, keep time.Duration, log *slog.Logger, now func() time.Time) (*record, error) {
	r := &record{log: log, now: now}
	r.clear()
	b, err := book.Open(book.Config{Dir: dir, Name: "orders", Kind: "carrier-mydhl", Version: lineVersion, Setting: setState, Log: log}, r.read)
	if err != nil {
		return nil, err
	}
	r.book = b
	if err := r.forget(keep); err != nil {
		if sdk.ClassOf(err) != sdk.Unavailable {
			return nil, sdk.Errorf(sdk.Validation, "the record cannot be used: %v", err).At(setState)
		}
		log.Warn("the record could not be made shorter; it is as it was", "error", err)
	}
	return r, nil
}

func (r *record) clear() {
	r.states, r.tracking, r.times = map[string]*state{}, map[string]string{}, map[string]lasting{}
	r.size, r.newest = 0, time.Time{}
}

func (r *record) close() error { return r.book.Close() }

func decode(rec *book.Record) (*line, error) {
	l := &line{}
	if err := json.Unmarshal(rec.Body, l); err != nil {
		return nil, err
	}
	return l, nil
}

func (r *record) read(rec *book.Record) error {
	l, err := decode(rec)
	if err != nil {
		return err
	}
	if l.key() == "" {
		return errors.New("the line says nothing that this program knows")
	}
	r.take(l, rec.Place)
	return nil
}

// key is of what the line is about.
func (l *line) key() string {
	switch {
	case l.Begun != nil:
		return l.Begun.Key
	case l.Sold != nil:
		return l.Sold.Key
	case l.Picked != nil:
		return l.Picked.Key
	case l.Dropped != "":
		return l.Dropped
	}
	return l.Undone
}

// take brings memory up to a line that is on disk.
func (r *record) take(l *line, place book.Place) {
	key := l.key()
	s := r.states[key]
	if s == nil {
		s = &state{}
		r.states[key] = s
	}
	switch {
	case l.Begun != nil:
		s.phase, s.since, s.begun = phaseBegun, l.Time, *l.Begun
	case l.Sold != nil:
		s.phase, s.place, s.number = phaseDone, place, l.Sold.Shipment
		for _, n := range append([]string{l.Sold.Shipment}, l.Sold.Tracking...) {
			r.tracking[n] = key
		}
	case l.Picked != nil:
		s.phase, s.place, s.number = phaseDone, place, l.Picked.Confirmation
	case l.Dropped != "":
		s.phase = phaseDone
	default:
		s.phase = phaseFailed
	}
	if l.Time.After(r.newest) {
		r.newest = l.Time
	}
	t := r.times[key]
	t.size, t.last = t.size+int64(place.Size()), l.Time
	r.times[key] = t
	r.size += int64(place.Size())
}

// forget takes out what is older than the time for which it is kept, once that is more than
// half of the file. What has no outcome stays. The time counts back from the newest line if
// that is before now, so that a clock that runs ahead does not clear the record.
func (r *record) forget(keep time.Duration) error {
	before := r.now()
	if r.newest.Before(before) {
		before = r.newest
	}
	before = before.Add(-keep)
	gone, old := map[string]bool{}, int64(0)
	for key, t := range r.times {
		if t.last.Before(before) && r.states[key].phase != phaseBegun {
			gone[key] = true
			old += t.size
		}
	}
	if old <= r.size/2 {
		return nil
	}
	r.clear()
	return r.book.Rewrite(func(rec *book.Record) bool {
		l, err := decode(rec)
		return err != nil || !gone[l.key()]
	}, r.read)
}

// find gives a copy of what memory holds of a key.
func (r *record) find(key string) (state, error) {
	if err := r.book.Usable(); err != nil {
		return state{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.states[key]; s != nil {
		return *s, nil
	}
	return state{}, nil
}

// ofTracking gives the key and the state of what has a number.
func (r *record) ofTracking(number string) (key string, s state, found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key, found = r.tracking[number]; found {
		s = *r.states[key]
	}
	return key, s, found
}

// write appends a line and forces it to disk.
func (r *record) write(l *line) error {
	l.Time = r.now().UTC()
	text, err := json.Marshal(l)
	if err != nil {
		return sdk.Errorf(sdk.Internal, "the record cannot be written: %v", err)
	}
	place, err := r.book.Append(lineVersion, text)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take(l, place)
	return nil
}

// undone says that what was begun was surely not done. If that cannot be written, this process
// knows it, and the next one has to look.
func (r *record) undone(key string) {
	if err := r.write(&line{Undone: key}); err != nil {
		r.log.Warn("an order that was refused stays without an outcome in the record", "error", err)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.states[key].phase = phaseFailed
	}
}

// outcome reads the line with the outcome of a key.
func (r *record) outcome(s *state) (*line, error) {
	rec, err := r.book.Read(s.place)
	if err != nil {
		return nil, err
	}
	l, err := decode(rec)
	if err != nil {
		return nil, sdk.Errorf(sdk.Internal, "the record cannot be read: %v", err).Suggest("restore it from a backup")
	}
	return l, nil
}

// flights lets one call at a time work on a key.
type flights struct {
	mu   sync.Mutex
	keys map[string]chan struct{}
}

// enter waits for its turn. Whoever enters has to leave.
func (f *flights) enter(ctx context.Context, key string) (leave func(), err error) {
	for {
		f.mu.Lock()
		other := f.keys[key]
		if other == nil {
			if f.keys == nil {
				f.keys = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			f.keys[key] = mine
			f.mu.Unlock()
			return func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				delete(f.keys, key)
				close(mine)
			}, nil
		}
		f.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, sdk.Errorf(sdk.UnknownOutcome, "the same reference is being ordered by another call, and the caller of this one is gone")
		}
	}
}

func shipKey(reference string) string      { return "ship:" + reference }
func pickupKey(reference string) string    { return "pickup:" + reference }
func cancelKey(confirmation string) string { return "cancel:" + confirmation }

// lost is the error for an order whose answer was lost, and of which nobody can tell more.
func lost(what string, since time.Time) *sdk.Error {
	return sdk.Errorf(sdk.UnknownOutcome, "%s was sent to DHL on %s, and its answer was lost", what, since.UTC().Format(time.DateTime)).
		Suggest(fmt.Sprintf("ask DHL whether it has it; if not, order it under another reference; see also the setting %s", setSettle))
}
