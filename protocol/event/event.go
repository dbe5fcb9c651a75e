// Package event owns the envelope that travels inside Crossdock: a CloudEvents 1.0
// event in memory and its one canonical encoding, the CloudEvents JSON format.
//
// It refuses to know contracts, policy, transport and storage. Its invariant: whatever
// Unmarshal accepts, Marshal writes back with the same attributes and the same data, and
// nothing larger or deeper than the named limits is ever held.
package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits on one event. They are part of the protocol: every hop may rely on them.
const (
	MaxSize      = 256 << 10 // bytes of the canonical encoding
	MaxDepth     = 64        // nesting of the data
	MaxAttribute = 2048      // bytes of one attribute's value
	MaxNameLen   = 20        // bytes of an extension attribute's name, as CloudEvents recommends
	MaxExtension = 32        // extension attributes on one event

	maxCore = 10 // members that CloudEvents itself names
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
	sum := sha256.Sum256([]byte(e.Source + "\x00" + e.ID))
	return [16]byte(sum[:16])
}

// Marshal writes the canonical encoding: the CloudEvents JSON format with the context
// attributes in a fixed order, extensions sorted, and JSON data as it came.
func (e *Event) Marshal() ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(len(e.Data) + 256)
	b.WriteString(`{"specversion":"1.0"`)
	member(&b, "id", e.ID)
	member(&b, "source", e.Source)
	member(&b, "type", e.Type)
	optional(&b, "subject", e.Subject)
	if !e.Time.IsZero() {
		member(&b, "time", e.Time.UTC().Format(time.RFC3339Nano))
	}
	optional(&b, "datacontenttype", e.DataContentType)
	optional(&b, "dataschema", e.DataSchema)
	names := make([]string, 0, len(e.Extensions))
	for name := range e.Extensions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		member(&b, name, e.Extensions[name])
	}
	switch {
	case e.Binary:
		member(&b, "data_base64", base64.StdEncoding.EncodeToString(e.Data))
	case len(e.Data) > 0:
		b.WriteString(`,"data":`)
		b.Write(e.Data)
	}
	b.WriteByte('}')
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes encoded, the limit is %d", ErrTooLarge, b.Len(), MaxSize)
	}
	return b.Bytes(), nil
}

func member(b *bytes.Buffer, name, value string) {
	text, err := json.Marshal(value)
	if err != nil { // a Go string always marshals; invalid UTF-8 is replaced
		panic(err)
	}
	if b.Len() > 1 {
		b.WriteByte(',')
	}
	b.WriteByte('"')
	b.WriteString(name)
	b.WriteString(`":`)
	b.Write(text)
}

func optional(b *bytes.Buffer, name, value string) {
	if value != "" {
		member(b, name, value)
	}
}

// Unmarshal reads the CloudEvents JSON format strictly: names in lower case, no member
// twice, no data beside data_base64, every attribute a string, number or boolean.
func Unmarshal(text []byte) (*Event, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(text), MaxSize)
	}
	if err := checkJSON(text, MaxDepth+1); err != nil { // the data stands one level down
		return nil, err
	}
	members, err := splitObject(text)
	if err != nil {
		return nil, err
	}
	e := &Event{}
	version := ""
	for _, m := range members {
		if err := e.setMember(m, &version); err != nil {
			return nil, err
		}
	}
	if version != SpecVersion {
		return nil, fmt.Errorf("%w: specversion is %q, only %q is spoken here", ErrInvalid, version, SpecVersion)
	}
	return e, e.Validate()
}

type rawMember struct {
	name  string
	value json.RawMessage
}

// splitObject lists the members of a JSON object in order and refuses a repeated name,
// which a decode into a map would hide.
func splitObject(text []byte) ([]rawMember, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	first, err := dec.Token()
	if err != nil || first != json.Delim('{') {
		return nil, fmt.Errorf("%w: a JSON object is expected", ErrInvalid)
	}
	var out []rawMember
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		m := rawMember{name: token.(string)} // an object's key is always a string
		if err := dec.Decode(&m.value); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, m.name, err)
		}
		if len(out) == MaxExtension+maxCore { // before each is compared with all others
			return nil, fmt.Errorf("%w: more than %d extension attributes", ErrInvalid, MaxExtension)
		}
		if slices.ContainsFunc(out, func(o rawMember) bool { return o.name == m.name }) {
			return nil, fmt.Errorf("%w: %s stands twice", ErrInvalid, m.name)
		}
		out = append(out, m)
	}
	return out, nil
}

func (e *Event) setMember(m rawMember, version *string) error {
	switch m.name {
	case "data":
		if e.Binary {
			return fmt.Errorf("%w: data and data_base64 exclude each other", ErrInvalid)
		}
		e.Data = bytes.Clone(m.value)
		return nil
	case "data_base64":
		return e.setBase64(m.value)
	}
	value, err := attributeText(m)
	if err != nil {
		return err
	}
	if m.name == "specversion" {
		*version = value
		return nil
	}
	return e.SetAttribute(m.name, value)
}

func (e *Event) setBase64(raw json.RawMessage) error {
	if e.Data != nil {
		return fmt.Errorf("%w: data and data_base64 exclude each other", ErrInvalid)
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil || raw[0] != '"' { // null would pass
		return fmt.Errorf("%w: data_base64 is not a string", ErrInvalid)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("%w: data_base64: %w", ErrInvalid, err)
	}
	e.Data, e.Binary = data, true
	return nil
}

// attributeText gives the string form that CloudEvents defines for an attribute's value.
func attributeText(m rawMember) (string, error) {
	var value any
	dec := json.NewDecoder(bytes.NewReader(m.value))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrInvalid, m.name, err)
	}
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return fmt.Sprint(v), nil
	case json.Number:
		return v.String(), nil
	}
	return "", fmt.Errorf("%w: attribute %s must be a string, a number or a boolean", ErrInvalid, m.name)
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
	attributes := map[string]string{
		"id": e.ID, "source": e.Source, "type": e.Type, "subject": e.Subject,
		"datacontenttype": e.DataContentType, "dataschema": e.DataSchema,
	}
	for name, value := range e.Extensions {
		if !validName(name) {
			return fmt.Errorf("%w: attribute name %q: only a to z and 0 to 9, at most %d of them", ErrInvalid, name, MaxNameLen)
		}
		attributes[name] = value
	}
	for name, value := range attributes {
		if err := checkText(name, value); err != nil {
			return err
		}
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
