package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Field is one field of documents, as it is read: Fields takes it down when it is asked for.
type Field struct {
	Path    string // kind and names, such as System.http.url; [] is an item of a list, NAME a name that the document chooses
	Type    string // in a word or a few; empty if no document has it, and it is more than a text
	Default string
	Limits  string // in words

	required, optional bool
}

// Required says whether a document must have the field where it has what is around it.
func (f *Field) Required() bool { return f.required && !f.optional }

// Fields lists the fields that documents of a bundle have or could have, each below the one that
// it belongs to. What stands in a part that no document of the bundle has is not known.
func Fields(b Bundle) []*Field {
	n := &notes{fields: map[string]*Field{}, objects: map[place]string{}}
	take := func(b Bundle) {
		c := newCompiler(b, false)
		c.notes = n
		_, _ = c.run() // what it finds is for who lints
	}
	take(b)
	for _, kind := range kinds { // what must be there is said when it is not
		take(Bundle{"empty-" + kind + ".yaml": []byte("apiVersion: " + APIVersion + "\nkind: " + kind + "\nmetadata: {name: x}\nspec: {}\n")})
	}
	take(Bundle{"empty.yaml": []byte("apiVersion: " + APIVersion + "\n")})
	out := make([]*Field, 0, len(n.order))
	for _, path := range n.order {
		out = append(out, n.fields[path])
	}
	slices.SortStableFunc(out, func(x, y *Field) int { return n.compare(x.Path, y.Path) })
	return out
}

// Kinds lists the kinds of documents.
func Kinds() []string { return slices.Clone(kinds) }

// notes are what is known of fields so far.
type notes struct {
	fields  map[string]*Field
	order   []string
	objects map[place]string // where the value of a field or an item stands that is a mapping
}

// document is where fields stand that are there before a document has a kind.
const document = "Document"

// chosen stands in a path for a name that the document chooses.
const chosen = "NAME"

// note gives what is known of a field, to be added to.
func (o *object) note(name string) *Field {
	if o.c.notes == nil {
		return &Field{}
	}
	if o.named {
		name = chosen
	}
	return o.c.notes.field(o.path + "." + name)
}

// choosing says that the document chooses the names of the fields.
func (o *object) choosing() *object {
	o.named = true
	for _, value := range o.fields.values {
		o.c.notes.below(o.path+"."+chosen, value)
	}
	return o
}

func (n *notes) field(path string) *Field {
	f, known := n.fields[path]
	if !known {
		f = &Field{Path: path}
		n.fields[path] = f
		n.order = append(n.order, path)
	}
	return f
}

// below remembers which field a value belongs to.
func (n *notes) below(path string, v node) {
	if n == nil {
		return
	}
	switch value := v.value.(type) {
	case *mapping:
		n.objects[v.place] = path
	case []node:
		for _, item := range value {
			n.below(path+"[]", item)
		}
	}
}

// object gives the path of a mapping that is about to be read.
func (n *notes) object(v node) string {
	if n == nil {
		return ""
	}
	path, known := n.objects[v.place]
	if !known {
		return document
	}
	if list, item := strings.CutSuffix(path, "[]"); item {
		n.field(list).Type = "list of mappings"
	} else if f := n.fields[path]; f != nil {
		f.Type = "mapping"
	}
	return path
}

// compare has fields follow what they belong to, and else stand in the order in which they were
// first asked for.
func (n *notes) compare(x, y string) int {
	a, b := strings.Split(x, "."), strings.Split(y, ".")
	for i := range min(len(a), len(b)) {
		if strings.TrimSuffix(a[i], "[]") != strings.TrimSuffix(b[i], "[]") {
			if i == 0 {
				return cmp.Compare(slices.Index(kinds, a[0]), slices.Index(kinds, b[0]))
			}
			return cmp.Compare(n.rank(a[:i+1]), n.rank(b[:i+1]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

func (n *notes) rank(path []string) int {
	text := strings.TrimSuffix(strings.Join(path, "."), "[]")
	at := slices.Index(n.order, text)
	if at < 0 { // a name that the document chooses
		at = slices.IndexFunc(n.order, func(one string) bool { return strings.HasPrefix(one, text+".") })
	}
	return at
}

// between notes a quantity. A fallback that is out of bounds is none: the field may be left out.
func (f *Field) between(what string, fallback, least, most float64, text func(float64) string) {
	f.Type, f.Limits = what, fmt.Sprintf("%s to %s", text(least), text(most))
	if f.Default = ""; fallback >= least {
		f.Default = text(fallback)
	}
}

// shortDuration writes a duration as people do.
func shortDuration(d time.Duration) string {
	if d >= 2*day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}
