package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
)

// values compares enum and const.
func (c *comparer) values(w, r map[string]any, path string) {
	allowed, rule := valuesOf(r)
	if rule == "" {
		return
	}
	written, has := valuesOf(w)
	if has == "" {
		c.report(path, rule, "any value may be written, only %s is read", list(allowed))
		return
	}
	var extra []any
	for _, value := range written {
		if !slices.ContainsFunc(allowed, func(a any) bool { return equalValues(a, value) }) {
			extra = append(extra, value)
		}
	}
	if len(extra) > 0 {
		c.report(path, rule, "%s is not among the values that are read", list(extra))
	}
}

func valuesOf(s map[string]any) ([]any, string) {
	if value, ok := s["const"]; ok {
		return []any{value}, "const"
	}
	if values, ok := s["enum"].([]any); ok {
		return values, "enum"
	}
	return nil, ""
}

func equalValues(a, b any) bool {
	x, ok1 := rational(a)
	y, ok2 := rational(b)
	if ok1 && ok2 {
		return x.Cmp(y) == 0
	}
	return reflect.DeepEqual(a, b)
}

func list(values []any) string {
	text, _ := json.Marshal(values) // decoded JSON always encodes
	return clip(strings.Trim(string(text), "[]"))
}

var allTypes = []string{"null", "boolean", "number", "string", "array", "object"}

// typesOf gives the types that a schema lets through.
func typesOf(s map[string]any) map[string]bool {
	out := map[string]bool{}
	switch t := s["type"].(type) {
	case string:
		out[t] = true
	case []any:
		for _, one := range t {
			if name, ok := one.(string); ok {
				out[name] = true
			}
		}
	default:
		values, rule := valuesOf(s)
		for _, value := range values {
			out[typeOf(value)] = true
		}
		if rule == "" {
			for _, name := range allTypes {
				out[name] = true
			}
		}
	}
	return out
}

func typeOf(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		if n, ok := rational(v); ok && n.IsInt() {
			return "integer"
		}
		return "number"
	}
}

// types reports types that are written and not read, and says whether any fits.
func (c *comparer) types(written map[string]bool, r map[string]any, path string) bool {
	if r["type"] == nil {
		return true
	}
	read := typesOf(r)
	var extra []string
	for _, name := range slices.Sorted(maps.Keys(written)) {
		if !read[name] && !(name == "integer" && read["number"]) {
			extra = append(extra, name)
		}
	}
	if len(extra) > 0 {
		c.report(path, "type", "%s may be written, %s is read", strings.Join(extra, ", "), strings.Join(slices.Sorted(maps.Keys(read)), ", "))
	}
	return len(extra) < len(written)
}

// numbers compares the bounds of numbers.
func (c *comparer) numbers(w, r map[string]any, types map[string]bool, path string) {
	if !types["number"] && !types["integer"] {
		return
	}
	c.atLeast(w, r, path, "minimum", "exclusiveMinimum", 1)
	c.atLeast(w, r, path, "maximum", "exclusiveMaximum", -1)
	step, ok := rational(r["multipleOf"])
	if !ok {
		return
	}
	own, has := rational(w["multipleOf"])
	if !has && types["integer"] && !types["number"] {
		own, has = big.NewRat(1, 1), true
	}
	if !has || !new(big.Rat).Quo(own, step).IsInt() {
		c.report(path, "multipleOf", "only multiples of %v are read", r["multipleOf"])
	}
}

// atLeast compares a lower bound (sign 1) or an upper one (sign -1), strict or not.
func (c *comparer) atLeast(w, r map[string]any, path, plain, strict string, sign int) {
	for _, keyword := range []string{plain, strict} {
		bound, ok := rational(r[keyword])
		if !ok {
			continue
		}
		own, has := rational(w[plain])
		ownStrict, hasStrict := rational(w[strict])
		fits := has && (own.Cmp(bound)*sign > 0 || own.Cmp(bound) == 0 && keyword == plain) ||
			hasStrict && ownStrict.Cmp(bound)*sign >= 0
		if !fits {
			c.report(path, keyword, "%s is %v", keyword, r[keyword])
		}
	}
}

// strings compares what is said of strings.
func (c *comparer) strings(w, r map[string]any, types map[string]bool, path string) {
	if !types["string"] {
		return
	}
	c.count(w, r, path, "minLength", 1)
	c.count(w, r, path, "maxLength", -1)
	for _, keyword := range []string{"pattern", "format"} {
		if text, ok := r[keyword].(string); ok && w[keyword] != r[keyword] {
			c.report(path, keyword, "%s is %q", keyword, clip(text))
		}
	}
}

// count compares a minimum (sign 1) or a maximum (sign -1) of a number of things.
func (c *comparer) count(w, r map[string]any, path, keyword string, sign int) {
	bound, ok := rational(r[keyword])
	if !ok || sign > 0 && bound.Sign() == 0 {
		return
	}
	own, has := rational(w[keyword])
	if !has || own.Cmp(bound)*sign < 0 {
		c.report(path, keyword, "%s is %v", keyword, r[keyword])
	}
}

func rational(value any) (*big.Rat, bool) {
	if n, ok := value.(json.Number); ok {
		return new(big.Rat).SetString(n.String())
	}
	return nil, false
}

func (c *comparer) arrays(w, r map[string]any, path string) {
	c.count(w, r, path, "minItems", 1)
	c.count(w, r, path, "maxItems", -1)
	if r["uniqueItems"] == true && w["uniqueItems"] != true {
		c.report(path, "uniqueItems", "elements have to differ")
	}
	wFirst, _ := w["prefixItems"].([]any)
	rFirst, _ := r["prefixItems"].([]any)
	for i := range max(len(wFirst), len(rFirst)) {
		c.compare(element(wFirst, w, i), element(rFirst, r, i), fmt.Sprintf("%s/%d", path, i))
	}
	_, wOld := w["items"].([]any)
	_, rOld := r["items"].([]any)
	if wOld || rOld {
		if !reflect.DeepEqual(w["items"], r["items"]) {
			c.report(path, "items", "items was changed, which cannot be shown to fit")
		}
		return
	}
	c.compare(element(nil, w, 0), element(nil, r, 0), path+"/*")
}

func element(first []any, s map[string]any, i int) any {
	if i < len(first) {
		return first[i]
	}
	if items, ok := s["items"]; ok {
		return items
	}
	return true
}

func (c *comparer) objects(w, r map[string]any, path string) {
	c.count(w, r, path, "minProperties", 1)
	c.count(w, r, path, "maxProperties", -1)
	always := names(w["required"])
	for _, name := range slices.Sorted(maps.Keys(names(r["required"]))) {
		if !always[name] {
			c.report(path+pointer([]string{name}), "required", "it is required, and need not be written")
		}
	}
	written, _ := w["properties"].(map[string]any)
	read, _ := r["properties"].(map[string]any)
	wRest, rRest := rest(w), rest(r)
	for _, name := range slices.Sorted(maps.Keys(written)) {
		at := path + pointer([]string{name})
		schema, known := read[name]
		switch {
		case known:
			c.compare(written[name], schema, at)
		case written[name] == any(false):
		case rRest == any(false):
			if r["patternProperties"] == nil {
				c.report(at, "additionalProperties", "the property is not known, and others are not allowed")
			}
		default:
			c.compare(written[name], rRest, at)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(read)) {
		if _, known := written[name]; known {
			continue
		}
		// What the writer's schema leaves open is not taken to be written; what it lets
		// through by a schema of its own is.
		if _, open := wRest.(bool); !open {
			c.compare(wRest, read[name], path+pointer([]string{name}))
		}
	}
	if _, open := rRest.(bool); !open || rRest == any(false) && wRest != any(false) {
		if rRest == any(false) {
			c.report(path, "additionalProperties", "properties beside the named ones are not allowed")
			return
		}
		c.compare(wRest, rRest, path+"/*")
	}
}

func rest(s map[string]any) any {
	if v, ok := s["additionalProperties"]; ok {
		return v
	}
	return true
}

func names(v any) map[string]bool {
	out := map[string]bool{}
	items, _ := v.([]any)
	for _, item := range items {
		if name, ok := item.(string); ok {
			out[name] = true
		}
	}
	return out
}
