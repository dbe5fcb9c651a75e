package strictyaml

import (
	"bytes"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

const (
	maxDepth    = 12
	maxBrackets = 200 // nested in the text, those of expressions in it included
)

// tooDeep finds the line where nesting would make the parser, or that of an expression, recurse
// too far.
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

func deep(n Node, depth int) bool {
	if depth > maxDepth {
		return true
	}
	switch v := n.(type) {
	case *ast.MappingNode:
		return slices.ContainsFunc(v.Values, func(pair *ast.MappingValueNode) bool { return deep(pair.Value, depth+1) })
	case *ast.MappingValueNode:
		return deep(v.Value, depth+1)
	case *ast.SequenceNode:
		return slices.ContainsFunc(v.Values, func(item Node) bool { return deep(item, depth+1) })
	}
	return false
}
