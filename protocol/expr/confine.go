package expr

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"

	"github.com/itchyny/gojq"
)

// A deadline is looked at between two steps of a program. What can grow without end
// within one step, or unfold a small graph to a huge tree, is guarded here: the parsed
// program is rewritten so that operands are measured first.

const (
	maxFew    = 4096    // elements of an array that is compared with another, each with each
	maxIndex  = 100_000 // index that may be assigned to
	maxBigInt = 4096    // bits of an integer

	maxMatched = 16 << 10 // bytes of a string whose matches are listed: each match counts again from the beginning
	maxParts   = 10_000   // of a program: the compiler's time grows with their square
)

const (
	guardSize   = "_guard_size"
	guardFew    = "_guard_few"
	guardFactor = "_guard_factor"
	guardMatch  = "_guard_match"
	guardIndex  = "_guard_index"
	guardPath   = "_guard_path"
	guardItem   = "_guard_item"
	budgetName  = "$__budget"
	operandName = "$__operand"
)

// budget is what one evaluation may still put into arrays.
type budget struct{ left int }

func guards() []gojq.CompilerOption {
	return []gojq.CompilerOption{
		gojq.WithVariables([]string{budgetName}),
		gojq.WithFunction(guardSize, 0, 0, func(v any, _ []any) any { return measured(v) }),
		gojq.WithFunction(guardFew, 0, 0, func(v any, _ []any) any {
			if a, ok := v.([]any); ok && len(a) > maxFew {
				return fmt.Errorf("%w: an array of more than %d elements is compared with another", ErrLimit, maxFew)
			}
			return measured(v)
		}),
		gojq.WithFunction(guardFactor, 0, 0, func(v any, _ []any) any {
			if _, ok := v.(string); ok {
				return fmt.Errorf("a string cannot be multiplied here; for decimal strings use dec_mul(a; b)")
			}
			return measured(v)
		}),
		gojq.WithFunction(guardMatch, 0, 0, func(v any, _ []any) any {
			if s, ok := v.(string); ok && len(s) > maxMatched {
				return fmt.Errorf("%w: matches of a string of more than %d bytes", ErrLimit, maxMatched)
			}
			return v
		}),
		gojq.WithFunction(guardIndex, 0, 0, func(v any, _ []any) any {
			if err := checkIndex(v); err != nil {
				return err
			}
			return v
		}),
		gojq.WithFunction(guardPath, 0, 0, func(v any, _ []any) any {
			path, _ := v.([]any)
			for _, step := range path {
				if err := checkIndex(step); err != nil {
					return err
				}
			}
			return v
		}),
		gojq.WithFunction(guardItem, 1, 1, func(v any, args []any) any {
			b := args[0].(*budget) // the name is refused in source, so nothing else gets here
			if b.left--; b.left < 0 {
				return fmt.Errorf("%w: more than %d values were put into arrays", ErrLimit, MaxNodes)
			}
			return v
		}),
	}
}

func checkIndex(v any) error {
	if _, text := v.(string); text {
		return nil
	}
	if n, ok := gojq.ToFloat64(v); ok && n > maxIndex {
		return fmt.Errorf("%w: index %v, at most %d is taken", ErrLimit, n, maxIndex)
	}
	return nil
}

func measured(v any) any {
	switch v := v.(type) {
	case nil, bool, int, float64, json.Number:
		return v
	case *big.Int:
		if v.BitLen() > maxBigInt {
			return fmt.Errorf("%w: a number has more than %d bits", ErrLimit, maxBigInt)
		}
		return v
	}
	var s sizer
	if err := s.add(v); err != nil {
		return err
	}
	return v
}

// What expressions may not use: whatever would bring in the world, or end the program.
var forbidden = map[string]string{
	"env": "the environment", "$ENV": "the environment", "input": "further input", "inputs": "further input",
	"debug": "the log", "stderr": "the log", "input_filename": "files", "input_line_number": "files",
	"get_search_list": "modules", "modulemeta": "modules", "builtins": "the list of functions",
	"halt": "the end of the program", "halt_error": "the end of the program", "now": "the clock",
	"localtime": "the machine's time zone", "strflocaltime": "the machine's time zone",
}

// Functions that work through their whole input in one step.
var wholeInput = map[string]string{
	"tojson": guardSize, "tostring": guardSize, "flatten": guardSize, "add": guardSize, "join": guardSize,
	"implode": guardSize, "sort": guardSize, "sort_by": guardSize, "group_by": guardSize, "unique": guardSize,
	"unique_by": guardSize, "transpose": guardSize, "min": guardSize, "max": guardSize, "min_by": guardSize,
	"max_by": guardSize, "bsearch": guardSize, "contains": guardFew, "inside": guardFew,
	"indices": guardFew, "index": guardFew, "rindex": guardFew, "format": guardSize,
	"match": guardMatch, "capture": guardMatch, "scan": guardMatch, "splits": guardMatch, "sub": guardMatch, "gsub": guardMatch,
}

// confine refuses what reaches out of a program, and puts the guards into it.
func confine(source string, query *gojq.Query) error {
	if len(query.Imports) > 0 || query.Meta != nil {
		return &SyntaxError{1, 1, "modules cannot be used here: put the functions into the expression"}
	}
	var refused error
	refuse := func(name string) {
		what, bad := forbidden[name]
		if !bad && (strings.HasPrefix(name, "_") || strings.HasPrefix(name, "$__")) {
			what, bad = "what is internal to the language", true
		}
		if bad && refused == nil {
			line, column := place(source, max(strings.Index(source, name), 0))
			refused = &SyntaxError{line, column, fmt.Sprintf("%s cannot be used: an expression sees its value only, not %s", name, what)}
		}
	}
	parts := 0
	visit(reflect.ValueOf(query), func(node any) {
		switch n := node.(type) {
		case *gojq.Query:
			parts++
		case *gojq.Func:
			refuse(n.Name)
		case *gojq.FuncDef:
			refuse(n.Name)
		case *gojq.Pattern:
			refuse(n.Name)
		}
	})
	if refused == nil && parts > maxParts {
		refused = &SyntaxError{1, 1, fmt.Sprintf("the expression has %d parts, the limit is %d", parts, maxParts)}
	}
	if refused != nil {
		return refused
	}
	visit(reflect.ValueOf(query), func(node any) {
		switch n := node.(type) {
		case *gojq.Query:
			guardOperator(n)
		case *gojq.Term:
			guardTerm(n)
		case *gojq.Index:
			n.Start = guarded(n.Start, guardIndex)
		case *gojq.String:
			for i := range n.Queries {
				// The compiler looks into these terms: literal parts stay, others stay terms.
				if part := n.Queries[i]; part.Term != nil && part.Term.Str == nil {
					n.Queries[i] = &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeQuery, Query: guarded(part, guardSize)}}
				}
			}
		}
	})
	return nil
}

// visit calls f for every node below v that is held by pointer, children first, so that
// what f puts in is not visited again.
func visit(v reflect.Value, f func(node any)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			visit(v.Elem(), f)
			f(v.Interface())
		}
	case reflect.Slice:
		for i := range v.Len() {
			visit(v.Index(i), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			visit(v.Field(i), f)
		}
	}
}

func guardOperator(q *gojq.Query) {
	guard := guardSize
	switch q.Op {
	case gojq.OpEq, gojq.OpNe, gojq.OpLt, gojq.OpLe, gojq.OpGt, gojq.OpGe, gojq.OpAdd:
		if literal(q.Left) || literal(q.Right) {
			return // one side is small, and comparing or joining stops there
		}
	case gojq.OpSub:
		guard = guardFew
	case gojq.OpMul:
		guard = guardFactor
	case gojq.OpUpdateAdd, gojq.OpUpdateSub:
		q.Right = guarded(q.Right, guardFew)
		return
	case gojq.OpUpdateMul:
		// a *= b is b as $x | a |= . * $x, which has operands to guard.
		product := &gojq.Query{
			Op:    gojq.OpMul,
			Left:  guarded(&gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeIdentity}}, guardFactor),
			Right: guarded(call(operandName), guardFactor),
		}
		*q = gojq.Query{
			FuncDefs: q.FuncDefs, Op: gojq.OpPipe, Left: q.Right, Patterns: []*gojq.Pattern{{Name: operandName}},
			Right: &gojq.Query{Op: gojq.OpModify, Left: q.Left, Right: product},
		}
		return
	default:
		return
	}
	q.Left, q.Right = guarded(q.Left, guard), guarded(q.Right, guard)
}

func guardTerm(t *gojq.Term) {
	guard := ""
	switch {
	case t.Type == gojq.TermTypeFunc && wholeInput[t.Func.Name] != "":
		guard = wholeInput[t.Func.Name]
	case t.Type == gojq.TermTypeFunc && t.Func.Name == "split" && len(t.Func.Args) == 2: // by a pattern
		guard = guardMatch
	case t.Type == gojq.TermTypeFunc && t.Func.Name == "setpath" && len(t.Func.Args) == 2:
		t.Func.Args[0] = guarded(t.Func.Args[0], guardPath)
		return
	case t.Type == gojq.TermTypeFormat:
		guard = guardSize
	case t.Type == gojq.TermTypeArray && t.Array.Query != nil && !literal(t.Array.Query):
		item := call(guardItem, call(budgetName))
		t.Array = &gojq.Array{Query: pipe(t.Array.Query, item)}
		return
	default:
		return
	}
	inner := *t
	inner.SuffixList = nil
	*t = gojq.Term{
		Type: gojq.TermTypeQuery, Query: pipe(call(guard), &gojq.Query{Term: &inner}), SuffixList: t.SuffixList,
	}
}

func call(name string, args ...*gojq.Query) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: name, Args: args}}}
}

func pipe(left, right *gojq.Query) *gojq.Query {
	return &gojq.Query{Op: gojq.OpPipe, Left: left, Right: right}
}

func guarded(q *gojq.Query, guard string) *gojq.Query {
	if q == nil || literal(q) && (guard == guardSize || guard == guardFew) || smallNumber(q) {
		return q
	}
	return pipe(q, call(guard))
}

func smallNumber(q *gojq.Query) bool {
	return literal(q) && q.Term.Type == gojq.TermTypeNumber && len(q.Term.Number) <= 4 && !strings.ContainsAny(q.Term.Number, "eE")
}

// literal tells a constant scalar.
func literal(q *gojq.Query) bool {
	if q.Term == nil || len(q.Term.SuffixList) > 0 || len(q.FuncDefs) > 0 {
		return false
	}
	switch q.Term.Type {
	case gojq.TermTypeNull, gojq.TermTypeTrue, gojq.TermTypeFalse, gojq.TermTypeNumber:
		return true
	case gojq.TermTypeString:
		return len(q.Term.Str.Queries) == 0
	}
	return false
}
