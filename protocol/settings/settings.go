// Package settings owns how a program's configuration comes together: defaults, a file, the
// fragments in conf.d beside it, the environment and the command line, in this order.
//
// It stands here because both programs read their configuration in the same way. It refuses
// to know any setting: a struct names them by its tags (see Keys). Its invariant: a value is
// never taken silently from where nobody meant it; every value knows where it comes from,
// and what nobody can have meant is an error that shows the place.
package settings

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/crossdock/crossdock/protocol/spelling"
)

const (
	// fragments is the directory beside the file whose files are read over it, by name.
	fragments = "conf.d"
	// maxFile bounds one file.
	maxFile = 1 << 20
	// delimiter is between the levels of a key, and level of a variable.
	delimiter, level = ".", "__"
)

// Sources are where values come from, over the defaults.
type Sources struct {
	File    string            // YAML; empty: none
	Dir     string            // where conf.d is looked for; empty: beside File
	Prefix  string            // of environment variables, such as CROSSDOCK_AGENT_; empty: none is read
	Apart   []string          // variables with the prefix that are no settings
	Shared  bool              // other programs have variables with the prefix too
	Environ func() []string   // nil: os.Environ
	Flags   *pflag.FlagSet    // nil: none
	Keys    map[string]string // of flags, by the flag's name; other flags are no settings
}

// Origin is where a value comes from. The zero Origin is a default.
type Origin struct {
	File string
	Line int
	Env  string
	Flag string
}

func (o Origin) String() string {
	switch {
	case o.Flag != "":
		return "flag --" + o.Flag
	case o.Env != "":
		return "env " + o.Env
	case o.File != "":
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	}
	return "default"
}

// entry is one value as one source says it.
type entry struct {
	origin Origin
	node   ast.Node // of a file
	text   string   // of a variable or a flag
}

// Values are all values with their origins.
type Values struct {
	file    string // where what nobody said would be said
	partly  bool   // a file could not be read as a whole
	keys    []Key
	said    map[string]entry // by key; a default is not said
	inFiles map[string]entry // what the files alone say
}

// Origin tells where a key's value comes from.
func (v *Values) Origin(key string) Origin { return v.said[key].origin }

// Unsay has a key count as a default, because what was said of it does not hold.
func (v *Values) Unsay(key string) { delete(v.said, key) }

// Whole says that every file could be read to its end. What is not known in one, or wrong for
// its key, does not count: the rest of it is there.
func (v *Values) Whole() bool { return !v.partly }

// InFile tells where the files say a key and what, though the environment or a flag may
// stand over it; where they do not, the text is empty.
func (v *Values) InFile(key string) (at Origin, text string) {
	e := v.inFiles[key]
	return e.origin, nodeText(e.node)
}

// Problem is one thing that is wrong in a configuration.
type Problem struct {
	Origin Origin
	Text   string // without the origin; for a file with a picture of the lines
}

func (p *Problem) Error() string {
	switch {
	case p.Origin.File != "":
		return p.Origin.File + ": " + Mask(p.Text)
	case p.Origin != Origin{}:
		return p.Origin.String() + ": " + Mask(p.Text)
	}
	return Mask(p.Text)
}

// reader gathers what the sources say.
//
// Each file is decoded here, node by node, and koanf merges only where each key's value
// stands: its own parsers give maps, which know neither line nor column, so that nothing
// wrong could be shown in its place, and they end at the first mistake.
type reader struct {
	sources  Sources
	nodes    []*node
	keys     map[string]Key
	names    map[string]string // of keys, by variable
	partly   bool              // a file could not be read as a whole
	entries  []entry           // koanf holds indexes into it
	problems []error
}

// Read fills config, a pointer to a struct that holds the defaults. Everything that is wrong
// is in the error, as Problems; what is right is filled in all the same, and the values are
// there in any case.
func Read(config any, sources Sources) (*Values, error) {
	r := &reader{sources: sources, nodes: tree(reflect.TypeOf(config).Elem(), "", nil), keys: map[string]Key{}, names: map[string]string{}}
	keys := Keys(config)
	for _, k := range keys {
		r.keys[k.Name] = k
		r.names[k.Variable(sources.Prefix)] = k.Name
	}
	merged := koanf.New(delimiter)
	for _, file := range r.files() {
		if err := merged.Load(confmap.Provider(r.file(file), delimiter), nil); err != nil {
			r.problems = append(r.problems, err)
		}
	}
	values := &Values{file: sources.File, partly: r.partly, keys: keys, inFiles: r.pick(merged)}
	if sources.Prefix != "" {
		provider := env.Provider(delimiter, env.Opt{Prefix: sources.Prefix, TransformFunc: r.variable, EnvironFunc: sources.Environ})
		if err := merged.Load(provider, nil); err != nil {
			r.problems = append(r.problems, err)
		}
	}
	if sources.Flags != nil {
		if err := merged.Load(posflag.ProviderWithFlag(sources.Flags, delimiter, nil, r.flag), nil); err != nil {
			r.problems = append(r.problems, err)
		}
	}
	values.said = r.pick(merged)
	target := reflect.ValueOf(config).Elem()
	for _, k := range keys { // in the order of the struct
		if e, ok := values.said[k.Name]; ok {
			if !r.set(target.FieldByIndex(k.field), k, e) {
				delete(values.said, k.Name)
			}
		}
	}
	return values, errors.Join(r.problems...)
}

// add keeps an entry and gives what koanf carries for it.
func (r *reader) add(e entry) int {
	r.entries = append(r.entries, e)
	return len(r.entries) - 1
}

func (r *reader) pick(merged *koanf.Koanf) map[string]entry {
	out := map[string]entry{}
	for key, index := range merged.All() {
		if i, ok := index.(int); ok {
			out[key] = r.entries[i]
		}
	}
	return out
}

func (r *reader) refuse(at Origin, format string, args ...any) {
	r.problems = append(r.problems, &Problem{Origin: at, Text: fmt.Sprintf(format, args...)})
}

// files lists the file and the fragments beside it.
func (r *reader) files() (out []string) {
	dir := r.sources.Dir
	if r.sources.File != "" {
		out = []string{r.sources.File}
		dir = cmp.Or(dir, filepath.Dir(r.sources.File))
	}
	if dir == "" {
		return out
	}
	entries, err := os.ReadDir(filepath.Join(dir, fragments))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.problems = append(r.problems, err)
		r.partly = true
	}
	for _, e := range entries { // sorted by name
		if !e.IsDir() && filepath.Ext(e.Name()) == ".yaml" {
			out = append(out, filepath.Join(dir, fragments, e.Name()))
		}
	}
	return out
}

// link is what an orchestrator puts into the environment for a service of its network that
// has the program's name. Nobody has written it.
var link = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)

// variable takes one of the environment. An empty one says nothing, as everywhere in Unix.
func (r *reader) variable(name, value string) (string, any) {
	if value == "" || slices.Contains(r.sources.Apart, name) {
		return "", nil
	}
	at := Origin{Env: name}
	key, ok := r.names[name]
	if ok {
		return key, r.add(entry{origin: at, text: value})
	}
	if link.MatchString(name) {
		return "", nil
	}
	near := r.nearVariable(name)
	switch {
	case near != "":
		r.refuse(at, "there is no such setting; did you mean %s?", near)
	case !r.sources.Shared || strings.Contains(strings.TrimPrefix(name, r.sources.Prefix), level):
		r.refuse(at, "there is no such setting; unset it, or name a key such as %s", r.exampleVariable())
	}
	return "", nil
}

// nearVariable gives the variable that was meant, empty if that is not clear.
func (r *reader) nearVariable(name string) string {
	flat := func(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "_", "")) }
	prefixed := func(s string) string { return strings.TrimPrefix(s, r.sources.Prefix) }
	best, distance := "", 0
	for variable := range r.names {
		d := spelling.Distance(flat(prefixed(variable)), flat(prefixed(name)))
		if best == "" || d < distance || d == distance && variable < best {
			best, distance = variable, d
		}
	}
	limit := closeEnough(prefixed(name))
	if r.sources.Shared && !strings.Contains(prefixed(name), level) {
		limit = min(limit, 1) // the name of another program's variable is not far from one of ours
	}
	if distance <= limit {
		return best
	}
	return ""
}

func (r *reader) exampleVariable() string {
	for _, n := range r.nodes {
		if n.key == nil {
			return n.children[0].key.Variable(r.sources.Prefix)
		}
	}
	return r.nodes[0].key.Variable(r.sources.Prefix)
}

// flag takes one of the command line.
func (r *reader) flag(f *pflag.Flag) (string, any) {
	key, ok := r.sources.Keys[f.Name]
	if !ok || !f.Changed {
		return "", nil
	}
	text := f.Value.String()
	if list, ok := f.Value.(pflag.SliceValue); ok {
		text = strings.Join(list.GetSlice(), ",")
	}
	return key, r.add(entry{origin: Origin{Flag: f.Name}, text: text})
}

// set decodes a value into its field, which keeps its default where the value is wrong.
func (r *reader) set(field reflect.Value, k Key, e entry) bool {
	fresh := reflect.New(field.Type())
	var err error
	switch {
	case e.node != nil:
		err = yaml.NodeToValue(e.node, fresh.Interface())
	case field.Kind() == reflect.String:
		fresh.Elem().SetString(e.text)
	case field.Type() == reflect.TypeFor[[]string]():
		fresh.Elem().Set(reflect.ValueOf(splitList(e.text)))
	default:
		err = yaml.Unmarshal([]byte(e.text), fresh.Interface())
	}
	if err == nil {
		field.Set(fresh.Elem())
		return true
	}
	text := wrong(k, err, strings.TrimSpace(cmp.Or(e.text, nodeText(e.node))))
	if e.node != nil {
		r.refuse(e.origin, "%s", picture(text, e.node))
		return false
	}
	r.refuse(e.origin, "%s: %s", k.Name, text)
	return false
}

func splitList(text string) (out []string) {
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			out = append(out, one)
		}
	}
	return out
}

// Locate adds to what a check of the whole has found where it stands. The check's errors
// begin with the key, or a section's name, and a colon. The result holds each as a Problem.
func (v *Values) Locate(err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // each of them is looked at
		var out []error
		for _, one := range joined.Unwrap() {
			out = append(out, v.Locate(one))
		}
		return errors.Join(out...)
	}
	key, _, _ := strings.Cut(err.Error(), ":")
	var at []entry
	for _, k := range v.keys {
		if e, ok := v.said[k.Name]; ok && (k.Name == key || strings.HasPrefix(k.Name, key+delimiter)) {
			at = append(at, e)
		}
	}
	switch {
	case len(at) == 0 && v.partly:
		return nil // it may stand where it could not be read
	case len(at) == 0:
		return &Problem{Origin: Origin{File: v.file}, Text: err.Error()}
	case len(at) == 1 && at[0].node != nil:
		return &Problem{Origin: at[0].origin, Text: picture(err.Error(), at[0].node)}
	case len(at) == 1:
		return &Problem{Origin: at[0].origin, Text: err.Error()}
	}
	var places []string
	for _, e := range at {
		places = append(places, e.origin.String())
	}
	return &Problem{Text: err.Error() + " (" + strings.Join(places, ", ") + ")"}
}
