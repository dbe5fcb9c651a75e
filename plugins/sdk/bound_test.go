package sdk

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAnErrorIsCutToItsLimits(t *testing.T) {
	long := strings.Repeat("ä", MaxProviderText)
	e := (&Error{Class: "odd", Fault: "nobody", Message: "x" + long, Field: long, Suggestion: long, Retryable: true,
		RetryAfter: Span(400 * 24 * time.Hour), Provider: Provider{Code: long, Text: "x" + long}}).Bounded()
	for _, c := range []struct {
		name, text string
		limit      int
	}{
		{"message", e.Message, MaxMessage}, {"field", e.Field, MaxField}, {"suggestion", e.Suggestion, MaxMessage},
		{"code", e.Provider.Code, MaxProviderCode}, {"text", e.Provider.Text, MaxProviderText},
	} {
		if len(c.text) > c.limit || len(c.text) < c.limit-1 || !utf8.ValidString(c.text) {
			t.Errorf("%s: %d bytes, want %d and whole characters", c.name, len(c.text), c.limit)
		}
	}
	if e.Class != Internal || e.Fault != FaultPlugin || e.RetryAfter != Span(MaxRetryAfter) || !e.Retryable {
		t.Errorf("class %q, fault %q, after %s, retryable %v", e.Class, e.Fault, e.RetryAfter, e.Retryable)
	}
}

func TestTextOfAProviderIsFitToBeShown(t *testing.T) {
	e := (&Error{Class: Auth, Message: "a\x1b[31mb\x00c\nd\te\u0085f", Provider: Provider{Text: "caf\xe9"}}).Bounded()
	if want := "a [31mb c\nd\te f"; e.Message != want {
		t.Errorf("got %q, want %q", e.Message, want)
	}
	if want := "caf?"; e.Provider.Text != want {
		t.Errorf("got %q, want %q", e.Provider.Text, want)
	}
}

func TestEveryErrorBecomesOneOfOurs(t *testing.T) {
	mine := Errorf(Conflict, "taken up").At("reference")
	if got := AsError(fmt.Errorf("void: %w", mine)); got != mine {
		t.Errorf("got %v", got)
	}
	if got := AsError(context.Canceled); got.Class != Internal || got.Fault != FaultPlugin || got.Message != "context canceled" {
		t.Errorf("got %+v", got)
	}
}
