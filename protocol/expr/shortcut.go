package expr

import (
	"slices"
	"strings"

	"github.com/itchyny/gojq"
)

// Most expressions of policy are a path to a member, or compare and join a few of them.
// For these there is a shortcut past the language's machine, in the values for which it is
// plain what comes out: exactly one result, of texts, truths and null. Whatever else comes
// up, a wrong kind of value above all, the machine decides.

// Members is an object that is put together only when an expression asks for more than
// single members of it.
type Members interface {
	Member(name string) any // nil if there is none
	Object() map[string]any // the same, whole; always the same map
}

// whole gives a value as the machine takes it.
func whole(input any) any {
	if lazy, ok := input.(Members); ok {
		return lazy.Object()
	}
	return input
}

// shortcut gives the result over a value, if it is plain.
type shortcut func(input any) (result any, plain bool)

// maxPlainText bounds a text that is compared or joined without being measured.
const maxPlainText = MaxResult / 8

// shortcutOf gives nil for a program that has none. It is asked before the guards are put
// into the program: what they measure is small here.
func shortcutOf(q *gojq.Query) shortcut {
	if q.Meta != nil || len(q.Imports) > 0 || len(q.FuncDefs) > 0 || len(q.Patterns) > 0 {
		return nil
	}
	if q.Term != nil {
		return shortcutOfTerm(q.Term)
	}
	if q.Left == nil || q.Right == nil { // a program of comments only
		return nil
	}
	left, right := shortcutOf(q.Left), shortcutOf(q.Right)
	if left == nil || right == nil {
		return nil
	}
	switch q.Op {
	case gojq.OpPipe:
		return func(input any) (any, bool) {
			between, plain := left(input)
			if !plain {
				return nil, false
			}
			return right(between)
		}
	case gojq.OpEq:
		return equal(left, right, true)
	case gojq.OpNe:
		return equal(left, right, false)
	case gojq.OpAnd:
		return decide(left, right, false)
	case gojq.OpOr:
		return decide(left, right, true)
	case gojq.OpAlt:
		return func(input any) (any, bool) {
			if v, plain := left(input); !plain || truth(v) {
				return v, plain
			}
			return right(input)
		}
	case gojq.OpAdd:
		return func(input any) (any, bool) {
			a, ok1 := plainText(left, input)
			b, ok2 := plainText(right, input)
			if !ok1 || !ok2 {
				return nil, false
			}
			return a + b, true
		}
	}
	return nil
}

func shortcutOfTerm(t *gojq.Term) shortcut {
	var first shortcut
	switch t.Type {
	case gojq.TermTypeIdentity:
		first = func(input any) (any, bool) { return whole(input), true }
	case gojq.TermTypeIndex:
		first = memberOf(nil, t.Index)
	case gojq.TermTypeNull:
		first = constant(nil)
	case gojq.TermTypeTrue:
		first = constant(true)
	case gojq.TermTypeFalse:
		first = constant(false)
	case gojq.TermTypeString:
		first = textOf(t.Str)
	case gojq.TermTypeQuery:
		first = shortcutOf(t.Query)
	case gojq.TermTypeFunc:
		if t.Func.Name == "not" && len(t.Func.Args) == 0 {
			first = func(input any) (any, bool) { return !truth(input), true }
		}
	}
	for _, suffix := range t.SuffixList {
		if first == nil || suffix.Index == nil || suffix.Iter || suffix.Optional {
			return nil
		}
		first = memberOf(first, suffix.Index)
	}
	return first
}

// memberOf reads a member by its name, of what of gives; of the input if that is nil.
func memberOf(of shortcut, at *gojq.Index) shortcut {
	name, plain := memberName(at)
	if !plain {
		return nil
	}
	return func(input any) (any, bool) {
		plain := true
		if of != nil {
			input, plain = of(input)
		}
		switch v := input.(type) {
		case nil:
			return nil, plain
		case map[string]any:
			return v[name], plain
		case Members:
			return v.Member(name), plain
		}
		return nil, false
	}
}

func constant(value any) shortcut { return func(any) (any, bool) { return value, true } }

// textOf is a text with expressions in it.
func textOf(s *gojq.String) shortcut {
	if len(s.Queries) == 0 {
		return constant(s.Str)
	}
	var parts []shortcut
	for _, q := range s.Queries {
		parts = append(parts, shortcutOf(q))
	}
	if slices.ContainsFunc(parts, func(p shortcut) bool { return p == nil }) {
		return nil
	}
	return func(input any) (any, bool) {
		var b strings.Builder
		for _, part := range parts {
			text, plain := plainText(part, input)
			if !plain {
				return nil, false
			}
			b.WriteString(text)
		}
		return b.String(), b.Len() <= maxPlainText
	}
}

// plainText is a result that is a text of moderate length.
func plainText(of shortcut, input any) (text string, plain bool) {
	v, plain := of(input)
	text, isText := v.(string)
	return text, plain && isText && len(text) <= maxPlainText
}

// equal compares where both sides are texts, truths or null.
func equal(left, right shortcut, want bool) shortcut {
	return func(input any) (any, bool) {
		a, ok1 := left(input)
		b, ok2 := right(input)
		if !ok1 || !ok2 || !comparable(a) || !comparable(b) {
			return nil, false
		}
		return (a == b) == want, true
	}
}

func comparable(v any) bool {
	switch v := v.(type) {
	case nil, bool:
		return true
	case string:
		return len(v) <= maxPlainText
	}
	return false
}

// decide is or and and: the left side decides if it is the given truth.
func decide(left, right shortcut, by bool) shortcut {
	return func(input any) (any, bool) {
		a, plain := left(input)
		if !plain || truth(a) == by {
			return by, plain
		}
		b, plain := right(input)
		return truth(b), plain
	}
}

// truth is how the language takes a value for true or false.
func truth(v any) bool { return v != nil && v != false }
