package strictjson

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// space passes over white space and gives the byte behind it, 0 at the end.
func (r *Reader) space() byte {
	text, i := r.text, r.at
	for i < len(text) {
		if c := text[i]; c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			r.at = i
			return c
		}
		i++
	}
	r.at = i
	return 0
}

// walk goes through one value, at whose first byte the reader stands or comes to stand.
// Without build it only checks, and gives no value.
func (r *Reader) walk(build bool) (value any, ok bool) {
	switch c := r.space(); c {
	case '"':
		s, ok := r.quoted()
		if !build || !ok {
			return nil, ok
		}
		return s, true
	case '{':
		return r.object(build)
	case '[':
		return r.array(build)
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	}
	number, ok := r.number(build)
	if !build || !ok {
		return nil, ok
	}
	return json.Number(number), true
}

func (r *Reader) word(word string) bool {
	if !strings.HasPrefix(r.text[r.at:], word) {
		return false
	}
	r.at += len(word)
	return true
}

func (r *Reader) object(build bool) (value any, ok bool) {
	if r.room == 0 {
		return nil, false
	}
	r.room--
	r.at++
	names, values := len(r.names), len(r.values)
	if r.space() == '}' {
		return r.closed(build, names, values)
	}
	for {
		if r.space() != '"' {
			return nil, false
		}
		name, ok := r.quoted()
		if !ok || r.space() != ':' {
			return nil, false
		}
		r.at++
		v, ok := r.walk(build)
		if !ok {
			return nil, false
		}
		if build {
			r.names, r.values = append(r.names, name), append(r.values, v)
		}
		switch r.space() {
		case ',':
			r.at++
		case '}':
			return r.closed(build, names, values)
		default:
			return nil, false
		}
	}
}

// closed makes an object of what is held from the given places on.
func (r *Reader) closed(build bool, names, values int) (value any, ok bool) {
	r.at++
	r.room++
	if !build {
		return nil, true
	}
	m := make(map[string]any, len(r.names)-names)
	for i, name := range r.names[names:] {
		m[name] = r.values[values+i]
	}
	ok = len(m) == len(r.names)-names // else one stood twice
	r.names, r.values = r.names[:names], r.values[:values]
	return m, ok
}

func (r *Reader) array(build bool) (value any, ok bool) {
	if r.room == 0 {
		return nil, false
	}
	r.room--
	r.at++
	values := len(r.values)
	for more := r.space() != ']'; more; {
		v, ok := r.walk(build)
		if !ok {
			return nil, false
		}
		if build {
			r.values = append(r.values, v)
		}
		switch r.space() {
		case ',':
			r.at++
		case ']':
			more = false
		default:
			return nil, false
		}
	}
	r.at++
	r.room++
	if !build {
		return nil, true
	}
	items := append(make([]any, 0, len(r.values)-values), r.values[values:]...)
	r.values = r.values[:values]
	return items, true
}

// number reads a number. One that is built must be within the limits.
func (r *Reader) number(build bool) (number string, ok bool) {
	text, i := r.text, r.at
	digits := func() bool {
		from := i
		for i < len(text) && text[i]-'0' <= 9 {
			i++
		}
		return i > from
	}
	if i < len(text) && text[i] == '-' {
		i++
	}
	if i < len(text) && text[i] == '0' {
		i++
	} else if !digits() {
		return "", false
	}
	if i < len(text) && text[i] == '.' {
		i++
		if !digits() {
			return "", false
		}
	}
	fits := i-r.at <= MaxDigits
	if i < len(text) && text[i]|0x20 == 'e' {
		i++
		from := i
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		if !digits() {
			return "", false
		}
		fits = fits && exponentFits(text[from:i])
	}
	number = text[r.at:i]
	r.at = i
	return number, fits || !build
}

// exponentFits checks the part of a number behind its e.
func exponentFits(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n <= MaxExponent && n >= -MaxExponent
}

// ordinary are the bytes that stand for themselves in a string: no quote, no backslash,
// no control character, nothing beyond ASCII.
var ordinary = func() (set [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		set[c] = c != '"' && c != '\\'
	}
	return set
}()

// quoted reads a string, at whose quote the reader stands.
func (r *Reader) quoted() (s string, ok bool) {
	text := r.text
	from := r.at + 1
	for i := from; i < len(text); {
		c := text[i]
		switch {
		case ordinary[c]:
			i++
		case c == '"':
			r.at = i + 1
			return text[from:i], true
		case c == '\\':
			return r.escaped(from, i)
		case c >= utf8.RuneSelf:
			_, n := utf8.DecodeRuneInString(text[i:])
			if n == 1 {
				return "", false
			}
			i += n
		default:
			return "", false
		}
	}
	return "", false
}

// escaped reads a string that began at from, from its first backslash on.
func (r *Reader) escaped(from, i int) (s string, ok bool) {
	text := r.text
	out := append(make([]byte, 0, i-from+32), text[from:i]...)
	for i < len(text) {
		c := text[i]
		switch {
		case ordinary[c]:
			out = append(out, c)
			i++
		case c == '"':
			r.at = i + 1
			return string(out), true
		case c == '\\' && i+1 < len(text):
			if text[i+1] == 'u' {
				var n int
				if out, n = appendRune(out, text[i:]); n == 0 {
					return "", false
				}
				i += n
				continue
			}
			at := strings.IndexByte(`"\/bfnrt`, text[i+1])
			if at < 0 {
				return "", false
			}
			out = append(out, "\"\\/\b\f\n\r\t"[at])
			i += 2
		case c >= utf8.RuneSelf:
			_, n := utf8.DecodeRuneInString(text[i:])
			if n == 1 {
				return "", false
			}
			out = append(out, text[i:i+n]...)
			i += n
		default:
			return "", false
		}
	}
	return "", false
}

// appendRune decodes one \u escape, or the two of a surrogate pair, and says how long it
// is: 0 if it is none. Half a pair becomes U+FFFD, as in encoding/json.
func appendRune(out []byte, text string) ([]byte, int) {
	c, ok := hex4(text)
	if !ok {
		return out, 0
	}
	if !utf16.IsSurrogate(c) {
		return utf8.AppendRune(out, c), 6
	}
	if second, ok := hex4(text[6:]); ok {
		if pair := utf16.DecodeRune(c, second); pair != utf8.RuneError {
			return utf8.AppendRune(out, pair), 12
		}
	}
	return utf8.AppendRune(out, utf8.RuneError), 6
}

// hex4 reads a backslash, a u and four hexadecimal digits.
func hex4(text string) (c rune, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	for i := 2; i < 6; i++ {
		d := text[i]
		switch {
		case d >= '0' && d <= '9':
			d -= '0'
		case d|0x20 >= 'a' && d|0x20 <= 'f':
			d = d | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		c = c<<4 | rune(d)
	}
	return c, true
}
