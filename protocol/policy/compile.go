package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/spelling"
)

// APIVersion is what every document begins with.
const APIVersion = "crossdock/v1"

// Kinds are the kinds of documents.
var kinds = []string{"Contract", "Site", "System", "Route", "Journey", "NumberRange", "Plugin"}

// compiler builds a Set. References between documents are checked after all of them are
// read, so their order and the order of files mean nothing.
type compiler struct {
	bundle   Bundle
	set      *Set
	problems Problems
	approved bool             // it was proposed once, and passed the checks of then
	first    map[string]place // of each kind and name
	used     map[string]bool  // files that a document refers to
	later    []func()

	documents   int
	referred    int // bytes of files that documents refer to, each time that one does
	expressions int

	destinations map[string]place    // of "route\x00system", for what is found about both
	replaced     map[string][]string // system to those that replace it, once all are read
	ranges       map[string]place    // of number ranges, for what is found about two of them
	secretsOf    string              // whose document is being read, for the secrets that it refers to
	notes        *notes              // of the fields that are asked for; nil: none are taken
}

// Compile reads all documents of a bundle. The set is nil when a problem is an error;
// warnings come with a set.
func Compile(b Bundle) (*Set, Problems) { return compile(b, false) }

// Load reads the documents of a revision that was proposed, and so passed the checks of then.
// What later checks have against the way it is written is a warning: a site does not lose
// its policy by a newer program.
func Load(b Bundle) (*Set, Problems) { return compile(b, true) }

func compile(b Bundle, approved bool) (*Set, Problems) { return newCompiler(b, approved).run() }

func newCompiler(b Bundle, approved bool) *compiler {
	return &compiler{
		approved: approved,
		bundle:   b, first: map[string]place{}, used: map[string]bool{}, destinations: map[string]place{}, ranges: map[string]place{},
		set: &Set{
			Digest: b.Digest(), Contracts: map[string]*Contract{}, Sites: map[string]*Site{},
			Systems: map[string]*System{}, Journeys: map[string]*Journey{}, Ranges: map[string]*NumberRange{}, Plugins: map[string]*Plugin{},
		},
	}
}

func (c *compiler) run() (*Set, Problems) {
	b := c.bundle
	b.check(&c.problems)
	if c.problems.Failed() {
		return nil, c.problems
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if !documentFile(name) || c.problems.full() || c.documents > maxAllDocuments {
			continue
		}
		for _, doc := range parseFile(name, b[name], &c.problems) {
			if c.documents++; c.documents > maxAllDocuments {
				c.errorAt(doc.place, "", "the policy has more than %d documents", maxAllDocuments)
				break
			}
			if c.document(doc); c.problems.full() {
				break
			}
		}
	}
	if len(c.first) == 0 && !c.problems.Failed() {
		c.problems.add(Problem{Message: "the policy has no documents", Hint: "a document begins with apiVersion: " + APIVersion})
	}
	slices.SortFunc(c.set.Routes, func(a, b *Route) int { return cmp.Compare(a.Name, b.Name) })
	c.set.index()
	for _, check := range c.later {
		if check(); c.problems.full() {
			break
		}
	}
	c.checkLoops()
	c.checkRanges()
	c.unusedFiles()
	c.problems.sort()
	if c.problems.Failed() {
		return nil, c.problems
	}
	return c.set, c.problems
}

func (c *compiler) errorAt(at place, hint, format string, args ...any) {
	c.problems.add(Problem{
		File: at.file, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// styleAt finds what works as it stands and is not to be written any more.
func (c *compiler) styleAt(at place, hint, format string, args ...any) {
	if c.approved {
		c.warnAt(at, hint, format, args...)
		return
	}
	c.errorAt(at, hint, format, args...)
}

func (c *compiler) warnAt(at place, hint, format string, args ...any) {
	c.problems.add(Problem{
		File: at.file, Line: at.line, Column: at.column, Severity: SeverityWarning, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

func (c *compiler) after(check func()) { c.later = append(c.later, check) }

func (c *compiler) document(doc node) {
	o := c.object(doc, "the document")
	if _, ok := doc.value.(*mapping); !ok {
		return
	}
	if v := o.required("apiVersion", "write apiVersion: "+APIVersion); v.set && v.str() != APIVersion {
		c.errorAt(v.place, "only "+APIVersion+" is known", "apiVersion %s is not known", quoted(v.str()))
		return
	}
	kind := o.required("kind", "one of "+strings.Join(kinds, ", "))
	metadata, spec := o.get("metadata"), o.get("spec")
	o.close()
	if !metadata.set {
		o.missing(metadata, "write metadata: {name: ...}")
	}
	if !spec.set {
		o.missing(spec, "")
	}
	if !kind.set || !metadata.set || !spec.set {
		return
	}
	if !slices.Contains(kinds, kind.str()) {
		hint := "one of " + strings.Join(kinds, ", ")
		if near := spelling.Nearest(kind.str(), kinds); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		c.errorAt(kind.place, hint, "kind %s is not known", quoted(kind.str()))
		return
	}
	meta, ok := c.meta(kind.str(), doc.place, metadata.node)
	if !ok {
		return
	}
	body := c.object(spec.node, fmt.Sprintf("%s %s", strings.ToLower(kind.str()), meta.Name))
	body.path = kind.str()
	switch kind.str() {
	case "Contract":
		c.contract(meta, body)
	case "Site":
		c.site(meta, body)
	case "System":
		c.system(meta, body)
	case "Route":
		c.route(meta, body)
	case "Journey":
		c.journey(meta, body)
	case "NumberRange":
		c.numberRange(meta, body)
	case "Plugin":
		c.plugin(meta, body)
	}
	body.close()
}

const maxName = 128

// Limits on what a bundle may unfold to: a file or an expression of a few bytes costs time
// and memory again wherever it stands.
const (
	maxAllDocuments = 10_000
	maxReferred     = MaxOpened
	maxExpressions  = 10_000
	maxHops         = 1_000_000
)

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	dottedForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

func (c *compiler) meta(kind string, at place, n node) (Meta, bool) {
	o := c.object(n, "metadata")
	name := o.required("name", "every document has a name")
	m := Meta{Name: name.str(), File: at.file, Line: at.line}
	if f := o.get("labels"); f.set {
		m.Labels = map[string]string{}
		labels := c.object(f.node, "labels").choosing()
		for _, key := range labels.fields.keys {
			label := key.value.(string) // a mapping's keys are texts
			m.Labels[label] = labels.text(label).str()
		}
	}
	o.close()
	if !name.set {
		return m, false
	}
	form, hint := nameForm, "lower-case letters, digits and -, at most 63"
	if kind == "Contract" {
		form, hint = dottedForm, "lower-case words with dots, such as order.captured"
	}
	if !form.MatchString(m.Name) || len(m.Name) > maxName {
		c.errorAt(name.place, hint, "name %s cannot be used", quoted(m.Name))
		return m, false
	}
	if kind == "Contract" && (m.Name == "crossdock" || strings.HasPrefix(m.Name, "crossdock.")) {
		c.errorAt(name.place, "choose another name", "contract names that begin with crossdock are reserved")
		return m, false
	}
	id := kind + " " + m.Name
	if first, twice := c.first[id]; twice {
		c.errorAt(name.place, "names are unique within a kind: rename or remove one", "%s stands already in %s:%d", id, first.file, first.line)
		return m, false
	}
	c.first[id] = name.place
	return m, true
}

// file finds a file that a document refers to by its path in the bundle.
func (c *compiler) file(f field, what string) ([]byte, bool) {
	name := path.Clean(f.str())
	content, ok := c.bundle[name]
	if !ok || name != f.str() {
		hint := "paths begin at the folder of the policy"
		if near := spelling.Nearest(f.str(), slices.Sorted(maps.Keys(c.bundle))); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		} else if near := c.nearestFile(path.Base(name)); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		c.errorAt(f.place, hint, "%s in %s: there is no file %s", f.name, what, quoted(f.str()))
		return nil, false
	}
	c.used[name] = true
	if c.referred += len(content); c.referred > maxReferred {
		c.errorAt(f.place, "refer to fewer files, or to smaller ones", "the files that documents refer to make more than %d bytes, each counted as often as it is used", maxReferred)
		return nil, false
	}
	return content, true
}

// nearestFile looks in all folders for a file of nearly this name.
func (c *compiler) nearestFile(base string) string {
	for _, other := range slices.Sorted(maps.Keys(c.bundle)) {
		if spelling.Nearest(base, []string{path.Base(other)}) != "" {
			return other
		}
	}
	return ""
}

func (c *compiler) unusedFiles() {
	for _, name := range slices.Sorted(maps.Keys(c.bundle)) {
		if !documentFile(name) && !c.used[name] {
			c.warnAt(place{file: name}, "remove it, or refer to it", "no document uses this file")
		}
	}
}

// expression compiles, as long as there are not too many.
func (c *compiler) expression(f field, source string) (e *expr.Expr, err error, ok bool) {
	if c.expressions++; c.expressions > maxExpressions {
		c.errorAt(f.place, "", "the policy has more than %d expressions", maxExpressions)
		return nil, nil, false
	}
	e, err = expr.Compile(source)
	return e, err, true
}

func syntax(err error) (line, column int, message string) {
	var s *expr.SyntaxError
	if errors.As(err, &s) {
		return s.Line, s.Column, s.Message
	}
	return 1, 1, err.Error()
}

// owner is required where a change needs somebody's approval.
func (o *object) owner() string {
	return o.required("owner", "name the team that approves changes").str()
}
