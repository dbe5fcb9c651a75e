// Package expr owns the expressions of policy: jq programs that select, key and map
// events, compiled once and run many times.
//
// It refuses to know what an expression is used for, and keeps the world out of it: no
// environment, files, modules, clock or further input, so that the same expression over
// the same value gives the same result at every site. Its invariant: an evaluation ends
// within its deadline and never hands out a result beyond the named limits.
package expr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/itchyny/gojq"

	"github.com/crossdock/crossdock/protocol/event"
)

// Limits on one expression and one evaluation.
const (
	MaxSource      = 64 << 10      // bytes of an expression's text
	MaxResult      = event.MaxSize // bytes of a result, as JSON, roughly
	MaxNodes       = 100_000       // values in a result
	DefaultTimeout = time.Second   // of one evaluation; far above what any takes, as a pause of the machine must fail none
)

var (
	// ErrNoResult says that the expression ended without a value, as empty does.
	ErrNoResult = errors.New("the expression gave no result")
	// ErrLimit says that an evaluation took too long or made too much.
	ErrLimit = errors.New("the expression went beyond its limits")
)

// SyntaxError is a refusal to compile, with the place in the expression's text.
type SyntaxError struct {
	Line, Column int // from 1
	Message      string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Expr is a compiled expression. It is immutable and safe for concurrent use.
type Expr struct {
	source string
	code   *gojq.Code
	short  shortcut // nil: there is none
}

// Compile reads a jq program. Beside jq's own functions it may use the exact decimal ones:
// dec_add(a; b), dec_sub(a; b), dec_mul(a; b), dec_div(a; b; places), dec_round(a; places)
// and dec_cmp(a; b).
func Compile(source string) (*Expr, error) {
	if len(source) > MaxSource {
		return nil, &SyntaxError{1, 1, fmt.Sprintf("the expression has %d bytes, the limit is %d", len(source), MaxSource)}
	}
	if strings.TrimSpace(source) == "" {
		return nil, &SyntaxError{1, 1, "the expression is empty; write . for the whole value"}
	}
	if at := strings.IndexByte(source, 0); at >= 0 { // gojq takes it for the end
		line := strings.Count(source[:at], "\n")
		return nil, &SyntaxError{line + 1, at - strings.LastIndexByte(source[:at], '\n'), "the expression has a zero byte; take it out"}
	}
	if err := checkNesting(source); err != nil {
		return nil, err
	}
	query, err := gojq.Parse(source)
	if err != nil {
		return nil, syntaxError(source, err)
	}
	short := shortcutOf(query)
	if err := confine(source, query); err != nil {
		return nil, err
	}
	code, err := gojq.Compile(query, append(decimalFunctions(), guards()...)...)
	if err != nil {
		return nil, syntaxError(source, err)
	}
	return &Expr{source: source, code: code, short: short}, nil
}

// Source is the text that was compiled.
func (e *Expr) Source() string { return e.source }

// Eval gives the first result over input, which should come from Decode, or be Members of
// such values. The result is
// made of nil, bool, string, int, float64, *big.Int, json.Number, []any and
// map[string]any, and may share memory with input: neither may be changed.
func (e *Expr) Eval(ctx context.Context, input any) (any, error) {
	return e.eval(ctx, input, DefaultTimeout)
}

func (e *Expr) eval(ctx context.Context, input any, timeout time.Duration) (any, error) {
	result, plain := any(nil), false
	if e.short != nil && ctx.Err() == nil {
		result, plain = e.short(input)
	}
	if !plain {
		var err error
		if result, err = e.run(ctx, whole(input), timeout); err != nil {
			return nil, err
		}
	}
	size := sizer{}
	if err := size.add(result); err != nil {
		return nil, err
	}
	return result, nil
}

// run evaluates by the language's machine.
func (e *Expr) run(ctx context.Context, input any, timeout time.Duration) (any, error) {
	limited := &deadline{Context: ctx, until: time.Now().Add(timeout)}
	result, ok := e.code.RunWithContext(limited, input, &budget{left: MaxNodes}).Next()
	if !ok {
		return nil, ErrNoResult
	}
	if err, failed := result.(error); failed {
		if limited.passed && ctx.Err() == nil {
			return nil, fmt.Errorf("%w: it ran longer than %s", ErrLimit, timeout)
		}
		return nil, evalError(err)
	}
	return result, nil
}

func evalError(err error) error {
	if errors.Is(err, ErrLimit) {
		return err
	}
	return fmt.Errorf("expression failed: %w", err)
}

// Bool evaluates a condition. Its result must be true or false: jq's idea that every
// other value is true hides mistakes in policy.
func (e *Expr) Bool(ctx context.Context, input any) (bool, error) {
	result, err := e.Eval(ctx, input)
	if err != nil {
		return false, err
	}
	b, ok := result.(bool)
	if !ok {
		return false, fmt.Errorf("the condition gave %s, true or false is expected", gojq.TypeOf(result))
	}
	return b, nil
}

// String evaluates to a text: a string as it is, a number as written.
func (e *Expr) String(ctx context.Context, input any) (string, error) {
	result, err := e.Eval(ctx, input)
	if err != nil {
		return "", err
	}
	switch v := result.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case int:
		return strconv.Itoa(v), nil
	case *big.Int:
		return v.String(), nil
	case float64:
		text, err := gojq.Marshal(v)
		return string(text), err
	}
	return "", fmt.Errorf("the expression gave %s, a string or a number is expected", gojq.TypeOf(result))
}

func syntaxError(source string, err error) error {
	var parse *gojq.ParseError
	if !errors.As(err, &parse) {
		return &SyntaxError{1, 1, err.Error()}
	}
	at := min(max(parse.Offset-len(parse.Token), 0), len(source))
	line, column := place(source, at)
	return &SyntaxError{line, column, err.Error()}
}

func place(source string, at int) (line, column int) {
	before := source[:at]
	return 1 + strings.Count(before, "\n"), at - strings.LastIndex(before, "\n")
}

// maxNesting bounds the brackets in an expression, because parser and compiler recurse.
const maxNesting = 200

func checkNesting(source string) error {
	depth := 0
	for i := range len(source) {
		switch source[i] {
		case '(', '[', '{':
			if depth++; depth > maxNesting {
				line, column := place(source, i)
				return &SyntaxError{line, column, fmt.Sprintf("brackets nested deeper than %d", maxNesting)}
			}
		case ')', ']', '}':
			depth--
		}
	}
	return nil
}
