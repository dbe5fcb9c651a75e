package policy

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// How a document changed.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Change is one document that differs between two bundles.
type Change struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	Change string   `json:"change"`           // added, removed or changed
	Fields []string `json:"fields,omitempty"` // of a changed one, such as spec.to.0.when
	// Replaces is the system whose place a System begins to take: a move.
	Replaces string `json:"replaces,omitempty"`
}

func (c Change) String() string {
	text := c.Change + " " + c.Kind + " " + c.Name
	if len(c.Fields) > 0 {
		text += ": " + strings.Join(c.Fields, ", ")
	}
	if c.Replaces != "" {
		text += " (replaces " + c.Replaces + ")"
	}
	return text
}

// Diff lists the documents that differ, by kind and name. A file that a document refers to
// counts as part of it. The sets are not needed for that and may be nil: a bundle that does
// not compile can be compared too.
func Diff(_, _ *Set, oldB, newB Bundle) []Change {
	before, after := flatten(oldB), flatten(newB)
	var out []Change
	for _, id := range union(before, after) {
		a, had := before[id]
		b, has := after[id]
		change := Change{Kind: id[0], Name: id[1], Change: Changed}
		switch {
		case !had:
			change.Change = Added
		case !has:
			change.Change = Removed
		default:
			for _, name := range slices.Compact(slices.Sorted(seqBoth(a, b))) {
				x, hadField := a[name]
				if y, hasField := b[name]; x != y || hadField != hasField {
					change.Fields = append(change.Fields, name)
				}
			}
			if len(change.Fields) == 0 {
				continue
			}
		}
		if of := b["spec.replaces"]; id[0] == "System" && of != a["spec.replaces"] {
			change.Replaces = of
		}
		out = append(out, change)
	}
	return out
}

func seqBoth(a, b map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range a {
			if !yield(name) {
				return
			}
		}
		for name := range b {
			if !yield(name) {
				return
			}
		}
	}
}

// documentID is kind and name.
type documentID [2]string

func union(a, b map[documentID]map[string]string) []documentID {
	ids := slices.Collect(maps.Keys(a))
	for id := range b {
		if _, both := a[id]; !both {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(x, y documentID) int {
		return cmp.Or(slices.Index(kinds, x[0])-slices.Index(kinds, y[0]), cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]))
	})
	return ids
}

// flatten gives every document as its scalar fields by path.
func flatten(b Bundle) map[documentID]map[string]string {
	out := map[documentID]map[string]string{}
	var ignored Problems
	for _, file := range slices.Sorted(maps.Keys(b)) {
		if !documentFile(file) {
			continue
		}
		for _, doc := range parseFile(file, b[file], &ignored) {
			fields := map[string]string{}
			flattenNode(b, doc, "", fields)
			id := documentID{fields["kind"], fields["metadata.name"]}
			delete(fields, "kind")
			delete(fields, "metadata.name")
			out[id] = fields
		}
	}
	return out
}

func flattenNode(b Bundle, n node, at string, out map[string]string) {
	switch v := n.value.(type) {
	case string:
		if content, refers := b[v]; refers && !documentFile(v) {
			v += fmt.Sprintf(" sha256:%x", sha256.Sum256(content))
		}
		out[at] = v
	case []node:
		for i, item := range v {
			flattenNode(b, item, join(at, fmt.Sprint(i)), out)
		}
	case *mapping:
		for i, key := range v.keys {
			name, _ := key.value.(string)
			flattenNode(b, v.values[i], join(at, name), out)
		}
	}
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}
