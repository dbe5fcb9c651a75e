package house

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	inlineLink = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	fenced     = regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]*`")
	heading    = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noAnchor   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// A link that leads nowhere is found by whoever needs it.
func TestLinksLeadToFiles(t *testing.T) {
	top, links := os.DirFS("../.."), 0
	err := fs.WalkDir(top, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"node_modules", "bin", "dist", "run"}, d.Name())):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(p, ".md"):
			return nil
		}
		text, err := fs.ReadFile(top, p)
		if err != nil {
			return err
		}
		for _, m := range inlineLink.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(m[1], ":") {
				continue // elsewhere
			}
			links++
			if fault := linkFault(top, p, m[1]); fault != "" {
				t.Errorf("%s leads to %s: %s", p, m[1], fault)
			}
		}
		return nil
	})
	if err != nil || links < 50 {
		t.Fatalf("found %d links, %v", links, err)
	}
}

// linkFault says why a link in a file leads nowhere, or "".
func linkFault(top fs.FS, file, link string) string {
	to, anchor, _ := strings.Cut(link, "#")
	target := file
	if to != "" {
		target = path.Join(path.Dir(file), to)
	}
	if _, err := fs.Stat(top, target); err != nil {
		return "it is not there"
	}
	if anchor == "" || !strings.HasSuffix(target, ".md") {
		return ""
	}
	text, err := fs.ReadFile(top, target)
	if err != nil {
		return err.Error()
	}
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		if strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-") == anchor {
			return ""
		}
	}
	return "no heading has that name"
}
