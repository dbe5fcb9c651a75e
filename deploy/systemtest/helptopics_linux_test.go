package systemtest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/deploy/handbook"
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
	told := map[string][]string{}           // a text, and the topics that print it
	topics := map[string][]handbook.Topic{} // names only, by program
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
			topics[program] = append(topics[program], handbook.Topic{Name: m[1]})
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
		var tell []string
		for program, names := range topics {
			tell = append(tell, told[asHelp(t, program, names, string(text))]...)
		}
		switch why, none := noTopics[p]; {
		case none && len(tell) > 0:
			t.Errorf("%s is %v, and stands in the list of what is none: %s", p, tell, why)
		case !none && len(tell) == 0:
			t.Errorf("%s is no topic of either program: add it to topics in help.go, or here to noTopics with the reason", p)
		}
		return nil
	})
	if err != nil || texts < 40 {
		t.Fatalf("found %d texts, %v", texts, err)
	}
}

// asHelp is a text as a program with these topics prints it: links into the sources are what to type.
func asHelp(t *testing.T, program string, topics []handbook.Topic, text string) string {
	t.Helper()
	const name = "this-text"
	var out strings.Builder
	root := &cobra.Command{Use: program}
	root.AddCommand(&cobra.Command{Use: "other", Run: func(*cobra.Command, []string) {}}) // without one there is no help
	root.SetHelpCommand(handbook.Command(&out, append(slices.Clone(topics), handbook.NewTopic(name, text)), fmt.Errorf))
	root.SetArgs([]string{"help", name})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
