// Package reference owns how the references beside the code are made from the code: of the
// commands, of the metrics and of the APIs. It holds topics of help to their form, too.
//
// It refuses to know what is in them. Its invariant: the same program gives the same text, and a
// text that is not what the program says fails a test. Only tests import it.
package reference

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Compare holds a file to what it should be; with update it is written.
func Compare(t *testing.T, file string, want []byte, update bool) {
	t.Helper()
	if update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s is not what the program says of itself: run `make generate`, or go generate in this folder", file)
	}
}

// Commands describes a program's commands, as Markdown and as one manual page.
func Commands(root *cobra.Command) (markdown, man []byte) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: the commands\n\n%s\n", root.Name(), text(root))
	if flags := flagTable(root.PersistentFlags()); flags != "" {
		fmt.Fprintf(&b, "\nFlags of all commands:\n\n%s", flags)
	}
	command(&b, root)
	page := fmt.Sprintf("%% %s 1\n\n# NAME\n\n%s - %s\n\n", strings.ToUpper(root.Name()), root.Name(), root.Short)
	_, rest, _ := strings.Cut(b.String(), "\n\n")
	return b.Bytes(), md2man.Render([]byte(page + "# DESCRIPTION\n\n" + rest))
}

func command(b *bytes.Buffer, of *cobra.Command) {
	for _, c := range of.Commands() { // in the order of names
		if c.Hidden || c.Name() == "completion" {
			continue
		}
		if c.HasSubCommands() && !c.HasFlags() && c.Long == "" {
			command(b, c)
			continue
		}
		fmt.Fprintf(b, "\n## %s\n\n%s\n", c.CommandPath(), text(c))
		if c.Runnable() && !c.HasSubCommands() {
			fmt.Fprintf(b, "\n    %s\n", c.UseLine())
		}
		if flags := flagTable(c.LocalNonPersistentFlags()); flags != "" {
			fmt.Fprintf(b, "\n%s", flags)
		}
		command(b, c)
	}
}

// text is the long description if there is one, with what is set in from the left as it stands.
func text(c *cobra.Command) string {
	if c.Long == "" {
		return c.Short + "."
	}
	lines := strings.Split(strings.TrimSpace(c.Long), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "  ") {
			lines[i] = "    " + strings.TrimLeft(line, " ")
		}
	}
	out := lines[:0:0]
	for i, line := range lines {
		if i > 0 && strings.HasPrefix(line, "    ") && lines[i-1] != "" && !strings.HasPrefix(lines[i-1], "    ") {
			out = append(out, "")
		}
		if i > 0 && line != "" && !strings.HasPrefix(line, "    ") && strings.HasPrefix(lines[i-1], "    ") {
			out = append(out, "")
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func flagTable(flags *pflag.FlagSet) string {
	var rows []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		name := "`--" + f.Name
		if kind, _ := pflag.UnquoteUsage(f); kind != "" {
			name += " " + kind
		}
		if name += "`"; f.Shorthand != "" {
			name += ", `-" + f.Shorthand + "`"
		}
		_, usage := pflag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && f.DefValue != "0s" {
			usage += " (default `" + f.DefValue + "`)"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s |\n", name, strings.ReplaceAll(usage, "|", "\\|")))
	})
	if len(rows) == 0 {
		return ""
	}
	slices.Sort(rows)
	return "| flag | |\n|---|---|\n" + strings.Join(rows, "")
}

// Fill puts generated text between the markers of a file that is otherwise written by hand, and holds the
// file to it: <!-- NAME: made by a test --> and <!-- end -->.
func Fill(t *testing.T, file string, blocks map[string]string, update bool) (whole string) {
	t.Helper()
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	whole = string(have)
	for name, block := range blocks {
		marker := "<!-- " + name + ": made by a test -->\n"
		before, rest, begun := strings.Cut(whole, marker)
		_, behind, ended := strings.Cut(rest, "<!-- end -->")
		if !begun || !ended {
			t.Fatalf("%s has no place for %s: a line %q and a line <!-- end -->", file, name, marker)
		}
		whole = before + marker + "\n" + block + "\n<!-- end -->" + behind
	}
	Compare(t, file, []byte(whole), update)
	return whole
}
