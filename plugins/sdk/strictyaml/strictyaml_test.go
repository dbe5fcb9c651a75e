package strictyaml

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func reading(text string) (*Reader, Node) {
	r := New(Config{File: "a.yaml", Holds: "list", MaxBytes: 1 << 20, TooLarge: "cut it"})
	return r, r.Document([]byte(text))
}

// shop reads a file with a field of each kind.
func shop(r *Reader, n Node) string {
	out := ""
	r.Mapping(n, func(f *Fields) {
		out = fmt.Sprint(f.Text("name", true), " ", f.Text("zip", false), " ", f.Flag("open"), " ", f.OneOf("unit", false, "kg", "g", "lb"), " ", f.Texts("tags", false))
		if inner := r.Open(f.Get("prices")); inner != nil {
			for _, name := range inner.Names {
				out += " " + name + "=" + inner.Text(name, true)
			}
		}
		r.List(f.Get("parts"), func(n Node) {
			r.Mapping(n, func(f *Fields) { out += " " + f.Text("part", true) })
		})
	})
	return out
}

func TestValuesAreAsWritten(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"name: x", "x  false  []"},
		{"# of whom\n---\nname: ' x '\nzip: 01067\nopen: true\nunit: lb\ntags: [0.10, 1_000, 0x1F, yes, 2026-01-31, a b ]", "x 01067 true lb [0.10 1_000 0x1F yes 2026-01-31 a b]"},
		{"{name: x, prices: {b: 1.50, a: 1e3}, parts: [{part: p}, {part: q}]}", "x  false  [] b=1.50 a=1e3 p q"},
		{"name: |\n  one [[[\n  two\nzip: >\n  three\n  four\n", "one [[[\ntwo three four false  []"},
	} {
		r, n := reading(c.text)
		if got, err := shop(r, n), r.Problems.Err(); got != c.want || err != nil || !r.Problems.None() {
			t.Errorf("%q gives %q, %v, want %q", c.text, got, err, c.want)
		}
	}
}

func TestProblemsAreNamed(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"zip: 1", "a.yaml:1: field name is missing; add it"},
		{"# a\nzip: 1\nopen: false", "a.yaml:2: field name is missing; add it"},
		{"name:\n", "a.yaml:1: field name is empty; give it a value or leave it out"},
		{"name: x\nzip: ~", "a.yaml:2: field zip is empty; give it a value or leave it out"},
		{"name: x\nzip: ''", "a.yaml:2: field zip is empty; give it a value or leave it out"},
		{"name: x\nZIP: 1", "a.yaml:2: unknown field ZIP; did you mean zip?"},
		{"name: x\nnaem: x", "a.yaml:2: unknown field naem; did you mean name?"},
		{"name: x\nfreight: 1", "a.yaml:2: unknown field freight; known here are name, open, parts, prices, tags, unit, zip"},
		{"name: x\nzip: 1\n'name': y\nname: z", "a.yaml:3: field name stands twice, first in line 1; keep one\na.yaml:4: field name stands twice, first in line 1; keep one"},
		{"name: x\nprices:\n  a: 1\n  a: 1", "a.yaml:4: field a stands twice, first in line 3; keep one"},
		{"name: x\nopen: yes", `a.yaml:2: field open is "yes", and must be true or false`},
		{"name: x\nunit: KG", `a.yaml:2: field unit is "KG"; did you mean kg?`},
		{"name: x\nunit: oz", `a.yaml:2: field unit is "oz"; known here are kg, g, lb`},
		{"name: [x]", "a.yaml:1: a plain value is wanted here; lists, mappings, anchors and tags are not taken"},
		{"name: &a x", "a.yaml:1: a plain value is wanted here; lists, mappings, anchors and tags are not taken"},
		{"name: !!str x", "a.yaml:1: a plain value is wanted here; lists, mappings, anchors and tags are not taken"},
		{"name: x\n<<: {zip: 1}", "a.yaml:2: a plain value is wanted here; lists, mappings, anchors and tags are not taken"},
		{"name: x\n? zip\n: b", "a.yaml:2: a plain value is wanted here; lists, mappings, anchors and tags are not taken"},
		{"name: x\ntags: a", "a.yaml:2: a list is wanted here, such as [a, b]"},
		{"name: x\ntags:\n- a\n-\n", "a.yaml:4: a plain value is wanted here; lists, mappings, anchors and tags are not taken"},
		{"name: x\nparts:\n- part: p\n- q", "a.yaml:4: a mapping is wanted here, such as {name: value}"},
		{"name: x\nparts:\n- part: p\n-\n", "a.yaml:4: a mapping is wanted here, such as {name: value}"},
		{"- x", "a.yaml:1: a mapping is wanted here, such as {name: value}"},
		{"", "a.yaml:1: the file holds 0 documents, and must hold one list; put each into a file of its own"},
		{"name: x\n---\nname: y", "a.yaml:1: the file holds 2 documents, and must hold one list; put each into a file of its own"},
		{strings.Repeat("#", 1<<20+1), "a.yaml:1: the file is larger than 1048576 bytes; cut it"},
	} {
		r, n := reading(c.text)
		shop(r, n)
		if err := r.Problems.Err(); fmt.Sprint(err) != c.want {
			t.Errorf("%.80q:\n%v\nwant\n%s", c.text, err, c.want)
		}
	}
	r, n := reading("name: 'x\nzip: 1")
	if err := r.Problems.Err(); n != nil || err == nil || !strings.HasPrefix(err.Error(), "a.yaml:1: YAML: ") {
		t.Errorf("an open quote: %v", err)
	}
}

// What would make a parser recurse until it dies is refused before it is asked.
func TestNestingHasALimit(t *testing.T) {
	for name, text := range map[string]string{
		"brackets":                       "a:\n  " + strings.Repeat("[", 300),
		"braces":                         "a:\n  " + strings.Repeat("{a: ", 300),
		"closed in quotes":               "a:\n  " + strings.Repeat(`["]",`, 300),
		"lists in one line":              "a:\n  " + strings.Repeat("- ", 300) + "b",
		"keys in one line":               "a:\n  " + strings.Repeat("? ", 300) + "b",
		"tags":                           "a:\n  " + strings.Repeat("!a ", 300) + "b",
		"of an expression in its quotes": "a:\n  '" + strings.Repeat("[", 300) + "'",
	} {
		r, n := reading(text)
		if err := r.Problems.Err(); n != nil || fmt.Sprint(err) != "a.yaml:2: brackets or lists nested too deep" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for depth, want := range map[int]string{maxDepth: "<nil>", maxDepth + 1: "a.yaml:1: YAML nested deeper than 12"} {
		for _, text := range []string{strings.Repeat("[", depth) + "x" + strings.Repeat("]", depth), strings.Repeat("{a: ", depth) + "x" + strings.Repeat("}", depth), strings.Repeat("- ", depth) + "x"} {
			r, n := reading(text)
			if err := r.Problems.Err(); fmt.Sprint(err) != want || (n == nil) != (err != nil) {
				t.Errorf("%s: %v, want %s", text, err, want)
			}
		}
	}
	r, n := reading("name: x\ntags: [" + strings.Repeat("'[]', [], ", 1000) + "]")
	if n == nil {
		t.Errorf("many brackets side by side: %v", r.Problems.Err())
	}
}

func TestProblemsAreBounded(t *testing.T) {
	var all Problems
	for file := range 2 {
		r, n := reading("name: x\n" + strings.Repeat("freight: 1\n", 31))
		shop(r, n)
		lines := strings.Split(r.Problems.Err().Error(), "\n")
		// 30 that stand there twice, and the one that is not known.
		if len(lines) != maxProblems+1 || lines[maxProblems] != "and 11 more" || !strings.HasPrefix(lines[19], "a.yaml:22: ") {
			t.Errorf("file %d: %q", file, lines)
		}
		all.Join(&r.Problems)
	}
	if lines := strings.Split(all.Err().Error(), "\n"); len(lines) != maxProblems+1 || lines[maxProblems] != "and 42 more" {
		t.Errorf("both: %q", lines)
	}
}

func TestPlaces(t *testing.T) {
	r, n := reading("\nname: x\nparts:\n  - part: p\n    x: |\n      text\n")
	f := r.Open(n)
	if got := fmt.Sprint(f.At, f.Line("parts"), f.Line("open"), r.At(f.Get("parts")), r.At(nil)); got != "a.yaml:2 a.yaml:3 a.yaml:2 a.yaml:4 a.yaml:1" {
		t.Error(got)
	}
	r.List(f.Get("parts"), func(n Node) {
		part := r.Open(n)
		x := part.Get("x")
		if got := fmt.Sprint(part.At, r.At(x), Block(x), Written(x)); got != "a.yaml:4 a.yaml:5 true true" {
			t.Error(got)
		}
		if p := part.Get("part"); Block(p) || !Written(p) || Written(n) {
			t.Error("a plain text is taken for a block, or a mapping for a text")
		}
	})
	if got := slices.Collect(slices.Values(f.Names)); fmt.Sprint(got) != "[name parts]" || !f.Has("name") || f.Has("open") {
		t.Error(got)
	}
}

// Whatever is in a file, it is read or refused; and what is read is read again alike.
func FuzzDocument(f *testing.F) {
	f.Add("name: x\nparts: [{part: p}]\nprices: {a: 1}\n")
	f.Add("name: |\n  x\n---\n...\n<<: *a")
	f.Add(`a: ["]",["]",{?`)
	f.Fuzz(func(t *testing.T, text string) {
		r, n := reading(text)
		if (n == nil) == r.Problems.None() {
			t.Fatalf("%v, %v", n, r.Problems.Err())
		}
		got := shop(r, n)
		r2, n2 := reading(text)
		if again := shop(r2, n2); again != got || fmt.Sprint(r.Problems.Err()) != fmt.Sprint(r2.Problems.Err()) {
			t.Errorf("%q, then %q", got, again)
		}
	})
}
