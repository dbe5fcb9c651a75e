// Package strictjson owns the one pass over JSON text that comes from outside: it checks
// a value and builds its decoded form on the way, or passes over it.
//
// It refuses to know what a value means, and why a text is bad: its answer is yes, with
// the value, or no. Refusals are rare and may cost more, so who needs the reason looks for
// it with encoding/json. Its invariant: what it takes is UTF-8, within the limits and
// without a member twice, encoding/json takes it too, and both decode it to the same.
package strictjson

// Limits on one number. Beyond them exact arithmetic, which schemas use, would cost more
// than any business number is worth.
const (
	MaxDigits   = 128
	MaxExponent = 308
)

// Decode reads a text that is one JSON value with at most depth levels of objects and
// arrays: to nil, bool, string, json.Number, []any and map[string]any. The strings of the
// value share one memory.
func Decode(text []byte, depth int) (value any, ok bool) {
	r := NewReader(text, depth)
	value, _ = r.Value()
	if !r.End() {
		return nil, false
	}
	return value, true
}

// Valid says that text is one JSON value with at most depth levels. Unlike what Decode
// takes, its objects may have a member twice and its numbers any length.
func Valid(text []byte, depth int) bool {
	r := NewReader(text, depth)
	r.Skip()
	return r.End()
}

// Reader goes through one text. Its methods are called in the order in which the text has
// its parts; the first that meets something else makes the reader bad, and from then on
// all of them give nothing. Only when End says yes, what came out before is good.
type Reader struct {
	source []byte
	text   string // the same, in memory that the decoded strings share
	at     int
	room   int  // levels that may still be opened
	first  bool // nothing of the array or object just opened has been read
	bad    bool

	// What is held of the arrays and objects that Value is within.
	names  []string
	values []any
}

// NewReader begins a text.
func NewReader(text []byte, depth int) *Reader {
	return &Reader{source: text, text: string(text), room: depth}
}

// Open enters an array or object, which begins with the given bracket.
func (r *Reader) Open(bracket byte) {
	if r.space() != bracket || r.room == 0 {
		r.bad = true
		return
	}
	r.at++
	r.room--
	r.first = true
}

// More reports whether the array or object, which ends with the given bracket, goes on,
// and leaves it if it does not.
func (r *Reader) More(bracket byte) bool {
	first := r.first
	r.first = false
	switch c := r.space(); {
	case r.bad:
	case c == bracket:
		r.at++
		r.room++
	case first:
		return true
	case c == ',':
		r.at++
		return true
	default:
		r.bad = true
	}
	return false
}

// Name reads a member's name, behind which its value comes next.
func (r *Reader) Name() string {
	name := r.Text()
	if r.space() != ':' {
		r.bad = true
		return ""
	}
	r.at++
	return name
}

// Text reads a string.
func (r *Reader) Text() string {
	if r.space() == '"' && !r.bad {
		if s, ok := r.quoted(); ok {
			return s
		}
	}
	r.bad = true
	return ""
}

// Value reads a value to its decoded form. Raw is its text, in the memory of the text that
// the reader was given.
func (r *Reader) Value() (value any, raw []byte) { return r.take(true) }

// Skip passes over a value, of which it gives the text.
func (r *Reader) Skip() (raw []byte) {
	_, raw = r.take(false)
	return raw
}

func (r *Reader) take(build bool) (value any, raw []byte) {
	r.space()
	start := r.at
	if build && r.values == nil {
		n := min(len(r.text)/16, 32)
		r.names, r.values = make([]string, 0, n), make([]any, 0, n)
	}
	value, ok := r.walk(build)
	if !ok || r.bad {
		r.bad = true
		return nil, nil
	}
	return value, r.source[start:r.at:r.at]
}

// Next is the first byte of what comes next, 0 at the end.
func (r *Reader) Next() byte { return r.space() }

// Offset is how many bytes have been read.
func (r *Reader) Offset() int { return r.at }

// End says that all was good and nothing follows.
func (r *Reader) End() bool { return r.space() == 0 && !r.bad && r.at == len(r.text) }
