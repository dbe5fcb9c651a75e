package contract

import (
	"maps"
	"slices"
)

// Reach says what a schema tells of a member of the data, from good to bad. Where it cannot be
// told, the member counts as sure.
type Reach int

// What may be told.
const (
	Sure       Reach = iota // all data has it
	Optional                // data may lack it, or have null there
	Unnamed                 // the schema does not name it; data may have it all the same
	Unfit                   // it is never a text or a number
	Impossible              // no data has it
)

// branching are the keywords by which a schema may require or name more than it says at once.
var branching = []string{
	"anyOf", "oneOf", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef", unresolved,
}

// Reach follows the names of members through the schema, and tells of the last of them whether
// data has a text or a number there. At is the name that ends the way, and known are the members
// that the schema names in its place.
func (v *Version) Reach(path []string) (reach Reach, at int, known []string) {
	steps, schema := 0, v.document
	for i, name := range path {
		s := merge(v.document, schema, &steps)
		branches := slices.ContainsFunc(branching, func(keyword string) bool { return s[keyword] != nil })
		if !branches && !typesOf(s)["object"] {
			return Impossible, i, nil
		}
		properties, _ := s["properties"].(map[string]any)
		next, named := properties[name]
		required := slices.Contains(asList(s["required"]), any(name))
		switch {
		case steps > maxSteps:
			return Sure, i, nil
		case named && next == any(false), !named && s["additionalProperties"] == any(false) && s["patternProperties"] == nil && s[unresolved] == nil:
			return Impossible, i, slices.Sorted(maps.Keys(properties))
		case branches && !(named && required):
			return reach, i, nil // a branch may say more
		case !named && required:
			return reach, i, nil // whatever it is
		case !named:
			return Unnamed, i, slices.Sorted(maps.Keys(properties))
		case !required:
			reach = Optional
		}
		schema = next
	}
	s := merge(v.document, schema, &steps)
	types := typesOf(s)
	switch {
	case steps > maxSteps || slices.ContainsFunc(branching, func(keyword string) bool { return s[keyword] != nil }):
	case !types["string"] && !types["number"] && !types["integer"]:
		return Unfit, len(path), nil
	case types["null"] && len(types) < len(allTypes):
		return Optional, len(path), nil
	}
	return reach, len(path), nil
}
