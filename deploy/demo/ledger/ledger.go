// Package ledger is what each system of the demo writes down for itself: what it sent and
// what it took, in its own order. The reconciliation compares these records and nothing
// else, so that Crossdock is not its own witness.
//
// It knows nothing of agents and control plane. Its invariant: an entry is written when
// the system did the thing, once, and never changed.
package ledger

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Act is what a system did.
type Act string

// The acts.
const (
	Sent   Act = "sent"   // made an event; from here on it must arrive
	Taken  Act = "taken"  // acted on an event
	Repeat Act = "repeat" // recognised an event that it had acted on, and did nothing
	Noted  Act = "noted"  // got an answer that leaves no event
)

// Entry is one line of a ledger.
type Entry struct {
	At     time.Time `json:"at"`
	Act    Act       `json:"act"`
	ID     string    `json:"id"`
	Source string    `json:"source"` // CloudEvents source: the system that made the event
	Type   string    `json:"type"`
	Key    string    `json:"key"`
	Region string    `json:"region,omitempty"`
	Step   string    `json:"step,omitempty"`
	Call   *Call     `json:"call,omitempty"` // nil: it has to do with no carrier and no tax engine
}

// Call is what the system saw of a call to a carrier or a tax engine.
type Call struct {
	Status      string   `json:"status,omitempty"` // of a tax: calculated or not_calculated
	Provisional bool     `json:"provisional,omitempty"`
	Amount      string   `json:"amount,omitempty"` // tax or freight; empty: not known, which is not zero
	Currency    string   `json:"currency,omitempty"`
	Numbers     []string `json:"numbers,omitempty"`   // of parcels
	Shipments   []string `json:"shipments,omitempty"` // on a manifest
	Papers      []Paper  `json:"papers,omitempty"`
}

// Paper is a document: the hash by which an event names it, and that of what was found there.
type Paper struct {
	Kind  string `json:"kind"`
	Named string `json:"named"`
	Found string `json:"found"`
}

// Ledger is one system's record, on disk as JSON Lines.
type Ledger struct {
	mu      sync.Mutex // guards what follows
	file    *os.File
	entries []Entry
}

// Create begins an empty ledger.
func Create(path string) (*Ledger, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &Ledger{file: f}, nil
}

// Write adds an entry.
func (l *Ledger) Write(e Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := l.file.Write(append(line, '\n')); err != nil {
		return err
	}
	l.entries = append(l.entries, e)
	return nil
}

// Entries is a copy of the record so far.
func (l *Ledger) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Entry(nil), l.entries...)
}

// Close ends the ledger.
func (l *Ledger) Close() error { return l.file.Close() }

// Read reads a ledger from its file.
func Read(path string) (entries []Entry, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var e Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		entries = append(entries, e)
	}
	return entries, lines.Err()
}
