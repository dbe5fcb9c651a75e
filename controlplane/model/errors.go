package model

import (
	"errors"
	"fmt"
	"strings"
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

// What a refusal for want of a role is written with. The state keeps the text as an answer, so
// it stays: nodes of two versions may run side by side.
const (
	lacks   = " lacks the role "
	anyRole = " or "
)

// Lacks refuses somebody who has none of these roles.
func Lacks(name string, roles ...Role) *Error {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return Errorf(Forbidden, "%s", name+lacks+strings.Join(names, anyRole))
}

// Lacking gives the roles that Lacks has written into an error, none if it is another.
func Lacking(err error) (roles []Role) {
	var e *Error
	if !errors.As(err, &e) || e.Code != Forbidden {
		return nil
	}
	_, names, found := strings.Cut(e.Text, lacks)
	if !found {
		return nil
	}
	for name := range strings.SplitSeq(names, anyRole) {
		roles = append(roles, Role(name))
	}
	return roles
}

// CodeOf finds the code of an error, Unknown if it has none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Unknown
}
