package reference

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/protocol/policy"
)

// Policy describes the documents of policy: their fields as the program reads the examples of a
// folder, each with its meaning, and the examples themselves, which have to be clean.
func Policy(t *testing.T, examples fs.FS) []byte {
	t.Helper()
	bundle, err := policy.ReadBundle(examples)
	if err != nil {
		t.Fatal(err)
	}
	if _, problems := policy.Compile(bundle); len(problems) > 0 {
		t.Errorf("the examples have problems:\n%s", problems.Error())
	}
	fields := policy.Fields(bundle)
	explained(t, fields)
	used := map[string]bool{}
	var b strings.Builder
	b.WriteString(policyHead)
	for _, section := range policySections {
		fmt.Fprintf(&b, "\n%s %s\n\n%s\n", strings.Repeat("#", section.level), section.title, section.text)
		if rows := fieldRows(fields, section); rows != "" {
			fmt.Fprintf(&b, "\n| field | type | default | meaning |\n|---|---|---|---|\n%s", rows)
		}
		for _, name := range section.files {
			text, has := bundle[name]
			if !has {
				t.Errorf("%s: there is no example %s", section.title, name)
			}
			used[name] = true
			language, _ := strings.CutPrefix(name[strings.LastIndex(name, "."):], ".")
			if language != "yaml" {
				fmt.Fprintf(&b, "\n`%s`:\n", name)
			}
			fmt.Fprintf(&b, "\n```%s\n%s\n```\n", language, strings.TrimSpace(string(text)))
		}
	}
	for name := range bundle {
		if !used[name] && strings.HasSuffix(name, ".yaml") {
			t.Errorf("the example %s is on no page", name)
		}
	}
	return []byte(b.String())
}

// explained holds the texts to the fields: each field has one, and each text a field.
func explained(t *testing.T, fields []*policy.Field) {
	t.Helper()
	known := map[string]bool{}
	for _, f := range fields {
		known[f.Path] = true
		if f.Type == "" {
			t.Errorf("no example has %s, so that nobody knows what is below it: write it into one", f.Path)
		}
		if meanings[f.Path].text == "" {
			t.Errorf("%s has no meaning: write it into meanings", f.Path)
		}
		if slices.IndexFunc(policySections, func(s section) bool { return s.has(f.Path) }) < 0 {
			t.Errorf("%s stands in no section", f.Path)
		}
	}
	for path := range meanings {
		if !known[path] {
			t.Errorf("%s has a meaning, and no document has it: remove it from meanings", path)
		}
	}
	for _, kind := range policy.Kinds() {
		if !slices.ContainsFunc(policySections, func(s section) bool { return s.title == kind && len(s.files) > 0 }) {
			t.Errorf("kind %s has no section with an example", kind)
		}
	}
}

// section is a part of the page.
type section struct {
	level  int
	title  string
	text   string
	under  string   // the fields below this path
	except []string // but not what is at or below these
	files  []string // examples
}

func (s section) has(path string) bool {
	return s.under != "" && strings.HasPrefix(path, s.under+".") &&
		!slices.ContainsFunc(s.except, func(e string) bool { return strings.HasPrefix(path, e+".") })
}

func fieldRows(fields []*policy.Field, s section) string {
	var b strings.Builder
	for _, f := range fields {
		if !s.has(f.Path) {
			continue
		}
		_, name, _ := strings.Cut(f.Path, ".")
		kind, fallback := f.Type, f.Default
		if choices, is := strings.CutPrefix(f.Limits, "one of "); is {
			kind = "`" + strings.ReplaceAll(choices, ", ", "`, `") + "`"
		} else if f.Limits != "" {
			kind += ", " + f.Limits
		}
		m := meanings[f.Path]
		if m.fallback != "" {
			fallback = m.fallback
		} else if fallback != "" {
			fallback = "`" + fallback + "`"
		}
		if f.Required() {
			fallback = "**required**"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, kind, fallback, strings.ReplaceAll(m.text, "|", `\|`))
	}
	return b.String()
}
