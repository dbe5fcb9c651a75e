package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// Marshal writes the canonical encoding: the CloudEvents JSON format with the context
// attributes in a fixed order, extensions sorted, and JSON data as it came.
func (e *Event) Marshal() ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	return e.encode()
}

// MarshalDecoded is Marshal for an event whose data the caller has decoded: who could
// decode it knows that it is JSON within the limits, and it is not looked at again.
func (e *Event) MarshalDecoded() ([]byte, error) {
	if err := e.validateAttributes(); err != nil {
		return nil, err
	}
	return e.encode()
}

func (e *Event) encode() ([]byte, error) {
	b := make([]byte, 0, e.roughSize())
	b = append(b, canonicalStart...)
	b = member(b, "id", e.ID)
	b = member(b, "source", e.Source)
	b = member(b, "type", e.Type)
	b = optional(b, "subject", e.Subject)
	if !e.Time.IsZero() {
		b = append(b, `,"time":"`...)
		b = append(e.Time.UTC().AppendFormat(b, time.RFC3339Nano), '"')
	}
	b = optional(b, "datacontenttype", e.DataContentType)
	b = optional(b, "dataschema", e.DataSchema)
	for _, name := range e.extensionNames() {
		b = member(b, name, e.Extensions[name])
	}
	switch {
	case e.Binary:
		b = append(b, `,"data_base64":"`...)
		b = append(base64.StdEncoding.AppendEncode(b, e.Data), '"')
	case len(e.Data) > 0:
		b = append(b, `,"data":`...)
		b = append(b, e.Data...)
	}
	b = append(b, '}')
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes encoded, the limit is %d", ErrTooLarge, len(b), MaxSize)
	}
	return b, nil
}

// canonicalStart begins every canonical encoding.
const canonicalStart = `{"specversion":"1.0"`

// Attribute is one extension attribute.
type Attribute struct{ Name, Value string }

// AppendExtended appends an event's canonical encoding with further extension attributes,
// which the event itself must not have, without reading what stands in it. ok is false, and
// nothing is appended, when the text is not written as Marshal writes.
func AppendExtended(b, canonical []byte, further ...Attribute) (_ []byte, ok bool) {
	rest, ok := bytes.CutPrefix(canonical, []byte(canonicalStart))
	if !ok || len(rest) == 0 || rest[0] != ',' || rest[len(rest)-1] != '}' {
		return b, false
	}
	b = append(b, canonicalStart...)
	for _, a := range further {
		b = member(b, a.Name, a.Value)
	}
	return append(b, rest...), true
}

// roughSize is what most encodings stay below.
func (e *Event) roughSize() int {
	n := 192 + len(e.ID) + len(e.Source) + len(e.Type) + len(e.Subject) + len(e.DataContentType) + len(e.DataSchema)
	for name, value := range e.Extensions {
		n += len(name) + len(value) + 6
	}
	if e.Binary {
		return n + base64.StdEncoding.EncodedLen(len(e.Data))
	}
	return n + len(e.Data)
}

func member(b []byte, name, value string) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	if plain(value) {
		return append(append(append(b, '"'), value...), '"')
	}
	text, err := json.Marshal(value)
	if err != nil { // a Go string always marshals; invalid UTF-8 is replaced
		panic(err)
	}
	return append(b, text...)
}

// plain says that encoding/json writes a text as it is.
func plain(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

func optional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return member(b, name, value)
}
