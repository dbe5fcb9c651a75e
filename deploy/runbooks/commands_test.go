package runbooks

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// known is a command as its reference has it.
type known struct {
	flags map[string]bool // by name, with its dashes; true: a value follows
	takes bool            // something beside flags
}

var (
	flagRow = regexp.MustCompile("^\\| `(--[a-z-]+)( [^`]+)?`(?:, `(-[a-z])`)?")
	span    = regexp.MustCompile("`([^`]+)`")
	filled  = regexp.MustCompile(`\$\([^)]*\)`)
	parting = regexp.MustCompile(`&&|\||;`)
	spoken  = regexp.MustCompile(`^(?:sudo )?(crossdock(?:-agent)?(?: .*)?)$`)
)

// reference reads the commands of a program; those flags that all have stand under "".
func reference(t *testing.T, program string, dirs ...string) map[string]known {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append(dirs, "COMMANDS.md")...))
	if err != nil {
		t.Fatal(err)
	}
	out, name := map[string]known{"": {flags: map[string]bool{}}}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			name = heading
			out[name] = known{flags: map[string]bool{}}
		} else if usage, ok := strings.CutPrefix(line, "    "+name+" "); ok && name != "" {
			out[name] = known{out[name].flags, len(arguments(strings.Fields(usage), nil)) > 0}
		} else if m := flagRow.FindStringSubmatch(line); m != nil {
			out[name].flags[m[1]] = m[2] != ""
			if m[3] != "" {
				out[name].flags[m[3]] = m[2] != ""
			}
		}
	}
	if len(out) < 20 || len(out[""].flags) == 0 {
		t.Fatalf("only %d commands of %s were read", len(out), program)
	}
	return out
}

// arguments leaves flags and their values out, the way a usage line writes them or a command
// line, whose flags are known.
func arguments(words []string, flags map[string]bool) (out []string) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "[flags]" || word == "|":
		case strings.HasPrefix(word, "-") && word != "-":
			if flags == nil || flags[word] && !strings.Contains(word, "=") {
				i++
			}
		default:
			out = append(out, word)
		}
	}
	return out
}

// commands are those of a runbook: what is written as code and begins with a program of ours.
func commands(text string) (out []string) {
	var code []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") {
			code = append(code, line)
			continue
		}
		for _, m := range span.FindAllStringSubmatch(line, -1) {
			code = append(code, m[1])
		}
	}
	for _, line := range code {
		line, _, _ = strings.Cut(filled.ReplaceAllString(line, "NOW"), " #")
		for _, one := range parting.Split(line, -1) {
			if m := spoken.FindStringSubmatch(strings.TrimSpace(one)); m != nil && strings.Contains(m[1], " ") {
				out = append(out, m[1])
			}
		}
	}
	return out
}

// check says what is wrong with a command line.
func check(line string, of map[string]known) string {
	words := strings.Fields(line)
	n := len(words)
	for ; n > 1; n-- {
		if _, ok := of[strings.Join(words[:n], " ")]; ok {
			break
		}
	}
	if n <= 1 {
		return "there is no such command"
	}
	command := of[strings.Join(words[:n], " ")]
	flags := map[string]bool{}
	for _, from := range []map[string]bool{of[""].flags, command.flags} {
		for flag, value := range from {
			flags[flag] = value
		}
	}
	for _, word := range words[n:] {
		flag, _, _ := strings.Cut(word, "=")
		if _, ok := flags[flag]; strings.HasPrefix(word, "-") && word != "-" && !ok {
			return "it has no flag " + flag
		}
	}
	if rest := arguments(words[n:], flags); len(rest) > 0 && !command.takes {
		return "it takes no " + rest[0]
	}
	return ""
}

// Whoever does at night what a runbook says types commands that there are, with flags that
// they have.
func TestEveryCommandIsThere(t *testing.T) {
	of := map[string]map[string]known{
		"crossdock":       reference(t, "crossdock", "..", "..", "controlplane", "cmd", "crossdock"),
		"crossdock-agent": reference(t, "crossdock-agent", "..", "..", "agent", "cmd", "crossdock-agent"),
	}
	for line, want := range map[string]string{ // the check itself
		"crossdock agents allow eu": "", "crossdock-agent queue retry ID --confirm-out-of-order": "", "crossdock cluster join A:1 --token - --config FILE": "",
		"crossdock elephants": "there is no such command", "crossdock-agent tail --elephants": "it has no flag --elephants",
		"crossdock-agent status --config FILE home": "it takes no home", "crossdock audit undo": "it takes no undo",
	} {
		program, _, _ := strings.Cut(line, " ")
		if got := check(line, of[program]); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
	names, err := fs.Glob(Files, "*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range names {
		text, err := Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := commands(string(text))
		slices.Sort(lines)
		for _, line := range slices.Compact(lines) {
			program, _, _ := strings.Cut(line, " ")
			if wrong := check(line, of[program]); wrong != "" {
				t.Errorf("%s: %s: %s", name, line, wrong)
			}
			seen++
		}
	}
	if seen < 50 {
		t.Errorf("only %d commands were found in the runbooks", seen)
	}
}
