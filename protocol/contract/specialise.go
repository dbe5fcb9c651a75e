package contract

import (
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// specialise makes the checker of a compiled schema, nil where the library has to be asked
// in every case: references that depend on the way to them cannot be followed here.
func specialise(root *jsonschema.Schema, document any) *checker {
	if mentions(document, "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor") {
		return nil
	}
	s := &specialiser{made: map[*jsonschema.Schema]*checker{}, patterns: map[string]*matcher{}, work: maxBuildWork}
	c := s.checker(root)
	places := circles{}
	for _, one := range s.order {
		if places.lead(one.schema) {
			return nil // the library says where it is in one
		}
	}
	for _, one := range s.order {
		if one.parts = one.together(nil); len(one.parts) > maxTogether {
			one.ask, one.parts = true, []*checker{one}
		}
	}
	if s.foreign {
		return nil
	}
	return c
}

// mentions says whether a document holds a member of one of the names anywhere.
func mentions(document any, names ...string) bool {
	switch v := document.(type) {
	case []any:
		return slices.ContainsFunc(v, func(item any) bool { return mentions(item, names...) })
	case map[string]any:
		for name, item := range v {
			if slices.Contains(names, name) || mentions(item, names...) {
				return true
			}
		}
	}
	return false
}

type specialiser struct {
	made     map[*jsonschema.Schema]*checker
	order    []*checker
	patterns map[string]*matcher
	work     int  // what is left for automata
	foreign  bool // a reference led out of the document, such as to a draft's own schema
}

// checker makes the checker of one schema, once.
func (s *specialiser) checker(schema *jsonschema.Schema) *checker {
	if c, made := s.made[schema]; made {
		return c
	}
	c := &checker{schema: schema}
	s.made[schema] = c
	s.order = append(s.order, c)
	s.foreign = s.foreign || !strings.HasPrefix(schema.Location, resource+"#")
	switch {
	case schema.Bool != nil:
		c.anything, c.nothing = *schema.Bool, !*schema.Bool
	case !understood(schema):
		c.ask = true
	default:
		s.types(c)
		s.constants(c)
		s.text(c)
		s.number(c)
		s.object(c)
		s.array(c)
		s.logic(c)
		c.parts = s.checkers(schema.AllOf)
		if schema.Ref != nil {
			c.parts = append(c.parts, s.checker(schema.Ref))
		}
	}
	return c
}

func (s *specialiser) checkers(schemas []*jsonschema.Schema) (out []*checker) {
	for _, schema := range schemas {
		out = append(out, s.checker(schema))
	}
	return out
}

// circles finds schemas that lead to themselves in one and the same place of the data.
// For each that was looked at it says whether looking has ended.
type circles map[*jsonschema.Schema]bool

func (c circles) lead(schema *jsonschema.Schema) bool {
	if schema == nil {
		return false
	}
	if ended, met := c[schema]; met {
		return !ended
	}
	c[schema] = false
	for _, list := range [][]*jsonschema.Schema{
		schema.AllOf, schema.AnyOf, schema.OneOf, {schema.Ref, schema.Not, schema.If, schema.Then, schema.Else},
		slices.Collect(maps.Values(schema.DependentSchemas)),
	} {
		if slices.ContainsFunc(list, c.lead) {
			return true
		}
	}
	for _, one := range schema.Dependencies {
		if dependent, ok := one.(*jsonschema.Schema); ok && c.lead(dependent) {
			return true
		}
	}
	c[schema] = true
	return false
}

// maxTogether bounds what is checked in one place. In a long chain of references each one
// would hold all that come behind it.
const maxTogether = 100

// together adds c and what it leads to in the same place to all, each once. Beyond the
// bound it does not go on.
func (c *checker) together(all []*checker) []*checker {
	if len(all) > maxTogether || slices.Contains(all, c) {
		return all
	}
	all = append(all, c)
	for _, part := range c.parts {
		all = part.together(all)
	}
	return all
}

// understood says that a schema holds no keyword but those that checkers know, and those
// that say nothing of what is valid. A test keeps it complete.
func understood(s *jsonschema.Schema) bool {
	switch {
	case s.RecursiveRef != nil, s.DynamicRef != nil, s.PropertyNames != nil, len(s.PatternProperties) > 0, len(s.Dependencies) > 0,
		len(s.DependentRequired) > 0, len(s.DependentSchemas) > 0, s.UnevaluatedProperties != nil,
		s.Contains != nil, s.AdditionalItems != nil, s.UnevaluatedItems != nil,
		s.ContentEncoding != nil, s.ContentMediaType != nil, s.ContentSchema != nil, len(s.Extensions) > 0:
		return false
	}
	_, single := s.Items.(*jsonschema.Schema)
	return single || s.Items == nil
}

var typeNames = map[string]types{
	"null": nulls, "boolean": booleans, "number": numbers, "integer": numbers, "string": texts, "array": arrays, "object": objects,
}

func (s *specialiser) types(c *checker) {
	if c.schema.Types == nil {
		return
	}
	listed := c.schema.Types.ToStrings()
	for _, name := range listed {
		c.types |= typeNames[name]
	}
	c.whole = slices.Contains(listed, "integer") && !slices.Contains(listed, "number")
}

func (s *specialiser) constants(c *checker) {
	add := func(values []any) {
		var out constants
		for _, value := range values {
			switch v := value.(type) {
			case string:
				out.texts = append(out.texts, v)
			case nil, bool, json.Number:
				out.others = append(out.others, value)
			}
		}
		c.constants = append(c.constants, out)
	}
	if c.schema.Enum != nil {
		add(c.schema.Enum.Values)
	}
	if c.schema.Const != nil {
		add([]any{*c.schema.Const})
	}
}

func (s *specialiser) logic(c *checker) {
	schema := c.schema
	if len(schema.AnyOf) == 0 && len(schema.OneOf) == 0 && schema.Not == nil && schema.If == nil {
		return
	}
	c.logic = &logic{anyOf: s.checkers(schema.AnyOf), oneOf: s.checkers(schema.OneOf)}
	for _, one := range []struct {
		to   **checker
		from *jsonschema.Schema
	}{{&c.logic.not, schema.Not}, {&c.logic.when, schema.If}, {&c.logic.then, schema.Then}, {&c.logic.elseThen, schema.Else}} {
		if one.from != nil {
			*one.to = s.checker(one.from)
		}
	}
}

// least and most are a limit, or none.
func least(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

func most(n *int) int {
	if n == nil {
		return -1
	}
	return max(*n, 0)
}

func (s *specialiser) text(c *checker) {
	schema := c.schema
	if schema.MinLength == nil && schema.MaxLength == nil && schema.Pattern == nil && schema.Format == nil {
		return
	}
	c.text = &textRules{min: least(schema.MinLength), max: most(schema.MaxLength), format: schema.Format}
	if schema.Pattern == nil {
		return
	}
	source := schema.Pattern.String()
	m := s.patterns[source]
	if m == nil {
		m = &matcher{simple: simplePattern(source, &s.work), engine: schema.Pattern}
		s.patterns[source] = m
	}
	c.text.pattern = m
}

func (s *specialiser) number(c *checker) {
	rules := &numberRules{step: c.schema.MultipleOf}
	add := func(limit *big.Rat, sign int, strict bool) {
		if limit != nil {
			near, same := limit.Float64()
			rules.bounds = append(rules.bounds, bound{exact: limit, near: near, same: same, sign: sign, strict: strict})
		}
	}
	add(c.schema.Minimum, 1, false)
	add(c.schema.ExclusiveMinimum, 1, true)
	add(c.schema.Maximum, -1, false)
	add(c.schema.ExclusiveMaximum, -1, true)
	if rules.step != nil || len(rules.bounds) > 0 {
		c.number = rules
	}
}

func (s *specialiser) object(c *checker) {
	schema := c.schema
	if schema.MinProperties == nil && schema.MaxProperties == nil && len(schema.Required) == 0 &&
		len(schema.Properties) == 0 && schema.AdditionalProperties == nil {
		return
	}
	rules := &objectRules{min: least(schema.MinProperties), max: most(schema.MaxProperties), named: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		rules.named[name] = true
		rules.members = append(rules.members, memberRule{name, s.checker(schema.Properties[name]), slices.Contains(schema.Required, name)})
	}
	for _, name := range schema.Required {
		if !rules.named[name] {
			rules.members = append(rules.members, memberRule{name: name, required: true})
		}
	}
	switch rest := schema.AdditionalProperties.(type) {
	case bool:
		if !rest {
			rules.rest = &checker{nothing: true}
		}
	case *jsonschema.Schema:
		rules.rest = s.checker(rest)
	}
	c.object = rules
}

func (s *specialiser) array(c *checker) {
	schema := c.schema
	rules := &arrayRules{min: least(schema.MinItems), max: most(schema.MaxItems), unique: schema.UniqueItems, first: s.checkers(schema.PrefixItems)}
	one := schema.Items2020
	if old, ok := schema.Items.(*jsonschema.Schema); ok {
		one = old
	}
	if one != nil {
		rules.items = s.checker(one)
	}
	if rules.min > 0 || rules.max >= 0 || rules.unique || len(rules.first) > 0 || rules.items != nil {
		c.array = rules
	}
}
