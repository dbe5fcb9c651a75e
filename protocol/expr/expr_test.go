package expr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/itchyny/gojq"

	"github.com/crossdock/crossdock/protocol/event"
)

func eval(t *testing.T, source, input string) (any, error) {
	t.Helper()
	e, err := Compile(source)
	if err != nil {
		t.Fatalf("compile %s: %v", source, err)
	}
	value, err := Decode([]byte(input))
	if err != nil {
		t.Fatalf("decode %s: %v", input, err)
	}
	timeout := time.Minute // a busy machine must not change what a test sees
	if strings.Contains(source, "def f: f;") || strings.Contains(source, "1e12") {
		timeout = DefaultTimeout
	}
	return e.eval(context.Background(), value, timeout)
}

func TestEval(t *testing.T) {
	for _, tt := range []struct{ source, input, want string }{
		{`.a`, `{"a":12345678901234567890123}`, `12345678901234567890123`},
		{`.a`, `{"a":9007199254740993}`, `9007199254740993`},
		{`.a + 1`, `{"a":9007199254740993}`, `9007199254740994`},
		{`.a`, `{"a":1.10}`, `1.10`},
		{`{id: .orderId, n: (.lines | length)}`, `{"orderId":"A1","lines":[1,2]}`, `{"id":"A1","n":2}`},
		{`dec_add(.a; .b)`, `{"a":"1.10","b":"2.20"}`, `"3.30"`},
		{`dec_add("0.1"; "0.2")`, `null`, `"0.3"`},
		{`dec_sub("1"; "0.99")`, `null`, `"0.01"`},
		{`dec_mul("19.99"; 3)`, `null`, `"59.97"`},
		{`dec_div("10"; "3"; 4)`, `null`, `"3.3333"`},
		{`dec_round("2.345"; 2)`, `null`, `"2.35"`},
		{`dec_round("-2.345"; 2)`, `null`, `"-2.35"`},
		{`dec_cmp("1.0"; "1.00"), 1`, `null`, `0`},
		{`dec_cmp("2"; "10")`, `null`, `-1`},
		{`dec_add(.n; "0.1")`, `{"n":1.10}`, `"1.20"`},
		{`reduce .[] as $x ("0"; dec_add(.; $x))`, `["1.10","2.20","3.30"]`, `"6.60"`},
		{`.a *= 3`, `{"a":2}`, `{"a":6}`},
		{`.a += [3]`, `{"a":[2]}`, `{"a":[2,3]}`},
		{`.[2] = 1`, `[]`, `[null,null,1]`},
		{`"\(.a)-\(.b|tojson)"`, `{"a":1,"b":[1]}`, `"1-[1]"`},
		{`[paths(type == "number")]`, `{"a":[1]}`, `[["a",0]]`},
		{`first(.[] | select(. > 1))`, `[1,2,3]`, `2`},
		{`def f($x): $x * 2; [.[] | f(.)] | add`, `[1,2]`, `6`},
		{`del(.a)`, `{"a":1,"b":2}`, `{"b":2}`},
		{`@csv "\([1,"a"])"`, `null`, `"1,\"a\""`},
		{`[.[] | tostring] | join("-")`, `[1,2]`, `"1-2"`},
		{`map(select(.k == "x") |= (.v += 1))`, `[{"k":"x","v":1},{"k":"y","v":1}]`, `[{"k":"x","v":2},{"k":"y","v":1}]`},
		{`to_entries | from_entries`, `{"a":1}`, `{"a":1}`},
		{`group_by(.k) | map(length)`, `[{"k":1},{"k":2},{"k":1}]`, `[2,1]`},
		{`path(.a[0].b)`, `null`, `["a",0,"b"]`},
	} {
		got, err := eval(t, tt.source, tt.input)
		if err != nil {
			t.Errorf("%s over %s: %v", tt.source, tt.input, err)
			continue
		}
		text, err := json.Marshal(got)
		if err != nil || string(text) != tt.want {
			t.Errorf("%s over %s: got %s %v, want %s", tt.source, tt.input, text, err, tt.want)
		}
	}
}

func TestEvalErrors(t *testing.T) {
	for _, tt := range []struct {
		source string
		want   error
		text   string
	}{
		{`empty`, ErrNoResult, ""},
		{`range(1e12) | select(. < 0)`, ErrLimit, "longer"},
		{`def f: f; f`, ErrLimit, "longer"},
		{`[range(1e9)]`, ErrLimit, "arrays"},
		{`[range(1e9)?]`, ErrLimit, "arrays"},
		{`reduce range(100) as $i (2; . * .)`, ErrLimit, "bits"},
		{`reduce range(100) as $i (2; . *= .)`, ErrLimit, "bits"},
		{`reduce range(100) as $i ("ab"; . + .)`, ErrLimit, "bytes"},
		{`reduce range(100) as $i ("ab"; . += .)`, ErrLimit, "bytes"},
		{`reduce range(100) as $i ([1]; . + .)`, ErrLimit, "bytes"},
		{`reduce range(50) as $i ([1]; [., .]) | tojson`, ErrLimit, "bytes"},
		{`reduce range(50) as $i ([1]; [., .]) | "\(.)"`, ErrLimit, "bytes"},
		{`reduce range(50) as $i ([1]; [., .]) | @json`, ErrLimit, "bytes"},
		{`reduce range(50) as $i ([1]; [., .]) | . == (. | tojson | fromjson)`, ErrLimit, "bytes"},
		{`reduce range(50) as $i ([1]; [., .])`, ErrLimit, "bytes"},
		{`reduce range(100) as $i ([1]; [.])`, ErrLimit, "deeper"},
		{`[] | .[500000000] = 1`, ErrLimit, "index"},
		{`5e8 as $i | [] | .[$i] = 1`, ErrLimit, "index"},
		{`[] | setpath([500000000]; 1)`, ErrLimit, "index"},
		{`"ab" * 1000000000`, nil, "dec_mul"},
		{`1000000000 * "ab"`, nil, "dec_mul"},
		{`dec_add("1e999999999"; "1")`, nil, "not a decimal"},
		{`dec_add(0.1 + 0.2; "1")`, nil, "not exact"},
		{`dec_add(null; "1")`, nil, "null"},
		{`dec_div("1"; "0"; 2)`, nil, "zero"},
		{`dec_div("1"; "3"; 41)`, nil, "places"},
		{`error("no")`, nil, "no"},
	} {
		_, err := eval(t, tt.source, `null`)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got error %v, want %v with %q", tt.source, err, tt.want, tt.text)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, tt := range []struct {
		source       string
		line, column int
		text         string
	}{
		{``, 1, 1, "empty"},
		{`# later`, 1, 1, "missing query"},
		{`def f: .;`, 1, 1, "missing query"},
		{".a |\n  .\x00", 2, 4, "zero byte"}, // where gojq would end
		{`.a |`, 1, 5, "unexpected"},
		{".a |\n  foo(", 2, 7, "unexpected"},
		{`env.HOME`, 1, 1, "environment"},
		{`. as $x | $ENV`, 1, 11, "environment"},
		{`input`, 1, 1, "input"},
		{`[inputs]`, 1, 2, "input"},
		{`"a" | debug`, 1, 7, "log"},
		{`import "a" as a; .`, 1, 1, "modules"},
		{`include "a"; .`, 1, 1, "modules"},
		{`$__loc__`, 1, 1, "internal"},
		{`. as $__budget | .`, 1, 6, "internal"},
		{`$__budget`, 1, 1, "internal"},
		{`_modify(.a; 1)`, 1, 1, "internal"},
		{`halt`, 1, 1, "end"},
		{`now`, 1, 1, "clock"},
		{`nosuch(1)`, 1, 1, "not defined"},
		{strings.Repeat("(", 10000) + "." + strings.Repeat(")", 10000), 1, 201, "nested"},
		{strings.Repeat(" ", MaxSource+1), 1, 1, "limit"},
	} {
		_, err := Compile(tt.source)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%.40s: got %v, want a SyntaxError", tt.source, err)
			continue
		}
		if syntax.Line != tt.line || syntax.Column != tt.column || !strings.Contains(syntax.Message, tt.text) {
			t.Errorf("%.40s: got %v, want %d:%d with %q", tt.source, syntax, tt.line, tt.column, tt.text)
		}
	}
}

func TestBoolAndString(t *testing.T) {
	ctx := context.Background()
	input, _ := Decode([]byte(`{"t":true,"s":"x","n":1.50,"i":7,"z":null}`))
	for source, want := range map[string]string{
		`.t`: "true", `.s == "x"`: "true", `.z`: "the condition gave null, true or false is expected",
		`.s`: "the condition gave string, true or false is expected",
	} {
		e, _ := Compile(source)
		b, err := e.Bool(ctx, input)
		got := fmt.Sprint(b)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("Bool %s: got %s, want %s", source, got, want)
		}
	}
	for source, want := range map[string]string{
		`.s`: "x", `.n`: "1.50", `.i`: "7", `.i + 1`: "8", `.i / 2`: "3.5",
		`99999999999999999999`: "99999999999999999999",
		`.z`:                   "the expression gave null, a string or a number is expected",
		`.t`:                   "the expression gave boolean, a string or a number is expected",
	} {
		e, _ := Compile(source)
		got, err := e.String(ctx, input)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("String %s: got %s, want %s", source, got, want)
		}
	}
}

func TestEvalKeepsCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e, _ := Compile(`def f: f; f`)
	if _, err := e.Eval(ctx, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrLimit) {
		t.Errorf("got %v, want context.Canceled and not ErrLimit", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, text := range []string{
		``, `{`, `{"a":1,"a":2}`, `{"a":[{"b":1,"b":2}]}`, `{"a":1,"\u0061":2}`, "\"\xff\"", `1 2`,
		`[` + strings.Repeat("9", 200) + `]`, `1e1000`, `1e-99999999999`, `-1E+309`,
		strings.Repeat(`[`, 10000) + strings.Repeat(`]`, 10000),
	} {
		if v, err := Decode([]byte(text)); !errors.Is(err, event.ErrInvalid) {
			t.Errorf("%.40s: got %v, %v, want ErrInvalid", text, v, err)
		}
	}
	for _, text := range []string{`{"a:b":"c:d\":","e":{"a:b":1}}`, `1e300`, `[1,2.5,null]`} {
		if _, err := Decode([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The guards must not change what a program means.
func TestGuardsKeepMeaning(t *testing.T) {
	inputs := []string{`null`, `[3,1,2]`, `{"a":{"b":[1,2]},"c":"x","d":2}`, `[[1,2],[3]]`, `[{"k":"x","v":1}]`}
	for _, source := range []string{
		`.[0] + .[1]`, `(.a, .c) + (.d, null)`, `.[] * 2`, `.a * {b: 1}`, `sort | reverse`, `.a.b - [1]`, `map(. == 1)`,
		`add`, `[.[]?] | add(.[])`, `min, max`, `tojson | fromjson`, `[.[]? | tostring]`, `.a?.b? += [9]`, `.d? *= (1, 2)`,
		`.a.b[1:] = [7]`, `[limit(2; .[]?)]`, `to_entries`, `.. | numbers`, `flatten`, `[.[]?] | contains([1])`,
		`index(1)`, `[.[]?.v] | unique`, `[paths]`, `.a?.b?[0] |= . + 1`, `[.[] as [$x] ?// $x | $x]`, `"v\(.c?)"`,
		`try error("x") catch .`, `label $f | .[]? | ., break $f`, `[.[]? | if . == 1 then 10 else . end]`,
		`@base64 "x\(.c?)"`, `sort_by(.v?)`, `INDEX(.k?)`, `walk(.)`, `del(.[0]?)`, `getpath(["a","b",0])?`,
	} {
		query, err := gojq.Parse(source)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		e, err := Compile(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		for _, text := range inputs {
			value, _ := Decode([]byte(text))
			want, got := all(query.Run(value)), all(e.code.Run(value, &budget{left: MaxNodes}))
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s over %s: got %v, want %v", source, text, got, want)
			}
		}
	}
}

func all(iter gojq.Iter) []string {
	var out []string
	for range 20 {
		v, ok := iter.Next()
		if !ok {
			break
		}
		if err, failed := v.(error); failed {
			out = append(out, "error: "+err.Error())
			break
		}
		text, _ := gojq.Marshal(v)
		out = append(out, string(text))
	}
	return out
}

func FuzzEval(f *testing.F) {
	f.Add(`.a + 1`, `{"a":1}`)
	f.Add(`reduce .[] as $x ("0"; dec_add(.; $x))`, `["1.10"]`)
	f.Add(`.a *= 2 | .[1] = [.] | tojson`, `[1]`)
	f.Add(`def f: [., f]; f`, `null`)
	f.Fuzz(func(t *testing.T, source, input string) {
		if len(source) > 200 || len(input) > 400 {
			return
		}
		e, err := Compile(source)
		if err != nil {
			return
		}
		value, err := Decode([]byte(input))
		if err != nil {
			return
		}
		result, err := e.Eval(context.Background(), value)
		if err != nil {
			return
		}
		if _, err := gojq.Marshal(result); err != nil {
			t.Fatalf("%s over %s: result does not encode: %v", source, input, err)
		}
	})
}

func BenchmarkBool(b *testing.B) {
	e, _ := Compile(`.region == "eu" and (.data.lines | length > 0)`)
	input, _ := Decode([]byte(`{"region":"eu","data":{"lines":[{"sku":"a"}]}}`))
	for b.Loop() {
		if ok, err := e.Bool(context.Background(), input); !ok || err != nil {
			b.Fatal(err)
		}
	}
}
