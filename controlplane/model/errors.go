package model

import (
	"errors"
	"fmt"
)

// Code classifies a refusal; the doors translate it.
type Code string

// The codes.
const (
	Invalid      Code = "invalid"
	NotFound     Code = "not_found"
	Conflict     Code = "conflict"
	Forbidden    Code = "forbidden"
	Unauthorized Code = "unauthorized"
	TooLarge     Code = "too_large"
	Unavailable  Code = "unavailable" // no leader, or no room: not done, try again
	Unknown      Code = "unknown"     // it may or may not have been done; a repeat with the same request id tells
)

// Error is the one coded error of the control plane.
type Error struct {
	Code Code
	Text string
}

func (e *Error) Error() string { return e.Text }

// Errorf makes a coded error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// CodeOf finds the code of an error, Unknown if it has none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Unknown
}
