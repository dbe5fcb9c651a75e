package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/crossdock/crossdock/agent/queue"
)

// What waits is counted on the disk alone: no certificate, no identity.
func TestLeftIn(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Data = t.TempDir()
	if _, err := LeftIn(cfg); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no journal: %v", err)
	}
	b := openBooks(t, cfg.JournalDir(), 1)
	if _, err := LeftIn(cfg); !errors.Is(err, queue.ErrInUse) {
		t.Errorf("of a running agent: %v", err)
	}
	b.close()
	if left, err := LeftIn(cfg); err != nil || left.Any() {
		t.Errorf("of one that has taken nothing: %v, %v", left, err)
	}

	b = openBooks(t, cfg.JournalDir(), 1)
	if err := claim(cfg.JournalDir(), "here"); err != nil {
		t.Fatal(err)
	}
	b.add(t, "1", "here")
	b.add(t, "2", "here", "there")
	b.add(t, "3", "there", "elsewhere")
	newOutbox(b.Journal, b.log, 1).Taken("there", 1)
	if err := b.log.Flush(); err != nil {
		t.Fatal(err)
	}
	b.close()
	want := Left{Outgoing: 2, Pending: 2}
	if left, err := LeftIn(cfg); err != nil || left != want || !left.Any() {
		t.Errorf("left %v, %v; want %v", left, err, want)
	}
	if err := os.WriteFile(filepath.Join(cfg.Data, deliveryFile), []byte("no pages"), 0o600); err != nil {
		t.Fatal(err)
	}
	if left, err := LeftIn(cfg); err == nil {
		t.Errorf("with a broken file of deliveries: %v", left)
	}
	if err := errors.Join(os.Remove(filepath.Join(cfg.Data, deliveryFile)), os.Remove(filepath.Join(cfg.JournalDir(), ownerFile))); err != nil {
		t.Fatal(err)
	}
	if left, err := LeftIn(cfg); err == nil {
		t.Errorf("of nobody knows whom: %v", left)
	}
}
