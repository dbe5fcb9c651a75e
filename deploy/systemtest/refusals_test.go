package systemtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var namedTest = regexp.MustCompile(`(?:([a-z][a-z/]*)\.)?(Test[A-Z]\w+)`)

// TestRefusalsAreTried: every test that REFUSALS.md names is there.
func TestRefusalsAreTried(t *testing.T) {
	sources := map[string]string{}
	named := 0
	for _, found := range namedTest.FindAllStringSubmatch(read(t, "REFUSALS.md"), -1) {
		dir, name := found[1], found[2]
		if dir == "" {
			dir = "deploy/systemtest"
		}
		if sources[dir] == "" {
			files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(dir), "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				sources[dir] += string(text)
			}
		}
		named++
		if !strings.Contains(sources[dir], "\nfunc "+name+"(t *testing.T)") {
			t.Errorf("there is no %s in %s", name, dir)
		}
	}
	if named < 30 {
		t.Errorf("only %d names found: the table or this test has changed its form", named)
	}
}
