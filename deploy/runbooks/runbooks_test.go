package runbooks

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([a-z-]+\.md)\)`)

func TestEveryRunbookHasATitleAndLinksThatLead(t *testing.T) {
	names, err := fs.Glob(Files, "*.md")
	if err != nil || len(names) < 15 {
		t.Fatalf("only %v, %v", names, err)
	}
	for _, name := range names {
		text, err := Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# ") {
			t.Errorf("%s has no title", name)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := fs.Stat(Files, m[1]); err != nil {
				t.Errorf("%s leads to %s, which is not there", name, m[1])
			}
		}
	}
}
