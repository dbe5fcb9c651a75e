package record

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestLinesAreReadAsTheyWereWritten(t *testing.T) {
	type line struct {
		Seed int `json:"seed"`
	}
	file := filepath.Join(t.TempDir(), "new", "lines.jsonl")
	for _, seed := range []int{1, 2} {
		if err := Append(file, line{seed}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) != "{\"seed\":1}\n{\"seed\":2}\n" {
		t.Errorf("%q, %v", text, err)
	}
	var l line
	if err := Parse([]byte(`{"seed":3}`), &l); err != nil || l.Seed != 3 {
		t.Errorf("%+v, %v", l, err)
	}
	if err := Parse([]byte(`{"sead":3}`), &l); err == nil {
		t.Error("a name that nobody knows is passed over")
	}
}

// A tree is its commit as long as nothing but what is excepted has changed.
func TestCommit(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(dir)) // it may lie in a tree
	t.Chdir(dir)
	git := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	write := func(name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := Commit(); got != "unknown"+Dirty {
		t.Errorf("outside of a tree: %s", got)
	}
	git("init", "-q")
	write("program")
	git("add", ".")
	git("commit", "-q", "-m", "one")
	clean := Commit()
	if clean == "" || strings.HasSuffix(clean, Dirty) {
		t.Errorf("nothing has changed: %s", clean)
	}
	write("a/testdata/fuzz/x")
	write("lines.jsonl")
	if got := Commit("lines.jsonl", "**/testdata/fuzz/**"); got != clean {
		t.Errorf("only what is excepted has changed: %s, want %s", got, clean)
	}
	if got := Commit("lines.jsonl"); got != clean+Dirty {
		t.Errorf("a file is new: %s, want %s", got, clean+Dirty)
	}
}
