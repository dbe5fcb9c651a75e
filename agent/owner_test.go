package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJournalBelongsToOneAgent(t *testing.T) {
	cfg := Config{Data: t.TempDir()}
	if name, err := holder(cfg); name != "" || err != nil {
		t.Errorf("an empty directory: %q, %v", name, err)
	}
	for _, dir := range []string{cfg.JournalDir(), cfg.IdentityDir()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := claim(cfg.JournalDir(), "eu"); err != nil {
			t.Fatal(err)
		}
	}
	if err := claim(cfg.JournalDir(), "na"); !errors.Is(err, ErrOtherAgent) || !strings.Contains(err.Error(), "belongs to agent eu, and this is agent na") {
		t.Errorf("another agent's journal: %v", err)
	}
	if name, err := holder(cfg); name != "eu" || err != nil {
		t.Errorf("a journal without an identity: %q, %v", name, err)
	}
	file := filepath.Join(cfg.IdentityDir(), "agent.json")
	for _, tt := range []struct {
		text, want string
		wrong      bool
	}{{`{"agent":"eu","site":"eu"}`, "eu", false}, {`{"agent":"na","site":"na"}`, "", true}, {`{"ag`, "eu", false}} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if name, err := holder(cfg); name != tt.want || errors.Is(err, ErrOtherAgent) != tt.wrong {
			t.Errorf("identity %s: %q, %v", tt.text, name, err)
		}
	}
	if err := os.Remove(filepath.Join(cfg.JournalDir(), ownerFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(`{"agent":"na","site":"na"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if name, err := holder(cfg); name != "na" || err != nil {
		t.Errorf("an identity without a journal: %q, %v", name, err)
	}
}
