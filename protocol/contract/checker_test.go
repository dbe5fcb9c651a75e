package contract

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/protocol/expr"
)

// sameAsLibrary asks checker and library about a value.
func sameAsLibrary(t interface{ Fatalf(string, ...any) }, v *Version, value any) {
	if v.quick == nil {
		return
	}
	err := v.compiled.Validate(plainNumbers(value))
	if got := v.quick.holds(value); got != (err == nil) {
		t.Fatalf("schema %s\nvalue %#v\nthe checker says %v, the library %v", v.Schema, value, got, err)
	}
}

func decode(t testing.TB, text string) any {
	t.Helper()
	value, err := expr.Decode([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}

// asked counts the places of a schema about which the library has to be asked.
func asked(v *Version) (places int) {
	seen := map[*checker]bool{}
	var visit func(c *checker)
	visit = func(c *checker) {
		if c == nil || seen[c] {
			return
		}
		seen[c] = true
		if c.ask || c.text != nil && c.text.pattern != nil && c.text.pattern.simple == nil || c.array != nil && c.array.unique {
			places++
		}
		for _, o := range c.parts {
			visit(o)
		}
		if l := c.logic; l != nil {
			for _, o := range append(slices.Concat(l.anyOf, l.oneOf), l.not, l.when, l.then, l.elseThen) {
				visit(o)
			}
		}
		if c.object != nil {
			visit(c.object.rest)
			for _, m := range c.object.members {
				visit(m.value)
			}
		}
		if c.array != nil {
			visit(c.array.items)
			for _, o := range c.array.first {
				visit(o)
			}
		}
	}
	if v.quick == nil {
		return -1
	}
	visit(v.quick)
	return places
}

// What contracts ordinarily hold is understood, so that the library is not asked.
func TestOrdinaryContractsAreUnderstood(t *testing.T) {
	files, err := filepath.Glob("../../deploy/demo/policy/schemas/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("the demo's schemas: %v, %v", files, err)
	}
	for _, file := range append(files, "../../agent/intake/testdata/order-30.json") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := asked(version(t, "1.0.0", string(text))); n != 0 {
			t.Errorf("%s: %d places are left to the library", file, n)
		}
	}
	if n := asked(version(t, "1.0.0", `{"properties":{"a":{"contains":{}},"b":{"not":{"pattern":"(?=a)"}},"c":{"uniqueItems":true}}}`)); n != 3 {
		t.Errorf("the test sees %d of 3 places", n)
	}
}

func TestCheckerAsLibrary(t *testing.T) {
	for _, tt := range []struct{ schema, values string }{
		{`true`, `[null,1,"a",[],{}]`},
		{`false`, `[null,1,"a",[],{}]`},
		{`{}`, `[null,true,1,"a",[],{}]`},
		{`{"type":"integer"}`, `[1,-1,0,1.0,1.5,1e2,1e-2,100e-2,"1",99999999999999999999999]`},
		{`{"type":["integer","null"]}`, `[1,1.5,null,"a"]`},
		{`{"type":["integer","number"]}`, `[1,1.5]`},
		{`{"minimum":0.1}`, `[0.1,0.10,0.1000000000000000055,0.09999999999999999,0.10000000000000001,1,0,-1,"a"]`},
		{`{"exclusiveMinimum":0}`, `[0,0.0,-0,1e-300,1e-308,-1e-308,5]`},
		{`{"maximum":9007199254740993}`, `[9007199254740992,9007199254740993,9007199254740994,9007199254740993.5,1e16]`},
		{`{"maximum":5,"minimum":-5}`, `[5,5.0,5.00000000000000000001,-5,-5.0,-6,50e-1,51e-1]`},
		{`{"exclusiveMaximum":1e308}`, `[1e308,9.9e307,99999]`},
		{`{"multipleOf":0.01}`, `[1,1.1,1.11,1.111,"a"]`},
		{`{"multipleOf":3}`, `[0,3,6,7,3.0,1e3]`},
		{`{"minLength":2,"maxLength":3}`, `["","a","ab","abc","abcd","ä","ää","äää","ääää","😀","😀😀","😀😀😀","😀😀😀😀",5]`},
		{`{"enum":["a",1,null,true,{"x":1},[1]]}`, `["a","b",1,1.0,2,null,true,false,{"x":1},{"x":1.0},{"x":2},[1],[2],"1"]`},
		{`{"const":1.0}`, `[1,1.0,1.00,2,"1"]`},
		{`{"const":null}`, `[null,0,false]`},
		{`{"format":"date-time"}`, `["2026-05-04T10:00:00Z","2026-05-04t10:00:00z","2026-02-29T10:00:00Z","2024-02-29T10:00:00Z","2026-05-04T23:59:60Z","2026-05-04T24:00:00Z","2026-05-04T10:00:00","2026-05-04T10:00:00+02:00","2026-05-04T10:00:00.5-00:30","2026-05-04T10:00:00.","yesterday","","0000-01-01T00:00:00Z",7]`},
		{`{"format":"date"}`, `["2026-05-04","2026-13-04","2026-00-04","2026-05-00","2026-04-31","1900-02-29","2000-02-29","0000-02-29","2026-5-4","2026-05-041","+026-05-04"]`},
		{`{"format":"email"}`, `["a@b.example","a","a@","@b",1]`},
		{`{"format":"regex"}`, `["a","("]`},
		{`{"format":"unheard-of"}`, `["a",1]`},
		{`{"pattern":"^[A-Z]{2}$"}`, `["DE","de","D","DEU","DÄ","ÄÖ",1]`},
		{`{"pattern":"^.{2}$"}`, `["DE","DÄ","ÄÖ","Ä"]`},
		{`{"pattern":"^(?!no)"}`, `["yes","no"]`},
		{`{"required":["a"]}`, `[{},{"a":1},{"b":1},[]]`},
		{`{"required":["a"],"properties":{"b":{"type":"string"}},"additionalProperties":{"type":"integer"}}`, `[{"a":1},{"a":"x"},{"a":1,"b":1},{"a":1,"b":"x","c":2},{"a":1,"c":"x"},{"b":"x"}]`},
		{`{"properties":{"a":true,"b":false},"additionalProperties":false}`, `[{},{"a":1},{"b":1},{"c":1}]`},
		{`{"minProperties":1,"maxProperties":2}`, `[{},{"a":1},{"a":1,"b":2},{"a":1,"b":2,"c":3},[]]`},
		{`{"minItems":1,"maxItems":2}`, `[[],[1],[1,2],[1,2,3],{}]`},
		{`{"uniqueItems":true}`, `[[],[1],["a","b"],["a","a"],[1,1.0],[1,2],["1",1],[[1],[1]]]`},
		{`{"prefixItems":[{"type":"string"},{"type":"null"}],"items":{"type":"integer"}}`, `[[],["a"],[1],["a",null],["a",1],["a",null,1],["a",null,"b"]]`},
		{`{"prefixItems":[{"type":"string"}]}`, `[["a",1],[1]]`},
		{`{"items":false}`, `[[],[1]]`},
		{`{"allOf":[{"minLength":2},{"maxLength":3}],"type":"string"}`, `["a","ab","abcd",1]`},
		{`{"anyOf":[{"minLength":3},{"type":"integer"}],"maxLength":4}`, `["a","abc","abcde",1,1.5]`},
		{`{"anyOf":[{"properties":{"k":{"const":"a"}}},{"properties":{"k":{"enum":["b",1]}}}]}`, `[{"k":"a"},{"k":"b"},{"k":"c"},{"k":1},{"k":1.0},{}]`},
		{`{"oneOf":[{"type":"string"},{"minLength":2}],"maxLength":3}`, `["a","ab","abcd",1]`},
		{`{"not":{"type":"string"}}`, `["a",1]`},
		{`{"oneOf":[{"const":1},{"const":1.0},{"const":2}]}`, `[1,2,3]`},
		{`{"oneOf":[{"properties":{"k":{"const":"a"}},"required":["k"]},{"properties":{"k":{"const":"b"}},"required":["k"]}]}`, `[{"k":"a"},{"k":"b"},{"k":"c"},{}]`},
		{`{"if":{"type":"string"}}`, `["a",1]`},
		{`{"if":true,"then":{"type":"string"},"else":false}`, `["a",1]`},
		{`{"if":{"type":"string"},"then":{"minLength":2},"else":{"minimum":2}}`, `["a","ab",1,2]`},
		{`{"properties":{"a":{"contains":{"type":"string"}},"b":{"patternProperties":{"^x":{"type":"null"}}}}}`, `[{"a":[1]},{"a":["x"]},{"b":{"xa":1}},{"b":{"xa":null}},{"b":{"a":1}}]`},
		{`{"properties":{"a":true},"unevaluatedProperties":false}`, `[{"a":1},{"b":1}]`},
		{`{"dependentRequired":{"a":["b"]},"propertyNames":{"maxLength":1}}`, `[{"a":1},{"a":1,"b":1},{"bb":1}]`},
		{`{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"n":{"$ref":"#/$defs/n"},"v":{"type":"integer"}}}}}`, `[{"n":{"n":{"v":1}}},{"n":{"n":{"v":"a"}}},1]`},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"s":{"type":"string"}},"properties":{"a":{"$ref":"#/definitions/s","maxLength":1}},"items":[{"type":"string"}],"additionalItems":false}`, `[{"a":"long"},{"a":1},["a"],[1],["a","b"]]`},
		{`{"$schema":"http://json-schema.org/draft-04/schema#","minimum":1,"exclusiveMinimum":true,"items":{"type":"string"}}`, `[1,2,["a"],[1]]`},
		{`{"$schema":"https://json-schema.org/draft/2019-09/schema","items":{"type":"string"},"$ref":"#/$defs/a","$defs":{"a":{"minItems":1}}}`, `[[],["a"],[1]]`},
		{`{"$id":"crossdock:x/1.0.0","$anchor":"top","properties":{"a":{"$ref":"#top"}},"type":"object"}`, `[{"a":{"a":{}}},{"a":1}]`},
		{`{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}],"$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"type":"null"}}}`, `[null,1]`},
	} {
		v := version(t, "1.0.0", tt.schema)
		if v.quick == nil {
			t.Errorf("%s: there is no checker", tt.schema)
		}
		for _, value := range decode(t, tt.values).([]any) {
			sameAsLibrary(t, v, value)
		}
	}
}

// What depends on the way to it, or leads nowhere, is left to the library as a whole.
func TestCheckerLeavesAlone(t *testing.T) {
	for _, schema := range []string{
		`{"$ref":"#"}`, `{"anyOf":[{"type":"null"},{"$ref":"#"}]}`, `{"properties":{"a":{"not":{"$ref":"#/properties/a"}}}}`,
		`{"properties":{"a":{"oneOf":[{"$ref":"#/$defs/b"}]}},"$defs":{"b":{"allOf":[{"$ref":"#/properties/a"}]}}}`,
		`{"$dynamicAnchor":"n","properties":{"a":{"$dynamicRef":"#n"}}}`, `{"$ref":"https://json-schema.org/draft/2020-12/schema"}`,
		`{"$schema":"https://json-schema.org/draft/2019-09/schema","properties":{"a":{"$recursiveRef":"#"}}}`,
	} {
		if v := version(t, "1.0.0", schema); v.quick != nil {
			t.Errorf("%s has a checker", schema)
		}
	}
}

// Each of a long chain of references does not hold all that come behind it.
func TestChainOfReferences(t *testing.T) {
	const links = 3 * maxTogether
	var b strings.Builder
	b.WriteString(`{"$ref":"#/$defs/d0","$defs":{`)
	for i := range links {
		fmt.Fprintf(&b, `"d%d":{"$ref":"#/$defs/d%d"},`, i, i+1)
	}
	fmt.Fprintf(&b, `"d%d":{"type":"string"}}}`, links)
	v := version(t, "1.0.0", b.String())
	seen := map[*checker]bool{}
	for todo := []*checker{v.quick}; len(todo) > 0; {
		c := todo[0]
		if todo = todo[1:]; seen[c] {
			continue
		}
		if seen[c] = true; len(c.parts) > maxTogether {
			t.Fatalf("%d parts in one place", len(c.parts))
		}
		todo = append(todo, c.parts...)
	}
	if !v.quick.ask {
		t.Error("the beginning of the chain was not left to the library")
	}
	for _, text := range []string{`"x"`, `1`} {
		sameAsLibrary(t, v, decode(t, text))
	}
	// Its last links are short enough to be held.
	sameAsLibrary(t, version(t, "1.0.0", strings.Replace(b.String(), `#/$defs/d0`, fmt.Sprintf(`#/$defs/d%d`, links-maxTogether/2), 1)), "x")
}

// Values that an expression made are not all of the kinds that Decode gives.
func TestCheckerOfExpressionValues(t *testing.T) {
	values := []any{1, -7, 2.5, math.NaN(), big.NewInt(3), map[string]any{"p": big.NewInt(3)}, []any{1, 2.0}, map[string]any{"p": 1, "q": []any{nil}}, int64(4), struct{}{}}
	for _, schema := range []string{`{}`, `true`, `{"type":"integer"}`, `{"properties":{"p":{"minimum":2}}}`, `{"items":{"type":"number"}}`, `{"enum":[1,3]}`, `{"not":{"properties":{"p":{"contains":{}}}}}`, `{"not":{"type":"object","patternProperties":{"p":{"type":"integer"}}}}`, `{"additionalProperties":{"type":["integer","array"]}}`} {
		v := version(t, "1.0.0", schema)
		for _, value := range values {
			want := v.compiled.Validate(plainNumbers(value)) == nil
			if got := v.quick.holds(value); got != want {
				t.Errorf("%s of %#v: got %v, the library says %v", schema, value, got, want)
			}
			if got := v.ValidateDecoded(value) == nil; got != want {
				t.Errorf("%s of %#v: got %v, want %v", schema, value, got, want)
			}
		}
	}
}

// known are the fields of a compiled schema: those that a checker reads, that understood
// refuses, that belong to another, and that say nothing of what is valid.
var known = strings.Fields(`
	Bool Ref Types Enum Const AllOf AnyOf Format MaxProperties MinProperties Required Properties AdditionalProperties
	MinItems MaxItems UniqueItems Items PrefixItems Items2020 MinLength MaxLength Pattern
	Maximum Minimum ExclusiveMaximum ExclusiveMinimum MultipleOf Location

	RecursiveRef DynamicRef Not OneOf If PropertyNames PatternProperties Dependencies DependentRequired DependentSchemas
	UnevaluatedProperties Contains AdditionalItems UnevaluatedItems ContentEncoding ContentMediaType ContentSchema Extensions

	Then Else MinContains MaxContains RecursiveAnchor DynamicAnchor
	DraftVersion ID Anchor Title Description Default Comment ReadOnly WriteOnly Examples Deprecated`)

// A newer library may know keywords that checkers would pass over.
func TestCheckersKnowAllKeywords(t *testing.T) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[jsonschema.Schema]()) {
		if field.IsExported() && !slices.Contains(known, field.Name) {
			t.Errorf("the library has a keyword %s: should checkers understand it, or leave it to the library?", field.Name)
		}
	}
}

// drawRich is drawSchema with what checkers treat in a way of their own.
func drawRich(t *rapid.T, depth int) map[string]any {
	s := drawSchema(t, depth)
	choose := func(keyword string, values ...any) {
		if rapid.IntRange(0, 11).Draw(t, "has "+keyword) == 11 {
			s[keyword] = rapid.SampledFrom(values).Draw(t, keyword)
		}
	}
	choose("const", nil, 1, 2.0, "a", true, []any{1}, map[string]any{"p": 1})
	choose("format", "date", "date-time", "email")
	choose("pattern", "^.$", "a+b?", "^(a|b)*$", "(?=a)b?")
	choose("$ref", "#/$defs/d", "#/$defs/e", "#")
	choose("not", map[string]any{"type": "string"}, map[string]any{})
	choose("if", map[string]any{"minimum": 2})
	choose("then", false, map[string]any{"maximum": 2})
	choose("contains", map[string]any{"const": 1})
	choose("patternProperties", map[string]any{"^p": map[string]any{"minimum": 1}})
	choose("unevaluatedProperties", false)
	choose("dependentRequired", map[string]any{"p": []any{"q"}})
	choose("additionalProperties", true, map[string]any{"type": "integer"})
	return s
}

// For whatever schema and value: the checker takes it exactly when the library does.
func TestCheckerAsLibraryAtRandom(t *testing.T) {
	pool := values(t)
	for _, text := range []string{`true`, `false`, `"2026-05-04"`, `"2026-05-04T10:00:00Z"`, `"ab"`, `"ä"`, `"b"`, `1.0`, `1.00`, `0.5`, `1e0`, `[1.0,1]`, `["a","b"]`, `["a","a"]`, `{"p":1.0}`, `{"r":1}`, `{"p":{"p":{"p":1}}}`} {
		pool = append(pool, decode(t, text))
	}
	checked, taken := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		schema := drawRich(t, 2)
		schema["$defs"] = map[string]any{"d": drawRich(t, 1), "e": drawRich(t, 0)}
		text, err := json.Marshal(schema)
		if err != nil {
			t.Fatal(err)
		}
		v, err := Compile("c", "1.0.0", Active, time.Time{}, text)
		if err != nil || v.quick == nil {
			return
		}
		for _, value := range pool {
			sameAsLibrary(t, v, value)
			if checked++; v.quick.holds(value) {
				taken++
			}
		}
	})
	if t.Logf("%d values were compared, %d of them taken", checked, taken); taken == 0 {
		t.Error("nothing was compared")
	}
}

// The plain form of dates and times is a part of what the format takes.
func TestPlainTimes(t *testing.T) {
	date, clock := version(t, "1.0.0", `{"format":"date"}`), version(t, "1.0.0", `{"format":"date-time"}`)
	plain := 0
	rapid.Check(t, func(t *rapid.T) {
		two := func(label string, most int) string {
			return fmt.Sprintf("%02d", rapid.IntRange(0, most).Draw(t, label))
		}
		day := fmt.Sprintf("%04d-%s-%s", rapid.SampledFrom([]int{0, 4, 100, 400, 1900, 2000, 2023, 2024, 9999}).Draw(t, "year"), two("month", 13), two("day", 32))
		text := day + rapid.SampledFrom([]string{"T", "t", " "}).Draw(t, "t") + two("hour", 24) + ":" + two("minute", 60) + ":" + two("second", 61) +
			rapid.SampledFrom([]string{"", ".", ".1", ".123456789012", ".1a"}).Draw(t, "fraction") +
			rapid.SampledFrom([]string{"Z", "z", "", "+01:00", "-23:59", "+24:00", "+1:00", "+01:60", "+0100", "Z "}).Draw(t, "zone")
		at := rapid.IntRange(0, len(text)).Draw(t, "at")
		broken := text[:at] + rapid.SampledFrom([]string{"", "0", "-", "+", "٣"}).Draw(t, "broken") + text[at:]
		for _, one := range []string{text, broken, text[:at], day} {
			for format, v := range map[string]*Version{"date": date, "date-time": clock} {
				if !plainTime(format, one) {
					continue
				}
				plain++
				if err := v.compiled.Validate(one); err != nil {
					t.Fatalf("%q is taken for a plain %s: %v", one, format, err)
				}
			}
		}
	})
	if plain == 0 {
		t.Error("nothing was plain")
	}
}

// A bound is compared exactly, however close and however written.
func TestBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := func(label string) string {
			base := rapid.SampledFrom([]string{"0", "1", "0.1", "9007199254740992", "9007199254740993", "123456789012345", "0.30000000000000004", "1e308", "5e-308"}).Draw(t, label)
			more := rapid.SampledFrom([]string{"", "", "0", "1"}).Draw(t, label+" more")
			if strings.Contains(base, "e") {
				more = ""
			} else if more != "" && !strings.Contains(base, ".") {
				more = ".0" + more
			}
			return rapid.SampledFrom([]string{"", "-"}).Draw(t, label+" sign") + base + more
		}
		limit, n := number("limit"), number("number")
		exact, _ := new(big.Rat).SetString(limit)
		value, _ := new(big.Rat).SetString(n)
		near, same := exact.Float64()
		b := bound{exact: exact, near: near, same: same, sign: 1}
		if got, want := b.compare(json.Number(n)), value.Cmp(exact); got != want {
			t.Fatalf("%s and %s: got %d, want %d", n, limit, got, want)
		}
	})
}

func FuzzChecker(f *testing.F) {
	f.Add(order, `{"orderId":"A","lines":[{"sku":"x"}]}`)
	f.Add(`{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"type":"null"},{"minimum":1}]}}}`, `1`)
	f.Add(`{"items":{"enum":[1,"a"]},"prefixItems":[{"const":2.0}],"uniqueItems":true}`, `[2,"a"]`)
	f.Fuzz(func(t *testing.T, schema, data string) {
		if strings.Contains(schema, "attern") {
			return // which the engine may take long for; patterns have a fuzz target of their own
		}
		v, err := Compile("c", "1.0.0", Active, time.Time{}, []byte(schema))
		if err != nil {
			return
		}
		value, err := expr.Decode([]byte(data))
		if err != nil {
			return
		}
		sameAsLibrary(t, v, value)
	})
}
