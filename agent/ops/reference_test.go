package ops

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	routed = regexp.MustCompile(`mux\.Handle(?:Func)?\("(GET|POST) (\S+)", (s\.guarded|s\.meant)?`)
	row    = regexp.MustCompile("(?m)^\\| `((?:GET|POST) [^`?]*)[^`]*` \\| (\\S+) \\|")
)

// The reference names the calls that this door has, and which of them need the token.
func TestReferenceIsCurrent(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var have, described []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range routed.FindAllStringSubmatch(string(text), -1) {
			have = append(have, fmt.Sprintf("%s %s: %s", m[1], m[2], map[string]string{"s.guarded": "yes", "s.meant": "no", "": "no"}[m[3]]))
		}
	}
	text, err := os.ReadFile("API.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		described = append(described, m[1]+": "+m[2])
	}
	slices.Sort(have)
	slices.Sort(described)
	if len(have) < 15 || !slices.Equal(have, described) {
		t.Errorf("API.md describes\n%s\nand the door has\n%s", strings.Join(described, "\n"), strings.Join(have, "\n"))
	}
}
