package sdk

import (
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxRetryAfter is the longest that an error can ask to wait.
const MaxRetryAfter = 7 * 24 * time.Hour

// Known tells whether a class is one of ours.
func (c Class) Known() bool {
	switch c {
	case Validation, Auth, NotServiced, NotSupported, Expired, Duplicate, Conflict, NotFound, Throttled, Unavailable,
		UnknownOutcome, Internal:
		return true
	}
	return false
}

// AsError gives any error as one of ours; what is none becomes class Internal.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) && e != nil {
		return e
	}
	return Errorf(Internal, "%v", err)
}

// Bounded gives a copy that keeps the limits and shows no control characters, since both
// sides of the wire take nothing on trust: a provider's text may be anything.
func (e *Error) Bounded() *Error {
	out := &Error{
		Class: e.Class, Fault: e.Fault, Retryable: e.Retryable,
		Message: clean(e.Message, MaxMessage), Field: clean(e.Field, MaxField), Suggestion: clean(e.Suggestion, MaxMessage),
		RetryAfter: min(max(e.RetryAfter, 0), Span(MaxRetryAfter)),
		Provider:   Provider{Code: clean(e.Provider.Code, MaxProviderCode), Text: clean(e.Provider.Text, MaxProviderText)},
	}
	if !out.Class.Known() {
		out.Class = Internal
	}
	switch out.Fault {
	case FaultCaller, FaultProvider, FaultNetwork, FaultPlugin:
	default:
		out.Fault = FaultPlugin
	}
	return out
}

// clean cuts text to a number of bytes, between characters, and makes it fit to be shown.
func clean(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
		for i := len(text) - 1; i >= 0 && i >= len(text)-utf8.UTFMax; i-- { // a character that was cut in two goes
			if utf8.RuneStart(text[i]) {
				if !utf8.FullRuneInString(text[i:]) {
					text = text[:i]
				}
				break
			}
		}
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == utf8.RuneError:
			return '?' // one byte for one byte, so that the limit holds
		case unicode.IsControl(r):
			return ' '
		}
		return r
	}, text)
	return text
}
