package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Linear is what operations at the control plane keep: each seems to happen at one moment
// between its call and its answer. The search for such moments is a program of its own,
// scripts/linear, because of the library that it needs.
const Linear Property = "linear"

// Verb is what was asked of the control plane.
type Verb string

// The verbs.
const (
	Begin   Verb = "begin"   // a read while nothing else was under way; it says where the history begins
	Read    Verb = "read"    // that was promised to be current
	Create  Verb = "create"  // a principal
	Disable Verb = "disable" // a principal
	Propose Verb = "propose" // a revision
	Approve Verb = "approve" // a revision, which takes the place of its base: compare and set
)

// Outcome is what is known of an operation.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused" // for what it found: nothing was changed
	Unknown Outcome = "unknown" // it may have happened, may happen yet, or never
	Failed  Outcome = "failed"  // for what it did not find, such as a leader: nothing was changed, and nothing is said of the object
)

// The states of a principal, as a read finds it.
const (
	Absent   = "absent"
	Enabled  = "enabled"
	Disabled = "disabled"
)

// Policy is the object of everything about revisions: which one is in force.
const Policy = "policy"

// Operation is one call of the control plane's API.
type Operation struct {
	Verb     Verb
	Object   string        // Policy, or the name of a principal
	By       string        // principal
	Node     string        `json:",omitempty"` // address of the node that was asked; empty: one after the other
	Invoked  time.Duration // since the beginning of the record
	Returned time.Duration // with an unknown outcome: when the caller gave up
	Outcome  Outcome
	Revision uint64 `json:",omitempty"` // proposed, approved or read; 0: none
	Base     uint64 `json:",omitempty"` // of the revision proposed or approved
	State    string `json:",omitempty"` // of a principal, as read
}

// Operations is a growing record of operations. It is safe for concurrent use.
type Operations struct {
	began time.Time

	mu   sync.Mutex // guards list
	list []Operation
}

// NewOperations begins a record.
func NewOperations() *Operations { return &Operations{began: time.Now()} }

// Since is the moment now, as operations note it.
func (o *Operations) Since() time.Duration { return time.Since(o.began) }

// Add notes an operation that has come to its end.
func (o *Operations) Add(one Operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, one)
}

// Changes counts the changes that were done.
func (o *Operations) Changes() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.list {
		if v := o.list[i].Verb; o.list[i].Outcome == Done && v != Read && v != Begin {
			n++
		}
	}
	return n
}

// From gives a copy of what was noted from a number on.
func (o *Operations) From(n int) []Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Operation(nil), o.list[n:]...)
}

// SaveOperations writes operations as JSON Lines.
func SaveOperations(file string, list []Operation) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	encoder := json.NewEncoder(w)
	for i := range list {
		err = errors.Join(err, encoder.Encode(&list[i]))
	}
	return errors.Join(err, w.Flush(), f.Close())
}

// ReadOperations reads what SaveOperations has written. It refuses what it does not know.
func ReadOperations(r io.Reader) (out []Operation, err error) {
	in := json.NewDecoder(r)
	in.DisallowUnknownFields()
	for {
		var one Operation
		switch err := in.Decode(&one); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("operation %d: %w", len(out)+1, err)
		}
		out = append(out, one)
	}
}
