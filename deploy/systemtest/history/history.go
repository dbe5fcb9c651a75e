// Package history records what a test saw, and judges it: of events on their way, of
// operations at the control plane, of its audit record, of the revisions that agents run,
// of what processes take and of the files that they leave. README.md says which invariant
// is judged by what, and in which runs.
//
// It refuses to know how any of that works; it sees only what was offered and answered at
// one end and what arrived at the other, and where it computes anew what the product has
// computed, it shares no code with it. Its invariant: the order of its lines is an order in
// which the noted things may have happened, and an acceptance stands in it only after its
// answer was read.
package history

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"sync"
)

// Kind is what a line says.
type Kind string

// The kinds.
const (
	Offered  Kind = "offered"  // an event is about to be sent to an agent, perhaps not for the first time
	Accepted Kind = "accepted" // its 202 was read
	Begun    Kind = "begun"    // a system got an attempt
	Ended    Kind = "ended"    // the system has decided on its answer
	Held     Kind = "held"     // an agent's journal holds the event
	Dead     Kind = "dead"     // the event stands as a dead letter that a person can see
	Lost     Kind = "lost"     // an exception that a person can see names the event as lost, or counts it as given up
	Out      Kind = "out"      // an agent is revoked, and was seen to be put out
)

// Line is one thing that was seen. An event is known by its source and id.
type Line struct {
	Kind        Kind
	Agent       string `json:",omitempty"` // that accepted, or that holds, or that is put out
	From        string `json:",omitempty"` // agent that accepted what Agent holds, as Agent has it from the line
	System      string `json:",omitempty"`
	Source, ID  string
	Key         string `json:",omitempty"`
	Position    uint64 `json:",omitempty"` // in the journal of Agent
	Attempt     int    `json:",omitempty"` // ties Ended to Begun
	Idempotency string `json:",omitempty"`
	Data        string `json:",omitempty"` // hash of the event's data
	Body        string `json:",omitempty"` // hash of the whole message
	Done        bool   `json:",omitempty"` // the system did what it was asked
}

// Hash is how lines name contents.
func Hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8])
}

// History is a growing list of lines. It is safe for concurrent use.
type History struct {
	mu       sync.Mutex // guards what follows
	lines    []Line
	counts   map[Kind]int
	attempts int
}

// Add notes a line.
func (h *History) Add(l Line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(l)
}

// add is Add while h.mu is held.
func (h *History) add(l Line) {
	h.lines = append(h.lines, l)
	if h.counts == nil {
		h.counts = map[Kind]int{}
	}
	h.counts[l.Kind]++
}

// Count tells how many lines of a kind there are, without looking at them: a long history
// is asked that often.
func (h *History) Count(k Kind) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts[k]
}

// Begin notes an attempt and gives the function that notes its end. The system decides
// inside of the two: what it does in between it does for this attempt.
func (h *History) Begin(l Line) (end func(done bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts++
	l.Kind, l.Attempt = Begun, h.attempts
	h.add(l)
	return func(done bool) {
		l.Kind, l.Done = Ended, done
		h.Add(l)
	}
}

// Lines gives a copy of what was noted so far.
func (h *History) Lines() []Line {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Line(nil), h.lines...)
}

// Clone gives a history of its own with the same lines.
func (h *History) Clone() *History {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &History{lines: append([]Line(nil), h.lines...), counts: maps.Clone(h.counts), attempts: h.attempts}
}

// Save writes the lines as JSON Lines, for somebody who has to understand a fault.
func (h *History) Save(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	encoder := json.NewEncoder(w)
	for _, l := range h.Lines() {
		if err = encoder.Encode(l); err != nil {
			break
		}
	}
	if flushed := w.Flush(); err == nil {
		err = flushed
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
