package contract

import "strings"

// The patterns that an automaton can stand for are those in which ECMA's dialect, as the
// engine speaks it, is a plain regular expression: characters, sets, groups, alternatives,
// repetitions, and the beginning and end of the text. Whatever else a pattern holds, such
// as a look ahead, a reference, or a character beyond ASCII, leaves it to the engine.

// set is a set of ASCII characters.
type set [2]uint64

func (s *set) add(c byte)     { s[c>>6] |= 1 << (c & 63) }
func (s set) has(c byte) bool { return s[c>>6]&(1<<(c&63)) != 0 }

func (s *set) join(o set) {
	s[0] |= o[0]
	s[1] |= o[1]
}

func (s set) others() set { return set{^s[0], ^s[1]} }

func setOf(chars string) (s set) {
	for i := range len(chars) {
		s.add(chars[i])
	}
	return s
}

const digits = "0123456789"

// named are the sets behind a backslash, in ECMA's meaning.
var named = map[byte]set{
	'd': setOf(digits), 'D': setOf(digits).others(),
	'w': setOf(word), 'W': setOf(word).others(),
	's': setOf(spaces), 'S': setOf(spaces).others(),
	't': setOf("\t"), 'n': setOf("\n"), 'v': setOf("\v"), 'f': setOf("\f"), 'r': setOf("\r"),
}

const (
	word        = digits + "ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
	spaces      = "\t\n\v\f\r "
	lineEnds    = "\n\r"
	punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ "
)

// term is a part of a pattern as it is written.
type term struct {
	kind     termKind
	set      set     // of one
	terms    []*term // of a row, a choice; of a repeat the only one
	min, max int     // of a repeat; max < 0: without end
}

type termKind uint8

const (
	one termKind = iota
	row
	choice
	repeat
	atBegin
	atEnd
)

// simplePattern makes an automaton of a pattern, nil if it is left to the engine. Work is
// what may still be done for it.
func simplePattern(source string, work *int) *automaton {
	p := &patternParser{rest: source}
	t, ok := p.choice(0)
	if !ok || p.rest != "" {
		return nil
	}
	e := &emitter{parts: []part{{kind: found}}}
	first := e.emit(t, 0)
	if len(e.parts) > maxParts {
		return nil
	}
	return newAutomaton(e.parts, first, work)
}

type patternParser struct{ rest string }

// maxGroups bounds how deep groups nest.
const maxGroups = 32

func (p *patternParser) choice(depth int) (*term, bool) {
	if depth > maxGroups {
		return nil, false
	}
	out := &term{kind: choice}
	for {
		t, ok := p.row(depth)
		if !ok {
			return nil, false
		}
		out.terms = append(out.terms, t)
		if !strings.HasPrefix(p.rest, "|") {
			return out, true
		}
		p.rest = p.rest[1:]
	}
}

func (p *patternParser) row(depth int) (*term, bool) {
	out := &term{kind: row}
	for p.rest != "" && p.rest[0] != '|' && p.rest[0] != ')' {
		t, ok := p.term(depth)
		if !ok {
			return nil, false
		}
		if t, ok = p.repeated(t); !ok {
			return nil, false
		}
		out.terms = append(out.terms, t)
	}
	return out, true
}

func (p *patternParser) term(depth int) (t *term, ok bool) {
	c := p.rest[0]
	p.rest = p.rest[1:]
	switch c {
	case '^':
		return &term{kind: atBegin}, true
	case '$':
		return &term{kind: atEnd}, true
	case '.':
		return &term{set: setOf(lineEnds).others()}, true
	case '(':
		p.rest = strings.TrimPrefix(p.rest, "?:")
		if strings.HasPrefix(p.rest, "?") {
			return nil, false
		}
		if t, ok = p.choice(depth + 1); !ok || !strings.HasPrefix(p.rest, ")") {
			return nil, false
		}
		p.rest = p.rest[1:]
		return t, true
	case '[':
		s, ok := p.class()
		return &term{set: s}, ok
	case '\\':
		s, ok := p.escape()
		return &term{set: s}, ok
	case '*', '+', '?', '{', '}', ']':
		return nil, false
	}
	if c >= asciiEnd {
		return nil, false
	}
	return &term{set: setOf(string(rune(c)))}, true
}

// escape reads what follows a backslash.
func (p *patternParser) escape() (s set, ok bool) {
	if p.rest == "" {
		return s, false
	}
	c := p.rest[0]
	p.rest = p.rest[1:]
	if strings.IndexByte(punctuation, c) >= 0 {
		return setOf(string(rune(c))), true
	}
	s, ok = named[c]
	return s, ok
}

// class reads a set in brackets, behind the first. A hyphen stands for itself only as the
// first or last of it, or escaped; elsewhere dialects differ.
func (p *patternParser) class() (s set, ok bool) {
	rest := strings.TrimPrefix(p.rest, "^")
	negated := rest != p.rest
	p.rest = rest
	for first := true; ; first = false {
		if p.rest == "" || p.rest[0] >= asciiEnd || p.rest[0] == '[' || first && p.rest[0] == ']' {
			return s, false
		}
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch {
		case c == ']':
			if negated {
				s = s.others()
			}
			return s, true
		case c == '-' && !first && !strings.HasPrefix(p.rest, "]"):
			return s, false
		}
		from := setOf(string(rune(c)))
		if c == '\\' {
			if from, ok = p.escape(); !ok {
				return s, false
			}
		}
		if len(p.rest) < 2 || p.rest[0] != '-' || p.rest[1] == ']' {
			s.join(from)
			continue
		}
		high := p.rest[1]
		if c == '\\' || c == '-' || high == '\\' || high == '[' || high == '-' || high >= asciiEnd || high < c {
			return s, false
		}
		p.rest = p.rest[2:]
		for ; c <= high; c++ {
			s.add(c)
		}
	}
}

// repeated reads how often a term stands, if that is said.
func (p *patternParser) repeated(t *term) (*term, bool) {
	if p.rest == "" {
		return t, true
	}
	out := &term{kind: repeat, terms: []*term{t}, max: -1}
	switch p.rest[0] {
	case '*':
	case '+':
		out.min = 1
	case '?':
		out.max = 1
	case '{':
		end := strings.IndexByte(p.rest, '}')
		if end < 0 || !out.counts(p.rest[1:end]) {
			return nil, false
		}
		p.rest = p.rest[end:]
	default:
		return t, true
	}
	if t.kind == atBegin || t.kind == atEnd {
		return nil, false
	}
	p.rest = strings.TrimPrefix(p.rest[1:], "?") // which only says what is tried first
	return out, p.rest == "" || strings.IndexByte("*+?{", p.rest[0]) < 0
}

// counts reads n or n,m or n, as it stands in braces.
func (t *term) counts(text string) bool {
	low, high, two := strings.Cut(text, ",")
	var ok bool
	if t.min, ok = count(low); !ok {
		return false
	}
	switch {
	case !two:
		t.max = t.min
	case high != "":
		if t.max, ok = count(high); !ok || t.max < t.min {
			return false
		}
	}
	return true
}

func count(text string) (n int, ok bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = n*10 + int(text[i]-'0')
	}
	return n, text != "" && len(text) <= 4
}

// emitter makes parts of terms, from the end to the beginning.
type emitter struct{ parts []part }

func (e *emitter) add(p part) int {
	e.parts = append(e.parts, p)
	return len(e.parts) - 1
}

// emit gives the part that a term begins with, if next is what follows it.
func (e *emitter) emit(t *term, next int) int {
	if len(e.parts) > maxParts {
		return next // nobody will use them
	}
	switch t.kind {
	case one:
		return e.add(part{kind: takes, set: t.set, out: next})
	case atBegin:
		return e.add(part{kind: begins, out: next})
	case atEnd:
		return e.add(part{kind: ends, out: next})
	case row:
		for i := len(t.terms) - 1; i >= 0; i-- {
			next = e.emit(t.terms[i], next)
		}
		return next
	case choice:
		first := e.emit(t.terms[0], next)
		for _, other := range t.terms[1:] {
			first = e.add(part{kind: splits, out: first, other: e.emit(other, next)})
		}
		return first
	}
	behind := next
	if t.max < 0 {
		behind = e.add(part{kind: splits, other: next})
		again := e.emit(t.terms[0], behind)
		e.parts[behind].out = again
	}
	for i := t.min; i < t.max && len(e.parts) <= maxParts; i++ {
		behind = e.add(part{kind: splits, out: e.emit(t.terms[0], behind), other: next})
	}
	for i := 0; i < t.min && len(e.parts) <= maxParts; i++ {
		first := e.emit(t.terms[0], behind)
		if first == behind { // it takes nothing, however often: nested ones would never end
			break
		}
		behind = first
	}
	return behind
}
