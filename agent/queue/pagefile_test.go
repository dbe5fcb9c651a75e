package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/queue"
)

// Of a file with one broken page everything else can still be had.
func TestSalvagePages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "some.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	const n = 500
	if err := errors.Join(db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := range n {
			err = errors.Join(err, b.Put(fmt.Appendf(nil, "key-%04d", i), bytes.Repeat([]byte{byte(i)}, 100)))
		}
		return err
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := queue.CheckPages(path); err != nil {
		t.Fatalf("a sound file: %v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte("key-0250"))
	text[at-at%os.Getpagesize()] ^= 0x40 // the page's own number
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := queue.CheckPages(path); !errors.Is(err, queue.ErrDamage) {
		t.Errorf("a broken page: %v", err)
	}
	found := 0
	if err := queue.SalvagePages(path, func(key, value []byte) {
		var i int
		if _, err := fmt.Sscanf(string(key), "key-%d", &i); err == nil && bytes.Equal(value, bytes.Repeat([]byte{byte(i)}, 100)) {
			found++
		}
	}); err != nil || found < n-100 || found == n {
		t.Errorf("%d of %d found, %v", found, n, err)
	}
}

// Under pressure one file after the other goes, never one that is needed, nor the newest.
func TestTrimOne(t *testing.T) {
	l, err := queue.Open(queue.Config{Dir: t.TempDir(), SegmentBytes: 32 << 10, Quota: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for l.First(); ; {
		if _, err := l.Append([][]byte{make([]byte, 1000)}, nil); err != nil {
			t.Fatal(err)
		}
		if r, err := l.Inspect(); err != nil || len(r.Files) == 4 {
			break
		}
	}
	r, err := l.Inspect()
	if err != nil {
		t.Fatal(err)
	}
	second, third := r.Files[1].First, r.Files[2].First
	for i, step := range []struct{ before, dropped, first uint64 }{
		{second - 1, 0, 1}, {second, second - 1, second}, {third - 1, 0, second}, {l.Next(), third - second, third},
	} {
		dropped, written, err := l.TrimOne(step.before)
		if err != nil || dropped != step.dropped || l.First() != step.first || written.IsZero() != (dropped == 0) || time.Since(written) < 0 {
			t.Errorf("step %d: dropped %d of %v (%v), first is %d; want %+v", i, dropped, written, err, l.First(), step)
		}
	}
	for range 5 {
		if _, _, err := l.TrimOne(l.Next()); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.First(); got != r.Files[3].First {
		t.Errorf("first is %d, want the newest file's %d", got, r.Files[3].First)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	release, err := queue.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Open(queue.Config{Dir: dir}); !errors.Is(err, queue.ErrInUse) {
		t.Errorf("opened beside the lock: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	l, err := queue.Open(queue.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Lock(dir); !errors.Is(err, queue.ErrInUse) {
		t.Errorf("locked beside an open log: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
