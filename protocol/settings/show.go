package settings

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

var (
	// inURL is a password in an address.
	inURL = regexp.MustCompile(`(://[^/@:\s"']*):[^/@\s"']*@`)
	// written is what stands behind the name of a password, unless it is a reference to one.
	written = regexp.MustCompile(`(?i)((?:password|passwd|passphrase|token)["']?\s*[:=]\s*)("[^"\n]*"|'[^'\n]*'|[^\s"',}][^\n,}]*)`)
	// source is a line of a file in a picture.
	source    = regexp.MustCompile(`(?m)^(?:>| )? *[0-9]+ \| .*$`)
	reference = regexp.MustCompile(`^["']?(file|env|cred):`)
)

// masked stands where a secret stood.
const masked = "***"

// IsReference reports whether a text refers to a secret rather than being one.
func IsReference(text string) bool { return reference.MatchString(text) }

// Mask takes out of a text what may be a password: those in addresses, and those in the lines
// of a file that it shows.
func Mask(text string) string {
	text = inURL.ReplaceAllString(text, "$1:"+masked+"@")
	return source.ReplaceAllStringFunc(text, func(line string) string {
		return written.ReplaceAllStringFunc(line, func(found string) string {
			part := written.FindStringSubmatch(found)
			if IsReference(part[2]) || part[2] == `""` || part[2] == `''` {
				return found
			}
			return part[1] + masked
		})
	})
}

// Shown is one value as it is in force.
type Shown struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// List gives every value that is in force, without secrets.
func (v *Values) List(config any) (out []Shown) {
	c := reflect.Indirect(reflect.ValueOf(config))
	for _, k := range v.keys {
		value := c.FieldByIndex(k.field)
		var shown any
		switch value.Kind() {
		case reflect.String:
			shown = visible(k, value.String())
		case reflect.Slice:
			list := []string{} // an array in JSON, never null
			for i := range value.Len() {
				list = append(list, Mask(fmt.Sprint(value.Index(i).Interface())))
			}
			shown = list
		default:
			if shown = value.Interface(); noun(value.Type()) != "number" && value.Kind() != reflect.Bool {
				shown = plain(value)
			}
		}
		out = append(out, Shown{Key: k.Name, Value: shown, Origin: v.Origin(k.Name).String()})
	}
	return out
}

func visible(k Key, text string) string {
	if k.Secret && text != "" && !IsReference(text) {
		return masked
	}
	return Mask(text)
}

// Write writes every value that is in force as YAML, each with its origin as a comment.
func (v *Values) Write(w io.Writer, config any) error {
	values := map[string]Shown{}
	for _, s := range v.List(config) {
		values[s.Key] = s
	}
	var rows []row
	var err error
	each(tree(reflect.Indirect(reflect.ValueOf(config)).Type(), "", nil), 0, func(n *node, depth int) {
		one := row{text: indent(depth) + n.name + ":"}
		if n.key != nil {
			text, failed := scalar(values[n.key.Name].Value)
			if failed != nil {
				err = failed
			}
			one.text, one.comment = one.text+" "+text, values[n.key.Name].Origin
		}
		rows = append(rows, one)
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, layout(rows))
	return err
}

// each walks all keys and sections.
func each(nodes []*node, depth int, fn func(n *node, depth int)) {
	for _, n := range nodes {
		fn(n, depth)
		each(n.children, depth+1, fn)
	}
}

func indent(depth int) string { return strings.Repeat("  ", depth) }

// row is a line of YAML with a comment behind it.
type row struct{ text, comment string }

const (
	column = 38  // where comments begin, unless the line is longer
	width  = 120 // of a line with its comment
)

// layout puts the comments below each other, and a long one on several lines.
func layout(rows []row) string {
	var out strings.Builder
	for _, r := range rows {
		line, words := r.text, strings.Fields(r.comment)
		if len(words) == 0 {
			out.WriteString(line + "\n")
			continue
		}
		line = fmt.Sprintf("%-*s #", column-1, line)
		start := strings.LastIndex(line, "#")
		for _, w := range words {
			if len(line)+1+len(w) > width && !strings.HasSuffix(line, "#") {
				out.WriteString(line + "\n")
				line = strings.Repeat(" ", start) + "#"
			}
			line += " " + w
		}
		out.WriteString(line + "\n")
	}
	return out.String()
}

// scalar writes a value on one line of YAML.
func scalar(value any) (string, error) {
	text, err := yaml.MarshalWithOptions(value, yaml.Flow(true))
	out := strings.TrimSpace(string(text))
	if s, ok := value.(string); ok && err == nil {
		var again string
		if yaml.Unmarshal(text, &again) != nil || again != s || strings.ContainsAny(out, "\n") || strings.ContainsAny(s, "#{}[]&*!|>%@`") {
			quoted, err := json.Marshal(s) // which is YAML too
			return string(quoted), err
		}
	}
	return out, err
}

// plain writes a value with a format of its own the way it is read.
func plain(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		text := value.String()
		text = strings.TrimSuffix(text, "m0s") + suffix(text, "m0s", "m")
		return strings.TrimSuffix(text, "h0m") + suffix(text, "h0m", "h")
	case fmt.Stringer:
		return value.String()
	}
	return fmt.Sprint(v.Interface())
}

func suffix(text, long, short string) string {
	if strings.HasSuffix(text, long) {
		return short
	}
	return ""
}
