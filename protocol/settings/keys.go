package settings

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Key is one setting. A struct names its settings with tags on its fields:
//
//	yaml:"quota"      its name at its level; a field with "-", or without this tag, is none
//	doc:"..."         what it means, in one sentence
//	change:"reload"   a running process takes a change over; else it needs a restart
//	example:"..."     what the example file says in place of the default
//	secret:"true"     it refers to a secret, as file:NAME, env:NAME or cred:NAME
type Key struct {
	Name    string // with its levels, such as journal.quota
	Doc     string
	Example string
	Reload  bool
	Secret  bool
	Type    string // in words
	field   []int
}

// Variable is the environment variable of the key.
func (k Key) Variable(prefix string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(k.Name, delimiter, level))
}

// node is a key or a section of keys.
type node struct {
	name     string // at its level
	doc      string
	key      *Key // nil: a section
	children []*node
}

// Keys lists the settings of a struct or of a pointer to one, in its order.
func Keys(config any) (out []Key) {
	t := reflect.TypeOf(config)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return flatten(tree(t, "", nil), out)
}

func flatten(nodes []*node, out []Key) []Key {
	for _, n := range nodes {
		if n.key != nil {
			out = append(out, *n.key)
		}
		out = flatten(n.children, out)
	}
	return out
}

// Changed lists the settings in which two structs of one type differ.
func Changed(a, b any) (out []Key) {
	left, right := reflect.Indirect(reflect.ValueOf(a)), reflect.Indirect(reflect.ValueOf(b))
	for _, k := range Keys(a) {
		was, is := left.FieldByIndex(k.field), right.FieldByIndex(k.field)
		if was.Kind() == reflect.Slice && was.Len()+is.Len() == 0 {
			continue // none is none, however it is said
		}
		if !reflect.DeepEqual(was.Interface(), is.Interface()) {
			out = append(out, k)
		}
	}
	return out
}

// Take gives to those settings of from that a running process takes over. Both are pointers to
// structs of one type. Those that are named are left.
func Take(to, from any, leave ...string) {
	into, of := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for _, k := range Keys(to) {
		if k.Reload && !slices.Contains(leave, k.Name) {
			into.FieldByIndex(k.field).Set(of.FieldByIndex(k.field))
		}
	}
}

func tree(t reflect.Type, prefix string, index []int) (out []*node) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "" || name == "-" {
			continue
		}
		field := append(append([]int{}, index...), i)
		n := &node{name: name, doc: f.Tag.Get("doc")}
		if section(f.Type) {
			n.children = tree(f.Type, prefix+name+delimiter, field)
		} else {
			n.key = &Key{Name: prefix + name, Doc: n.doc, Example: f.Tag.Get("example"), Reload: f.Tag.Get("change") == "reload",
				Secret: f.Tag.Get("secret") == "true", Type: noun(f.Type), field: field}
		}
		out = append(out, n)
	}
	return out
}

// section reports whether a field holds settings rather than being one.
func section(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[yaml.BytesUnmarshaler]())
}

// noun says in a word what a value is.
func noun(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.PointerTo(t).Implements(reflect.TypeFor[yaml.BytesUnmarshaler]()):
		return strings.ToLower(t.Name())
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "list"
	case reflect.Bool:
		return "true or false"
	}
	return "number"
}

// closeEnough is the distance up to which one name may be meant by another.
func closeEnough(name string) int { return min(3, 1+len(name)/4) }
