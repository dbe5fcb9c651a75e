package contract

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// The modes of Compare, from the side of the one who reads.
const (
	CompatibilityNone     = "none"
	CompatibilityBackward = "backward" // the newer version reads data of the older one
	CompatibilityForward  = "forward"  // the older version reads data of the newer one
	CompatibilityFull     = "full"     // both
)

// Incompatibility is one reason why data of one version may be refused by another.
type Incompatibility struct {
	Path    string `json:"path"` // JSON pointer into the data; * stands for any element
	Rule    string `json:"rule"` // keyword of the schema
	Message string `json:"message"`
}

func (i Incompatibility) String() string {
	path := i.Path
	if path == "" {
		path = "/"
	}
	return path + ": " + i.Message + " (" + i.Rule + ")"
}

// Compare lists the reasons why next breaks with old. It is careful: where it cannot show
// that everything fits, it says so. One thing it assumes: data does not hold properties
// that its own schema does not name, so that a new optional property is no break.
func Compare(old, next *Version, mode string) []Incompatibility {
	var out []Incompatibility
	if mode == CompatibilityBackward || mode == CompatibilityFull {
		out = append(out, contained(old, next)...)
	}
	if mode == CompatibilityForward || mode == CompatibilityFull {
		out = append(out, contained(next, old)...)
	}
	return out
}

// maxSteps ends a comparison of schemas that branch without end.
const maxSteps = 20_000

// contained shows that data of writer satisfies reader, or says where it may not.
func contained(writer, reader *Version) []Incompatibility {
	c := &comparer{
		writer: writer.document, reader: reader.document, steps: new(int), seen: map[string]bool{},
		says: fmt.Sprintf("data of %s may be refused by %s: ", writer.Semver, reader.Semver),
	}
	c.compare(writer.document, reader.document, "")
	if *c.steps > maxSteps {
		c.report("", "schema", "the schemas are too entangled to be compared")
	}
	slices.SortStableFunc(c.found, func(a, b Incompatibility) int { return strings.Compare(a.Path, b.Path) })
	return slices.Compact(c.found)
}

type comparer struct {
	writer, reader any // whole documents, for $ref
	says           string
	found          []Incompatibility
	seen           map[string]bool // pairs of $ref under comparison or compared
	steps          *int
}

func (c *comparer) report(path, rule, format string, args ...any) {
	c.found = append(c.found, Incompatibility{Path: path, Rule: rule, Message: c.says + fmt.Sprintf(format, args...)})
}

// fits compares without reporting.
func (c *comparer) fits(w, r any) bool {
	trial := &comparer{writer: c.writer, reader: c.reader, steps: c.steps, seen: maps.Clone(c.seen)}
	trial.compare(w, r, "")
	return len(trial.found) == 0 && *c.steps <= maxSteps
}

func (c *comparer) compare(w, r any, path string) {
	if pair, both := refPair(w, r); both {
		if c.seen[pair] {
			return
		}
		c.seen[pair] = true
	}
	if yes, is := r.(bool); is {
		if !yes && !reflect.DeepEqual(w, false) {
			c.report(path, "false", "nothing is allowed here any more")
		}
		return
	}
	if w == any(false) {
		return
	}
	writer := merge(c.writer, w, c.steps)
	for _, part := range conjuncts(c.reader, r, 0, c.steps) {
		c.comparePart(writer, part, path)
	}
}

// refPair names two schemas that are both references; a recursive schema meets its pair
// again, and what is being shown already need not be shown once more.
func refPair(w, r any) (string, bool) {
	wm, _ := w.(map[string]any)
	rm, _ := r.(map[string]any)
	a, ok1 := wm["$ref"].(string)
	b, ok2 := rm["$ref"].(string)
	return a + "\x00" + b, ok1 && ok2
}

func (c *comparer) comparePart(w, r map[string]any, path string) {
	if *c.steps++; *c.steps > maxSteps {
		return
	}
	wAlternatives, wKeyword := alternatives(w)
	_, rKeyword := alternatives(r)
	if wKeyword != "" && rKeyword == "" {
		// Every alternative of the writer has to fit, each with what stands beside it.
		base := without(w, wKeyword)
		for _, branch := range wAlternatives {
			c.comparePart(merge(c.writer, map[string]any{"allOf": []any{branch, base}}, c.steps), r, path)
		}
		return
	}
	c.values(w, r, path)
	types := typesOf(w)
	if c.types(types, r, path) {
		c.numbers(w, r, types, path)
		c.strings(w, r, types, path)
		if types["array"] {
			c.arrays(w, r, path)
		}
		if types["object"] {
			c.objects(w, r, path)
		}
	}
	for _, keyword := range choices {
		if _, has := r[keyword].([]any); has {
			c.alternatives(w, r, keyword, path)
		}
	}
	for _, keyword := range opaque {
		if r[keyword] != nil && !reflect.DeepEqual(w[keyword], r[keyword]) {
			c.report(path, keyword, "%s was changed, which cannot be shown to fit", keyword)
		}
	}
}

// Keywords whose meaning is not followed: they have to stay as they are, or go.
var opaque = []string{
	"not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties",
	"unevaluatedItems", "contains", "minContains", "maxContains", "propertyNames", "patternProperties",
	"additionalItems", "$dynamicRef", "$recursiveRef", "contentEncoding", "contentMediaType", unresolved,
}

// choices are the keywords that list alternatives.
var choices = []string{"oneOf", "anyOf"}

func alternatives(s map[string]any) ([]any, string) {
	for _, keyword := range choices {
		if list, ok := s[keyword].([]any); ok {
			return list, keyword
		}
	}
	return nil, ""
}

// alternatives compares where the reader has a choice of its own.
func (c *comparer) alternatives(w, r map[string]any, keyword, path string) {
	readers, _ := r[keyword].([]any)
	if reflect.DeepEqual(w[keyword], r[keyword]) && reflect.DeepEqual(c.writer, c.reader) {
		return
	}
	writers, has := w[keyword].([]any)
	if !has {
		writers = []any{w}
	}
	for i, branch := range writers {
		n := 0
		for _, candidate := range readers {
			if c.fits(branch, candidate) {
				n++
			}
		}
		if n == 0 {
			c.report(path, keyword, "alternative %d fits none of its alternatives", i+1)
		}
		if keyword == "oneOf" && n > 1 {
			c.report(path, keyword, "alternative %d fits more than one of its alternatives", i+1)
		}
	}
	if keyword == "oneOf" && len(readers) > len(writers) {
		c.report(path, keyword, "an alternative was added, and data may now fit two: use anyOf")
	}
}
