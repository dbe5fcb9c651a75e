package sdk

import (
	"errors"
	"fmt"
)

// Class says what kind of failure it is; what the host does about it depends on nothing else.
type Class string

// The classes.
const (
	Validation     Class = "validation"      // the request is wrong; Field says where
	Auth           Class = "auth"            // the provider does not let this account in
	NotServiced    Class = "not_serviced"    // the provider does not serve this place, weight, date
	NotSupported   Class = "not_supported"   // the plugin or the provider has no such operation or option
	Expired        Class = "expired"         // what the request builds on is no longer valid, such as a rate
	Duplicate      Class = "duplicate"       // it was done before, under another request
	Conflict       Class = "conflict"        // it contradicts what was done before, such as a void after pickup
	NotFound       Class = "not_found"       // there is nothing of that reference; of GetByReference: it was surely not done
	Throttled      Class = "throttled"       // too many calls; RetryAfter says when
	Unavailable    Class = "unavailable"     // surely not done, because the provider cannot be reached or is down
	UnknownOutcome Class = "unknown_outcome" // it was sent and no answer came: it may have been done
	Internal       Class = "internal"        // a fault of the plugin
)

// Fault says who has to do something.
type Fault string

// The parties.
const (
	FaultCaller   Fault = "caller"
	FaultProvider Fault = "provider"
	FaultNetwork  Fault = "network"
	FaultPlugin   Fault = "plugin"
)

// Limits of what an error may carry. What is longer is cut.
const (
	MaxMessage      = 1 << 10 // bytes, likewise of Suggestion
	MaxField        = 256
	MaxProviderCode = 64
	MaxProviderText = 4 << 10
)

// Error is what a plugin answers in place of a result. Each class but UnknownOutcome says that
// nothing was done. Every other error, and one of a class that nobody knows, is taken for
// UnknownOutcome of a call that buys, and for Internal of all others.
type Error struct {
	Class      Class    `json:"class"`
	Fault      Fault    `json:"fault"`
	Message    string   `json:"message"`              // what is wrong, for people
	Field      string   `json:"field,omitempty"`      // path in the request: parcels[1].weight
	Suggestion string   `json:"suggestion,omitempty"` // what to do
	Retryable  bool     `json:"retryable"`            // the same call may succeed later
	RetryAfter Span     `json:"retryAfter,omitzero"`  // not before; zero: as the host likes
	Provider   Provider `json:"provider,omitzero"`
}

// Provider is the other side's own word, as it came.
type Provider struct {
	Code string `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
}

func (e *Error) Error() string {
	text := string(e.Class) + ": " + e.Message
	if e.Field != "" {
		text = string(e.Class) + ": " + e.Field + ": " + e.Message
	}
	if e.Provider.Code != "" {
		text += " (" + e.Provider.Code + ")"
	}
	return text
}

// Errorf makes an error of a class, with what follows from it.
func Errorf(class Class, format string, args ...any) *Error {
	e := &Error{Class: class, Message: fmt.Sprintf(format, args...)}
	switch class {
	case Validation, NotSupported, NotServiced, Expired, Duplicate, Conflict, NotFound:
		e.Fault = FaultCaller
	case Auth:
		e.Fault = FaultCaller
	case Throttled:
		e.Fault, e.Retryable = FaultProvider, true
	case Unavailable, UnknownOutcome:
		e.Fault, e.Retryable = FaultNetwork, true
	default:
		e.Fault = FaultPlugin
	}
	return e
}

// At gives the error the path of the field that is wrong.
func (e *Error) At(field string) *Error { e.Field = field; return e }

// Suggest adds what to do.
func (e *Error) Suggest(text string) *Error { e.Suggestion = text; return e }

// ClassOf gives an error's class; of one that is none of ours it is Internal.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Internal
}

// Warning stands beside a result that holds in spite of it.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}
