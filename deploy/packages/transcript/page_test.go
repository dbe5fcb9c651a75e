package transcript

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

const (
	script = "testdata/transcript.txtar"
	page   = "../../handbook/install.md"
)

// Each command of the page is one that the script runs.
func TestPageIsTheTranscript(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	ran := alike(strings.ReplaceAll(string(said), "''", "'"))
	commands := 0
	for _, block := range regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(regexp.MustCompile(`\s+# .*$`).ReplaceAllString(" "+line, ""))
			if line == "" {
				continue
			}
			commands++
			if !strings.Contains(ran, "'"+alike(line)+"'") {
				t.Errorf("the page says, and the script never runs: %s", line)
			}
		}
	}
	if commands < 25 {
		t.Errorf("only %d commands are on the page", commands)
	}
}

// alike takes away what differs from one machine to the next.
func alike(text string) string {
	return strings.NewReplacer("amd64", "ARCH", "arm64", "ARCH", "$ARCH", "ARCH").Replace(text)
}
