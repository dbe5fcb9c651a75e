package systemtest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// noTopics are texts that nobody needs who has a program and no network, and why.
var noTopics = map[string]string{
	"README.md":                           "what one reads before there is a program; its parts are topics",
	"deploy/systemtest/README.md":         "of who changes the code",
	"deploy/systemtest/REFUSALS.md":       "of who changes the code",
	"deploy/systemtest/history/README.md": "of who changes the code",
}

var topicLine = regexp.MustCompile(`(?m)^  ([a-z0-9-]+) +\S`)

// What is written for people can be read where there is a program and no network.
func TestEveryTextIsATopic(t *testing.T) {
	told := map[string][]string{} // a text, and the topics that print it
	for _, program := range []string{"crossdock", "crossdock-agent"} {
		ask := func(args ...string) string {
			text, err := exec.CommandContext(t.Context(), filepath.Join(programs(t), program), args...).Output()
			if err != nil {
				t.Fatalf("%s %v: %v", program, args, err)
			}
			return string(text)
		}
		_, list, _ := strings.Cut(ask("help"), "\nTopics of help:\n")
		names := topicLine.FindAllStringSubmatch(list, -1)
		if len(names) < 20 {
			t.Fatalf("%s lists only %d topics", program, len(names))
		}
		for _, m := range names {
			text := ask("help", m[1])
			if at := strings.Index("\n"+text, "\n# "); at >= 0 { // behind a command of that name
				text = text[at:]
			}
			told[text] = append(told[text], program+" help "+m[1])
		}
	}
	texts := 0
	err := fs.WalkDir(os.DirFS("../.."), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"testdata", "node_modules", "scripts", "bin", "dist", "run"}, d.Name())):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(p, ".md"):
			return nil
		}
		texts++
		text, err := os.ReadFile(filepath.Join("../..", filepath.FromSlash(p)))
		if err != nil {
			return err
		}
		switch why, none := noTopics[p]; {
		case none && len(told[string(text)]) > 0:
			t.Errorf("%s is %v, and stands in the list of what is none: %s", p, told[string(text)], why)
		case !none && len(told[string(text)]) == 0:
			t.Errorf("%s is no topic of either program: add it to topics in help.go, or here to noTopics with the reason", p)
		}
		return nil
	})
	if err != nil || texts < 40 {
		t.Fatalf("found %d texts, %v", texts, err)
	}
}
