package contract

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// SameMeaning says whether two schemas accept the same data because they differ at most in how
// they are written and in what they tell people, such as a description. Which other differences
// happen to accept the same data is not looked for.
func SameMeaning(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, ok1 := bare(a)
	y, ok2 := bare(b)
	return ok1 && ok2 && reflect.DeepEqual(x, y)
}

func bare(schema []byte) (any, bool) {
	decoder := json.NewDecoder(bytes.NewReader(schema))
	decoder.UseNumber()
	var document any
	if err := decoder.Decode(&document); err != nil {
		return nil, false
	}
	return withoutNotes(document), true
}

// notes are the keywords that tell people something and decide nothing.
var notes = map[string]bool{"title": true, "description": true, "$comment": true, "examples": true, "default": true, "deprecated": true, "readOnly": true, "writeOnly": true}

// Where schemas stand within a schema: below a keyword, below names of one, or in a list of one.
var (
	schemaAt    = keywords("additionalProperties", "additionalItems", "unevaluatedProperties", "unevaluatedItems", "items", "contains", "propertyNames", "not", "if", "then", "else", "contentSchema")
	schemasByID = keywords("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
	schemasIn   = keywords("allOf", "anyOf", "oneOf", "prefixItems", "items")
)

func keywords(names ...string) map[string]bool {
	out := map[string]bool{}
	for _, name := range names {
		out[name] = true
	}
	return out
}

// withoutNotes copies a schema without what it tells people. Values that are no schemas stay as
// they are: a property may be called title, and a const may hold one.
func withoutNotes(schema any) any {
	s, ok := schema.(map[string]any)
	if !ok {
		return schema
	}
	out := map[string]any{}
	for keyword, value := range s {
		_, extends := value.(string)
		if notes[keyword] || extends && strings.HasPrefix(keyword, "x-") {
			continue
		}
		below, isMap := value.(map[string]any)
		list, isList := value.([]any)
		switch {
		case isMap && schemasByID[keyword]:
			named := map[string]any{}
			for name, one := range below {
				named[name] = withoutNotes(one)
			}
			value = named
		case isMap && schemaAt[keyword]:
			value = withoutNotes(value)
		case isList && schemasIn[keyword]:
			bared := make([]any, len(list))
			for i, one := range list {
				bared[i] = withoutNotes(one)
			}
			value = bared
		}
		out[keyword] = value
	}
	return out
}
