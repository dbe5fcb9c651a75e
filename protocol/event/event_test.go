package event

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const start = `{"specversion":"1.0","id":"1","source":"/s","type":"t"`

func TestUnmarshalRefuses(t *testing.T) {
	nested := func(depth int) string {
		return start + `,"data":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`
	}
	var many strings.Builder
	for i := range MaxExtension + 1 {
		fmt.Fprintf(&many, `,"x%d":"v"`, i)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"empty", ``, "malformed"},
		{"no object", `[]`, "object"},
		{"cut short", start, "malformed"},
		{"two values", start + `}{}`, "malformed"},
		{"no specversion", `{"id":"1","source":"/s","type":"t"}`, "specversion"},
		{"old specversion", `{"specversion":"0.3","id":"1","source":"/s","type":"t"}`, "specversion"},
		{"no id", `{"specversion":"1.0","source":"/s","type":"t"}`, "id is missing"},
		{"empty id", `{"specversion":"1.0","id":"","source":"/s","type":"t"}`, "id is missing"},
		{"no source", `{"specversion":"1.0","id":"1","type":"t"}`, "source is missing"},
		{"no type", `{"specversion":"1.0","id":"1","source":"/s"}`, "type is missing"},
		{"id is null", `{"specversion":"1.0","id":null,"source":"/s","type":"t"}`, "attribute id"},
		{"twice", start + `,"id":"2"}`, "twice"},
		{"twice, escaped", start + `,"\u0069d":"2"}`, "twice"},
		{"upper case", start + `,"Subject":"x"}`, "attribute name"},
		{"underscore", start + `,"my_ext":"x"}`, "attribute name"},
		{"empty name", start + `,"":"x"}`, "attribute name"},
		{"long name", start + `,"` + strings.Repeat("a", MaxNameLen+1) + `":"x"}`, "attribute name"},
		{"object as attribute", start + `,"ext":{"a":1}}`, "must be a string"},
		{"list as attribute", start + `,"ext":[1]}`, "must be a string"},
		{"both data", start + `,"data":1,"data_base64":"aGk="}`, "exclude"},
		{"both data, other order", start + `,"data_base64":"","data":1}`, "exclude"},
		{"base64 is no string", start + `,"data_base64":1}`, "data_base64"},
		{"base64 is null", start + `,"data_base64":null}`, "data_base64"},
		{"broken base64", start + `,"data_base64":"%%"}`, "data_base64"},
		{"bad time", start + `,"time":"yesterday"}`, "RFC 3339"},
		{"time without zone", start + `,"time":"2026-05-04T10:00:00"}`, "RFC 3339"},
		{"zero time", start + `,"time":"0001-01-01T00:00:00Z"}`, "zero time"},
		{"year 10000", start + `,"time":"9999-12-31T23:59:59-01:00"}`, "year"},
		{"control character", start + `,"subject":"a\u0001"}`, "control"},
		{"line break", start + `,"subject":"a\nb"}`, "control"},
		{"lone surrogate", start + `,"subject":"\ud800"}`, "broken"},
		{"broken UTF-8", start + ",\"subject\":\"a\xff\"}", "broken"},
		{"long attribute", start + `,"subject":"` + strings.Repeat("a", MaxAttribute+1) + `"}`, "limit"},
		{"many extensions", start + many.String() + `}`, "extension"},
		{"too large", start + `,"data":"` + strings.Repeat("a", MaxSize) + `"}`, "limit"},
		{"a level too deep", nested(MaxDepth + 1), "deep"},
		{"10,000 deep", nested(10_000), "deep"},
		{"10,000 deep, unclosed", start + `,"data":` + strings.Repeat(`{"a":`, 10_000), "deep"},
	} {
		e, err := Unmarshal([]byte(tt.text))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %+v, %v, want ErrInvalid with %q", tt.name, e, err, tt.want)
		}
	}
	if _, err := Unmarshal([]byte(nested(MaxDepth))); err != nil {
		t.Errorf("data of the greatest depth: %v", err)
	}
	if _, err := Unmarshal([]byte(nested(MaxDepth + 1))); !errors.Is(err, ErrTooDeep) {
		t.Errorf("too deep: got %v, want ErrTooDeep", err)
	}
	if _, err := Unmarshal(make([]byte, MaxSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: got %v, want ErrTooLarge", err)
	}
}

func TestUnmarshalAccepts(t *testing.T) {
	for _, tt := range []struct{ more, want string }{
		{``, `}`},
		{`,"data":null`, `,"data":null}`},
		{`,"data": {"b" : 1.10, "a":[]}`, `,"data":{"b" : 1.10, "a":[]}}`},
		{`,"data_base64":"aGk="`, `,"data_base64":"aGk="}`},
		{`,"data_base64":""`, `,"data_base64":""}`},
		{`,"zone":"eu","attempt":3,"ok":true,"subject":"x"`, `,"subject":"x","attempt":"3","ok":"true","zone":"eu"}`},
		{`,"time":"2026-05-04T12:00:00.5+02:00"`, `,"time":"2026-05-04T10:00:00.5Z"}`},
		{`,"dataschema":"crossdock:a/1.0.0","datacontenttype":"application/json"`, `,"datacontenttype":"application/json","dataschema":"crossdock:a/1.0.0"}`},
	} {
		e, err := Unmarshal([]byte(start + tt.more + "}"))
		if err != nil {
			t.Errorf("%s: %v", tt.more, err)
			continue
		}
		text, err := e.Marshal()
		if err != nil || string(text) != start+tt.want {
			t.Errorf("%s:\n got %s %v\nwant %s", tt.more, text, err, start+tt.want)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	extensions := map[string]string{}
	for i := range MaxExtension + 1 {
		extensions[fmt.Sprint("x", i)] = "v"
	}
	valid := Event{ID: "1", Source: "/s", Type: "t"}
	for name, change := range map[string]func(*Event){
		"no id":                       func(e *Event) { e.ID = "" },
		"data is not JSON":            func(e *Event) { e.Data = []byte("{") },
		"two values":                  func(e *Event) { e.Data = []byte(`1,"id":"2"`) },
		"an extension is called id":   func(e *Event) { e.Extensions = map[string]string{"id": "2"} },
		"an extension is called time": func(e *Event) { e.Extensions = map[string]string{"time": "x"} },
		"bad extension":               func(e *Event) { e.Extensions = map[string]string{`a":1,"b`: "2"} },
		"many extensions":             func(e *Event) { e.Extensions = extensions },
		"too large":                   func(e *Event) { e.Data, e.Binary = make([]byte, MaxSize), true },
		"year 10000":                  func(e *Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"deep":                        func(e *Event) { e.Data = []byte(strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)) },
	} {
		e := valid
		change(&e)
		if text, err := e.Marshal(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %.80s, %v, want ErrInvalid", name, text, err)
		}
	}
}

func draw(t *rapid.T) *Event {
	text := rapid.StringMatching(`[ -~äß→]{1,20}`)
	e := &Event{
		ID: text.Draw(t, "id"), Source: text.Draw(t, "source"), Type: text.Draw(t, "type"),
		Subject: rapid.OneOf(rapid.Just(""), text).Draw(t, "subject"),
	}
	if rapid.Bool().Draw(t, "has time") {
		e.Time = time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	}
	for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`x[a-z0-9]{1,10}`), 0, 3, rapid.ID).Draw(t, "extensions") {
		if e.Extensions == nil {
			e.Extensions = map[string]string{}
		}
		e.Extensions[name] = text.Draw(t, name)
	}
	switch rapid.IntRange(0, 2).Draw(t, "data") {
	case 1:
		e.Data = []byte(rapid.SampledFrom([]string{`null`, `{"a":1.10}`, `[ 1 ]`, `"x"`}).Draw(t, "json"))
	case 2:
		e.Binary, e.Data = true, append([]byte{}, rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")...)
	}
	return e
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := draw(t)
		text, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !reflect.DeepEqual(back, e) {
			t.Fatalf("%s:\n got %+v\nwant %+v", text, back, e)
		}
	})
}

// What is added stands in the event as if it had been there, and a text that is written in
// another way is left to the caller.
func TestAppendExtended(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := draw(t)
		text, err := e.Marshal()
		if err != nil {
			t.Skip(err)
		}
		value := rapid.String().Filter(func(s string) bool { return checkText("x", s) == nil }).Draw(t, "value")
		got, ok := AppendExtended([]byte("before"), text, Attribute{"addedone", value}, Attribute{"addedtwo", "2"})
		if !ok || !strings.HasPrefix(string(got), "before{") {
			t.Fatalf("%t: %s", ok, got)
		}
		back, err := Unmarshal(got[len("before"):])
		if len(e.Extensions) > MaxExtension-2 {
			return // beyond the limit of our own door
		}
		if err != nil || back.Extensions["addedone"] != value || back.Extensions["addedtwo"] != "2" {
			t.Fatalf("%v: %s", err, got)
		}
		delete(back.Extensions, "addedone")
		delete(back.Extensions, "addedtwo")
		if again, err := back.Marshal(); err != nil || string(again) != string(text) {
			t.Fatalf("%v: the rest is\n%s\nand was\n%s", err, again, text)
		}
	})
	for _, text := range []string{"", "{}", `{"specversion":"1.0"}`, `{"specversion":"1.0","id":"x"`, `{"id":"x","specversion":"1.0"}`, ` {"specversion":"1.0","id":"x"}`, `{"specversion":"1.0","id":"x"} `} {
		if got, ok := AppendExtended(nil, []byte(text), Attribute{"a", "b"}); ok || got != nil {
			t.Errorf("%q: took it as %q", text, got)
		}
	}
}

func TestHash(t *testing.T) {
	a, b := Event{Source: "ab", ID: "c"}, Event{Source: "a", ID: "bc"}
	if a.Hash() == b.Hash() {
		t.Error("the border between source and id is not hashed")
	}
	if again := (&Event{Source: "ab", ID: "c", Data: []byte("1")}); again.Hash() != a.Hash() {
		t.Error("a repeat has another hash")
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(start + `,"data":{"a":1},"ext":"x","time":"2026-05-04T10:00:00Z"}`))
	f.Add([]byte(start + `,"data_base64":"aGk="}`))
	f.Add([]byte(start + `,"\u0069d":"2"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := Unmarshal(text)
		if err != nil {
			return
		}
		once, err := e.Marshal()
		if err != nil {
			if errors.Is(err, ErrTooLarge) {
				return // escapes may be longer than what they stand for
			}
			t.Fatalf("%s was read and cannot be written: %v", text, err)
		}
		again, err := Unmarshal(once)
		if err != nil {
			t.Fatalf("%s was written and cannot be read: %v", once, err)
		}
		twice, err := again.Marshal()
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("written differently:\n%s\n%s %v", once, twice, err)
		}
	})
}
