// Package runbooks carries what to do, by symptom, into the programs: what is read in an
// outage must be there without a network and be of the program's own version.
//
// It refuses to know who reads. Its invariant: what it gives is the text of this folder.
package runbooks

import (
	"embed"
	"slices"
	"strings"
)

//go:embed *.md
var texts embed.FS

// Topics lists the runbooks by name.
func Topics() (out []string) {
	entries, err := texts.ReadDir(".")
	if err != nil {
		return nil // it is part of the program
	}
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".md"))
	}
	slices.Sort(out)
	return out
}

// Text gives a runbook; ok is false when there is none of the name.
func Text(topic string) (text string, ok bool) {
	raw, err := texts.ReadFile(topic + ".md")
	return string(raw), err == nil
}

// Title is the first line of a runbook.
func Title(topic string) string {
	text, _ := Text(topic)
	first, _, _ := strings.Cut(text, "\n")
	return strings.TrimPrefix(first, "# ")
}
