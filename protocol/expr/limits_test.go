package expr

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// Listing the matches of a pattern is one step, in which no deadline is looked at.
func TestMatchesOfALongString(t *testing.T) {
	for _, source := range []string{
		`[match("a"; "g")] | length`, `[capture("(?<x>a)"; "g")] | length`, `[scan("a")] | length`, `[splits("a")] | length`,
		`split("a"; null) | length`, `sub("a"; "b")`, `gsub("a"; "b")`, `def f(g): g; f(gsub("a"; "b"))`,
	} {
		e, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := e.Eval(context.Background(), strings.Repeat("a", maxMatched+1)); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", source, err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: %s", source, took)
		}
		if _, err := e.Eval(context.Background(), strings.Repeat("a", 50)); err != nil {
			t.Errorf("%s of a short string: %v", source, err)
		}
	}
	for source, want := range map[string]any{`split("a") | length`: maxMatched + 2, `test("a$")`: true} { // these do not list
		e, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.Eval(context.Background(), strings.Repeat("a", maxMatched+1)); err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", source, got, err, want)
		}
	}
}

func TestPartsAreBounded(t *testing.T) {
	for _, source := range []string{strings.Repeat(".+", maxParts) + ".", `"` + strings.Repeat(`\(1)`, maxParts+1) + `"`} {
		if _, err := Compile(source); err == nil || !strings.Contains(err.Error(), "parts, the limit is") {
			t.Errorf("%.10s...: %v", source, err)
		}
	}
	if _, err := Compile(strings.Repeat(".+", 1000) + "."); err != nil {
		t.Error(err)
	}
}
