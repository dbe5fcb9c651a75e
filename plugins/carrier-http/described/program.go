package described

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
	"github.com/crossdock/crossdock/protocol/expr"
)

// program is a jq expression of the file.
type program struct {
	at   strictyaml.Place
	code *expr.Expr
}

// program compiles a field; nil when it is missing.
func (f *fields) program(name string, required bool) *program {
	n := f.Pick(name, required)
	if n == nil {
		return nil
	}
	return f.r.compile(n)
}

func (r *reader) compile(n strictyaml.Node) *program {
	text, ok := r.Scalar(n)
	if !ok {
		return nil
	}
	code, err := expr.Compile(r.shared + text)
	if err != nil {
		r.refuseJQ(n, err)
		return nil
	}
	return &program{at: r.At(n), code: code}
}

// refuseJQ says what is wrong with a program that begins in a line of the file.
func (r *reader) refuseJQ(n strictyaml.Node, err error) {
	at := r.At(n)
	var syntax *expr.SyntaxError
	message := err.Error()
	if errors.As(err, &syntax) {
		message = fmt.Sprintf("column %d: %s", syntax.Column, syntax.Message)
		at.Line += max(syntax.Line-1-strings.Count(r.shared, "\n"), 0)
		if strictyaml.Block(n) {
			at.Line++
		}
	}
	r.Refuse(at, "jq: %s", message)
}

// define takes functions that all programs of the file may use.
func (f *fields) define(name string) {
	n := f.Get(name)
	if n == nil {
		return
	}
	text, ok := f.r.Scalar(n)
	if !ok {
		return
	}
	if _, err := expr.Compile(text + "\n."); err != nil {
		f.r.refuseJQ(n, err)
		return
	}
	f.r.shared = strings.TrimRight(text, "\n") + "\n"
}

// programs compiles all fields of a mapping.
func (f *fields) programs(name string) map[string]*program {
	out := map[string]*program{}
	if inner := f.r.open(f.Get(name)); inner != nil {
		for _, key := range inner.Names {
			if p := inner.program(key, true); p != nil {
				out[key] = p
			}
		}
	}
	return out
}

// run evaluates; an error names the line of the program. An expression without a result gives
// null, as one whose result is null does.
func (p *program) run(ctx context.Context, input any) (any, error) {
	v, err := p.code.Eval(ctx, input)
	if errors.Is(err, expr.ErrNoResult) {
		return nil, nil
	}
	if err == nil {
		v, err = exact(v)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.at, err)
	}
	return v, nil
}

// holds evaluates a condition.
func (p *program) holds(ctx context.Context, input any) (bool, error) {
	v, err := p.run(ctx, input)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%s: the condition gave %.40v, and must give true or false", p.at, v)
	}
	return b, nil
}

// text evaluates to a text; empty: null.
func (p *program) text(ctx context.Context, input any) (string, error) {
	v, err := p.run(ctx, input)
	if err != nil {
		return "", err
	}
	s, err := plain(v)
	if err != nil {
		return "", fmt.Errorf("%s: %w", p.at, err)
	}
	return s, nil
}

// plain is a value as text; empty: null.
func plain(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int, *big.Int, json.Number:
		return fmt.Sprint(v), nil
	}
	return "", errors.New("the expression gave a list or an object, and must give a text")
}

// exact copies a result without its null members, and refuses numbers that lost digits.
func exact(v any) (any, error) {
	switch v := v.(type) {
	case float64:
		return nil, fmt.Errorf("the result holds %v, a binary fraction that may have lost digits; leave numbers text, calculate with dec_add and the like, and write a number into a request with fromjson", v)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			var err error
			if out[i], err = exact(item); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			if member == nil {
				continue
			}
			var err error
			if out[name], err = exact(member); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

// asInput is a value of the contract as expressions see it.
func asInput(v any) (map[string]any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out, err := expr.Decode(text)
	if err != nil {
		return nil, err
	}
	m, ok := out.(map[string]any)
	if !ok {
		return nil, errors.New("it is no object")
	}
	return m, nil
}

// longText is from where on a text of an answer passes by the expressions: labels are longer
// than their limits.
const longText = 4 << 10

// long are the long texts of one answer, which stand in it as tokens.
type long []string

const (
	tokenBegins = "\x00long:"
	tokenEnds   = "\x00"
)

// answered is a part of an answer as expressions see it: its numbers are text with the digits
// that came, so that none is lost.
func (l *long) answered(v any) any {
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), "eE") {
			if d, err := decimal.NewFromString(v.String()); err == nil {
				return d.String()
			}
		}
		return v.String()
	case string:
		if len(v) <= longText {
			return v
		}
		*l = append(*l, v)
		return tokenBegins + strconv.Itoa(len(*l)-1) + tokenEnds
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = l.answered(item)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			out[name] = l.answered(member)
		}
		return out
	}
	return v
}

// restored puts the long texts back, where a token stands by itself.
func (l long) restored(v any) any {
	switch v := v.(type) {
	case string:
		if number, ok := strings.CutPrefix(v, tokenBegins); ok {
			if i, err := strconv.Atoi(strings.TrimSuffix(number, tokenEnds)); err == nil && i >= 0 && i < len(l) {
				return l[i]
			}
		}
	case []any:
		for i, item := range v {
			v[i] = l.restored(item)
		}
	case map[string]any:
		for name, member := range v {
			v[name] = l.restored(member)
		}
	}
	return v
}

func encoded(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
