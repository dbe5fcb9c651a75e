// Package event owns the envelope that travels inside Crossdock: a CloudEvents 1.0
// event in memory and its one canonical encoding, the CloudEvents JSON format.
//
// It refuses to know contracts, policy, transport and storage. Its invariant: whatever
// Unmarshal accepts, Marshal writes back with the same attributes and the same data, and
// nothing larger or deeper than the named limits is ever held.
package event

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/protocol/strictjson"
)

// Limits on one event. They are part of the protocol: every hop may rely on them.
const (
	MaxSize      = 256 << 10 // bytes of the canonical encoding
	MaxDepth     = 64        // nesting of the data
	MaxAttribute = 2048      // bytes of one attribute's value
	MaxNameLen   = 20        // bytes of an extension attribute's name, as CloudEvents recommends
	MaxExtension = 32        // extension attributes on one event
)

// SpecVersion is the only version of CloudEvents spoken here.
const SpecVersion = "1.0"

// JSONType is the data content type that an event without one has.
const JSONType = "application/json"

// ErrInvalid marks every refusal of this package: the bytes are not an event.
var ErrInvalid = errors.New("not a valid CloudEvent")

// Two refusals that a door answers in their own way; both are ErrInvalid as well.
var (
	ErrTooLarge = fmt.Errorf("%w: too large", ErrInvalid)
	ErrTooDeep  = fmt.Errorf("%w: JSON nested too deep", ErrInvalid)
)

// Event is one CloudEvent. The zero value is not valid; Validate says why.
type Event struct {
	ID              string
	Source          string
	Type            string
	Subject         string
	Time            time.Time // when it occurred; zero if the producer did not say
	DataContentType string    // empty means application/json
	DataSchema      string
	Extensions      map[string]string
	Data            []byte // the JSON text, or raw bytes when Binary
	Binary          bool   // Data is not JSON and travels as data_base64
}

// Hash identifies an event by its source and id: equal for repeats of one event.
func (e *Event) Hash() [16]byte {
	var room [256]byte // most fit
	text := append(append(append(room[:0], e.Source...), 0), e.ID...)
	sum := sha256.Sum256(text)
	return [16]byte(sum[:16])
}

// SetAttribute sets one context attribute other than specversion by its name.
func (e *Event) SetAttribute(name, value string) error {
	switch name {
	case "id":
		e.ID = value
	case "source":
		e.Source = value
	case "type":
		e.Type = value
	case "subject":
		e.Subject = value
	case "datacontenttype":
		e.DataContentType = value
	case "dataschema":
		e.DataSchema = value
	case "time":
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return fmt.Errorf("%w: time %q is not RFC 3339, such as 2026-05-04T10:00:00Z", ErrInvalid, value)
		}
		if t.IsZero() {
			return fmt.Errorf("%w: time %s is the zero time of a program, not when something occurred", ErrInvalid, value)
		}
		e.Time = t
	default:
		if !validName(name) {
			return fmt.Errorf("%w: attribute name %q: only a to z and 0 to 9, at most %d of them", ErrInvalid, name, MaxNameLen)
		}
		if len(e.Extensions) >= MaxExtension {
			return fmt.Errorf("%w: more than %d extension attributes", ErrInvalid, MaxExtension)
		}
		if e.Extensions == nil {
			e.Extensions = map[string]string{}
		}
		e.Extensions[name] = value
	}
	return nil
}

func validName(name string) bool {
	switch name {
	case "", "data", "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema":
		return false
	}
	if len(name) > MaxNameLen {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// Validate reports the first thing that makes e not an event.
func (e *Event) Validate() error {
	if err := e.validateAttributes(); err != nil {
		return err
	}
	if e.Binary || len(e.Data) == 0 {
		return nil
	}
	if err := CheckJSON(e.Data); err != nil {
		if errors.Is(err, ErrTooDeep) {
			return err
		}
		return fmt.Errorf("%w: data is not JSON; send other content in binary mode with its own datacontenttype", ErrInvalid)
	}
	return nil
}

// validateAttributes is Validate without the data.
func (e *Event) validateAttributes() error {
	for _, a := range []struct{ name, value string }{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if a.value == "" {
			return fmt.Errorf("%w: %s is missing or empty", ErrInvalid, a.name)
		}
	}
	if year := e.Time.UTC().Year(); !e.Time.IsZero() && (year < 0 || year > 9999) {
		return fmt.Errorf("%w: time is in the year %d", ErrInvalid, year)
	}
	if len(e.Extensions) > MaxExtension {
		return fmt.Errorf("%w: more than %d extension attributes", ErrInvalid, MaxExtension)
	}
	names := e.extensionNames() // sorted, so that the first fault is always the same one
	for _, name := range names {
		if !validName(name) {
			return fmt.Errorf("%w: attribute name %q: only a to z and 0 to 9, at most %d of them", ErrInvalid, name, MaxNameLen)
		}
	}
	for _, a := range []struct{ name, value string }{
		{"id", e.ID}, {"source", e.Source}, {"type", e.Type}, {"subject", e.Subject},
		{"datacontenttype", e.DataContentType}, {"dataschema", e.DataSchema},
	} {
		if err := checkText(a.name, a.value); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := checkText(name, e.Extensions[name]); err != nil {
			return err
		}
	}
	return nil
}

// extensionNames lists the extension attributes by name.
func (e *Event) extensionNames() []string {
	if len(e.Extensions) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(e.Extensions))
}

func checkText(name, value string) error {
	if len(value) > MaxAttribute {
		return fmt.Errorf("%w: %s has %d bytes, the limit is %d", ErrInvalid, name, len(value), MaxAttribute)
	}
	for _, r := range value {
		if r < 0x20 || r >= 0x7f && r <= 0x9f || r == '\uFFFD' {
			return fmt.Errorf("%w: %s holds a control or broken character", ErrInvalid, name)
		}
	}
	return nil
}

// CheckJSON reports whether text is one JSON value nested no deeper than MaxDepth,
// before any decoder builds something from it.
func CheckJSON(text []byte) error { return checkJSON(text, MaxDepth) }

func checkJSON(text []byte, limit int) error {
	if strictjson.Valid(text, limit) {
		return nil
	}
	// It may be good all the same: text that is not UTF-8 is taken here.
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return fmt.Errorf("%w: the limit is %d levels", ErrTooDeep, limit)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if !json.Valid(text) {
		return fmt.Errorf("%w: malformed JSON", ErrInvalid)
	}
	return nil
}
