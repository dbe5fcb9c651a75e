package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
)

func version(t testing.TB, semver, schema string) *Version {
	t.Helper()
	v, err := Compile("order.captured", semver, Active, time.Time{}, []byte(schema))
	if err != nil {
		t.Fatalf("compile %s: %v", schema, err)
	}
	return v
}

const order = `{
  "type": "object",
  "required": ["orderId", "lines"],
  "properties": {
    "orderId": {"type": "string", "pattern": "^[A-Z0-9-]{1,20}$", "x-ubl": "cbc:ID"},
    "currency": {"enum": ["EUR", "USD"]},
    "placed": {"type": "string", "format": "date-time"},
    "lines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/line"}},
    "pay": {"oneOf": [{"required": ["card"]}, {"required": ["iban"]}]}
  },
  "additionalProperties": false,
  "$defs": {"line": {"type": "object", "required": ["sku"], "properties": {
    "sku": {"type": "string", "minLength": 1}, "quantity": {"type": "integer", "minimum": 1}}}}
}`

func TestValidate(t *testing.T) {
	v := version(t, "1.0.0", order)
	for _, tt := range []struct{ data, want string }{
		{`{"orderId":"A-1","lines":[{"sku":"x","quantity":2}],"currency":"EUR","placed":"2026-05-04T10:00:00Z"}`, ``},
		{`{"orderId":"A-1","lines":[{"sku":"x","quantity":2.0}]}`, ``},
		{`{}`, `/lines: is missing (required)|/orderId: is missing (required)`},
		{`{"orderId":"a","lines":[{"sku":"x"}]}`, `/orderId: 'a' does not match pattern '^[A-Z0-9-]{1,20}$' (pattern)`},
		{`{"orderId":"A\n","lines":[{"sku":"x"}]}`, `/orderId: 'A\n' does not match pattern '^[A-Z0-9-]{1,20}$' (pattern)`},
		{`{"orderId":"A","lines":[]}`, `/lines: minItems: got 0, want 1 (minItems)`},
		{`{"orderId":"A","lines":[{"sku":"","quantity":0}]}`, `/lines/0/quantity: minimum: got 0, want 1 (minimum)|/lines/0/sku: minLength: got 0, want 1 (minLength)`},
		{`{"orderId":"A","lines":[{"sku":"x","quantity":1.5}]}`, `/lines/0/quantity: got number, want integer (type)`},
		{`{"orderId":"A","lines":[{"sku":"x","quantity":99999999999999999999999}]}`, ``},
		{`{"orderId":"A","lines":[{"sku":"x"}],"a/b":1}`, `/a~1b: is not a property of the contract (additionalProperties)`},
		{`{"orderId":"A","lines":[{"sku":"x"}],"currency":"GBP"}`, `/currency: value must be one of 'EUR', 'USD' (enum)`},
		{`{"orderId":"A","lines":[{"sku":"x"}],"placed":"yesterday"}`, `/placed: 'yesterday' is not valid date-time`},
		{`{"orderId":"A","lines":[{"sku":"x"}],"pay":{}}`, `/pay: fits none of the alternatives; the closest says: /pay/card: is missing (required) (oneOf)`},
		{`{"orderId":"A","lines":[{"sku":"x"}],"pay":{"card":1,"iban":2}}`, `/pay: fits more than one of the alternatives (oneOf)`},
		{`[]`, `/: got array, want object (type)`},
	} {
		decoded, violations, err := v.Validate([]byte(tt.data))
		if err != nil {
			t.Errorf("%s: %v", tt.data, err)
			continue
		}
		var got []string
		for _, one := range violations {
			got = append(got, one.String())
		}
		if joined := strings.Join(got, "|"); !strings.HasPrefix(joined, tt.want) || tt.want == "" && joined != "" {
			t.Errorf("%s:\n got %s\nwant %s", tt.data, joined, tt.want)
		}
		if len(v.ValidateDecoded(decoded)) != len(violations) {
			t.Errorf("%s: ValidateDecoded differs from Validate", tt.data)
		}
	}
}

func TestValidateRefusesMalformed(t *testing.T) {
	v := version(t, "1.0.0", `{}`)
	for _, data := range []string{
		``, `{`, `{"a":1,"a":2}`, strings.Repeat("[", 10000) + strings.Repeat("]", 10000), `[1e1000000]`,
		`"` + strings.Repeat("x", event.MaxSize) + `"`,
	} {
		if _, _, err := v.Validate([]byte(data)); !errors.Is(err, event.ErrInvalid) {
			t.Errorf("%.30s: got %v, want ErrInvalid", data, err)
		}
	}
}

func TestViolationsAreLimited(t *testing.T) {
	v := version(t, "1.0.0", `{"items":{"type":"string"}}`)
	_, violations, err := v.Validate([]byte("[" + strings.Repeat("1,", 9999) + "1]"))
	if err != nil || len(violations) != MaxViolations {
		t.Errorf("got %d violations, %v, want %d", len(violations), err, MaxViolations)
	}
}

// A pattern that backtracks without end must not let data through, whichever way it is used.
func TestPatternTimeout(t *testing.T) {
	data := []byte(`"` + strings.Repeat("a", 40) + `!"`)
	for _, schema := range []string{`{"pattern":"^(a+)+$"}`, `{"not":{"pattern":"^(a+)+$"}}`} {
		_, violations, err := version(t, "1.0.0", schema).Validate(data)
		if err != nil || len(violations) != 1 || violations[0].Rule != "pattern" || !strings.Contains(violations[0].Message, "too long") {
			t.Errorf("%s: got %v, %v, want one violation of pattern", schema, violations, err)
		}
	}
}

func TestDecodedServesExpressions(t *testing.T) {
	decoded, violations, err := version(t, "1.0.0", `{}`).Validate([]byte(`{"n":12345678901234567890,"m":"1.10"}`))
	if err != nil || violations != nil {
		t.Fatal(violations, err)
	}
	e, err := expr.Compile(`{n: (.n + 1), m: dec_add(.m; "1")}`)
	if err != nil {
		t.Fatal(err)
	}
	result, err := e.Eval(context.Background(), decoded)
	if err != nil {
		t.Fatal(err)
	}
	target := version(t, "1.0.0", `{"properties":{"n":{"type":"integer","minimum":12345678901234567891},"m":{"const":"2.10"}}}`)
	if violations := target.ValidateDecoded(result); violations != nil {
		t.Errorf("the result of an expression is refused: %v", violations)
	}
	if _, ok := result.(map[string]any)["n"].(*big.Int); !ok {
		t.Errorf("n is %T: the test no longer covers big integers", result.(map[string]any)["n"])
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, tt := range []struct{ semver, state, schema, want string }{
		{"1.0", "active", `{}`, "version"},
		{"01.0.0", "active", `{}`, "version"},
		{"1.0.0", "live", `{}`, "state"},
		{"1.0.0", "active", `{`, "malformed"},
		{"1.0.0", "active", `{"type":"strin"}`, "strin"},
		{"1.0.0", "active", `{"$ref":"https://example.com/a.json"}`, "outside of the schema"},
		{"1.0.0", "active", `{"$ref":"file:///etc/passwd"}`, "outside of the schema"},
		{"1.0.0", "active", `{"$ref":"other.json"}`, "outside of the schema"},
		{"1.0.0", "active", `{"$schema":"https://example.com/draft","type":"string"}`, "outside of the schema"},
		{"1.0.0", "active", `{"$ref":"#/$defs/no"}`, "no"},
		{"1.0.0", "active", `{"pattern":"("}`, "pattern"},
		{"1.0.0", "active", `{"pattern":"` + strings.Repeat("a", MaxPattern+1) + `"}`, "pattern"},
		{"1.0.0", "active", `{"type":"string","type":"object"}`, "twice"},
		{"1.0.0", "active", strings.Repeat(`{"not":`, 70) + `{}` + strings.Repeat(`}`, 70), "deep"},
		{"1.0.0", "active", `{"title":"` + strings.Repeat("a", MaxSchema) + `"}`, "limit"},
	} {
		_, err := Compile("c", tt.semver, State(tt.state), time.Time{}, []byte(tt.schema))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s %.40s: got %v, want an error with %q", tt.semver, tt.state, tt.schema, err, tt.want)
		}
	}
}

func TestURI(t *testing.T) {
	v := version(t, "1.2.3", `{}`)
	if v.URI() != "crossdock:order.captured/1.2.3" || v.Major != 1 || v.Minor != 2 || v.Patch != 3 {
		t.Errorf("got %s %d.%d.%d", v.URI(), v.Major, v.Minor, v.Patch)
	}
}

func TestCompare(t *testing.T) {
	obj := func(props, more string) string {
		return `{"type":"object","properties":{` + props + `}` + more + `}`
	}
	for _, tt := range []struct{ name, old, next, backward, forward string }{
		{"same", order, order, "", ""},
		{"optional property added, open", obj(``, ``), obj(`"a":{"type":"string"}`, ``), "", ""},
		{"optional property added, closed", obj(``, `,"additionalProperties":false`), obj(`"a":{}`, `,"additionalProperties":false`), "", "/a additionalProperties"},
		{"property removed, closed", obj(`"a":{}`, `,"additionalProperties":false`), obj(``, `,"additionalProperties":false`), "/a additionalProperties", ""},
		{"required added", obj(`"a":{}`, ``), obj(`"a":{}`, `,"required":["a"]`), "/a required", ""},
		{"type changed", obj(`"a":{"type":"string"}`, ``), obj(`"a":{"type":"number"}`, ``), "/a type", "/a type"},
		{"type widened", obj(`"a":{"type":"integer"}`, ``), obj(`"a":{"type":["number","null"]}`, ``), "", "/a type"},
		{"closed", obj(``, ``), obj(``, `,"additionalProperties":false`), "/ additionalProperties", ""},
		{"rest by schema", obj(``, `,"additionalProperties":{"type":"string"}`), obj(``, `,"additionalProperties":{"type":"string","minLength":1}`), "/* minLength", ""},
		{"enum grows", `{"enum":["a"]}`, `{"enum":["a","b"]}`, "", "/ enum"},
		{"const to enum", `{"const":1}`, `{"enum":[1.0,2]}`, "", "/ const"},
		{"enum gone", `{"enum":["a"]}`, `{"type":"string"}`, "", "/ enum"},
		{"bounds", `{"type":"number","minimum":1}`, `{"type":"number","exclusiveMinimum":1}`, "/ exclusiveMinimum", ""},
		{"upper bound", `{"type":"number","maximum":5}`, `{"type":"number","maximum":6}`, "", "/ maximum"},
		{"multiple", `{"type":"integer"}`, `{"type":"integer","multipleOf":2}`, "/ multipleOf", ""},
		{"lengths", `{"type":"string","minLength":1,"maxLength":9}`, `{"type":"string","minLength":2,"maxLength":10}`, "/ minLength", "/ maxLength"},
		{"pattern", `{"type":"string","pattern":"a"}`, `{"type":"string","pattern":"b"}`, "/ pattern", "/ pattern"},
		{"format added", `{"type":"string"}`, `{"type":"string","format":"date"}`, "/ format", ""},
		{"items", `{"type":"array","items":{"type":"string"}}`, `{"type":"array","items":{"type":"integer"}}`, "/* type", "/* type"},
		{"prefix", `{"type":"array","prefixItems":[{"type":"string"}],"items":false}`, `{"type":"array","prefixItems":[{}],"items":{}}`, "", "/* false /0 type"},
		{"unique", `{"type":"array"}`, `{"type":"array","uniqueItems":true,"maxItems":3}`, "/ maxItems / uniqueItems", ""},
		{"refs", `{"$ref":"#/$defs/a","$defs":{"a":{"type":"string"}}}`, `{"$ref":"#/$defs/b","$defs":{"b":{"type":"string","maxLength":3}}}`, "/ maxLength", ""},
		{"recursive", `{"type":"object","properties":{"n":{"$ref":"#"},"v":{"type":"string"}}}`, `{"type":"object","properties":{"n":{"$ref":"#"},"v":{"type":"null"}}}`, "/n/v type /v type", "/n/v type /v type"},
		{"recursive choice", `{"anyOf":[{"type":"null"},{"type":"array","items":{"$ref":"#"}}]}`, `{"anyOf":[{"type":"null"},{"type":"array","items":{"$ref":"#"}},{"type":"string"}]}`, "", "/ anyOf / anyOf"},
		{"choice of one", `{"type":"string"}`, `{"anyOf":[{"type":"string"},{"type":"null"}]}`, "", "/ type"},
		{"oneOf added", `{"oneOf":[{"type":"string"}]}`, `{"oneOf":[{"type":"string"},{"type":"null"}]}`, "/ oneOf", "/ oneOf"},
		{"anyOf beside oneOf", `{"oneOf":[{"type":"string"},{"type":"object"}]}`, `{"oneOf":[{"type":"string"},{"type":"object"}],"anyOf":[{"minLength":1},{"minProperties":1}]}`, "/ anyOf", ""},
		{"allOf", `{"allOf":[{"type":"string"},{"minLength":2}]}`, `{"type":"string","minLength":2}`, "", ""},
		{"not added", `{"type":"string"}`, `{"type":"string","not":{"const":"x"}}`, "/ not", ""},
		{"false", `{"type":"object","properties":{"a":{}}}`, `{"type":"object","properties":{"a":false}}`, "/a false", ""},
		{"annotations", `{"title":"a"}`, `{"title":"b","description":"c"}`, "", ""},
	} {
		old, next := version(t, "1.0.0", tt.old), version(t, "1.1.0", tt.next)
		for mode, want := range map[string]string{"backward": tt.backward, "forward": tt.forward, "none": ""} {
			var got []string
			for _, one := range Compare(old, next, mode) {
				path, _, _ := strings.Cut(one.String(), ":")
				got = append(got, path+" "+one.Rule)
			}
			if joined := strings.Join(got, " "); joined != want {
				t.Errorf("%s, %s: got %q, want %q", tt.name, mode, joined, want)
			}
		}
		if full := len(Compare(old, next, "full")); full != len(Compare(old, next, "backward"))+len(Compare(old, next, "forward")) {
			t.Errorf("%s: full is not both", tt.name)
		}
	}
}

func TestCompareNamesDirection(t *testing.T) {
	old, next := version(t, "1.0.0", `{"type":"string"}`), version(t, "1.1.0", `{"type":"string","maxLength":3}`)
	got := fmt.Sprint(Compare(old, next, "backward"))
	if want := "[/: data of 1.0.0 may be refused by 1.1.0: maxLength is 3 (maxLength)]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCompareEnds(t *testing.T) {
	// Each level refers twice to the next: a tree of 2^30 leaves when followed naively.
	var defs []string
	for i := range 30 {
		defs = append(defs, fmt.Sprintf(`"d%d":{"anyOf":[{"type":"array","items":{"$ref":"#/$defs/d%d"}},{"type":"object","additionalProperties":{"$ref":"#/$defs/d%d"}}]}`, i, i+1, i+1))
	}
	schema := func(last string) string {
		return `{"$ref":"#/$defs/d0","$defs":{` + strings.Join(defs, ",") + `,"d30":{"type":"` + last + `"}}}`
	}
	if got := Compare(version(t, "1.0.0", schema("string")), version(t, "1.1.0", schema("null")), "backward"); len(got) == 0 {
		t.Error("the change at the leaves was not seen")
	}
}

// Whatever Compare calls compatible must be so for every value: a value that one version
// accepts, the other accepts.
func TestCompareIsCareful(t *testing.T) {
	pool, compatible := values(t), 0
	rapid.Check(t, func(t *rapid.T) {
		for range 3 {
			a := drawSchema(t, 2)
			b := mutate(t, a)
			textA, _ := json.Marshal(a)
			textB, _ := json.Marshal(b)
			old, err := Compile("c", "1.0.0", Active, time.Time{}, textA)
			if err != nil {
				t.Skip(err)
			}
			next, err := Compile("c", "1.1.0", Active, time.Time{}, textB)
			if err != nil {
				t.Skip(err)
			}
			if len(Compare(old, next, CompatibilityBackward)) > 0 {
				continue
			}
			compatible++
			for _, value := range pool {
				if len(old.ValidateDecoded(value)) > 0 {
					continue
				}
				if violations := next.ValidateDecoded(value); len(violations) > 0 {
					t.Fatalf("called compatible:\nold  %s\nnext %s\nvalue %v\n%v", textA, textB, value, violations)
				}
			}
		}
	})
	t.Logf("%d pairs were compatible", compatible)
}

// values is a pool of small values, which hold no properties but those of drawSchema.
func values(t *testing.T) []any {
	pool := []string{`null`, `0`, `1`, `2`, `2.0`, `2.5`, `3`, `""`, `"a"`, `"bb"`, `"abc"`, `[]`, `{}`}
	inner := append([]string{`[1]`, `[1,1]`, `{"p":1}`, `{"p":"a","q":2}`}, pool...)
	for _, x := range inner {
		pool = append(pool, `[`+x+`]`, `[`+x+`,1]`, `[`+x+`,`+x+`]`, `["a",`+x+`]`, `{"p":`+x+`}`, `{"q":`+x+`}`, `{"p":1,"q":`+x+`}`)
	}
	var out []any
	for _, text := range pool {
		value, err := expr.Decode([]byte(text))
		if err != nil {
			t.Fatal(text, err)
		}
		out = append(out, value)
	}
	return out
}

// drawSchema names all properties of the pool, so that no value holds an unnamed one.
func drawSchema(t *rapid.T, depth int) map[string]any {
	s := map[string]any{}
	choose := func(keyword string, values ...any) {
		if rapid.IntRange(0, 7).Draw(t, "has "+keyword) == 7 {
			s[keyword] = rapid.SampledFrom(values).Draw(t, keyword)
		}
	}
	choose("type", "string", "integer", "number", "array", "object", "null", []any{"string", "null"}, []any{"number", "array"})
	choose("enum", []any{1, 2}, []any{"a", "bb", nil}, []any{2.0})
	choose("minimum", 1, 2)
	choose("exclusiveMinimum", 1, 2)
	choose("maximum", 2, 3)
	choose("exclusiveMaximum", 2, 3)
	choose("multipleOf", 1, 2, 0.5)
	choose("minLength", 1, 2)
	choose("maxLength", 1, 2)
	choose("pattern", "a", "^b")
	choose("minItems", 1, 2)
	choose("maxItems", 1)
	choose("uniqueItems", true, false)
	choose("required", []any{"p"}, []any{"p", "q"})
	choose("minProperties", 1, 2)
	choose("maxProperties", 1)
	if depth == 0 {
		s["additionalProperties"], s["items"] = false, false
		return s
	}
	if rapid.Bool().Draw(t, "closed") {
		s["additionalProperties"] = false
	}
	s["properties"] = map[string]any{"p": drawSchema(t, depth-1), "q": drawSchema(t, depth-1)}
	s["items"] = drawSchema(t, depth-1)
	if rapid.IntRange(0, 3).Draw(t, "has combination") == 3 {
		keyword := rapid.SampledFrom([]string{"anyOf", "oneOf", "allOf", "prefixItems"}).Draw(t, "combination")
		s[keyword] = []any{drawSchema(t, depth-1), drawSchema(t, depth-1)}
	}
	return s
}

// mutate changes one keyword, so that many pairs are nearly the same.
func mutate(t *rapid.T, s map[string]any) map[string]any {
	other := drawSchema(t, 2)
	out := maps.Clone(s)
	for _, k := range slices.Sorted(maps.Keys(other)) {
		if rapid.IntRange(0, 3).Draw(t, "take "+k) == 3 {
			out[k] = other[k]
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s)) {
		if rapid.IntRange(0, 5).Draw(t, "drop "+k) == 5 && k != "properties" && k != "items" {
			delete(out, k)
		}
	}
	return out
}

func FuzzCompile(f *testing.F) {
	f.Add(order, `{"orderId":"A","lines":[{"sku":"x"}]}`)
	f.Add(`{"$ref":"#"}`, `1`)
	f.Add(`{"anyOf":[{"$ref":"#"},{"pattern":"a"}]}`, `"a"`)
	f.Fuzz(func(t *testing.T, schema, data string) {
		v, err := Compile("c", "1.0.0", Active, time.Time{}, []byte(schema))
		if err != nil {
			return
		}
		v.Validate([]byte(data))
		Compare(v, v, CompatibilityFull)
	})
}

// FuzzCompare: two versions that people wrote are compared, or found not comparable; and
// what is said to fit does: data of the one is data of the other.
func FuzzCompare(f *testing.F) {
	f.Add(order, order, `{"orderId":"A","lines":[{"sku":"x"}]}`)
	f.Add(`{"type":"integer"}`, `{"type":"number"}`, `1.0`)
	f.Add(`{"type":"number"}`, `{"type":"integer"}`, `1.5`)
	f.Add(`{"enum":[1,"a"]}`, `{"anyOf":[{"const":1},{"pattern":"a"}]}`, `"a"`)
	f.Add(`{"required":["a"]}`, `{"properties":{"a":{"minLength":1}}}`, `{"a":""}`)
	f.Fuzz(func(t *testing.T, one, other, data string) {
		old, err := Compile("c", "1.0.0", Active, time.Time{}, []byte(one))
		if err != nil {
			return
		}
		next, err := Compile("c", "1.1.0", Active, time.Time{}, []byte(other))
		if err != nil {
			return
		}
		for _, found := range Compare(old, next, CompatibilityFull) {
			if found.Rule == "" {
				t.Fatalf("an incompatibility without a rule: %+v", found)
			}
		}
		if strings.Contains(data, "{") || len(Compare(old, next, CompatibilityBackward)) > 0 {
			return // of objects it is assumed that they hold nothing but what their schema names
		}
		_, before, err := old.Validate([]byte(data))
		if err != nil || before != nil {
			return
		}
		if _, after, err := next.Validate([]byte(data)); err != nil || after != nil {
			t.Fatalf("%s fits %s, and not %s, which is said to be compatible: %v, %v", data, one, other, after, err)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	v := version(b, "1.0.0", order)
	data := []byte(`{"orderId":"A-1","lines":[{"sku":"x","quantity":2},{"sku":"y","quantity":3}],"currency":"EUR","placed":"2026-05-04T10:00:00Z"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, violations, err := v.Validate(data); err != nil || violations != nil {
			b.Fatal(violations, err)
		}
	}
}

// A few references that lead to each other stand for more parts than there is time.
func TestCompareEntangledReferences(t *testing.T) {
	var defs strings.Builder
	for i := range 14 {
		ref := fmt.Sprintf(`{"$ref":"#/$defs/d%d"}`, i+1)
		fmt.Fprintf(&defs, `"d%d":{"allOf":[%s]},`, i, strings.TrimSuffix(strings.Repeat(ref+",", 10), ","))
	}
	schema := []byte(`{"$defs":{` + defs.String() + `"d14":{"type":"object"}},"$ref":"#/$defs/d0"}`)
	var versions []*Version
	for _, semver := range []string{"1.0.0", "1.1.0"} {
		v, err := Compile("x", semver, Active, time.Time{}, schema)
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, v)
	}
	done := make(chan []Incompatibility, 1)
	go func() { done <- Compare(versions[0], versions[1], CompatibilityFull) }()
	select {
	case found := <-done:
		if len(found) == 0 || !strings.Contains(fmt.Sprint(found), "too entangled") {
			t.Errorf("got %v", found)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the comparison does not end")
	}
}
