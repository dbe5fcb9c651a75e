package delivery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	bolt "go.etcd.io/bbolt"
)

// Left is what an engine that does not run still had to do. Shadows do not count: nobody acts
// upon them.
type Left struct {
	Pending     uint64 // deliveries that nothing has become of yet
	Parked      uint64
	DeadLetters uint64 // open
}

// leftPage is how many events are looked at in one go.
const leftPage = 1024

// LeftIn counts what the engine of agent self had to do, by its file and its journal, and
// changes neither. Without the file nothing was ever delivered. check is Config.Check.
func LeftIn(path, self string, source Source, check func(path string) error) (left Left, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return left, left.count(nil, self, source)
	}
	if check != nil {
		if err := check(path); err != nil {
			return left, fmt.Errorf("delivery: %s: %w", path, err)
		}
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return left, openError(path, err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		if tx.Bucket(systemsBucket) == nil || tx.Bucket(receiptsBucket) == nil || tx.Bucket(parkedBucket) == nil || tx.Bucket(deadBucket) == nil {
			return errors.New("it is no file of deliveries, or of one that was never begun")
		}
		if err := left.stored(tx); err != nil {
			return err
		}
		return left.count(tx, self, source)
	})
	if err != nil {
		return Left{}, fmt.Errorf("delivery: %s: %w", path, err)
	}
	return left, nil
}

// stored counts what has left the journal for the file.
func (l *Left) stored(tx *bolt.Tx) error {
	parked := tx.Bucket(parkedBucket)
	if err := parked.ForEachBucket(func(system []byte) error {
		return parked.Bucket(system).ForEach(func(_, _ []byte) error {
			l.Parked++
			return nil
		})
	}); err != nil {
		return err
	}
	return tx.Bucket(deadBucket).ForEach(func(_, text []byte) error {
		rec := &deadRecord{}
		if _, err := unseal(text, rec); err != nil || rec.State == DeadLetterOpen || rec.State == DeadLetterReplaying {
			l.DeadLetters++ // one that cannot be read is nobody's to lose either
		}
		return nil
	})
}

// count goes through the journal; tx is nil where there is no file.
func (l *Left) count(tx *bolt.Tx, self string, source Source) error {
	rows, from := map[string]row{}, uint64(0)
	if tx != nil {
		var err error
		if rows, err = readRows(tx); err != nil {
			return err
		}
	}
	for {
		items, next, err := source.ReadLocal(from, leftPage)
		if err != nil {
			return err
		}
		for i := range items {
			for _, t := range items[i].Head.TargetsAt(self) {
				ref := Ref{Pos: items[i].Pos, Index: items[i].Index}
				if !t.Shadow && ref.Pos >= rows[t.System].Cursor && !settled(tx, t.System, ref) {
					l.Pending++
				}
			}
		}
		if next == from {
			return nil
		}
		from = next
	}
}

// settled reports whether something has become of a delivery above its system's cursor.
func settled(tx *bolt.Tx, system string, ref Ref) bool {
	if tx == nil {
		return false
	}
	b := tx.Bucket(receiptsBucket).Bucket([]byte(system))
	return b != nil && b.Get(slot{ref: ref}.bytes()) != nil
}
