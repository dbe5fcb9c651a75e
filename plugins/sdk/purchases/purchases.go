// Package purchases is the record of what a plugin bought of a provider that cannot be asked
// for all of it again.
//
// It owns what was begun, what came of it and when it is forgotten, over a book on disk, and
// that one call at a time works on a key; it refuses to know what was asked and answered, which
// are JSON of the plugin's own types. Its invariant: what was begun is never forgotten before it
// has an outcome, and what has one is answered the same after every start.
package purchases

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
)

// lineVersion is of Line, as this program writes it.
const lineVersion = 1

// Config says where a record is and what a plugin keeps in it.
type Config struct {
	Dir     string // made if it is not there; one process has it at a time
	Name    string // of the files in it
	Kind    string // the plugin; a record of another one is refused
	Version int    // of the newest bodies that the plugin can read, and of those that it writes
	Setting string // that Dir comes from; errors of Open are at it
	Log     *slog.Logger
	Now     func() time.Time

	// Keep is the time for which a key that has an outcome is kept at least.
	Keep func(key string) time.Duration
	// Index begins an index of the plugin's own, and gives what takes in each line of the record
	// and what its key is after it, in order; nil: there is none. An error refuses the record.
	Index func() func(*Line, State) error

	// OpenFile and Exit are those of a book.
	OpenFile func(path string) (book.File, error)
	Exit     func(code int)
}

// Phase is how far a key has come; empty: it was never begun.
type Phase string

// The phases.
const (
	Begun  Phase = "begun"  // it was sent, or was about to be, and nobody knows more
	Done   Phase = "done"   // it has an answer
	Undone Phase = "undone" // it was surely not done
	Noted  Phase = "noted"  // of a line alone: the key stays as it is
)

// Line is one entry of the record.
type Line struct {
	Time    time.Time       `json:"time"`
	Key     string          `json:"key"`
	Phase   Phase           `json:"phase"`
	Digest  string          `json:"digest,omitempty"` // of what is begun: what was asked for
	Version int             `json:"version"`          // of Body
	Body    json.RawMessage `json:"body,omitempty"`   // what is needed to look it up, the answer, or the note
}

// State is what memory holds of a key.
type State struct {
	Phase  Phase
	Digest string
	Since  time.Time // it was begun

	asked, answer book.Place
	size          int64 // of all its lines
	last          time.Time
}

// Record is an open record. It may be used by several at a time.
type Record struct {
	c     Config
	book  *book.Book
	turns turns

	mu     sync.Mutex // of all below; lines are taken in as they are written
	index  func(*Line, State) error
	states map[string]*State
	size   int64     // of all lines
	newest time.Time // of all lines
}

// Open reads the record, and forgets what is old.
func Open(c Config) (*Record, error) {
	r := &Record{c: c}
	r.clear()
	b, err := book.Open(book.Config{Dir: c.Dir, Name: c.Name, Kind: c.Kind, Version: lineVersion, Setting: c.Setting, Log: c.Log,
		OpenFile: c.OpenFile, Exit: c.Exit}, r.read)
	if err != nil {
		return nil, err
	}
	r.book = b
	if err := r.forget(); err != nil {
		if sdk.ClassOf(err) != sdk.Unavailable {
			return nil, sdk.Errorf(sdk.Validation, "the record cannot be used: %v", err).At(c.Setting)
		}
		c.Log.Warn("the record could not be made shorter; it is as it was", "error", err)
	}
	return r, nil
}

func (r *Record) clear() {
	r.states, r.size, r.newest = map[string]*State{}, 0, time.Time{}
	r.index = func(*Line, State) error { return nil }
	if r.c.Index != nil {
		r.index = r.c.Index()
	}
}

func decode(rec *book.Record) (*Line, error) {
	l := &Line{}
	if err := json.Unmarshal(rec.Body, l); err != nil {
		return nil, err
	}
	if l.Key == "" || l.Phase != Begun && l.Phase != Done && l.Phase != Undone && l.Phase != Noted {
		return nil, errors.New("the line says nothing that this program knows: use the newer program")
	}
	return l, nil
}

func (r *Record) read(rec *book.Record) error {
	l, err := decode(rec)
	if err != nil {
		return err
	}
	if l.Version > r.c.Version {
		return fmt.Errorf("what it says is of version %d, and this program reads up to %d: use the newer program", l.Version, r.c.Version)
	}
	return r.take(l, rec.Place)
}

// take brings memory up to a line that is on disk.
func (r *Record) take(l *Line, place book.Place) error {
	s := r.states[l.Key]
	if s == nil {
		s = &State{}
		r.states[l.Key] = s
	}
	switch l.Phase {
	case Begun:
		s.Phase, s.Digest, s.Since, s.asked = Begun, l.Digest, l.Time, place
	case Done:
		s.Phase, s.answer = Done, place
	case Undone:
		s.Phase = Undone
	}
	s.last = l.Time
	s.size += int64(place.Size())
	r.size += int64(place.Size())
	if l.Time.After(r.newest) {
		r.newest = l.Time
	}
	return r.index(l, *s)
}

// forget takes out the keys that are older than the time for which they are kept, once they are
// more than half of the file. What has no outcome stays. The time counts back from the newest
// line if that is before now, so that a clock that runs ahead does not clear the record.
func (r *Record) forget() error {
	from := r.c.Now()
	if r.newest.Before(from) {
		from = r.newest
	}
	gone, old := map[string]bool{}, int64(0)
	for key, s := range r.states {
		if s.Phase != Begun && s.last.Before(from.Add(-r.c.Keep(key))) {
			gone[key] = true
			old += s.size
		}
	}
	if old <= r.size/2 {
		return nil
	}
	r.c.Log.Info("the record is written anew without what is old", "bytes", r.size, "old", old)
	cleared := false // memory stays as it is if the file does; the newest line is always kept
	return r.book.Rewrite(func(rec *book.Record) bool {
		l, err := decode(rec)
		return err != nil || !gone[l.Key]
	}, func(rec *book.Record) error {
		if !cleared {
			cleared = true
			r.clear()
		}
		return r.read(rec)
	})
}

// Find gives what memory holds of a key.
func (r *Record) Find(key string) (State, error) {
	if err := r.book.Usable(); err != nil {
		return State{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.states[key]; s != nil {
		return *s, nil
	}
	return State{}, nil
}

// Begin is called before anything is sent. After an error nothing may be sent, so nothing was
// done: the class is never UnknownOutcome.
func (r *Record) Begin(key, digest string, asked any) error {
	return ahead(r.write(&Line{Key: key, Phase: Begun, Digest: digest}, asked))
}

// ahead is the error of a line that is written before anything is sent. Whether it is on disk
// may not be known, and that nothing was done is.
func ahead(err error) error {
	if err == nil || sdk.ClassOf(err) != sdk.UnknownOutcome {
		return err
	}
	e := *sdk.AsError(err)
	e.Class = sdk.Unavailable
	return &e
}

// Done writes down what a key is answered with from now on. After an error the key has no
// outcome: it is looked up, or sent again under the provider's key.
func (r *Record) Done(key string, answer any) error {
	return r.write(&Line{Key: key, Phase: Done}, answer)
}

// Note writes down what is about to happen to a key besides, or has, for the plugin's index.
// Its error is like that of Begin.
func (r *Record) Note(key string, what any) error {
	return ahead(r.write(&Line{Key: key, Phase: Noted}, what))
}

// Undone says that what was begun was surely not done. If that cannot be written, this process
// knows it, and the next one has to look.
func (r *Record) Undone(key string) {
	l := &Line{Key: key, Phase: Undone}
	if err := r.write(l, nil); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		err = errors.Join(err, r.take(l, book.Place{}))
		r.c.Log.Warn("what was refused stays without an outcome in the record", "key", key, "error", err)
	}
}

// write appends a line, forces it to disk and takes it in.
func (r *Record) write(l *Line, body any) error {
	l.Time, l.Version = r.c.Now().UTC(), r.c.Version
	text, err := []byte(nil), error(nil)
	if body != nil {
		l.Body, err = json.Marshal(body)
	}
	if err == nil {
		text, err = json.Marshal(l)
	}
	if err != nil {
		return sdk.Errorf(sdk.Internal, "the record cannot be written: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	place, err := r.book.Append(lineVersion, text)
	if err != nil {
		return err
	}
	return r.take(l, place)
}

// Asked reads again what a key was begun with.
func (r *Record) Asked(s State, into any) error { return r.again(s.asked, into) }

// Answer reads again what a key is answered with.
func (r *Record) Answer(s State, into any) error { return r.again(s.answer, into) }

func (r *Record) again(place book.Place, into any) error {
	if place.Size() == 0 {
		return unreadable(errors.New("it does not hold what is read"))
	}
	rec, err := r.book.Read(place)
	if err != nil {
		return err
	}
	l, err := decode(rec)
	if err == nil {
		err = json.Unmarshal(l.Body, into)
	}
	if err != nil {
		return unreadable(err)
	}
	return nil
}

func unreadable(err error) error {
	return sdk.Errorf(sdk.Internal, "the record cannot be read: %v", err).Suggest("restore it from a backup")
}

// Usable is an error of class Unavailable once a write has failed halfway.
func (r *Record) Usable() error { return r.book.Usable() }

// Close lets go of the record and of its directory.
func (r *Record) Close() error { return r.book.Close() }
