package strictjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

const depth = 64

// nested says whether no level of text, which is JSON, lies deeper than limit.
func nested(text []byte, limit int) bool {
	level, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			level++
		case c == '}' || c == ']':
			level--
		}
		if level > limit {
			return false
		}
	}
	return true
}

// reference is what Decode must do, by way of encoding/json and its tokens.
func reference(text []byte, limit int) (any, bool) {
	if !utf8.Valid(text) || !json.Valid(text) || !nested(text, limit) {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if !unique(dec) {
		return nil, false
	}
	dec = json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, false
	}
	return value, true
}

// unique says whether no object has a member twice and every number is within the limits.
func unique(dec *json.Decoder) bool {
	token, err := dec.Token()
	if err != nil {
		return false
	}
	switch t := token.(type) {
	case json.Number:
		mantissa, exponent, has := strings.Cut(strings.ToLower(t.String()), "e")
		return len(mantissa) <= MaxDigits && (!has || exponentFits(exponent))
	case json.Delim:
		names := map[string]bool{}
		for dec.More() {
			if t == '{' {
				name, err := dec.Token()
				if err != nil || names[name.(string)] {
					return false
				}
				names[name.(string)] = true
			}
			if !unique(dec) {
				return false
			}
		}
		_, err := dec.Token()
		return err == nil
	}
	return true
}

// check compares every way through text with encoding/json.
func check(t interface{ Fatalf(string, ...any) }, text []byte, limit int) {
	want, good := reference(text, limit)
	got, ok := Decode(text, limit)
	if ok != good || !reflect.DeepEqual(got, want) {
		t.Fatalf("Decode %q: got %#v, %v, want %#v, %v", text, got, ok, want, good)
	}
	if want := utf8.Valid(text) && json.Valid(text) && nested(text, limit); Valid(text, limit) != want {
		t.Fatalf("Valid %q: want %v", text, want)
	}
	if got, ok := inParts(text, limit); ok != good || !reflect.DeepEqual(got, want) {
		t.Fatalf("in parts %q: got %#v, %v, want %#v, %v", text, got, ok, want, good)
	}
}

// inParts reads the outermost array or object with Open and More, and the rest whole.
func inParts(text []byte, limit int) (any, bool) {
	r := NewReader(text, limit)
	var value any
	switch r.Next() {
	case '[':
		items := []any{}
		for r.Open('['); r.More(']'); {
			item, _ := r.Value()
			items = append(items, item)
		}
		value = items
	case '{':
		members := map[string]any{}
		n := 0
		for r.Open('{'); r.More('}'); n++ {
			name := r.Name()
			members[name], _ = r.Value()
		}
		if n != len(members) {
			return nil, false
		}
		value = members
	default:
		value, _ = r.Value()
	}
	if !r.End() {
		return nil, false
	}
	return value, true
}

var samples = []string{
	``, ` `, `null`, `nul`, `nulll`, `true`, `false`, `tru`, `"a"`, `"`, `"a`, `'a'`, `0`, `-0`, `-`, `01`, `1.`, `.1`, `1.5`, `1e5`, `1E+5`, `1e`, `1e+`, `1e-3`,
	`+1`, `0x1`, `1 2`, `1,`, `[]`, `[`, `]`, `[1,]`, `[,1]`, `[1 2]`, `[1,2]`, ` [ 1 , 2 ] `, "\t[\n1\r]\v", `{}`, `{`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{a:1}`,
	`{"a":1}`, `{"a":1,"b":[{"c":null}]}`, `{"a":1,"a":2}`, `{"a":{"b":1,"b":1}}`, `{"a":1,"\u0061":2}`, `[{"a":1},{"a":1}]`, `{"":1,"":2}`,
	`"\u00e4\n\t\"\\\/\b\f\r"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`, `"\ud83d\u0041"`, `"\ud83d\n"`, `"\uD83D\uDE00"`, `"\u12"`, `"\u12g4"`, `"\x41"`, `"\`, `"\"`,
	"\"\x00\"", "\"\x1f\"", "\"\x7f\"", "\"\n\"", "\"ä→😀\"", "\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\\n\xff\"", "\"\\nä\"", "{\"\xff\":1}", "\"\ufffd\"", "\ufeff1", "1\xff", "\xff",
	strings.Repeat("9", MaxDigits), strings.Repeat("9", MaxDigits+1), "[-" + strings.Repeat("9", MaxDigits) + "]", `1e308`, `1e309`, `1e-308`, `1e-309`, `1e99999999999999999999`, `1e0000000000308`,
	`[[[1]]]`, `[[[[1]]]]`, `{"a":{"b":{"c":{}}}}`, `{"a":[{"b":1}]}`, `"[[[["`, `["]","}"]`, `[1}`, `{"a":1]`, `{"a" : 1 , "b" : 2 }`, `{"a":1 "b":2}`, `{"a",1}`, `{1:2}`, `[true,false,null]`, `[truefalse]`,
}

func TestSamples(t *testing.T) {
	for _, text := range samples {
		for limit := range 4 {
			check(t, []byte(text), limit)
		}
		check(t, []byte(text), depth)
	}
	deep := strings.Repeat("[", depth) + strings.Repeat("]", depth)
	check(t, []byte(deep), depth)
	check(t, []byte("["+deep+"]"), depth)
	check(t, []byte(strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth)), depth)
	check(t, []byte(strings.Repeat("[", 1<<20)), depth)
}

// drawJSON writes a value with what may stand between its parts.
func drawJSON(t *rapid.T, b *strings.Builder, level int) {
	space := func() { b.WriteString(rapid.SampledFrom([]string{"", "", "", " ", "\n\t", "\r"}).Draw(t, "space")) }
	space()
	kinds := 4
	if level > 0 {
		kinds = 6
	}
	switch rapid.IntRange(1, kinds).Draw(t, "kind") {
	case 1:
		b.WriteString(rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word"))
	case 2:
		b.WriteString(rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?`).Draw(t, "number"))
	case 3, 4:
		drawString(t, b)
	case 5:
		b.WriteByte('[')
		for i := range rapid.IntRange(0, 4).Draw(t, "items") {
			if i > 0 {
				b.WriteByte(',')
			}
			drawJSON(t, b, level-1)
		}
		b.WriteByte(']')
	case 6:
		b.WriteByte('{')
		for i := range rapid.IntRange(0, 12).Draw(t, "members") {
			if i > 0 {
				b.WriteByte(',')
			}
			space()
			drawString(t, b)
			space()
			b.WriteByte(':')
			drawJSON(t, b, level-1)
		}
		b.WriteByte('}')
	}
	space()
}

func drawString(t *rapid.T, b *strings.Builder) {
	b.WriteByte('"')
	for range rapid.IntRange(0, 6).Draw(t, "length") {
		b.WriteString(rapid.SampledFrom([]string{"a", "b", "ä", "→", "😀", " ", `\n`, `\"`, `\\`, `\/`, `\u0061`, `\u00e4`, `\ud83d`, `\ude00`, `\uFFFF`, "\u2028", "\ufffd", "7"}).Draw(t, "part"))
	}
	b.WriteByte('"')
}

// Whatever a text holds, it is taken, refused and decoded as by encoding/json; and so is
// what is left of it when a byte is changed.
func TestAsEncodingJSON(t *testing.T) {
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		drawJSON(t, &b, 4)
		text := []byte(b.String())
		check(t, text, rapid.IntRange(0, 5).Draw(t, "depth"))
		check(t, text, depth)
		if _, ok := Decode(text, depth); ok {
			taken++
		}
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		text[at] = rapid.SampledFrom([]byte("{}[],:\"\\0e-. \x00\xff")).Draw(t, "byte")
		check(t, text, depth)
		check(t, text[:at], depth)
	})
	if taken == 0 {
		t.Error("no text was good: nothing was compared")
	}
}

func TestReaderGivesTheText(t *testing.T) {
	text := []byte(` {"a": [1, "x"] ,"b":"c\u0064","d": 1.50}!`)
	r := NewReader(text, depth)
	r.Open('{')
	if !r.More('}') || r.Name() != "a" {
		t.Fatal("the first member was not found")
	}
	value, raw := r.Value()
	if !reflect.DeepEqual(value, []any{json.Number("1"), "x"}) || string(raw) != `[1, "x"]` || &raw[0] != &text[7] || cap(raw) != len(raw) {
		t.Errorf("a: got %v of %s", value, raw)
	}
	if !r.More('}') || r.Name() != "b" || r.Next() != '"' || r.Text() != "cd" {
		t.Error("b was not read")
	}
	if !r.More('}') || r.Name() != "d" || string(r.Skip()) != "1.50" || r.More('}') {
		t.Error("d was not read")
	}
	if r.Offset() != len(text)-1 || r.End() {
		t.Error("the end was found before what follows")
	}
}

// A reader that went wrong stays so, whatever is asked of it.
func TestBadStaysBad(t *testing.T) {
	for name, ask := range map[string]func(r *Reader){
		"open":   func(r *Reader) { r.Open('{') },
		"more":   func(r *Reader) { r.Open('['); r.Skip(); r.More('}') },
		"name":   func(r *Reader) { r.Name() },
		"string": func(r *Reader) { r.Text() },
		"value":  func(r *Reader) { r.Open('['); r.Value(); r.Value() },
		"skip":   func(r *Reader) { r.Open('['); r.Skip(); r.Skip() },
	} {
		r := NewReader([]byte(`[1,"a"]`), depth)
		ask(r)
		value, raw := r.Value()
		if s, more := r.Text(), r.More(']'); value != nil || raw != nil || s != "" || more || r.Name() != "" || r.Skip() != nil {
			t.Errorf("%s: the reader gave %v %s %q %v", name, value, raw, s, more)
		}
		if r.at = len(r.text); r.End() {
			t.Errorf("%s: bad, and yet the end was good", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range samples {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		check(t, text, depth)
		check(t, text, 2)
	})
}
