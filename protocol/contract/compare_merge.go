package contract

import (
	"maps"
	"slices"
	"strings"
)

// unresolved stands for what cannot be followed: a reference to an anchor, or in a circle.
const unresolved = "$ref"

// maxRefs bounds the chain of references and allOf in one place.
const maxRefs = 32

// conjuncts takes a schema apart into parts that all have to hold: itself, what it refers
// to, and its allOf. Each part is a step: a few references that lead to each other make
// more parts than could ever be looked at.
func conjuncts(document, schema any, depth int, steps *int) []map[string]any {
	s, ok := schema.(map[string]any)
	if !ok {
		if schema == any(false) {
			return []map[string]any{{"not": map[string]any{}}}
		}
		return nil
	}
	if *steps++; *steps > maxSteps {
		return nil
	}
	own := without(s, "$ref", "allOf")
	out := []map[string]any{own}
	if ref, ok := s["$ref"].(string); ok {
		target, found := resolve(document, ref)
		if !found || depth > maxRefs {
			own[unresolved] = ref
		} else {
			out = append(out, conjuncts(document, target, depth+1, steps)...)
		}
	}
	all, _ := s["allOf"].([]any)
	if depth > maxRefs && len(all) > 0 {
		own[unresolved] = "allOf"
		return out
	}
	for _, part := range all {
		out = append(out, conjuncts(document, part, depth+1, steps)...)
	}
	return out
}

// merge makes one schema of all conjuncts. Where two speak of the same keyword and no
// better is known, the first stays: leaving a constraint of the writer out makes the
// comparison more careful, never less.
func merge(document, schema any, steps *int) map[string]any {
	out := map[string]any{}
	for _, part := range conjuncts(document, schema, 0, steps) {
		for _, keyword := range slices.Sorted(maps.Keys(part)) {
			value := part[keyword]
			old, has := out[keyword]
			switch {
			case !has:
				out[keyword] = value
			case keyword == "properties":
				out[keyword] = mergeProperties(old, value)
			case keyword == "required":
				out[keyword] = append(slices.Clip(asList(old)), asList(value)...)
			case keyword == "minimum" || keyword == "exclusiveMinimum" || strings.HasPrefix(keyword, "min"):
				out[keyword] = tighter(old, value, 1)
			case keyword == "maximum" || keyword == "exclusiveMaximum" || strings.HasPrefix(keyword, "max"):
				out[keyword] = tighter(old, value, -1)
			}
		}
	}
	return out
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}

func tighter(a, b any, sign int) any {
	x, ok1 := rational(a)
	y, ok2 := rational(b)
	if ok1 && ok2 && y.Cmp(x)*sign > 0 {
		return b
	}
	return a
}

func mergeProperties(a, b any) map[string]any {
	x, _ := a.(map[string]any)
	y, _ := b.(map[string]any)
	out := maps.Clone(x)
	if out == nil {
		out = map[string]any{}
	}
	for name, schema := range y {
		if first, has := out[name]; has {
			out[name] = map[string]any{"allOf": []any{first, schema}}
		} else {
			out[name] = schema
		}
	}
	return out
}

// resolve follows a reference inside the document: # and #/json/pointer.
func resolve(document any, ref string) (any, bool) {
	path, ok := strings.CutPrefix(ref, "#")
	if !ok || path != "" && path[0] != '/' {
		return nil, false
	}
	at := document
	for _, step := range strings.Split(path, "/")[1:] {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		m, ok := at.(map[string]any)
		if !ok {
			return nil, false
		}
		if at, ok = m[step]; !ok {
			return nil, false
		}
	}
	return at, true
}

func without(s map[string]any, keywords ...string) map[string]any {
	out := maps.Clone(s)
	for _, keyword := range keywords {
		delete(out, keyword)
	}
	return out
}
