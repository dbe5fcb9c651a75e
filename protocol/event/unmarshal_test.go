package event

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/protocol/strictjson"
)

// compare reads text in one pass and in steps: both take it, or neither, and alike.
func compare(t testing.TB, text []byte) {
	want, wantErr := unmarshalInSteps(text)
	got, err := Unmarshal(text)
	if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
		t.Fatalf("%q: got error %v, want %v", text, err, wantErr)
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: got %+v, want %+v", text, got, want)
	}
	for _, decode := range []bool{false, true} {
		p, ok := parse(text, decode)
		if ok && (wantErr != nil || !reflect.DeepEqual(p.Event, want)) {
			t.Fatalf("%q: in one pass %+v, want %+v, %v", text, p.Event, want, wantErr)
		}
		if ok && decode && p.Decoded {
			value, good := strictjson.Decode(p.Data, MaxDepth)
			if !good || !reflect.DeepEqual(p.Value, value) {
				t.Fatalf("%q: the data is %#v, want %#v, %v", text, p.Value, value, good)
			}
		}
	}
}

// parse reads a text that is one event.
func parse(text []byte, decode bool) (Parsed, bool) {
	r := strictjson.NewReader(text, MaxDepth+1)
	p, ok := Read(r, decode)
	return p, ok && r.End()
}

var texts = []string{
	start + `}`, " " + start + ` , "data" : {"a":[1,2.50]} } `, start + `,"data":null}`, start + `,"data":1,"data":2}`, start + `,"data":{"a":1,"a":2}}`,
	start + `,"data":1,"data_base64":""}`, start + `,"data_base64":"","data":1}`, start + `,"data_base64":"aGk="}`, start + `,"data_base64":null}`, start + `,"data_base64":"%"}`,
	start + `,"id":"2"}`, start + `,"\u0069d":"2"}`, start + `,"ext":"a","ext":"b"}`, start + `,"ext":1.50,"other":true}`, start + `,"ext":null}`, start + `,"ext":{}}`, start + `,"ext":1e999}`,
	start + `,"time":"2026-05-04T12:00:00.5+02:00"}`, start + `,"time":"yesterday"}`, start + `,"time":""}`, start + `,"subject":"\ud800"}`, start + ",\"subject\":\"\xff\"}", start + ",\"data\":\"\xff\"}",
	start + `}x`, `[` + start + `}]`, `null`, `{}`, `{"specversion":"1.0","id":"","source":"/s","type":"t"}`, `{"specversion":1.0,"id":7,"source":"/s","type":"t"}`,
	start + `,"data":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`, start + `,"data":` + strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1) + `}`,
	start + `,"specversion":"1.0"}`, start + `,"A":"b"}`, start + `,"subject":""}`, start + `,"data_base64":1,"data":2}`,
}

func TestOnePassIsAsSteps(t *testing.T) {
	for _, text := range texts {
		compare(t, []byte(text))
	}
	for _, text := range texts[:2] { // what is ordinary goes by the one pass
		if _, ok := parse([]byte(text), true); !ok {
			t.Errorf("%s was read in steps", text)
		}
	}
}

// What is read in one pass must not hold on to the text, unless it says so.
func TestUnmarshalCopies(t *testing.T) {
	text := []byte(start + `,"subject":"x","data":{"a":1}}`)
	e, err := Unmarshal(text)
	if err != nil {
		t.Fatal(err)
	}
	clear(text)
	if e.Subject != "x" || string(e.Data) != `{"a":1}` {
		t.Errorf("the event changed with the text: %+v", e)
	}
}

func TestMarshalDecoded(t *testing.T) {
	p, ok := parse([]byte(start+`,"subject":"a<b\"ä","ext":"x","data":{"a":1}}`), true)
	if !ok || !p.Decoded {
		t.Fatal("the event was not read", p)
	}
	want, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.MarshalDecoded(); err != nil || string(got) != string(want) {
		t.Errorf("got %s %v, want %s", got, err, want)
	}
	p.ID = ""
	if got, err := p.MarshalDecoded(); !errors.Is(err, ErrInvalid) {
		t.Errorf("an event without id: got %s %v", got, err)
	}
	p.ID, p.Data = "1", []byte(`"`+strings.Repeat("a", MaxSize)+`"`)
	if got, err := p.MarshalDecoded(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: got %.20s %v", got, err)
	}
}

func FuzzOnePass(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { compare(t, text) })
}
