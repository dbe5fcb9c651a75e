package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// read gives the values of a file that is only said to be damaged.
func read(path string, found func(key, value []byte)) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	var walk func(b *bolt.Bucket) error
	walk = func(b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				return walk(b.Bucket(k))
			}
			found(k, v)
			return nil
		})
	}
	return db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error { return walk(b) })
	})
}

// A damaged file is moved aside: from the floor on everything is delivered again with the
// key that it had, nothing is lost, and an open dead letter still blocks its key.
func TestDamagedFile(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}))
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		if d.Event.ID == "e3" {
			return Answer{}, &Failure{Class: Rejected, Err: errors.New("bad order")}
		}
		return Answer{Status: 200}, nil
	})
	var want []expectation
	for i := range 10 {
		want = append(want, expectation{"erp", fmt.Sprint("k", i%2), fmt.Sprint("e", i)})
		b.journal.append(makeItem(want[i].id, want[i].key, to("erp")...))
	}
	b.run(t)
	await(t, "all but what is blocked", func() bool {
		s := b.of("erp")
		return s.Delivered == 6 && s.Parked == 3 && s.DeadLetters == 1 && b.Unsettled() == 6
	})
	b.stop()
	var told []Damage
	b.cfg.Floor = b.Unsettled() // e5 is the first that waits behind e3
	b.cfg.Check = func(path string) error {
		if _, err := os.Stat(path + ".damaged"); err != nil {
			return errors.New("page 7 calls itself 9")
		}
		return nil
	}
	b.cfg.Salvage = read
	b.cfg.OnDamage = func(d Damage) { told = append(told, d) }
	b.run(t)
	if len(told) != 1 || told[0].From != 6 || told[0].Salvaged != 1 || told[0].MovedTo != b.cfg.Path+".damaged" || !strings.Contains(told[0].Cause.Error(), "page 7") {
		t.Fatalf("told %+v", told)
	}
	await(t, "again what lies behind the floor", func() bool { s := b.of("erp"); return s.Delivered == 2 && s.Parked == 3 })
	b.target.play(nil)
	letter := b.awaitDead(t, 1)[0]
	if letter.EventID != "e3" || !strings.Contains(letter.Cause, "bad order") {
		t.Errorf("salvaged %+v", letter)
	}
	if err := b.Replay(t.Context(), Command{ID: "c", DeadLetter: letter.ID}); err != nil {
		t.Fatal(err)
	}
	await(t, "all", func() bool { return b.of("erp").Delivered == 6 })
	b.stop()
	if err := checkHistory(b.target.records(), want, true); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"e0", "e1", "e2", "e4", "e3", "e5", "e6"} {
		n, _ := b.target.attempts(id)
		if once := !slices.Contains([]string{"e3", "e6"}, id); once != (n == 1) {
			t.Errorf("%s was sent %d times", id, n)
		}
	}
	b.run(t) // the new file is sound, and is kept
	if len(told) != 1 || b.of("erp").DeadLetters != 0 {
		t.Errorf("told %d times", len(told))
	}
}

// A row that fails its checksum, and bytes that are no database, are damage too; a lock
// held by another and a file of another journal are not.
func TestWhatIsDamage(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, path string)
		moved bool
	}{
		"row": {func(t *testing.T, path string) {
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(func(tx *bolt.Tx) error {
				return tx.Bucket(systemsBucket).Put([]byte("erp"), []byte("not sealed"))
			}), db.Close()); err != nil {
				t.Fatal(err)
			}
		}, true},
		"bytes": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
				t.Fatal(err)
			}
		}, true},
		"journal": {func(*testing.T, string) {}, false},
	} {
		b := newBench(t, newRules([]string{"erp"}), func(c *Config) { c.Journal = "one" })
		b.journal.append(makeItem("e", "k", to("erp")...))
		b.run(t)
		b.awaitDelivered(t, "erp", "e")
		b.stop()
		tc.spoil(t, b.cfg.Path)
		if !tc.moved {
			b.cfg.Journal = "two"
		}
		told := 0
		b.cfg.OnDamage = func(Damage) { told++ }
		e, err := Open(b.cfg)
		if err == nil {
			err = e.Close()
		} else if !tc.moved && errors.Is(err, ErrOtherJournal) {
			err = nil
		}
		if err != nil || (told == 1) != tc.moved {
			t.Errorf("%s: told %d times, %v", name, told, err)
		}
	}
}
