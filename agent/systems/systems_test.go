package systems

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/crossdock/crossdock/protocol/event"
)

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, secret, want string }{
		{"plain\n\ttext", "", "plain\n\ttext"},
		{"bell\a \x1b[31m\u0085", "", "bell [31m"},
		{"turned \u202eround", "", "turned round"},
		{"broken \xff", "", "broken \uFFFD"},
		{"your token tok-123456 is bad", "tok-123456", "your token [secret] is bad"},
		{"cut off at tok-12", "tok-123456", "cut off at "},
		{"a short one stays", "a", "a short one stays"},
		{`{"sent":"Bearer a\"b\\c<d"}`, `a"b\c<d`, `{"sent":"Bearer [secret]"}`},
		{`{"sent":"Bearer a\"b\\c\u003cd"}`, `a"b\c<d`, `{"sent":"Bearer [secret]"}`},
		{"?token=a%2Bb+c%2Fd", "a+b c/d", "?token=[secret]"},
		{"/a+b%20c%2Fd", "a+b c/d", "/[secret]"},
		{"<p>a&lt;b&amp;c</p>", "a<b&c", "<p>[secret]</p>"},
		{"basic dG9rLTEyMzQ1Ng== of", "tok-123456", "basic [secret] of"},
		{"cut off at a%2Bb+", "a+b c/d", "cut off at "},
	} {
		if got := string(Clean([]byte(c.in), []byte(c.secret))); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
	long := Clean([]byte(strings.Repeat("é", MaxBody)))
	if len(long) > MaxBody || !utf8.Valid(long) {
		t.Errorf("got %d bytes, valid %v", len(long), utf8.Valid(long))
	}
}

func TestClassOf(t *testing.T) {
	inner := errors.New("inner")
	err := fmt.Errorf("outer: %w", &Error{Class: Throttled, Err: inner})
	if ClassOf(err) != Throttled || !errors.Is(err, inner) {
		t.Errorf("got %v", ClassOf(err))
	}
	if ClassOf(inner) != Unavailable {
		t.Error("an error that is not understood must be worth a repeat")
	}
	if IsPermanent(inner) || !IsPermanent(fmt.Errorf("x: %w", forGood{})) {
		t.Error("permanence is not found through wrapping")
	}
}

type forGood struct{}

func (forGood) Error() string   { return "no" }
func (forGood) Permanent() bool { return true }

type liar struct{ Driver }

func (liar) Operations() []Operation { return []Operation{OpDeliver} }

func TestAs(t *testing.T) {
	if _, err := As[Deliverer](liar{}, OpDeliver); ClassOf(err) != Misconfigured {
		t.Errorf("declared and not implemented: got %v", err)
	}
	if _, err := As[Querier](liar{}, OpQuery); !errors.Is(err, ErrNotOffered) {
		t.Errorf("not declared: got %v", err)
	}
	if _, err := (Options{}).WithDefaults().Secrets.Resolve("file:x"); err == nil {
		t.Error("no secrets resolved one")
	}
}

func TestMapped(t *testing.T) {
	e := &event.Event{ID: "1", Source: "s", Type: "t.v1", DataSchema: "crossdock:t/1.0.0", Data: []byte(`{"a":1}`)}
	if got := (Delivery{Event: e}).Mapped(); got != e {
		t.Error("without a map the event is not as it came")
	}
	got := Delivery{Event: e, Data: []byte(`{"b":2}`)}.Mapped()
	if string(got.Data) != `{"b":2}` || got.DataSchema != "" || got.ID != "1" || string(e.Data) != `{"a":1}` {
		t.Errorf("got %+v", got)
	}
}
