package settings

import (
	"fmt"
	"reflect"
	"strings"
)

// Example writes a file with every key, its default or its example, and what it means.
// config holds the defaults.
func Example(config any, head string) string {
	defaults := defaultsOf(config)
	var rows []row
	each(tree(reflect.Indirect(reflect.ValueOf(config)).Type(), "", nil), 0, func(n *node, depth int) {
		if depth == 0 && (n.key == nil || len(rows) == 0) {
			rows = append(rows, row{})
		}
		one := row{text: indent(depth) + n.name + ":", comment: n.doc}
		if n.key != nil {
			text := n.key.Example
			if text == "" {
				text = defaults[n.key.Name]
			}
			one.text += " " + text
		}
		rows = append(rows, one)
	})
	var out strings.Builder
	for line := range strings.Lines(head) {
		out.WriteString("# " + line)
	}
	return out.String() + layout(rows)
}

// plainText keeps what Markdown would take for its own.
var plainText = strings.NewReplacer("|", `\|`, "<", `\<`)

// Table writes all keys as a table of Markdown.
func Table(config any, prefix string) string {
	defaults := defaultsOf(config)
	var out strings.Builder
	out.WriteString("| key | type | default | variable | a change needs | meaning |\n|---|---|---|---|---|---|\n")
	for _, k := range Keys(config) {
		needs := "a restart"
		if k.Reload {
			needs = "a reload"
		}
		shown := strings.Trim(defaults[k.Name], `"`)
		if shown == "[]" {
			shown = ""
		}
		if shown != "" {
			shown = "`" + shown + "`"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | `%s` | %s | %s |\n", k.Name, k.Type, shown, k.Variable(prefix), needs, plainText.Replace(k.Doc))
	}
	return out.String()
}

// defaultsOf gives the values of a struct as a file says them, by key.
func defaultsOf(config any) map[string]string {
	out := map[string]string{}
	for _, s := range (&Values{keys: Keys(config)}).List(config) {
		text, err := scalar(s.Value)
		if err != nil {
			text = fmt.Sprint(s.Value)
		}
		out[s.Key] = text
	}
	return out
}
