package described

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Limits on one description, looked at before anything is built from it.
const (
	maxFile     = 1 << 20 // bytes
	maxDepth    = 12
	maxBrackets = 200 // nested in the text, those of jq included
	maxProblems = 20  // told at once
)

// where is a line of the file; block says that its text begins on the next one.
type where struct {
	file  string
	line  int
	block bool
}

func (w where) String() string { return w.file + ":" + strconv.Itoa(w.line) }

// reader takes YAML apart, field by field, and gathers what is wrong with it. It reads the
// syntax tree itself instead of decoding into structs: each value keeps its line, and what is
// written stays text.
type reader struct {
	file     string
	shared   string // functions of jq before every program
	problems []string
}

func (r *reader) refuse(at where, format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, at.String()+": "+fmt.Sprintf(format, args...))
	}
}

func (r *reader) at(n ast.Node) where {
	w := where{file: r.file, line: 1}
	if n == nil {
		return w
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		w.line = t.Position.Line
	}
	_, w.block = n.(*ast.LiteralNode)
	return w
}

// document parses a file that holds one mapping.
func (r *reader) document(text []byte) (n ast.Node) {
	top := where{file: r.file, line: 1}
	defer func() {
		if cause := recover(); cause != nil {
			r.refuse(top, "the file cannot be read as YAML; look for a stray character or a broken indentation")
			n = nil
		}
	}()
	if len(text) > maxFile {
		r.refuse(top, "the file is larger than %d bytes", maxFile)
		return nil
	}
	if line := tooDeep(text); line > 0 {
		r.refuse(where{file: r.file, line: line}, "brackets or lists nested too deep")
		return nil
	}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		message := err.Error()
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			message = syntax.GetMessage()
			if t := syntax.GetToken(); t != nil && t.Position != nil {
				top.line = t.Position.Line
			}
		}
		r.refuse(top, "YAML: %s", message)
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
		r.refuse(top, "the file holds %d documents, and must hold one carrier; put each into a file of its own", len(bodies))
		return nil
	}
	if deep(bodies[0], 0) {
		r.refuse(top, "YAML nested deeper than %d", maxDepth)
		return nil
	}
	return bodies[0]
}

// tooDeep finds the line where nesting would make the parser recurse too far.
func tooDeep(text []byte) int {
	brackets, line := 0, 0
	for row := range bytes.Lines(text) {
		line++
		indicators := 0
		for _, word := range bytes.Fields(row) {
			if strings.Trim(string(word), "-?:!&|>") == "" || word[0] == '!' || word[0] == '&' {
				indicators++
			}
		}
		for _, c := range row {
			switch c {
			case '[', '{':
				brackets++
			case ']', '}':
				brackets = max(brackets-1, 0)
			}
		}
		if indicators > maxBrackets || brackets > maxBrackets {
			return line
		}
	}
	return 0
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
	names  []string // in the order of the file
	values map[string]ast.Node
	lines  map[string]int
	asked  []string
}

// mapping takes a mapping apart; take must ask for every field that is known.
func (r *reader) mapping(n ast.Node, take func(*fields)) {
	if f := r.open(n); f != nil {
		take(f)
		f.rest()
	}
}

func (r *reader) open(n ast.Node) *fields {
	var pairs []*ast.MappingValueNode
	switch v := n.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		pairs = v.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{v}
	default:
		r.refuse(r.at(n), "a mapping is wanted here, such as {name: value}")
		return nil
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
		f.names = append(f.names, name)
		f.values[name], f.lines[name] = pair.Value, r.at(pair.Key).line
	}
	return f
}

// rest refuses what nobody asked for.
func (f *fields) rest() {
	known := slices.Compact(slices.Sorted(slices.Values(f.asked)))
	for _, name := range f.names {
		if !slices.Contains(known, name) {
			f.r.refuse(f.line(name), "unknown field %s; %s", name, instead(name, known))
		}
	}
}

// instead names what was probably meant, or all that could have been.
func instead(name string, known []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known here are " + strings.Join(known, ", ")
}

// distance is how many letters have to be changed, added or left out.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// get gives a field's value; nil when it is missing.
func (f *fields) get(name string) ast.Node {
	f.asked = append(f.asked, name)
	n, ok := f.values[name]
	if !ok {
		return nil
	}
	if _, null := n.(*ast.NullNode); null || n == nil {
		f.r.refuse(f.line(name), "field %s is empty; give it a value or leave it out", name)
		return nil
	}
	return n
}

// need is get of a field that must be there.
func (f *fields) need(name string) ast.Node {
	if !f.has(name) {
		f.asked = append(f.asked, name)
		f.r.refuse(f.at, "field %s is missing; add it", name)
		return nil
	}
	return f.get(name)
}

// line is the place of a field that is there.
func (f *fields) line(name string) where { return where{file: f.r.file, line: f.lines[name]} }

func (f *fields) has(name string) bool { _, ok := f.values[name]; return ok }

func (r *reader) scalar(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
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
	n := f.get
	if required {
		n = f.need
	}
	value := n(name)
	if value == nil {
		return ""
	}
	s, ok := f.r.scalar(value)
	s = strings.TrimSpace(s)
	if ok && s == "" {
		f.r.refuse(f.line(name), "field %s is empty; give it a value or leave it out", name)
	}
	return s
}

func (f *fields) texts(name string) []string {
	var out []string
	f.r.list(f.get(name), func(item ast.Node) {
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

// oneOf is a text that must be one of a few; empty where it is missing and may be.
func (f *fields) oneOf(name string, required bool, choices ...string) string {
	text := f.text(name, required)
	if text != "" && !slices.Contains(choices, text) {
		f.r.refuse(f.line(name), "field %s is %.40q; %s", name, text, instead(text, choices))
		return ""
	}
	return text
}

// span is a time that passes, such as 90s or 10m; what is missing is standard.
func (f *fields) span(name string, standard, most time.Duration) time.Duration {
	text := f.text(name, false)
	if text == "" {
		return standard
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > most {
		f.r.refuse(f.line(name), "field %s is %.40q, and must be a time up to %s such as 30s or 10m", name, text, most)
		return standard
	}
	return d
}

// status is an HTTP status.
func (r *reader) status(at where, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 200 || n > 599 {
		r.refuse(at, "%.40q is no HTTP status from 200 to 599", text)
	}
	return n
}
