package contract

import (
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A checker is a schema made ready for the one question that is nearly always answered
// with yes: does this value satisfy it? It answers as the schema library does, and gives
// no reasons: where it says no, the library looks at the whole value, and it alone says
// whether and what is wrong.
//
// For keywords that are not understood here, and for values that are not of the ordinary
// kind, it asks the library about that part.
type checker struct {
	schema *jsonschema.Schema // the same for the library
	parts  []*checker         // all that have to hold in the same place: itself, and what $ref and allOf lead to

	ask      bool // nothing of it is understood here, or too much
	anything bool
	nothing  bool

	types     types // 0: every type
	whole     bool  // numbers have to be integers
	constants []constants
	logic     *logic

	text   *textRules
	number *numberRules
	object *objectRules
	array  *arrayRules
}

// types is a set of the types that JSON has.
type types uint8

const (
	nulls types = 1 << iota
	booleans
	numbers
	texts
	arrays
	objects
)

// holds says whether a value satisfies the schema.
func (c *checker) holds(value any) bool {
	for _, part := range c.parts {
		if !part.own(value) {
			return false
		}
	}
	return true
}

// own is holds for what the schema says in this place itself.
func (c *checker) own(value any) bool {
	switch {
	case c.anything:
		return true
	case c.nothing:
		return false
	case c.ask:
		return c.library(value)
	}
	for i := range c.constants {
		if !c.constants[i].has(value) {
			_, text := value.(string)
			return !text && c.library(value) // a number may be written in another way
		}
	}
	ok := false
	switch v := value.(type) {
	case string:
		ok = c.takes(texts) && (c.text == nil || c.text.hold(v, value))
	case json.Number:
		ok = c.takes(numbers) && (!c.whole || isWhole(v)) && (c.number == nil || c.number.hold(v))
	case map[string]any:
		ok = c.takes(objects) && (c.object == nil || c.object.hold(v))
	case []any:
		ok = c.takes(arrays) && (c.array == nil || c.array.hold(v, c))
	case bool:
		ok = c.takes(booleans)
	case nil:
		ok = c.takes(nulls)
	default: // an expression made it
		return c.library(value)
	}
	return ok && (c.logic == nil || c.logic.hold(value))
}

func (c *checker) takes(t types) bool { return c.types == 0 || c.types&t != 0 }

func (c *checker) library(value any) bool { return c.schema.Validate(plainNumbers(value)) == nil }

// logic is what a schema says by other schemas in the same place.
type logic struct {
	anyOf, oneOf   []*checker
	not            *checker
	when           *checker // if
	then, elseThen *checker
}

func (l *logic) hold(value any) bool {
	holds := func(c *checker) bool { return c.holds(value) }
	if len(l.anyOf) > 0 && !slices.ContainsFunc(l.anyOf, holds) || l.not != nil && l.not.holds(value) {
		return false
	}
	if len(l.oneOf) > 0 {
		first := slices.IndexFunc(l.oneOf, holds)
		if first < 0 || slices.ContainsFunc(l.oneOf[first+1:], holds) {
			return false
		}
	}
	switch {
	case l.when == nil:
		return true
	case l.when.holds(value):
		return l.then == nil || l.then.holds(value)
	}
	return l.elseThen == nil || l.elseThen.holds(value)
}

// constants are the values of enum or const.
type constants struct {
	texts  []string
	others []any // null, booleans and numbers
}

func (c *constants) has(value any) bool {
	switch v := value.(type) {
	case string:
		return slices.Contains(c.texts, v)
	case nil, bool, json.Number:
		return slices.Contains(c.others, value)
	}
	return false
}

// textRules is what a schema says of strings.
type textRules struct {
	min, max int // characters; max < 0: without end
	pattern  *matcher
	format   *jsonschema.Format
}

func (r *textRules) hold(text string, value any) bool {
	// A character has one to four bytes: mostly that settles it without counting.
	if r.min > 0 && (len(text) < r.min || len(text) < 4*r.min && utf8.RuneCountInString(text) < r.min) {
		return false
	}
	if r.max >= 0 && len(text) > r.max && utf8.RuneCountInString(text) > r.max {
		return false
	}
	if r.pattern != nil && !r.pattern.match(text) {
		return false
	}
	return r.format == nil || plainTime(r.format.Name, text) || r.format.Validate(value) == nil
}

// matcher is a pattern with its automaton, if it has one. What the automaton does not find
// is for the engine to say: it may also run out of time, and that is no answer.
type matcher struct {
	simple *automaton
	engine jsonschema.Regexp
}

func (m *matcher) match(text string) bool {
	return m.simple != nil && m.simple.finds(text) || m.engine.MatchString(text)
}

// numberRules is what a schema says of numbers.
type numberRules struct {
	bounds []bound
	step   *big.Rat // multipleOf
}

// bound is a minimum or maximum.
type bound struct {
	exact  *big.Rat
	near   float64
	same   bool // near is exact
	sign   int  // 1: a minimum, -1: a maximum
	strict bool
}

func (r *numberRules) hold(n json.Number) bool {
	for i := range r.bounds {
		b := &r.bounds[i]
		if order := b.compare(n) * b.sign; order < 0 || order == 0 && b.strict {
			return false
		}
	}
	if r.step == nil {
		return true
	}
	value, ok := new(big.Rat).SetString(n.String())
	return ok && value.Quo(value, r.step).IsInt()
}

// compare orders a number and the bound exactly. Rounding keeps the order of numbers, so
// where the nearest floats differ, so do the numbers; only equal ones need a longer look.
func (b *bound) compare(n json.Number) int {
	if b.same {
		if f, err := strconv.ParseFloat(n.String(), 64); err == nil {
			switch {
			case f < b.near:
				return -1
			case f > b.near:
				return 1
			case len(n) <= 15 && isDigits(n):
				return 0
			}
		}
	}
	value, ok := new(big.Rat).SetString(n.String())
	if !ok {
		return -b.sign // it satisfies nothing
	}
	return value.Cmp(b.exact)
}

// isDigits says that a number is written without a point and an exponent.
func isDigits(n json.Number) bool { return !strings.ContainsAny(n.String(), ".eE") }

func isWhole(n json.Number) bool {
	if isDigits(n) {
		return true
	}
	value, ok := new(big.Rat).SetString(n.String())
	return ok && value.IsInt()
}

// objectRules is what a schema says of objects.
type objectRules struct {
	min, max int // members; max < 0: without end
	members  []memberRule
	named    map[string]bool // by properties
	rest     *checker        // what other members have to satisfy; nil: nothing
}

type memberRule struct {
	name     string
	value    *checker // nil: the member is only required, properties do not name it
	required bool
}

func (r *objectRules) hold(object map[string]any) bool {
	if len(object) < r.min || r.max >= 0 && len(object) > r.max {
		return false
	}
	named := 0
	for i := range r.members {
		m := &r.members[i]
		value, has := object[m.name]
		switch {
		case !has:
			if m.required {
				return false
			}
		case m.value != nil:
			if named++; !m.value.holds(value) {
				return false
			}
		}
	}
	if r.rest == nil || named == len(object) {
		return true
	}
	if r.rest.nothing {
		return false
	}
	for name, value := range object {
		if !r.named[name] && !r.rest.holds(value) {
			return false
		}
	}
	return true
}

// arrayRules is what a schema says of arrays.
type arrayRules struct {
	min, max int // items; max < 0: without end
	unique   bool
	first    []*checker // of the first items, each its own
	items    *checker   // of the others; nil: nothing
}

func (r *arrayRules) hold(items []any, c *checker) bool {
	if len(items) < r.min || r.max >= 0 && len(items) > r.max {
		return false
	}
	if r.unique && len(items) > 1 && !distinctTexts(items) {
		return c.library(items)
	}
	for i, item := range items {
		switch {
		case i < len(r.first):
			if !r.first[i].holds(item) {
				return false
			}
		case r.items == nil:
			return true
		case !r.items.holds(item):
			return false
		}
	}
	return true
}

// distinctTexts says that all items are strings and no two are equal.
func distinctTexts(items []any) bool {
	seen := make(map[string]bool, len(items))
	for _, item := range items {
		text, ok := item.(string)
		if !ok || seen[text] {
			return false
		}
		seen[text] = true
	}
	return true
}

// plainTime says that a text is a date or date-time of the ordinary form, which the format
// takes too. It knows no leap seconds and no small letters.
func plainTime(format, text string) bool {
	switch format {
	case "date":
		return len(text) == 10 && plainDate(text)
	case "date-time":
		if len(text) < 20 || !plainDate(text[:10]) || text[10] != 'T' {
			return false
		}
		return plainClock(text[11:19]) && plainZone(text[19:])
	}
	return false
}

// plainDate reads yyyy-mm-dd.
func plainDate(text string) bool {
	year, ok1 := count(text[:4])
	month, ok2 := count(text[5:7])
	day, ok3 := count(text[8:10])
	if !ok1 || !ok2 || !ok3 || text[4] != '-' || text[7] != '-' || month < 1 || month > 12 || day < 1 {
		return false
	}
	days := [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		days = 29
	}
	return day <= days
}

// plainClock reads hh:mm:ss.
func plainClock(text string) bool {
	second, ok := count(text[6:8])
	return ok && second < 60 && text[5] == ':' && plainMinutes(text[:5])
}

// plainMinutes reads hh:mm.
func plainMinutes(text string) bool {
	hour, ok1 := count(text[:2])
	minute, ok2 := count(text[3:5])
	return ok1 && ok2 && hour < 24 && minute < 60 && text[2] == ':'
}

// plainZone reads an optional fraction of a second, and Z or the offset.
func plainZone(text string) bool {
	if fraction, has := strings.CutPrefix(text, "."); has {
		text = strings.TrimLeft(fraction, digits)
		if text == fraction {
			return false
		}
	}
	return text == "Z" || len(text) == 6 && (text[0] == '+' || text[0] == '-') && plainMinutes(text[1:])
}
