package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/calls"
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
	leaveCalls(t, filepath.Join(cfg.Data, callsFile), map[string]int{"open": 2, "leave": 1})
	want.Calls = 3
	if left, err := LeftIn(cfg); err != nil || left != want {
		t.Errorf("with calls: left %v, %v; want %v", left, err, want)
	}
	if got := (Status{Calls: calls.Status{Queued: 1, Unknown: 2, Begun: 3, Leaving: 4, Kept: 5}}).Left(); got != (Left{Calls: 10}) || !got.Any() {
		t.Errorf("a running agent says %v", got)
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

// leaveCalls makes a file of calls with entries in its buckets.
func leaveCalls(t *testing.T, path string, entries map[string]int) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for bucket, n := range entries {
			b, err := tx.CreateBucket([]byte(bucket))
			for i := range n {
				err = errors.Join(err, b.Put([]byte(strconv.Itoa(i)), nil))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
