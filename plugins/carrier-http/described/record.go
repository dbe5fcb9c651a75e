package described

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
)

// lineVersion is of the lines below, as this program writes them.
const lineVersion = 1

// line is one entry of the record.
type line struct {
	Time   time.Time       `json:"time"`
	Key    string          `json:"key"` // the operation and the caller's reference
	Phase  string          `json:"phase"`
	Digest string          `json:"digest,omitempty"` // of what was asked for
	Asked  json.RawMessage `json:"asked,omitempty"`  // of what is looked up or repeated: the request
	Name   string          `json:"name,omitempty"`   // of its operation
	Answer json.RawMessage `json:"answer,omitempty"` // of what is done
}

// How far a call has come.
const (
	begun  = "begun"  // it was sent, or was about to be, and nobody knows more
	done   = "done"   // it has an answer
	undone = "undone" // it was surely not done
)

// state is what memory holds of a key; without a phase it was never begun.
type state struct {
	phase  string
	digest string
	name   string
	since  time.Time
	asked  book.Place
	place  book.Place
	size   int64 // of all its lines
	last   time.Time
}

// record is what was bought: the provider may not be asked for all of it again.
type record struct {
	book *book.Book
	log  *slog.Logger
	now  func() time.Time

	mu     sync.Mutex // of all below
	states map[string]*state
	size   int64
	newest time.Time
}

func openRecord(dir string, keep time.Duration, log *slog.Logger, now func() time.Time) (*record, error) {
	r := &record{log: log, now: now, states: map[string]*state{}}
	b, err := book.Open(book.Config{Dir: dir, Name: "calls", Kind: "carrier-http", Version: lineVersion, Setting: setState, Log: log}, r.read)
	if err != nil {
		return nil, err
	}
	r.book = b
	if err := r.forget(keep); err != nil {
		if sdk.ClassOf(err) != sdk.Unavailable {
			return nil, errors.Join(sdk.Errorf(sdk.Validation, "the record cannot be used: %v", err).At(setState), b.Close())
		}
		log.Warn("the record could not be made shorter; it is as it was", "error", err)
	}
	return r, nil
}

func decodeLine(rec *book.Record) (*line, error) {
	l := &line{}
	if err := json.Unmarshal(rec.Body, l); err != nil {
		return nil, err
	}
	if l.Key == "" || l.Phase != begun && l.Phase != done && l.Phase != undone {
		return nil, errors.New("the line says nothing that this program knows")
	}
	return l, nil
}

func (r *record) read(rec *book.Record) error {
	l, err := decodeLine(rec)
	if err == nil {
		r.take(l, rec.Place)
	}
	return err
}

// take brings memory up to a line that is on disk.
func (r *record) take(l *line, place book.Place) {
	s := r.states[l.Key]
	if s == nil {
		s = &state{}
		r.states[l.Key] = s
	}
	s.phase, s.last = l.Phase, l.Time
	switch l.Phase {
	case begun:
		s.digest, s.name, s.since, s.asked = l.Digest, l.Name, l.Time, place
	case done:
		s.place = place
	}
	s.size += int64(place.Size())
	r.size += int64(place.Size())
	if l.Time.After(r.newest) {
		r.newest = l.Time
	}
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
	for key, s := range r.states {
		if s.last.Before(before) && s.phase != begun {
			gone[key] = true
			old += s.size
		}
	}
	if old <= r.size/2 {
		return nil
	}
	r.states, r.size, r.newest = map[string]*state{}, 0, time.Time{}
	return r.book.Rewrite(func(rec *book.Record) bool {
		l, err := decodeLine(rec)
		return err != nil || !gone[l.Key]
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
	if err := r.write(&line{Key: key, Phase: undone}); err != nil {
		r.log.Warn("a call that was refused stays without an outcome in the record", "error", err)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.states[key].phase = undone
	}
}

// at reads a line again.
func (r *record) at(place book.Place) (*line, error) {
	rec, err := r.book.Read(place)
	if err != nil {
		return nil, err
	}
	l, err := decodeLine(rec)
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
			return nil, sdk.Errorf(sdk.UnknownOutcome, "the same reference is being worked on by another call, and the caller of this one is gone")
		}
	}
}
