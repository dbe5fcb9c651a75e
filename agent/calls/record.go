package calls

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// State is where a call stands.
type State string

// The states.
const (
	Begun   State = "begun"   // it is being made; after a crash its outcome is unknown
	Unknown State = "unknown" // it may have been done; that is being found out
	Queued  State = "queued"  // it waits for the line, in the order of its plugin
	Done    State = "done"
	Failed  State = "failed" // for good
	Retry   State = "retry"  // surely not done, or harmless to do again: the same request makes it again
)

// open says that somebody still has to do something.
func (s State) open() bool { return s == Begun || s == Unknown || s == Queued }

// Known says whether a state is one of ours.
func (s State) Known() bool {
	switch s {
	case Begun, Unknown, Queued, Done, Failed, Retry:
		return true
	}
	return false
}

// record is a call as it is kept.
type record struct {
	ID        string `json:"id"`
	System    string `json:"system"` // that asked
	Kind      string `json:"kind"`
	Plugin    string `json:"plugin"`
	Operation string `json:"operation"`
	Reference string `json:"reference"`
	Key       string `json:"key"`
	Hash      string `json:"hash"` // of what was asked

	Body    json.RawMessage     `json:"body"`
	Numbers map[string][]string `json:"numbers,omitempty"` // of the site's ranges
	Buys    bool                `json:"buys,omitempty"`    // as the plugin described it
	Doubt   bool                `json:"doubt,omitempty"`   // it may be one that was made before and cannot be read any more

	State    State     `json:"state"`
	Attempts int       `json:"attempts"`
	Strikes  int       `json:"strikes,omitempty"` // attempts that failed while the line was there
	Began    time.Time `json:"began"`
	Asked    time.Time `json:"asked"` // last
	Ended    time.Time `json:"ended,omitzero"`
	Deadline time.Time `json:"deadline,omitzero"`
	Turn     uint64    `json:"turn,omitempty"` // place in its plugin's queue
	Waited   bool      `json:"waited,omitempty"`

	Voided  string          `json:"voided,omitempty"` // the call that gave back what this one bought
	Answer  json.RawMessage `json:"answer,omitempty"`
	Failure *sdk.Error      `json:"failure,omitempty"` // the last one, of an open call too

	Provisional json.RawMessage `json:"provisional,omitempty"` // what another engine answered meanwhile
	Engine      string          `json:"engine,omitempty"`      // that one
	Difference  *Difference     `json:"difference,omitempty"`
}

// names are what a call is claimed by.
func (r *record) names(op *operation) []string {
	names := []string{"key\x00" + r.System + "\x00" + r.Key}
	if op.bought {
		names = append(names, "ref\x00"+r.Plugin+"\x00"+r.Reference)
	}
	return names
}

// failureOf is an error as it is kept.
func failureOf(err error) *sdk.Error { return sdk.AsError(err).Bounded() }

// Code says of what kind a refusal is.
type Code string

// The codes of refusals.
const (
	NoSuch     Code = "no-such" // operation, plugin or call
	NotAllowed Code = "not-allowed"
	Invalid    Code = "invalid"     // the request cannot be read
	NoKey      Code = "no-key"      // an idempotency key is needed
	OtherBody  Code = "other-body"  // the key came before with another request
	OtherUse   Code = "other-use"   // the reference was used for something else
	InDoubt    Code = "in-doubt"    // the outcome is unknown
	CallFailed Code = "call-failed" // Failure says why
	NoNumbers  Code = "no-numbers"
	Busy       Code = "busy"
	NotKept    Code = "not-kept" // the journal of calls cannot be written; nothing was done
)

// Refusal is why a request has no answer.
type Refusal struct {
	Code       Code
	Detail     string
	Field      string // of the request
	RetryAfter time.Duration
	ID         string // of the call, if there is one
	Failure    *sdk.Error
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Code, r.Detail) }

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// failed is the refusal of a call that the plugin did not do.
func failed(id string, f *sdk.Error) *Refusal {
	return &Refusal{Code: CallFailed, ID: id, Detail: f.Message, Field: f.Field, RetryAfter: time.Duration(f.RetryAfter), Failure: f}
}
