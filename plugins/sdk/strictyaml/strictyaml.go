// Package strictyaml reads the files that people write for a plugin: YAML of which every field is
// asked for by name, and every fault is told with its file and line.
//
// It owns the syntax, its limits and the words in which faults are told, and refuses to know what
// a file is about. Its invariant: a file of which no problem was told holds nothing that was not
// asked for and nothing twice, and each value is the text that stands there.
package strictyaml

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
)

// maxProblems is how many are told at once.
const maxProblems = 20

// Node is a value of a file: text, a list or a mapping. What is missing is nil.
type Node = ast.Node

// Place is a line of a file.
type Place struct {
	File string
	Line int
}

func (p Place) String() string { return p.File + ":" + strconv.Itoa(p.Line) }

// Problems are what is wrong. The first of them are kept, the others counted.
type Problems struct {
	told []string
	more int
}

// Add takes one that names its place.
func (p *Problems) Add(problems ...string) {
	free := min(maxProblems-len(p.told), len(problems))
	p.told = append(p.told, problems[:free]...)
	p.more += len(problems) - free
}

// Join takes those of another file.
func (p *Problems) Join(of *Problems) {
	p.Add(of.told...)
	p.more += of.more
}

// None says that nothing is wrong.
func (p *Problems) None() bool { return len(p.told) == 0 }

// Err has a line for each; nil: there is none.
func (p *Problems) Err() error {
	if p.None() {
		return nil
	}
	text := strings.Join(p.told, "\n")
	if p.more > 0 {
		text += fmt.Sprintf("\nand %d more", p.more)
	}
	return errors.New(text)
}

// Config says what a file is.
type Config struct {
	File     string // its name, as problems have it
	Holds    string // what one file is of, such as "tariff"
	MaxBytes int
	TooLarge string // what to do about a file that has more
}

// Reader takes one file apart, field by field, and gathers what is wrong with it. It reads the
// syntax tree itself instead of decoding into structs: each value keeps its line, and what is
// written stays text, so that postal code 01067 is no number and 0.1 no float.
type Reader struct {
	Problems Problems
	Config
}

// New makes a reader of one file.
func New(c Config) *Reader { return &Reader{Config: c} }

// Refuse tells a problem.
func (r *Reader) Refuse(at Place, format string, args ...any) {
	r.Problems.Add(at.String() + ": " + fmt.Sprintf(format, args...))
}

// At is where a value begins.
func (r *Reader) At(n Node) Place {
	at := Place{r.File, 1}
	if n == nil {
		return at
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		at.Line = t.Position.Line
	}
	return at
}

// Document gives the one value that the file holds; nil after a problem.
func (r *Reader) Document(text []byte) (n Node) {
	top := Place{r.File, 1}
	defer func() {
		if cause := recover(); cause != nil {
			r.Refuse(top, "the file cannot be read as YAML; look for a stray character or a broken indentation")
			n = nil
		}
	}()
	if len(text) > r.MaxBytes {
		r.Refuse(top, "the file is larger than %d bytes; %s", r.MaxBytes, r.TooLarge)
		return nil
	}
	if line := tooDeep(text); line > 0 {
		r.Refuse(Place{r.File, line}, "brackets or lists nested too deep")
		return nil
	}
	tokens := lexer.Tokenize(string(text))
	if line := nested(tokens); line > 0 {
		r.Refuse(Place{r.File, line}, "brackets or lists nested too deep")
		return nil
	}
	parsed, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // Open tells of all of them
	if err != nil {
		message := err.Error()
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			message = syntax.GetMessage()
			if t := syntax.GetToken(); t != nil && t.Position != nil {
				top.Line = t.Position.Line
			}
		}
		r.Refuse(top, "YAML: %s", message)
		return nil
	}
	return r.only(parsed)
}

// only gives the body of the file's one document.
func (r *Reader) only(file *ast.File) Node {
	var bodies []Node
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if _, comment := doc.Body.(*ast.CommentGroupNode); !comment {
			bodies = append(bodies, doc.Body)
		}
	}
	switch {
	case len(bodies) != 1:
		r.Refuse(Place{r.File, 1}, "the file holds %d documents, and must hold one %s; put each into a file of its own", len(bodies), r.Holds)
	case deep(bodies[0], 0):
		r.Refuse(Place{r.File, 1}, "YAML nested deeper than %d", maxDepth)
	default:
		return bodies[0]
	}
	return nil
}

// Mapping takes a mapping apart; take must ask for every field that is known.
func (r *Reader) Mapping(n Node, take func(*Fields)) {
	if f := r.Open(n); f != nil {
		take(f)
		f.rest()
	}
}

// Open gives the fields of a mapping whose names are not known before; nil when it is missing or
// none. Whoever opens it asks for each of its names.
func (r *Reader) Open(n Node) *Fields {
	var pairs []*ast.MappingValueNode
	switch v := n.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		pairs = v.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{v}
	default:
		r.Refuse(r.At(n), "a mapping is wanted here, such as {name: value}")
		return nil
	}
	f := &Fields{At: r.At(n), r: r, values: map[string]Node{}, lines: map[string]int{}}
	if len(pairs) > 0 {
		f.At = r.At(pairs[0].Key)
	}
	for _, pair := range pairs {
		name, ok := r.Scalar(pair.Key)
		if !ok {
			continue
		}
		if first, twice := f.lines[name]; twice {
			r.Refuse(r.At(pair.Key), "field %s stands twice, first in line %d; keep one", name, first)
			continue
		}
		f.Names = append(f.Names, name)
		f.values[name], f.lines[name] = pair.Value, r.At(pair.Key).Line
	}
	return f
}

// Scalar is a plain value as it is written.
func (r *Reader) Scalar(n Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	r.Refuse(r.At(n), "a plain value is wanted here; lists, mappings, anchors and tags are not taken")
	return "", false
}

// List hands over the items of a list; none when it is missing.
func (r *Reader) List(n Node, take func(Node)) {
	if n == nil {
		return
	}
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.Refuse(r.At(n), "a list is wanted here, such as [a, b]")
		return
	}
	for _, item := range s.Values {
		take(item)
	}
}

// Block says that a text is written behind a | or >, and begins on the line after.
func Block(n Node) bool { _, ok := n.(*ast.LiteralNode); return ok }

// Written says that a value is written as text, and not as a number, a list or a mapping.
func Written(n Node) bool { _, ok := n.(*ast.StringNode); return ok || Block(n) }

// Instead names what was probably meant, or all that could have been.
func Instead(name string, known []string) string {
	// As many changes as it has letters make anything of it.
	best, least := "", min(max(2, len(name)/3)+1, len(name))
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least {
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
