package calls

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/checked"
	"github.com/crossdock/crossdock/agent/shrink"
)

// together has changes wait in one line behind a commit that is being made, and gives what
// came of each.
func together(t *testing.T, s *store, changes []func() error) []error {
	t.Helper()
	begun, goOn := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.update(func(*bolt.Tx) error { close(begun); <-goOn; return nil })
	}()
	<-begun
	type outcome struct {
		i   int
		err error
	}
	ended := make(chan outcome, len(changes))
	for i, c := range changes {
		go func() { ended <- outcome{i, c()} }()
		until(t, "the change stands in the line", func() bool {
			s.line.mu.Lock()
			defer s.line.mu.Unlock()
			return len(s.line.waiting) == i+1
		})
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	out := make([]error, len(changes))
	for range changes {
		o := <-ended
		out[o.i] = o.err
	}
	return out
}

func queued(i int) *record {
	id := fmt.Sprintf("q%d", i)
	return &record{ID: id, System: "wms", Plugin: "shop", Key: id, Reference: id, State: Queued}
}

// What comes while a commit is being written is on disk with the next.
func TestChangesShareACommit(t *testing.T) {
	r := newRig(t, nil)
	const n = 20
	var transactions [n]int
	var changes []func() error
	for i := range n {
		changes = append(changes, func() error {
			return r.store.update(func(tx *bolt.Tx) error {
				transactions[i] = tx.ID()
				return put(tx, bucketMeta, fmt.Append(nil, i), i)
			})
		})
	}
	if err := errors.Join(together(t, r.store, changes)...); err != nil {
		t.Fatal(err)
	}
	if slices.Min(transactions[:]) != slices.Max(transactions[:]) {
		t.Fatalf("they were committed in %v", transactions)
	}
	r.reopen()
	for i := range n {
		err := r.store.view(func(tx *bolt.Tx) error {
			var got int
			return checked.Decode(bucketMeta, fmt.Append(nil, i), tx.Bucket(bucketMeta).Get(fmt.Append(nil, i)), &got)
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// One that fails by what it finds fails alone; the others are kept, each with a turn of its own.
func TestWhoSharesACommitWithOneThatFails(t *testing.T) {
	r := newRig(t, nil)
	const n, bad = 5, 3
	wrong := errors.New("wrong")
	var changes []func() error
	for i := range n {
		changes = append(changes, func() error { return r.store.save(queued(i), false) })
	}
	changes[bad] = func() error {
		return r.store.update(func(tx *bolt.Tx) error {
			return errors.Join(put(tx, bucketMeta, []byte("bad"), 1), wrong)
		})
	}
	for i, err := range together(t, r.store, changes) {
		if got := errors.Is(err, wrong); got != (i == bad) || err != nil && !got {
			t.Errorf("change %d: %v", i, err)
		}
	}
	r.reopen()
	var turns []uint64
	for _, w := range r.store.waiting() {
		turns = append(turns, w.Turn)
	}
	slices.Sort(turns)
	if want := []uint64{1, 2, 3, 4}; !slices.Equal(turns, want) {
		t.Errorf("the turns are %v, want %v", turns, want)
	}
	err := r.store.view(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketMeta).Get([]byte("bad")) != nil {
			return errors.New("what failed was kept")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// After a commit of which nobody knows what is on disk, all that shared it hear so, and nothing
// is made any more.
func TestAllHearOfADiskThatFails(t *testing.T) {
	r := newRig(t, nil)
	db, other := r.store.db, filepath.Join(t.TempDir(), "other.db")
	if err := db.View(func(tx *bolt.Tx) error { return tx.CopyFile(other, 0o600) }); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.store.db, err = shrink.Open(other, &bolt.Options{ReadOnly: true}); err != nil { // each commit fails
		t.Fatal(err)
	}
	var changes []*change
	for range 3 {
		changes = append(changes, &change{do: func(*bolt.Tx) error { return nil }, done: make(chan struct{})})
	}
	r.store.commit(changes)
	if err := r.store.db.Close(); err != nil {
		t.Fatal(err)
	}
	r.store.db = db
	for i, c := range changes {
		if <-c.done; !errors.Is(c.err, ErrDisk) {
			t.Errorf("change %d: %v", i, c.err)
		}
	}
	if err := r.store.update(func(*bolt.Tx) error { t.Error("it was made"); return nil }); !errors.Is(err, ErrDisk) {
		t.Error(err)
	}
}
