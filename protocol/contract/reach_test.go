package contract

import (
	"slices"
	"testing"
	"time"
)

func TestReachSaysWhereTheWayEnds(t *testing.T) {
	v, err := Compile("x", "1.0.0", Active, time.Time{}, []byte(`{"properties": {"a": {"additionalProperties": false, "properties": {"id": {}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, at, _ := v.Reach([]string{"a", "di"}); at != 1 {
		t.Errorf("below what is there: %d", at)
	}
	if _, at, _ := v.Reach([]string{"b", "di"}); at != 0 {
		t.Errorf("at the first name: %d", at)
	}
}

func TestReach(t *testing.T) {
	const id = `"properties": {"id": {"type": "string"}}`
	for _, tt := range []struct {
		name, schema string
		path         []string
		want         Reach
		known        []string
	}{
		{"required", `{"required": ["id"], ` + id + `}`, []string{"id"}, Sure, nil},
		{"optional", `{` + id + `}`, []string{"id"}, Optional, nil},
		{"unnamed", `{"required": ["id"], ` + id + `}`, []string{"no"}, Unnamed, []string{"id"}},
		{"unnamed and required", `{"required": ["no"]}`, []string{"no"}, Sure, nil},
		{"closed", `{"additionalProperties": false, ` + id + `}`, []string{"no"}, Impossible, []string{"id"}},
		{"closed, with patterns", `{"additionalProperties": false, "patternProperties": {"^n": {}}}`, []string{"no"}, Unnamed, nil},
		{"closed, with a choice", `{"additionalProperties": false, ` + id + `, "anyOf": [{"required": ["no"]}, {}]}`, []string{"no"}, Impossible, []string{"id"}},
		{"a choice", `{` + id + `, "anyOf": [{"required": ["id"]}, {"required": ["no"]}]}`, []string{"id"}, Sure, nil},
		{"a choice that names it", `{"oneOf": [{"properties": {"no": {}}, "required": ["no"]}]}`, []string{"no"}, Sure, nil},
		{"required in allOf", `{` + id + `, "allOf": [{"required": ["id"]}]}`, []string{"id"}, Sure, nil},
		{"by reference", `{"$ref": "#/$defs/d", "$defs": {"d": {"required": ["id"], ` + id + `}}}`, []string{"id"}, Sure, nil},
		{"in a circle", `{"$ref": "#/$defs/d", "$defs": {"d": {"$ref": "#/$defs/d"}}}`, []string{"id"}, Sure, nil},
		{"forbidden", `{"properties": {"id": false}}`, []string{"id"}, Impossible, []string{"id"}},
		{"nothing said", `{}`, []string{"id"}, Unnamed, nil},
		{"a truth", `{"required": ["id"], "properties": {"id": {"type": "boolean"}}}`, []string{"id"}, Unfit, nil},
		{"an object", `{"required": ["id"], "properties": {"id": {"type": "object"}}}`, []string{"id"}, Unfit, nil},
		{"a number", `{"required": ["id"], "properties": {"id": {"type": "integer"}}}`, []string{"id"}, Sure, nil},
		{"any of a list", `{"required": ["id"], "properties": {"id": {"enum": ["a", 1]}}}`, []string{"id"}, Sure, nil},
		{"or null", `{"required": ["id"], "properties": {"id": {"type": ["string", "null"]}}}`, []string{"id"}, Optional, nil},
		{"any type", `{"required": ["id"], "properties": {"id": {}}}`, []string{"id"}, Sure, nil},
		{"a choice of types", `{"required": ["id"], "properties": {"id": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}`, []string{"id"}, Sure, nil},
		{"below", `{"required": ["a"], "properties": {"a": {"required": ["id"], ` + id + `}}}`, []string{"a", "id"}, Sure, nil},
		{"below what is optional", `{"properties": {"a": {"required": ["id"], ` + id + `}}}`, []string{"a", "id"}, Optional, nil},
		{"below a text", `{"required": ["id"], ` + id + `}`, []string{"id", "id"}, Impossible, nil},
		{"closed below", `{"properties": {"a": {"additionalProperties": false, ` + id + `}}}`, []string{"a", "no"}, Impossible, []string{"id"}},
		{"no data at all", `{"type": "string"}`, []string{"id"}, Impossible, nil},
	} {
		v, err := Compile("x", "1.0.0", Active, time.Time{}, []byte(tt.schema))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got, _, known := v.Reach(tt.path); got != tt.want || !slices.Equal(known, tt.known) {
			t.Errorf("%s: got %d %q, want %d %q", tt.name, got, known, tt.want, tt.known)
		}
	}
}
