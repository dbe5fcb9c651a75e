package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
)

// unmarshalInSteps is Unmarshal with one look at the text for each thing that may be wrong
// with it, so that it can say which.
func unmarshalInSteps(text []byte) (*Event, error) {
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
		if len(out) == MaxExtension+len(coreNames) { // before each is compared with all others
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
