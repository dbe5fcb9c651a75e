package systems

import (
	"errors"
	"fmt"
	"time"
)

// Class says what a failure means for the next attempt.
type Class int

// The classes. Everything but Rejected is worth a repeat.
const (
	// Unavailable: nothing happened at the system as far as can be told; try again.
	Unavailable Class = iota + 1
	// Throttled: the system asks for patience; Error.RetryAfter says how much, if it did.
	Throttled
	// Rejected: the system refuses this content; a repeat gets the same answer.
	Rejected
	// Unknown: the request went out and the answer did not come back, so the effect may have
	// happened; only a repeat with the same idempotency key is safe.
	Unknown
	// Misconfigured: a person must change something (credential, address, certificate); the
	// delivery waits visibly and is tried again.
	Misconfigured
)

var classNames = [...]string{"", "unavailable", "throttled", "rejected", "unknown outcome", "misconfigured"}

func (c Class) String() string {
	if c < 1 || int(c) >= len(classNames) {
		return fmt.Sprintf("class %d", int(c))
	}
	return classNames[c]
}

// Error is a failed operation. It holds no secret.
type Error struct {
	Class      Class
	Status     int           // of the protocol, such as an HTTP status; 0: none came
	RetryAfter time.Duration // what the system asked for; 0: nothing
	Body       []byte        // the system's own words, cleaned, at most MaxBody
	Err        error
}

func (e *Error) Error() string {
	text := e.Class.String()
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// ClassOf gives the class of an operation's error. An error that is no *Error is Unavailable:
// what is not understood is tried again, never thrown away.
func ClassOf(err error) Class {
	var coded *Error
	if errors.As(err, &coded) {
		return coded.Class
	}
	return Unavailable
}

// Misconfiguredf makes an error that a person must mend.
func Misconfiguredf(format string, args ...any) *Error {
	return &Error{Class: Misconfigured, Err: fmt.Errorf(format, args...)}
}

// Unavailablef makes an error that a repeat may mend.
func Unavailablef(format string, args ...any) *Error {
	return &Error{Class: Unavailable, Err: fmt.Errorf(format, args...)}
}

// Rejectedf makes an error that no repeat will mend.
func Rejectedf(format string, args ...any) *Error {
	return &Error{Class: Rejected, Err: fmt.Errorf(format, args...)}
}

// ErrNotOffered marks a call of an operation, or of a name within it, that the System
// document does not declare.
var ErrNotOffered = errors.New("not offered by this system")

// NotOffered is the answer to an operation that the System document does not declare.
func NotOffered(op Operation) *Error {
	return Misconfiguredf("%s is %w; add it to the driver in the System document", op, ErrNotOffered)
}

// NotNamed is the answer to a query, command or contract that the System document does not
// declare.
func NotNamed(op Operation, name string) *Error {
	return Misconfiguredf("%s %q is %w; add it below %s in the System document", op, name, ErrNotOffered, op)
}

// IsPermanent says whether what emit refused will be refused again.
func IsPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// RefusedIndex says which of the events given to emit was at fault, if the error knows.
func RefusedIndex(err error) (int, bool) {
	var i interface{ EventIndex() int }
	if errors.As(err, &i) {
		return i.EventIndex(), true
	}
	return 0, false
}
