package policy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on one YAML file, looked at before anything is built from it.
const (
	maxDepth     = 32
	maxBrackets  = 200 // nested in the text, jq expressions included
	maxDocuments = 1000
	maxEntries   = 4096 // of one mapping or list: some are looked up one by one
)

// place is where something stands in the bundle.
type place struct {
	file         string
	line, column int
}

// node is one YAML value with its place. The value is a string, []node or *mapping; nil
// stands for null.
type node struct {
	place
	value any
	block bool // a literal or folded block: its text begins on the next line
	plain bool // neither quoted nor a block
}

// refused stands for a value that was reported already.
type refused struct{}

type mapping struct {
	keys   []node // their values are strings
	values []node
}

// parseFile reads the documents of a file. YAML is taken in its plain form only: scalars
// stay text, and anchors, aliases, merges and tags are refused.
func parseFile(file string, text []byte, problems *Problems) (docs []node) {
	defer func() {
		if cause := recover(); cause != nil {
			docs = nil
			problems.add(Problem{File: file, Message: "the file cannot be read as YAML", Hint: "look for a stray character or a broken indentation"})
		}
	}()
	if line := tooDeep(text); line > 0 {
		problems.add(Problem{File: file, Line: line, Message: "YAML nested too deep"})
		return nil
	}
	tokens := lexer.Tokenize(string(text))
	if line := nested(tokens); line > 0 {
		problems.add(Problem{File: file, Line: line, Message: "YAML nested too deep"})
		return nil
	}
	parsed, err := parser.Parse(tokens, 0)
	if err != nil {
		problems.add(syntaxProblem(file, err))
		return nil
	}
	if len(parsed.Docs) > maxDocuments {
		problems.add(Problem{File: file, Message: fmt.Sprintf("more than %d documents in one file", maxDocuments)})
		return nil
	}
	c := converter{file: file, problems: problems}
	for _, doc := range parsed.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if _, comment := doc.Body.(*ast.CommentGroupNode); comment {
			continue
		}
		if n := c.convert(doc.Body, 0); n.value != nil {
			docs = append(docs, n)
		}
	}
	return docs
}

func syntaxProblem(file string, err error) Problem {
	p := Problem{File: file, Message: "YAML: " + err.Error()}
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		p.Message = "YAML: " + syntax.GetMessage()
		if token := syntax.GetToken(); token != nil && token.Position != nil {
			p.Line, p.Column = token.Position.Line, token.Position.Column
		}
	}
	return p
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

// nested is tooDeep of the brackets that are YAML's. One in quotes does not close another.
func nested(tokens token.Tokens) int {
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth = max(depth-1, 0)
		}
		if depth > maxBrackets {
			return t.Position.Line
		}
	}
	return 0
}

type converter struct {
	file     string
	problems *Problems
}

func (c *converter) at(n ast.Node) place {
	p := place{file: c.file, line: 1, column: 1}
	if token := n.GetToken(); token != nil && token.Position != nil {
		p.line, p.column = token.Position.Line, token.Position.Column
	}
	return p
}

func (c *converter) refuse(at place, message, hint string) node {
	c.problems.add(Problem{File: at.file, Line: at.line, Column: at.column, Message: message, Hint: hint})
	return node{place: at, value: refused{}}
}

func (c *converter) convert(n ast.Node, depth int) node {
	at := c.at(n)
	if depth > maxDepth {
		return c.refuse(at, fmt.Sprintf("YAML nested deeper than %d", maxDepth), "")
	}
	switch v := n.(type) {
	case *ast.MappingNode:
		return c.mapping(at, v.Values, depth)
	case *ast.MappingValueNode:
		return c.mapping(at, []*ast.MappingValueNode{v}, depth)
	case *ast.SequenceNode:
		if len(v.Values) > maxEntries {
			return c.refuse(at, fmt.Sprintf("a list of more than %d items", maxEntries), "")
		}
		out := make([]node, 0, len(v.Values))
		for _, item := range v.Values {
			out = append(out, c.convert(item, depth+1))
		}
		return node{place: at, value: out}
	case *ast.StringNode:
		plain := v.Token.Value == v.Token.Origin || !strings.ContainsAny(strings.TrimSpace(v.Token.Origin), "\"'")
		return node{place: at, value: v.Value, plain: plain}
	case *ast.LiteralNode:
		return node{place: at, value: v.Value.Value, block: true}
	case *ast.NullNode:
		return node{place: at}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node{place: at, value: n.GetToken().Value, plain: true}
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return c.refuse(at, "anchors and aliases are not taken", "write the value out")
	case *ast.TagNode:
		return c.refuse(at, "tags are not taken", "leave the tag away")
	}
	return c.refuse(at, "this form of YAML is not taken", "use plain mappings, lists and scalars")
}

func (c *converter) mapping(at place, pairs []*ast.MappingValueNode, depth int) node {
	if len(pairs) > maxEntries {
		return c.refuse(at, fmt.Sprintf("a mapping of more than %d fields", maxEntries), "")
	}
	m, lines := &mapping{}, map[string]int{}
	if len(pairs) > 0 {
		at = c.at(pairs[0].Key)
	}
	for _, pair := range pairs {
		key := c.convert(pair.Key, depth+1)
		name, ok := key.value.(string)
		if !ok {
			if _, known := key.value.(refused); !known {
				c.refuse(key.place, "a field's name must be a plain text", "")
			}
			continue
		}
		if first, twice := lines[name]; twice {
			c.refuse(key.place, fmt.Sprintf("field %s stands twice", name), fmt.Sprintf("the first is in line %d", first))
		} else {
			lines[name] = key.line
		}
		m.keys = append(m.keys, key)
		m.values = append(m.values, c.convert(pair.Value, depth+1))
	}
	return node{place: at, value: m}
}
