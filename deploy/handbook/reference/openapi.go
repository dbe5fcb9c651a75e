package reference

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// Problem is one kind of refusal of an API.
type Problem struct {
	Code   string
	Status int
	Title  string
}

// Operation is one call of a document, with what the document does not say of it.
type Operation struct {
	Tag, Method, Path string
	*openapi3.Operation

	Changes bool     // a repeat must not make it twice
	Limit   int64    // bytes of its body
	Errors  []string // codes of problems, besides those that every call can have
}

// API describes the calls of an OpenAPI document; everywhere names the problems that any call can end in.
func API(doc *openapi3.T, calls []Operation, problems []Problem, everywhere []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# API of crossdock, the control plane\n\nMade of openapi.yaml and of the code by `make generate`; do not edit. All paths begin with\n`%s`.\n\n%s\n", doc.Servers[0].URL, strings.TrimSpace(doc.Info.Description))
	for _, tag := range doc.Tags {
		fmt.Fprintf(&b, "\n## %s\n", tag.Description)
		of := slices.DeleteFunc(slices.Clone(calls), func(c Operation) bool { return c.Tag != tag.Name })
		slices.SortFunc(of, func(x, y Operation) int { return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(verb(x), verb(y))) })
		for _, c := range of {
			call(&b, c)
		}
	}
	b.WriteString("\n## Problems\n\nThe body is a [Problem](#problem). The errors of a call are those that a call of its form can end in. Every call can end in `" + strings.Join(everywhere, "`, `") + "`.\n\n| code | status | title |\n|---|---|---|\n")
	slices.SortFunc(problems, func(x, y Problem) int { return cmp.Or(x.Status-y.Status, cmp.Compare(x.Code, y.Code)) })
	for _, p := range problems {
		fmt.Fprintf(&b, "| `%s` | %d | %s |\n", p.Code, p.Status, p.Title)
	}
	b.WriteString("\n## Shapes\n\nA field with a * is always there, or must be.\n")
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		shape(&b, name, doc.Components.Schemas[name].Value)
	}
	return b.Bytes()
}

func verb(c Operation) int {
	return slices.Index([]string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete}, c.Method)
}

// call writes one call: what it does, who may, what goes in, what comes out.
func call(b *bytes.Buffer, c Operation) {
	who, text := c.who()
	if c.Changes {
		who += "; takes an `Idempotency-Key`"
	}
	fmt.Fprintf(b, "\n### %s %s\n\n%s May: %s.\n", c.Method, c.Path, strings.TrimSpace(c.Summary+". "+text), who)
	for _, p := range c.Parameters {
		if p.Value.In == openapi3.ParameterInHeader {
			continue // the one header is that of every change
		}
		must := ""
		if p.Value.Required && p.Value.In != openapi3.ParameterInPath {
			must = ", required"
		}
		fmt.Fprintf(b, "- `%s` in the %s%s: %s%s\n", p.Value.Name, p.Value.In, must, kindOf(p.Value.Schema), after(p.Value.Description))
	}
	if c.RequestBody != nil {
		media := c.RequestBody.Value.Content.Get("application/json")
		fmt.Fprintf(b, "- Body: %s, at most %d KB.\n", kindOf(media.Schema), c.Limit>>10)
		if media.Example != nil {
			fmt.Fprintf(b, "- Example: `%v`\n", media.Example)
		}
	}
	for _, status := range slices.Sorted(maps.Keys(c.Responses.Map())) {
		answer := c.Responses.Value(status).Value
		if status == "default" {
			continue
		}
		shape := "nothing"
		for kind, media := range answer.Content {
			if shape = kindOf(media.Schema); kind != "application/json" {
				shape = "`" + kind + "`"
			}
		}
		fmt.Fprintf(b, "- %s: %s%s\n", status, shape, after(*answer.Description))
	}
	if len(c.Errors) > 0 {
		fmt.Fprintf(b, "- Errors: `%s`\n", strings.Join(c.Errors, "`, `"))
	}
}

// who takes the first sentence of the description where it names a role.
func (c Operation) who() (who, rest string) {
	text := strings.Join(strings.Fields(c.Description), " ")
	if c.Security != nil && len(*c.Security) == 0 {
		return "everybody, without a token", text
	}
	role, found := strings.CutPrefix(text, "Role ")
	if !found {
		return "any principal", text
	}
	role, rest, _ = strings.Cut(role, ".")
	return "role " + role, strings.TrimSpace(rest)
}

// shape writes the fields of one schema, or nothing where every place that has it says all of it.
func shape(b *bytes.Buffer, name string, s *openapi3.Schema) {
	if inline(s) {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n", name)
	about := strings.TrimPrefix(after(s.Description), ". ")
	if closed := s.AdditionalProperties.Has; closed != nil && !*closed {
		about = strings.TrimPrefix(about+" Other fields are refused.", ". ")
	}
	if about != "." {
		b.WriteString(about + "\n\n")
	}
	b.WriteString("| field | type | |\n|---|---|---|\n")
	names := slices.SortedFunc(maps.Keys(s.Properties), func(x, y string) int {
		return cmp.Or(cmp.Compare(number(!slices.Contains(s.Required, x)), number(!slices.Contains(s.Required, y))), cmp.Compare(x, y))
	})
	for _, field := range names {
		must := ""
		if slices.Contains(s.Required, field) {
			must = "*"
		}
		of, text := s.Properties[field], ""
		if of.Ref == "" {
			text = of.Value.Description
		}
		fmt.Fprintf(b, "| `%s`%s | %s | %s |\n", field, must, cell(kindOf(of)), cell(strings.Join(strings.Fields(text), " ")))
	}
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// inline says whether a schema is said in full where it stands: a text, a choice, a list of something.
func inline(s *openapi3.Schema) bool {
	return len(s.Properties) == 0 || list(s) != nil
}

// list gives the schema of a list's only content.
func list(s *openapi3.Schema) *openapi3.SchemaRef {
	items := s.Properties["items"]
	if _, paged := s.Properties["nextCursor"]; items == nil || len(s.Properties) > 2 || len(s.Properties) == 2 && !paged {
		return nil
	}
	return items.Value.Items
}

// kindOf says in a few words what a value is, with its unit and its limits.
func kindOf(ref *openapi3.SchemaRef) string {
	s := ref.Value
	if name := strings.TrimPrefix(ref.Ref, "#/components/schemas/"); ref.Ref != "" && !inline(s) {
		return "[" + name + "](#" + strings.ToLower(name) + ")"
	}
	if of := list(s); of != nil {
		if len(s.Properties) == 2 {
			return "`items`: list of " + kindOf(of) + ", `nextCursor`: text where there is more"
		}
		return "`items`: list of " + kindOf(of)
	}
	switch {
	case len(s.Enum) > 0:
		return choice(s)
	case s.Type.Is("array"):
		return "list of " + kindOf(s.Items) + within(s.MinItems, s.MaxItems, "entries") + defaulted(s)
	case s.Type.Is("string"):
		return textual(s)
	case s.Type.Is("integer"):
		return "whole number" + between(s) + defaulted(s)
	case s.Type.Is("boolean"):
		return "true or false" + defaulted(s)
	case s.AdditionalProperties.Schema != nil:
		return "object, each value " + kindOf(s.AdditionalProperties.Schema) + within(s.MinProps, s.MaxProps, "members")
	}
	return "object"
}

func choice(s *openapi3.Schema) string {
	var words []string
	for _, v := range s.Enum {
		words = append(words, fmt.Sprintf("`%v`", v))
	}
	return strings.Join(words, ", ") + defaulted(s)
}

func textual(s *openapi3.Schema) string {
	switch s.Format {
	case "date-time":
		return "time, RFC 3339"
	case "byte":
		return "base64" + within(s.MinLength, s.MaxLength, "characters")
	}
	out := "text" + within(s.MinLength, s.MaxLength, "characters")
	if s.Pattern != "" {
		out += ", `" + s.Pattern + "`"
	}
	return out + defaulted(s)
}

func within(least uint64, most *uint64, of string) string {
	switch {
	case most != nil && least > 0:
		return fmt.Sprintf(", %d to %d %s", least, *most, of)
	case most != nil:
		return fmt.Sprintf(", at most %d %s", *most, of)
	case least > 0:
		return fmt.Sprintf(", at least %d %s", least, of)
	}
	return ""
}

func between(s *openapi3.Schema) string {
	switch {
	case s.Min != nil && s.Max != nil:
		return fmt.Sprintf(", %.0f to %.0f", *s.Min, *s.Max)
	case s.Min != nil:
		return fmt.Sprintf(", from %.0f", *s.Min)
	}
	return ""
}

func defaulted(s *openapi3.Schema) string {
	if s.Default == nil {
		return ""
	}
	return fmt.Sprintf(", default `%v`", s.Default)
}

// after puts a description behind what it describes.
func after(text string) string {
	if text = strings.TrimSuffix(strings.Join(strings.Fields(text), " "), "."); text == "" {
		return "."
	}
	return ". " + text + "."
}

func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
