package zone

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/shopspring/decimal"
)

// Limits on one file of tables.
const (
	maxTableBytes = 8 << 20
	maxDepth      = 12
	maxProblems   = 20 // told at once
)

// where is a place in the files of tables.
type where struct {
	file string
	line int
}

func (w where) String() string { return w.file + ":" + strconv.Itoa(w.line) }

// reader takes YAML apart, field by field, and gathers what is wrong with it. It reads the
// syntax tree itself instead of decoding into structs: each value keeps its line, and what is
// written stays text, so that postal code 01067 is no number and 0.1 no float.
type reader struct {
	file     string
	problems []string
}

func (r *reader) refuse(at where, format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, at.String()+": "+fmt.Sprintf(format, args...))
	}
}

func (r *reader) at(n ast.Node) where {
	w := where{r.file, 1}
	if n == nil {
		return w
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		w.line = t.Position.Line
	}
	return w
}

// document parses a file that holds one mapping.
func (r *reader) document(text []byte) (n ast.Node) {
	defer func() {
		if cause := recover(); cause != nil {
			r.refuse(where{r.file, 1}, "the file cannot be read as YAML; look for a stray character or a broken indentation")
			n = nil
		}
	}()
	if len(text) > maxTableBytes {
		r.refuse(where{r.file, 1}, "the file is larger than %d bytes; split the tariff by origin", maxTableBytes)
		return nil
	}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		at, message := where{r.file, 1}, err.Error()
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			message = syntax.GetMessage()
			if t := syntax.GetToken(); t != nil && t.Position != nil {
				at.line = t.Position.Line
			}
		}
		r.refuse(at, "YAML: %s", message)
		return nil
	}
	var bodies []ast.Node
	for _, doc := range parsed.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if _, comment := doc.Body.(*ast.CommentGroupNode); !comment {
			bodies = append(bodies, doc.Body)
		}
	}
	if len(bodies) != 1 {
		r.refuse(where{r.file, 1}, "the file holds %d documents, and must hold one tariff; put each into a file of its own", len(bodies))
		return nil
	}
	if deep(bodies[0], 0) {
		r.refuse(where{r.file, 1}, "YAML nested deeper than %d", maxDepth)
		return nil
	}
	return bodies[0]
}

func deep(n ast.Node, depth int) bool {
	if depth > maxDepth {
		return true
	}
	switch v := n.(type) {
	case *ast.MappingNode:
		return slices.ContainsFunc(v.Values, func(pair *ast.MappingValueNode) bool { return deep(pair.Value, depth+1) })
	case *ast.MappingValueNode:
		return deep(v.Value, depth+1)
	case *ast.SequenceNode:
		return slices.ContainsFunc(v.Values, func(item ast.Node) bool { return deep(item, depth+1) })
	}
	return false
}

// fields are the values of one mapping that nobody has asked for yet.
type fields struct {
	r      *reader
	at     where
	values map[string]ast.Node
	lines  map[string]int
	asked  []string
}

// mapping takes a mapping apart; take must ask for every field that is known.
func (r *reader) mapping(n ast.Node, take func(*fields)) {
	var pairs []*ast.MappingValueNode
	switch v := n.(type) {
	case *ast.MappingNode:
		pairs = v.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{v}
	default:
		r.refuse(r.at(n), "a mapping is wanted here, such as {country: US}")
		return
	}
	f := &fields{r: r, at: r.at(n), values: map[string]ast.Node{}, lines: map[string]int{}}
	if len(pairs) > 0 {
		f.at = r.at(pairs[0].Key)
	}
	for _, pair := range pairs {
		name, ok := r.scalar(pair.Key)
		if !ok {
			continue
		}
		if first, twice := f.lines[name]; twice {
			r.refuse(r.at(pair.Key), "field %s stands twice, first in line %d; keep one", name, first)
			continue
		}
		f.values[name], f.lines[name] = pair.Value, r.at(pair.Key).line
	}
	take(f)
	f.rest()
}

// rest refuses what nobody asked for.
func (f *fields) rest() {
	var unknown []string
	for name := range f.values {
		if !slices.Contains(f.asked, name) {
			unknown = append(unknown, name)
		}
	}
	slices.SortFunc(unknown, func(a, b string) int { return f.lines[a] - f.lines[b] })
	known := slices.Compact(slices.Sorted(slices.Values(f.asked)))
	for _, name := range unknown {
		f.r.refuse(where{f.r.file, f.lines[name]}, "unknown field %s; known here are %s", name, strings.Join(known, ", "))
	}
}

// get gives a field's value and its line; nil when it is missing.
func (f *fields) get(name string) (ast.Node, where) {
	f.asked = append(f.asked, name)
	n, ok := f.values[name]
	if !ok {
		return nil, f.at
	}
	if _, null := n.(*ast.NullNode); null || n == nil {
		f.r.refuse(f.line(name), "field %s is empty; give it a value or leave it out", name)
		return nil, f.line(name)
	}
	return n, f.line(name)
}

// line is the place of a field that is there.
func (f *fields) line(name string) where { return where{f.r.file, f.lines[name]} }

func (f *fields) has(name string) bool { _, ok := f.values[name]; return ok }

// need is get of a field that must be there.
func (f *fields) need(name string) (ast.Node, where) {
	if !f.has(name) {
		f.asked = append(f.asked, name)
		f.r.refuse(f.at, "field %s is missing; add it", name)
		return nil, f.at
	}
	return f.get(name)
}

func (r *reader) scalar(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	r.refuse(r.at(n), "a plain value is wanted here; lists, mappings, anchors and tags are not taken")
	return "", false
}

func (r *reader) list(n ast.Node, take func(ast.Node)) {
	if n == nil {
		return
	}
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.refuse(r.at(n), "a list is wanted here, such as [a, b]")
		return
	}
	for _, item := range s.Values {
		take(item)
	}
}

// text is a field's value, trimmed; empty when it is missing.
func (f *fields) text(name string, required bool) string {
	n, at := f.pick(name, required)
	if n == nil {
		return ""
	}
	s, ok := f.r.scalar(n)
	s = strings.TrimSpace(s)
	if ok && s == "" {
		f.r.refuse(at, "field %s is empty; give it a value or leave it out", name)
	}
	return s
}

func (f *fields) pick(name string, required bool) (ast.Node, where) {
	if required {
		return f.need(name)
	}
	return f.get(name)
}

func (f *fields) texts(name string, required bool) []string {
	n, _ := f.pick(name, required)
	var out []string
	f.r.list(n, func(item ast.Node) {
		if s, ok := f.r.scalar(item); ok {
			out = append(out, strings.TrimSpace(s))
		}
	})
	return out
}

func (f *fields) flag(name string) bool {
	switch text := f.text(name, false); text {
	case "true":
		return true
	case "", "false":
	default:
		f.r.refuse(f.line(name), "field %s is %q, and must be true or false", name, text)
	}
	return false
}

// plainNumber leaves out exponents and signs: a table holds 0.45, never 45e-2 nor -1.
var plainNumber = regexp.MustCompile(`^\d{1,12}(\.\d{1,6})?$`)

func (r *reader) number(at where, name, text string) decimal.Decimal {
	if !plainNumber.MatchString(text) {
		r.refuse(at, "%s is %q, and must be a plain number such as 12.50", name, text)
		return decimal.Zero
	}
	return decimal.RequireFromString(text)
}

func (f *fields) number(name string, required bool) decimal.Decimal {
	if text := f.text(name, required); text != "" {
		return f.r.number(f.line(name), "field "+name, text)
	}
	return decimal.Zero
}

// positive is a number that must not be zero where it is given.
func (f *fields) positive(name string, required bool) decimal.Decimal {
	d := f.number(name, required)
	if n := f.values[name]; n != nil && d.IsZero() {
		f.r.refuse(f.line(name), "field %s must be more than zero", name)
	}
	return d
}

func (r *reader) numbers(n ast.Node, name string) []decimal.Decimal {
	var out []decimal.Decimal
	r.list(n, func(item ast.Node) {
		if s, ok := r.scalar(item); ok {
			out = append(out, r.number(r.at(item), name, s))
		}
	})
	return out
}

func (f *fields) date(name string, required bool) time.Time {
	text := f.text(name, required)
	if text == "" {
		return time.Time{}
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		f.r.refuse(f.line(name), "field %s is %q, and must be a day such as 2026-01-31", name, text)
	}
	return day
}

// oneOf is a text that must be one of a few; the first where it is missing.
func (f *fields) oneOf(name string, choices ...string) string {
	text := f.text(name, false)
	if text == "" {
		return choices[0]
	}
	if !slices.Contains(choices, text) {
		f.r.refuse(f.line(name), "field %s is %q, and must be one of %s", name, text, strings.Join(choices, ", "))
	}
	return text
}
