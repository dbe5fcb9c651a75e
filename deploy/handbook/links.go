package handbook

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// link is one of Markdown, [text](target).
var link = regexp.MustCompile(`\[([^\[\]]+)\]\(([^()\s]+)\)`)

// folders are those whose README is a topic by another name.
var folders = map[string]string{"pluginhost": "plugins", "release": "releases", "sdk": "plugin-guide", "secrets": "sealed-secrets", "space": "disk"}

// onTerminal gives a topic's text without links that lead nowhere there: one to a topic becomes
// what to type, of another within the sources its text stays. Addresses and code stay as they are.
func onTerminal(text, program string, topics []Topic) string {
	replace := func(found string) string {
		m := link.FindStringSubmatch(found)
		words, target := m[1], m[2]
		if strings.Contains(target, "://") {
			return found
		}
		name := topicOf(target)
		if !slices.ContainsFunc(topics, func(t Topic) bool { return t.Name == name }) {
			return words
		}
		typed := "`" + program + " help " + name + "`"
		if strings.TrimSuffix(words, ".md") == name {
			return typed
		}
		return words + " (" + typed + ")"
	}
	var out strings.Builder
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		}
		if !fenced {
			parts := strings.Split(line, "`")
			for i := 0; i < len(parts); i += 2 { // between them is code
				parts[i] = link.ReplaceAllStringFunc(parts[i], replace)
			}
			line = strings.Join(parts, "`")
		}
		out.WriteString(line)
	}
	return out.String()
}

// topicOf is the name of the topic that a file within the sources would be.
func topicOf(target string) string {
	file, _, _ := strings.Cut(target, "#")
	base := path.Base(file)
	if base != "README.md" {
		name, _ := strings.CutSuffix(base, ".md")
		if name == base {
			return "" // another kind of file
		}
		return name
	}
	folder := path.Base(path.Dir(file))
	if name, is := folders[folder]; is {
		return name
	}
	return folder
}
