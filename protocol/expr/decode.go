package expr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/strictjson"
)

// Decode reads one JSON value into the form that expressions and schemas take. A number
// stays a json.Number, which both of them understand, so that no digit is lost on the way
// through. Members that stand twice in an object are refused: what the next reader would
// make of them is not known.
func Decode(text []byte) (any, error) {
	if value, ok := strictjson.Decode(text, event.MaxDepth); ok {
		return value, nil
	}
	return decodeInSteps(text)
}

// decodeInSteps is Decode with one look at the text for each thing that may be wrong with
// it, so that it can say which.
func decodeInSteps(text []byte) (any, error) {
	if err := event.CheckJSON(text); err != nil {
		return nil, err
	}
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: the JSON is not UTF-8", event.ErrInvalid)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, fmt.Errorf("%w: %w", event.ErrInvalid, err)
	}
	members, err := checkValue(value)
	if err != nil {
		return nil, err
	}
	// Every member has one colon. A map that holds fewer members than the text has colons
	// has swallowed one.
	if members != countMembers(text) {
		return nil, fmt.Errorf("%w: an object has a member twice", event.ErrInvalid)
	}
	return value, nil
}

func countMembers(text []byte) int {
	n, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case c == ':' && !inString:
			n++
		}
	}
	return n
}

// checkValue counts the members of all objects and checks all numbers.
func checkValue(value any) (members int, err error) {
	switch v := value.(type) {
	case json.Number:
		return 0, checkNumber(v.String())
	case []any:
		for _, item := range v {
			n, err := checkValue(item)
			if err != nil {
				return 0, err
			}
			members += n
		}
	case map[string]any:
		members = len(v)
		for _, item := range v {
			n, err := checkValue(item)
			if err != nil {
				return 0, err
			}
			members += n
		}
	}
	return members, nil
}

func checkNumber(text string) error {
	if len(text) <= 16 && !strings.ContainsAny(text, "eE") {
		return nil
	}
	digits, exponent, has := strings.Cut(strings.ToLower(text), "e")
	if len(digits) > strictjson.MaxDigits {
		return fmt.Errorf("%w: a number has more than %d digits", event.ErrInvalid, strictjson.MaxDigits)
	}
	if !has {
		return nil
	}
	n, err := strconv.Atoi(exponent)
	if err != nil || n > strictjson.MaxExponent || n < -strictjson.MaxExponent {
		return fmt.Errorf("%w: the exponent of number %.40s is beyond %d", event.ErrInvalid, text, strictjson.MaxExponent)
	}
	return nil
}

// sizer adds up a result and stops at the limits. A result can be a small graph that
// unfolds to a huge tree, so nothing may be encoded before it has been measured.
type sizer struct{ nodes, bytes, depth int }

func (s *sizer) add(value any) error {
	s.nodes++
	switch v := value.(type) {
	case string:
		s.bytes += len(v) + 2
	case json.Number:
		s.bytes += len(v)
	case *big.Int:
		s.bytes += v.BitLen()/3 + 1
	case []any:
		return s.addAll(func(yield func(any) bool) {
			for _, item := range v {
				if !yield(item) {
					return
				}
			}
		})
	case map[string]any:
		return s.addAll(func(yield func(any) bool) {
			for name, item := range v {
				s.bytes += len(name) + 3
				if !yield(item) {
					return
				}
			}
		})
	default:
		s.bytes += 5
	}
	return s.check()
}

func (s *sizer) addAll(items func(func(any) bool)) error {
	s.bytes += 2
	if s.depth++; s.depth > event.MaxDepth {
		return fmt.Errorf("%w: the result is nested deeper than %d", ErrLimit, event.MaxDepth)
	}
	if err := s.check(); err != nil {
		return err
	}
	for item := range items {
		s.bytes++
		if err := s.add(item); err != nil {
			return err
		}
	}
	s.depth--
	return nil
}

func (s *sizer) check() error {
	if s.nodes > MaxNodes {
		return fmt.Errorf("%w: the result has more than %d values", ErrLimit, MaxNodes)
	}
	if s.bytes > MaxResult {
		return fmt.Errorf("%w: the result has more than %d bytes", ErrLimit, MaxResult)
	}
	return nil
}
