package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// kept is what the waiting events of a system take, as its courier counts them.
func (b *bench) kept(system string) int64 {
	out := make(chan int64, 1)
	c := b.courier(system)
	c.post(func() { out <- c.stored() + c.inMemory() })
	return <-out
}

// smallDisk gives the bench a disk of some size, with nothing else on it.
func smallDisk(b *bench, size int64) {
	b.cfg.Space = func() (free int64) {
		free = size
		_ = b.db.View(func(tx *bolt.Tx) error { free -= tx.Size(); return nil }) // the function returns no error
		return free
	}
}

// A system that is down, or refuses what it gets, takes no more than its share of the disk;
// other systems go on, and it goes on itself when it has room again.
func TestSystemTakesItsShareOfTheDisk(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail Failure
		mode string
	}{
		{"down", Failure{Class: Unavailable}, onPark},
		{"refusing", Failure{Class: Rejected}, onPark},
		{"refusing, goes on", Failure{Class: Rejected}, onSkip},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rules := newRules([]string{"erp", "wms"})
			rules.set.Routes[0].OnExhausted = tt.mode
			b := newBench(t, rules, func(c *Config) { c.ParkAfter = time.Millisecond })
			smallDisk(b, 80<<10)
			testShare(t, b, tt.fail)
		})
	}
}

func testShare(t *testing.T, b *bench, fail Failure) {
	b.target.play(func(_ context.Context, d Delivery) (Answer, error) {
		if d.System == "erp" {
			return Answer{}, &fail
		}
		return Answer{Status: 200}, nil
	})
	rnd := rand.New(rand.NewPCG(7, 8))
	var want []expectation
	feed := func(n int) {
		t.Helper()
		for range n {
			id, key := fmt.Sprint("e", len(want)), fmt.Sprint("k", rnd.IntN(4))
			want = append(want, expectation{"erp", key, id})
			b.journal.append(makeItem(id, key, to("erp", "wms")...))
		}
		await(t, "the other system has got all", func() bool { return len(b.target.delivered("wms")) == len(want) })
	}
	const limit = 80<<10/roomParts/2 + 1<<10 // with one event for which there was room for a part
	check := func() int64 {
		t.Helper()
		got := b.kept("erp")
		if got > limit || got == 0 {
			t.Errorf("%d bytes are kept, the share is %d", got, limit)
		}
		return got
	}
	b.run(t)
	feed(200)
	await(t, "it is read for no more", func() bool { return b.of("erp").State == SystemFull })
	check()
	feed(20)
	before := check()
	b.stop()
	b.run(t)
	if after := check(); fail.Class == Rejected && after != before { // what is refused is in memory no more
		t.Errorf("%d bytes are kept after a restart, %d before", after, before)
	}

	b.target.play(nil)
	await(t, "all is delivered when people have looked", func() bool {
		letters, err := b.DeadLetters()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range letters {
			_ = b.Replay(t.Context(), Command{ID: "again " + l.ID, DeadLetter: l.ID, Confirm: true}) // until it is closed
		}
		return len(b.target.delivered("erp")) == len(want)
	})
	await(t, "nothing is kept", func() bool { return b.kept("erp") == 0 })
	if fail.Class == Rejected {
		return // the attempts that people asked for come after others
	}
	records := slices.DeleteFunc(b.target.records(), func(r attemptRecord) bool { return r.system != "erp" })
	if err := checkHistory(records, want, false); err != nil {
		t.Error(err)
	}
}
