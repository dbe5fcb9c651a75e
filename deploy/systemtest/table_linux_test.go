package systemtest

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTableOfFaultsIsTrue: README.md names every fault, and no test that does not exist.
func TestTableOfFaultsIsTrue(t *testing.T) {
	table := read(t, "README.md")
	for _, f := range faults {
		if !strings.Contains(table, "`"+f.name+"`") {
			t.Errorf("README.md does not say what %s stands for", f.name)
		}
	}
	exist, declared := map[string]bool{}, regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(root, path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			exist[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`Test[A-Z]\w+`).FindAllString(table, -1) {
		if !exist[name] {
			t.Errorf("README.md names %s, which does not exist", name)
		}
	}
	for _, m := range regexp.MustCompile("`([a-z]+(?:-[a-z]+)+|[a-z]+)`").FindAllStringSubmatch(table, -1) {
		if _, known := faultNamed(m[1]); !known {
			t.Errorf("README.md names the fault %s, which does not exist", m[1])
		}
	}
}
