package calls

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// A file that was left alone may be an image that was put back, with the memory of the process
// or without: what was bought since is looked for. A clock that is far behind says nothing of
// the age either.
func TestAnImageThatWasPutBack(t *testing.T) {
	for _, away := range []time.Duration{copyAge + time.Second, -copyAge - time.Second} {
		for name, use := range map[string]func(r *rig) error{
			"a restart":  func(r *rig) error { r.reopen(); return nil },
			"its memory": func(*rig) error { return nil },
			"its memory, and it is noted": func(r *rig) error {
				err := r.store.alive(r.cfg.Now())
				r.reopen()
				return err
			},
			"looked at": func(r *rig) error { r.Status(); r.reopen(); return nil },
		} {
			t.Run(fmt.Sprint(name, away), func(t *testing.T) {
				r := newRig(t, nil)
				if err := r.shop.sell("R"); err != nil { // by what was newer
					t.Fatal(err)
				}
				r.now.Add(int64(away))
				if err := use(r); err != nil {
					t.Fatal(err)
				}
				r.must(carrier.OpShip, "k", shipment("R"))
				r.boughtOnce("R")
				if r.reopen(); !r.Status().Doubt {
					t.Error("it is doubted no more after a restart")
				}
			})
		}
	}
}

// A journal that is worked with is no copy, nor is it after a restart.
func TestARestartIsNoCopy(t *testing.T) {
	r := newRig(t, nil)
	r.run()
	noted := func() int64 {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		return r.store.noted.Unix()
	}
	for range 30 {
		r.now.Add(int64(aliveEvery))
		until(t, "it is noted that it is in use", func() bool { return r.cfg.Now().Unix()-noted() < 30 })
	}
	r.close()
	r.now.Add(int64(copyAge - aliveEvery))
	r.open()
	r.must(carrier.OpShip, "k", shipment("R"))
	if got := r.shop.asks(); !slices.Equal(got, []string{"ship R"}) || r.Status().Doubt {
		t.Errorf("asked %v, in doubt %t", got, r.Status().Doubt)
	}
}

// A clock that jumps ahead has next to nothing forgotten, before a restart and after it; the
// time that really passes has.
func TestClockThatJumpsAhead(t *testing.T) {
	r := newRig(t, nil)
	r.must(carrier.OpShip, "k1", shipment("R1"))
	r.now.Add(int64(10 * time.Minute))
	r.must(carrier.OpShip, "k2", shipment("R2"))
	kept := func(when string, want int) {
		t.Helper()
		r.trim()
		if _, got, _ := r.store.count(); got != want {
			t.Errorf("%s: %d are kept, want %d", when, got, want)
		}
	}
	r.now.Add(int64(90 * 24 * time.Hour))
	kept("after the jump", 2)
	r.close()
	r.cfg.Uptime = func() time.Duration { return time.Duration(r.ran.Load()) } // stands still
	r.open()
	kept("after a restart", 2)
	r.ran.Add(int64(time.Minute)) // four of calls
	kept("a minute later", 1)
	r.ran.Add(int64(10 * time.Minute))
	kept("and ten", 0)
}

// What is let go for want of room is told if it is young, and looked for before it is bought.
func TestPushedOutEarly(t *testing.T) {
	r := newRig(t, nil)
	r.must(carrier.OpShip, "k", shipment("R"))
	r.Limit(r.cfg.Deadline, 1)
	r.trim()
	if _, kept, _ := r.store.count(); kept != 0 || !r.out.told(alarmCut) {
		t.Fatalf("%d are kept, told %v", kept, r.out.alarms)
	}
	r.reopen()
	r.must(carrier.OpShip, "k", shipment("R"))
	r.boughtOnce("R")
}

// Room is made without an exception by what is a day old.
func TestPushedOutLater(t *testing.T) {
	r := newRig(t, nil)
	r.must(carrier.OpShip, "k", shipment("R"))
	r.Limit(r.cfg.Deadline, 1)
	r.now.Add(int64(MinRetain + time.Second))
	r.trim()
	if _, kept, _ := r.store.count(); kept != 0 || r.out.told(alarmCut) {
		t.Fatalf("%d are kept, told %v", kept, r.out.alarms)
	}
}

// A finished call whose record has rotted costs no more than a look at the carrier, whichever
// of its names it is asked for by, and is told once.
func TestRottenRecord(t *testing.T) {
	for _, key := range []string{"k", "another"} {
		t.Run(key, func(t *testing.T) {
			r := newRig(t, nil)
			rotten := r.must(carrier.OpShip, "k", shipment("R")).ID
			r.must(carrier.OpShip, "fine", shipment("R2"))
			if err := r.store.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketCalls).Put([]byte(rotten), []byte("rot")) }); err != nil {
				t.Fatal(err)
			}
			r.shop.failing(carrier.OpGetByReference, down)
			for range 2 {
				r.refusedWith(InDoubt, carrier.OpShip, key, shipment("R"))
			}
			r.shop.failing(carrier.OpGetByReference, nil)
			r.run()
			for _, k := range []string{key, "k", "third"} {
				until(t, "an answer to "+k, func() bool {
					a, err := r.do(carrier.OpShip, k, shipment("R"))
					return err == nil && a.State == Done && r.shippedOf(a).Reference == "R"
				})
			}
			r.boughtOnce("R")
			r.must(carrier.OpVoid, "v", void("R"))
			var refusal *Refusal
			if _, err := r.Call("wms", rotten); !errors.As(err, &refusal) || refusal.Code != NoSuch {
				t.Errorf("the call itself: %v", err)
			}
			if list, _, err := r.Calls("wms", Done, Page{}); err != nil || len(list) != 3 {
				t.Errorf("the list: %+v, %v", list, err)
			}
			r.out.mu.Lock()
			told := slices.DeleteFunc(slices.Clone(r.out.alarms), func(kind string) bool { return kind != alarmDamaged })
			r.out.mu.Unlock()
			if len(told) != 1 {
				t.Errorf("told %d times", len(told))
			}
		})
	}
}

// Rot does not keep a record from being forgotten, nor its names.
func TestRottenRecordIsForgotten(t *testing.T) {
	r := newRig(t, nil)
	id := r.must(carrier.OpShip, "k", shipment("R")).ID
	err := r.store.db.Update(func(tx *bolt.Tx) error {
		k, _ := tx.Bucket(bucketEnded).Cursor().First()
		return errors.Join(tx.Bucket(bucketCalls).Put([]byte(id), []byte("rot")), tx.Bucket(bucketEnded).Put(slices.Clone(k), []byte("rot")))
	})
	if err != nil {
		t.Fatal(err)
	}
	r.now.Add(int64(31 * 24 * time.Hour))
	r.ran.Add(int64(31 * 24 * time.Hour))
	r.trim()
	err = r.store.db.View(func(tx *bolt.Tx) error {
		for _, bucket := range [][]byte{bucketCalls, bucketKeys, bucketRefs, bucketEnded} {
			if k, _ := tx.Bucket(bucket).Cursor().First(); k != nil {
				t.Errorf("%s still has %q", bucket, k)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Finished calls are listed in pages, the newest first, each once.
func TestPages(t *testing.T) {
	r := newRig(t, nil)
	for i := range 5 {
		r.must(carrier.OpShip, fmt.Sprint("k", i), shipment(fmt.Sprint("R", i)))
	}
	for limit, pages := range map[int][]int{2: {2, 2, 1}, 5: {5}, 0: {5}, 4: {4, 1}} {
		var got []string
		page := Page{Limit: limit}
		for i, want := range pages {
			list, next, err := r.Calls("wms", Done, page)
			if err != nil || len(list) != want || (next == "") != (i == len(pages)-1) {
				t.Fatalf("limit %d, page %d: %d calls, next %q, %v", limit, i, len(list), next, err)
			}
			for _, v := range list {
				got = append(got, v.Reference)
			}
			page.Cursor = next
		}
		if want := []string{"R4", "R3", "R2", "R1", "R0"}; !slices.Equal(got, want) {
			t.Errorf("limit %d: got %v, want %v", limit, got, want)
		}
	}
	for _, page := range []Page{{Cursor: "no cursor!"}, {Limit: -1}, {Limit: MaxList + 1}} {
		var refusal *Refusal
		if _, _, err := r.Calls("wms", Done, page); !errors.As(err, &refusal) || refusal.Code != Invalid {
			t.Errorf("%+v: %v", page, err)
		}
	}
	if list, next, err := r.Calls("wms", Done, Page{Cursor: "AAAA"}); err != nil || len(list) != 0 || next != "" {
		t.Errorf("behind the oldest: %+v, %q, %v", list, next, err)
	}
}

// A caller has an answer while somebody still hears it, and the call goes on.
func TestAnswerInTime(t *testing.T) {
	goes := make(chan struct{})
	r := newRig(t, func(r *rig) {
		r.cfg.AnswerWithin = 20 * time.Millisecond
		r.shop.before = func(string) { <-goes }
	})
	if e := r.refusedWith(InDoubt, carrier.OpShip, "k", shipment("R")); e.RetryAfter <= 0 {
		t.Errorf("got %+v", e)
	}
	close(goes)
	until(t, "the answer", func() bool {
		a, err := r.do(carrier.OpShip, "k", shipment("R"))
		return err == nil && json.Valid(a.Body)
	})
	r.boughtOnce("R")
}
