package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Violation is one way in which data breaks a contract.
type Violation struct {
	Path    string `json:"path"` // JSON pointer into the data
	Rule    string `json:"rule"` // keyword of the schema
	Message string `json:"message"`
}

func (v Violation) String() string {
	path := v.Path
	if path == "" {
		path = "/"
	}
	return path + ": " + v.Message + " (" + v.Rule + ")"
}

func jsonNumber(n *big.Int) json.Number { return json.Number(n.String()) }

// patternTimeout bounds one match: the ECMA dialect backtracks. It is generous, because it
// is wall time: a busy machine must not refuse honest data.
const patternTimeout = 250 * time.Millisecond

// errPatternTime travels as a panic through the schema library, whose matcher can only
// answer yes or no: neither would be true.
var errPatternTime = errors.New("matching the pattern took too long")

type pattern struct{ re *regexp2.Regexp }

func compilePattern(source string) (jsonschema.Regexp, error) {
	if len(source) > MaxPattern {
		return nil, fmt.Errorf("a pattern of %d bytes, the limit is %d", len(source), MaxPattern)
	}
	re, err := regexp2.Compile(source, regexp2.ECMAScript|regexp2.Unicode)
	if err != nil {
		return nil, err
	}
	re.MatchTimeout = patternTimeout
	return pattern{re}, nil
}

func (p pattern) String() string { return p.re.String() }

func (p pattern) MatchString(s string) bool {
	ok, err := p.re.MatchString(s)
	if err != nil {
		panic(errPatternTime)
	}
	return ok
}

// check never lets the library's panic out: data from outside must not end the process.
func (v *Version) check(decoded any) (violations []Violation) {
	defer func() {
		if cause := recover(); cause != nil {
			rule := "schema"
			if cause == any(errPatternTime) {
				rule = "pattern"
			}
			violations = []Violation{{Rule: rule, Message: clip(fmt.Sprintf("the data could not be checked: %v", cause))}}
		}
	}()
	if v.quick != nil && v.quick.holds(decoded) {
		return nil
	}
	err := v.compiled.Validate(plainNumbers(decoded))
	if err == nil {
		return nil
	}
	var failed *jsonschema.ValidationError
	if !errors.As(err, &failed) {
		return []Violation{{Rule: "schema", Message: clip(err.Error())}}
	}
	return explain(failed)
}

// explain makes the library's tree of errors a short list that is the same every time.
func explain(failed *jsonschema.ValidationError) []Violation {
	c := collector{printer: message.NewPrinter(language.English)}
	c.collect(failed)
	slices.SortStableFunc(c.found, func(a, b Violation) int {
		return strings.Compare(a.Path+"\x00"+a.Rule+"\x00"+a.Message, b.Path+"\x00"+b.Rule+"\x00"+b.Message)
	})
	c.found = slices.Compact(c.found)
	return c.found[:min(len(c.found), MaxViolations)]
}

type collector struct {
	printer *message.Printer
	found   []Violation
}

// collectLimit ends the collecting of a value that is wrong all over.
const collectLimit = 50 * MaxViolations

func (c *collector) collect(e *jsonschema.ValidationError) {
	if len(c.found) >= collectLimit {
		return
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			c.add(append(slices.Clip(e.InstanceLocation), name), "required", "is missing")
		}
		return
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			c.add(append(slices.Clip(e.InstanceLocation), name), "additionalProperties", "is not a property of the contract")
		}
		return
	case *kind.AnyOf:
		c.addAlternatives(e, "anyOf", "fits none of the alternatives")
		return
	case *kind.OneOf:
		text := "fits none of the alternatives"
		if len(k.Subschemas) > 0 {
			text = "fits more than one of the alternatives"
		}
		c.addAlternatives(e, "oneOf", text)
		return
	case *kind.Not:
		c.add(e.InstanceLocation, "not", "is excluded")
		return
	case *kind.FalseSchema:
		c.add(e.InstanceLocation, "false", "is not allowed")
		return
	}
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			c.collect(cause)
		}
		return
	}
	rule := "schema"
	if path := e.ErrorKind.KeywordPath(); len(path) > 0 {
		rule = path[0]
	}
	c.add(e.InstanceLocation, rule, e.ErrorKind.LocalizedString(c.printer))
}

// addAlternatives reports one violation, not those of every branch: with the reason of
// the branch that went deepest into the data, which is most likely the one that was meant.
func (c *collector) addAlternatives(e *jsonschema.ValidationError, rule, text string) {
	best, depth := Violation{}, -1
	for _, cause := range e.Causes {
		branch := collector{printer: c.printer}
		branch.collect(cause)
		for _, v := range branch.found {
			if d := strings.Count(v.Path, "/"); d > depth || d == depth && v.String() < best.String() {
				best, depth = v, d
			}
		}
	}
	if depth >= 0 {
		text += "; the closest says: " + best.String()
	}
	c.add(e.InstanceLocation, rule, text)
}

func (c *collector) add(path []string, rule, text string) {
	c.found = append(c.found, Violation{Path: pointer(path), Rule: rule, Message: clip(text)})
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

func pointer(path []string) string {
	var b strings.Builder
	for _, step := range path {
		b.WriteByte('/')
		b.WriteString(pointerEscape.Replace(step))
	}
	return b.String()
}

func clip(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	cut := maxMessage
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
