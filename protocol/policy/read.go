package policy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/spelling"
)

// object reads the fields of one mapping and reports, at its close, those that nobody
// asked for. All problems are collected; a field that cannot be read is as if absent.
type object struct {
	c      *compiler
	what   string // for messages, such as "route dispatches-to-erp"
	at     place
	fields *mapping
	known  []string
	path   string // for notes: of the kind, such as System.http
	named  bool   // the document chooses the names of the fields
}

// field is one value asked for. Without set it is absent, or null.
type field struct {
	node
	name string
	set  bool
}

func (c *compiler) object(n node, what string) *object {
	m, ok := n.value.(*mapping)
	if !ok {
		if _, known := n.value.(refused); n.value != nil && !known {
			c.errorAt(n.place, "write it as name: value pairs", "%s must be a mapping", what)
		}
		m = &mapping{}
	}
	return &object{c: c, what: what, at: n.place, fields: m, path: c.notes.object(n)}
}

func (o *object) get(name string) field {
	o.known = append(o.known, name)
	note := o.note(name)
	for i, key := range o.fields.keys {
		if key.value == name {
			v := o.fields.values[i]
			if v.value == nil {
				v.place = key.place
			}
			o.c.notes.below(note.Path, v)
			_, known := v.value.(refused)
			return field{node: v, name: name, set: v.value != nil && !known}
		}
	}
	return field{node: node{place: o.at}, name: name}
}

// has says whether the field is written, be it empty.
func (o *object) has(name string) bool {
	o.note(name).optional = true
	return slices.ContainsFunc(o.fields.keys, func(k node) bool { return k.value == name })
}

// close reports the fields that were not asked for.
func (o *object) close() {
	for _, key := range o.fields.keys {
		name, _ := key.value.(string)
		if slices.Contains(o.known, name) {
			continue
		}
		hint := "known here: " + strings.Join(slices.Compact(slices.Clone(o.known)), ", ")
		if near := spelling.Nearest(name, o.known); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		o.c.errorAt(key.place, hint, "unknown field %s in %s", quoted(name), o.what)
	}
}

func (o *object) missing(f field, hint string) {
	o.note(f.name).required = true
	if _, known := f.value.(refused); known {
		return
	}
	o.c.errorAt(f.place, hint, "%s is missing in %s", f.name, o.what)
}

func (o *object) text(name string) field {
	f := o.get(name)
	o.note(name).Type = "text"
	if _, ok := f.value.(string); f.set && !ok {
		o.c.errorAt(f.place, "", "%s in %s must be a text", name, o.what)
		f.set = false
	}
	if f.set && len(f.str()) > expr.MaxSource {
		o.c.errorAt(f.place, "", "%s in %s is too long", name, o.what)
		f.set = false
	}
	return f
}

func (f field) str() string {
	text, _ := f.value.(string)
	return text
}

// required reads a text that must be there.
func (o *object) required(name, hint string) field {
	f := o.text(name)
	o.note(name).required = true
	if f.value == nil || f.set && strings.TrimSpace(f.str()) == "" {
		f.set = false
		o.missing(f, hint)
	}
	return f
}

func (o *object) oneOf(name string, fallback string, allowed ...string) string {
	f := o.text(name)
	note := o.note(name)
	note.Type, note.Default, note.Limits = "choice", fallback, "one of "+strings.Join(allowed, ", ")
	if !f.set {
		return fallback
	}
	if !slices.Contains(allowed, f.str()) {
		hint := "one of " + strings.Join(allowed, ", ")
		if near := spelling.Nearest(f.str(), allowed); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		o.c.errorAt(f.place, hint, "%s %s in %s is not known", name, quoted(f.str()), o.what)
		return fallback
	}
	return f.str()
}

func (o *object) list(name string) []node {
	f := o.get(name)
	note := o.note(name)
	note.Type = cmp.Or(note.Type, "list")
	items, ok := f.value.([]node)
	if f.set && !ok {
		o.c.errorAt(f.place, "write it as - item, or [item, item]", "%s in %s must be a list", name, o.what)
	}
	return items
}

// texts reads a list of texts, each with its place.
func (o *object) texts(name string) []field {
	var out []field
	for _, n := range o.list(name) {
		text, ok := n.value.(string)
		if !ok || text == "" {
			o.c.errorAt(n.place, "", "%s in %s must be a list of texts", name, o.what)
			continue
		}
		if slices.ContainsFunc(out, func(f field) bool { return f.str() == text }) {
			o.c.errorAt(n.place, "", "%s stands twice in %s", quoted(text), name)
			continue
		}
		out = append(out, field{node: n, name: name, set: true})
	}
	o.note(name).Type = "list of texts"
	return out
}

func strs(fields []field) []string {
	var out []string
	for _, f := range fields {
		out = append(out, f.str())
	}
	return out
}

func (o *object) bool(name string) bool {
	f := o.text(name)
	note := o.note(name)
	note.Type, note.Default = "true or false", "false"
	if f.set && f.str() != "true" && f.str() != "false" {
		o.c.errorAt(f.place, "write true or false", "%s in %s is not a truth value", name, o.what)
	}
	return f.str() == "true"
}

// number reads a number between bounds.
func (o *object) number(name string, fallback, least, most float64) float64 {
	f := o.text(name)
	o.note(name).between("number", fallback, least, most, func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) })
	if !f.set {
		return fallback
	}
	v, err := strconv.ParseFloat(f.str(), 64)
	if err != nil || math.IsNaN(v) || v < least || v > most {
		o.c.errorAt(f.place, fmt.Sprintf("a number from %v to %v", least, most), "%s in %s is not a number that can be used", name, o.what)
		return fallback
	}
	return v
}

func (o *object) integer(name string, fallback, least, most int) int {
	v := o.number(name, float64(fallback), float64(least), float64(most))
	o.note(name).Type = "whole number"
	if v != math.Trunc(v) {
		o.c.errorAt(o.get(name).place, "", "%s in %s must be a whole number", name, o.what)
		return fallback
	}
	return int(v)
}

// duration reads such as 500ms, 10s, 5m, 24h or 3d.
func (o *object) duration(name string, fallback, least, most time.Duration) time.Duration {
	f := o.text(name)
	o.note(name).between("duration", float64(fallback), float64(least), float64(most), func(v float64) string { return shortDuration(time.Duration(v)) })
	if !f.set {
		return fallback
	}
	d, err := time.ParseDuration(f.str())
	if days, isDays := strings.CutSuffix(f.str(), "d"); isDays {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(min(max(n, -1), 100_000)) * 24 * time.Hour
	}
	if err != nil {
		o.c.errorAt(f.place, "such as 500ms, 10s, 5m, 24h or 3d", "%s in %s is not a duration", name, o.what)
		return fallback
	}
	if d < least || d > most {
		o.c.errorAt(f.place, fmt.Sprintf("from %s to %s", least, most), "%s in %s is out of range", name, o.what)
		return fallback
	}
	return d
}

// expression reads an inline jq expression.
func (o *object) expression(name string) *expr.Expr {
	f := o.text(name)
	o.note(name).Type = "expression"
	if !f.set {
		return nil
	}
	return o.c.inline(f, o.what)
}

// mapping reads an expression, inline or from a .jq file of the bundle.
func (o *object) mapping(name string) *expr.Expr {
	f := o.text(name)
	o.note(name).Type = "expression or .jq file"
	if !f.set {
		return nil
	}
	if !strings.HasSuffix(f.str(), ".jq") || strings.ContainsAny(f.str(), " |\n") {
		return o.c.inline(f, o.what)
	}
	content, ok := o.c.file(f, o.what)
	if !ok {
		return nil
	}
	e, err, ok := o.c.expression(f, string(content))
	if !ok {
		return nil
	}
	if err != nil {
		line, column, message := syntax(err)
		o.c.errorAt(place{file: f.str(), line: line, column: column}, "", "expression: %s", message)
	}
	return e
}

func (c *compiler) inline(f field, what string) *expr.Expr {
	e, err, ok := c.expression(f, f.str())
	if err == nil || !ok {
		return e
	}
	line, column, message := syntax(err)
	at := f.place
	switch {
	case f.block:
		at.line, at.column = at.line+line, column
	case line == 1 && f.plain:
		at.column += column - 1
	case line == 1:
		at.column += column // behind the quote
	}
	c.errorAt(at, "", "%s in %s does not compile: %s", f.name, what, message)
	return nil
}

func quoted(text string) string {
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return strconv.Quote(text)
}
