// Package handbook owns the texts that both programs print with "help TOPIC": what a person
// needs who has the program and no network. The runbooks are among them.
//
// It refuses to know what a program can do. Its invariant: a topic is a Markdown file that begins
// with its title, and no two topics have one name.
package handbook

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/deploy/examples"
	"github.com/crossdock/crossdock/deploy/packages"
	"github.com/crossdock/crossdock/deploy/runbooks"
	"github.com/crossdock/crossdock/plugins"
)

//go:embed *.md
var files embed.FS

// Topic is one text.
type Topic struct {
	Name  string // as a person types it
	Title string
	Text  string // Markdown
}

// NewTopic makes a topic of a text that begins with its title.
func NewTopic(name, text string) Topic {
	title, _, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n")
	return Topic{Name: name, Title: title, Text: text}
}

// Topics gives what both programs have, and the one that asks has besides, by name.
func Topics(own ...Topic) []Topic {
	all := slices.Concat(in(files), Runbooks(), own, []Topic{NewTopic("settings", examples.Configuration), NewTopic("packages", packages.README)})
	for name, text := range plugins.Guides() {
		all = append(all, NewTopic(name, text))
	}
	slices.SortFunc(all, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Runbooks gives those for when something is wrong, by name.
func Runbooks() []Topic { return in(runbooks.Files) }

// Find gives the topic of a name, and if there is none, names that come near.
func Find(topics []Topic, name string) (found Topic, near []string) {
	name = strings.ToLower(strings.TrimSuffix(name, ".md"))
	for _, t := range topics {
		switch {
		case t.Name == name:
			return t, nil
		case strings.Contains(t.Name, name), strings.Contains(name, t.Name), strings.Contains(strings.ToLower(t.Title), name):
			near = append(near, t.Name)
		}
	}
	return Topic{}, near
}

// List writes the topics with their titles.
func List(w io.Writer, topics []Topic) {
	width := 0
	for _, t := range topics {
		width = max(width, len(t.Name))
	}
	for _, t := range topics {
		fmt.Fprintf(w, "  %-*s  %s\n", width, t.Name, t.Title)
	}
}

// in reads the Markdown files of an embedded folder.
func in(folder embed.FS) (topics []Topic) {
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	for _, e := range entries {
		text, err := fs.ReadFile(folder, e.Name())
		if err != nil {
			panic(err)
		}
		topics = append(topics, NewTopic(strings.TrimSuffix(e.Name(), path.Ext(e.Name())), string(text)))
	}
	return topics
}
