package numbers

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// want is one that asks, and what came of it.
type want struct {
	reference string
	count     int
	got       []Number
	err       error
}

// together has all of them wait in the line while somebody holds the lock.
func (b *bench) together(wants []*want) {
	b.t.Helper()
	b.mu.Lock()
	ended := make(chan struct{}, len(wants))
	for i, w := range wants {
		go func() {
			w.got, w.err = b.Take("a", w.reference, w.count)
			ended <- struct{}{}
		}()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			b.line.mu.Lock()
			n := len(b.line.waiting)
			b.line.mu.Unlock()
			if n == i+1 {
				break
			}
			if time.Now().After(end) {
				b.mu.Unlock()
				b.t.Fatal("it does not wait in the line")
			}
		}
	}
	b.mu.Unlock()
	for range wants {
		<-ended
	}
}

// transaction is the number of the last one that wrote.
func (b *bench) transaction() (id int) {
	b.t.Helper()
	if err := b.db.View(func(tx *bolt.Tx) error { id = tx.ID(); return nil }); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// Those that ask while a commit is being written get theirs with the next, each as if it had
// asked alone.
func TestTakesShareACommit(t *testing.T) {
	b := newBench(t)
	b.lease()
	known := b.take("before", 2)
	wants := []*want{{reference: "before", count: 2}, {reference: "r0", count: 3}, {reference: "r0", count: 3}, {reference: "r0", count: 4},
		{reference: "many", count: 18}}
	for i := 1; i < 6; i++ {
		wants = append(wants, &want{reference: fmt.Sprint("r", i), count: 2})
	}
	before := b.transaction()
	b.together(wants)
	if n := b.transaction() - before; n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	if got := wants[0].got; wants[0].err != nil || got[0].Serial != known[0] {
		t.Errorf("%v %v, want %v", got, wants[0].err, known)
	}
	if !slices.Equal(wants[1].got, wants[2].got) {
		t.Errorf("the same reference got %v and %v", wants[1].got, wants[2].got)
	}
	if !errors.Is(wants[3].err, ErrReference) || !errors.Is(wants[4].err, ErrUsedUp) {
		t.Errorf("%v, %v", wants[3].err, wants[4].err)
	}
	wants = slices.Delete(wants, 2, 5)
	seen := map[uint64]string{}
	b.reopen()
	for _, w := range wants {
		if w.err != nil {
			t.Errorf("%s: %v", w.reference, w.err)
			continue
		}
		for _, n := range w.got {
			if other := seen[n.Serial]; other != "" {
				t.Errorf("%s and %s have %d", w.reference, other, n.Serial)
			}
			seen[n.Serial] = w.reference
		}
		if again := b.take(w.reference, w.count); again[0] != w.got[0].Serial {
			t.Errorf("%s: %v, then %v", w.reference, w.got, again)
		}
	}
	if next := b.take("next", 1); seen[next[0]] != "" {
		t.Errorf("%d is given twice", next[0])
	}
}

// A line that is longer than one commit takes is answered all the same.
func TestALongLine(t *testing.T) {
	b := newBench(t)
	b.lease()
	var wants []*want
	for i := range 2*maxShared + 1 {
		wants = append(wants, &want{reference: fmt.Sprint("r", i%5), count: 1})
	}
	b.together(wants)
	for _, w := range wants {
		if w.err != nil || len(w.got) != 1 {
			t.Fatalf("%s: %v %v", w.reference, w.got, w.err)
		}
	}
}

// What may not be on disk is nobody's, whoever shared the commit.
func TestAllHearOfADiskThatFails(t *testing.T) {
	b := newBench(t)
	b.lease()
	db, other := b.db, filepath.Join(t.TempDir(), "other.db")
	if err := db.View(func(tx *bolt.Tx) error { return tx.CopyFile(other, 0o600) }); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.db, err = bolt.Open(other, 0o600, &bolt.Options{ReadOnly: true}); err != nil { // each commit fails
		t.Fatal(err)
	}
	wants := []*want{{reference: "r1", count: 1}, {reference: "r2", count: 1}, {reference: "r1", count: 1}}
	b.together(wants)
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	b.db = db
	for _, w := range wants {
		if !errors.Is(w.err, ErrDisk) || w.got != nil {
			t.Errorf("%s: %v %v", w.reference, w.got, w.err)
		}
	}
}
