package strictyaml

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Fields are the values of one mapping.
type Fields struct {
	At    Place
	Names []string // in the order of the file

	r      *Reader
	values map[string]Node
	lines  map[string]int
	asked  []string
}

// rest refuses what nobody asked for.
func (f *Fields) rest() {
	known := slices.Compact(slices.Sorted(slices.Values(f.asked)))
	for _, name := range f.Names {
		if !slices.Contains(known, name) {
			f.Refuse(f.Line(name), "unknown field %s; %s", name, Instead(name, known))
		}
	}
}

// Refuse tells a problem.
func (f *Fields) Refuse(at Place, format string, args ...any) { f.r.Refuse(at, format, args...) }

// Has says that a field is there, whatever it holds.
func (f *Fields) Has(name string) bool { _, ok := f.values[name]; return ok }

// Line is the place of a field, or of the mapping that it is missing from.
func (f *Fields) Line(name string) Place {
	if !f.Has(name) {
		return f.At
	}
	return Place{f.At.File, f.lines[name]}
}

// Get gives a field's value; nil when it is missing.
func (f *Fields) Get(name string) Node {
	f.asked = append(f.asked, name)
	n, ok := f.values[name]
	if !ok {
		return nil
	}
	if _, null := n.(*ast.NullNode); null || n == nil {
		f.empty(name)
		return nil
	}
	return n
}

func (f *Fields) empty(name string) {
	f.Refuse(f.Line(name), "field %s is empty; give it a value or leave it out", name)
}

// Need is Get of a field that must be there.
func (f *Fields) Need(name string) Node {
	if !f.Has(name) {
		f.asked = append(f.asked, name)
		f.Refuse(f.At, "field %s is missing; add it", name)
		return nil
	}
	return f.Get(name)
}

// Pick is Need of what is required, and Get of what is not.
func (f *Fields) Pick(name string, required bool) Node {
	if required {
		return f.Need(name)
	}
	return f.Get(name)
}

// Text is a field's value, trimmed; empty when it is missing.
func (f *Fields) Text(name string, required bool) string {
	n := f.Pick(name, required)
	if n == nil {
		return ""
	}
	s, ok := f.r.Scalar(n)
	s = strings.TrimSpace(s)
	if ok && s == "" {
		f.empty(name)
	}
	return s
}

// Texts are the items of a field that is a list of texts, trimmed.
func (f *Fields) Texts(name string, required bool) []string {
	var out []string
	f.r.List(f.Pick(name, required), func(item Node) {
		if s, ok := f.r.Scalar(item); ok {
			out = append(out, strings.TrimSpace(s))
		}
	})
	return out
}

// Flag is true or false; false when it is missing.
func (f *Fields) Flag(name string) bool {
	switch text := f.Text(name, false); text {
	case "true":
		return true
	case "", "false":
	default:
		f.Refuse(f.Line(name), "field %s is %.40q, and must be true or false", name, text)
	}
	return false
}

// OneOf is a text that must be one of a few; empty where it is missing and may be.
func (f *Fields) OneOf(name string, required bool, choices ...string) string {
	text := f.Text(name, required)
	if text != "" && !slices.Contains(choices, text) {
		f.Refuse(f.Line(name), "field %s is %.40q; %s", name, text, Instead(text, choices))
		return ""
	}
	return text
}
