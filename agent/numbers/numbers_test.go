package numbers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/serial"
)

// compile makes a policy with a range "a" of sites eu and na, and one "b" of na.
func compile(low int) (*policy.Set, error) {
	set, problems := policy.Compile(policy.Bundle{"p.yaml": fmt.Appendf(nil, `apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: it, region: eu}
---
apiVersion: crossdock/v1
kind: Site
metadata: {name: na}
spec: {owner: it, region: na}
---
apiVersion: crossdock/v1
kind: NumberRange
metadata: {name: a}
spec: {owner: it, format: plain, prefix: A, width: 9, from: 1, to: 999999999, sites: [eu, na], block: 20, low: %d}
---
apiVersion: crossdock/v1
kind: NumberRange
metadata: {name: b}
spec: {owner: it, format: plain, prefix: B, width: 9, from: 1, to: 999999999, sites: [na], block: 10}
`, low)})
	if set == nil {
		return nil, problems
	}
	return set, nil
}

// bench is a store, a clock, and what was told.
type bench struct {
	*Store
	t         testing.TB
	cfg       Config
	now       time.Time
	set       *policy.Set
	connected bool
	told      []string
	next      uint64 // serial that the control plane leases next
}

func newBench(t testing.TB) *bench {
	set, err := compile(10)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, now: time.Unix(1_800_000_000, 0), set: set, connected: true, next: 1}
	b.cfg = Config{Path: filepath.Join(t.TempDir(), "numbers.db"), Site: "eu", Epoch: 1, Policy: func() *policy.Set { return b.set },
		Connected: func() bool { return b.connected }, Now: func() time.Time { return b.now }, Check: queue.CheckPages,
		Alarm: func(kind, what, _ string) { b.told = append(b.told, kind+" "+what) }}
	b.open()
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func (b *bench) open() {
	b.t.Helper()
	s, err := Open(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Store = s
}

func (b *bench) reopen() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

// lease answers what is wanted, as a control plane does.
func (b *bench) lease() {
	b.t.Helper()
	wanted, err := b.Wanted()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, w := range wanted {
		b.next = max(b.next, w.Highest+1)
		if err := b.Leased(w.Range, w.ID, b.next, b.next+w.Want-1); err != nil {
			b.t.Fatal(err)
		}
		b.next += w.Want
	}
}

func (b *bench) take(reference string, count int) []uint64 {
	b.t.Helper()
	given, err := b.Take("a", reference, count)
	if err != nil {
		b.t.Fatalf("%s: %v", reference, err)
	}
	var out []uint64
	for _, n := range given {
		out = append(out, n.Serial)
	}
	return out
}

func (b *bench) refuse(reference string, count int, want error) {
	b.t.Helper()
	if given, err := b.Take("a", reference, count); !errors.Is(err, want) {
		b.t.Errorf("%s: got %v, %v, want %v", reference, given, err, want)
	}
}

// Examples of the GS1 General Specifications, of the GS1 check digit calculator's page, and of
// the articles on S10 and on the SSCC.
func TestPublishedCheckDigits(t *testing.T) {
	for _, tc := range []struct {
		form serial.Form
		n    uint64
		want string
	}{
		{serial.Form{Lead: "37610425", Digits: 9, Check: serial.CheckMod10}, 2123456, "376104250021234569"},
		{serial.Form{Lead: "10614141", Digits: 9, Check: serial.CheckMod10}, 192837465, "106141411928374657"},
		{serial.Form{Lead: "RR", Digits: 8, Check: serial.CheckS10, Trail: "GB"}, 47312482, "RR473124829GB"},
		{serial.Form{Lead: "RR", Digits: 8, Check: serial.CheckS10, Trail: "GB"}, 12345678, "RR123456785GB"},
		{serial.Form{Lead: "WH-", Digits: 4, Check: serial.CheckNone}, 7, "WH-0007"},
	} {
		if got, err := Text(tc.form, tc.n); err != nil || got != tc.want {
			t.Errorf("got %s, %v, want %s", got, err, tc.want)
		}
	}
	if _, err := Text(serial.Form{Lead: "A", Digits: 3, Check: serial.CheckMod10}, 1); err == nil {
		t.Error("a check digit over a letter")
	}
}

func TestTake(t *testing.T) {
	b := newBench(t)
	b.refuse("r1", 1, ErrUsedUp)
	b.lease()
	if got := b.take("r1", 3); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("%v", got)
	}
	if got := b.take("r2", 1); !slices.Equal(got, []uint64{4}) {
		t.Errorf("%v", got)
	}
	b.reopen()
	if got := b.take("r1", 3); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("the same reference got %v", got)
	}
	b.refuse("r1", 2, ErrReference)
	if wanted, err := b.Wanted(); err != nil || len(wanted) != 0 {
		t.Errorf("wanted with enough: %v, %v", wanted, err)
	}
	b.refuse("r3", 17, ErrUsedUp)
	for _, bad := range []int{0, -1, MaxCount + 1} {
		b.refuse("r4", bad, ErrRequest)
	}
	b.refuse("", 1, ErrRequest)
	b.refuse(strings.Repeat("x", MaxReference+1), 1, ErrRequest)
	if _, err := b.Take("b", "r", 1); !errors.Is(err, ErrRange) {
		t.Errorf("a range of another site: %v", err)
	}
	if _, err := b.Take("none", "r", 1); !errors.Is(err, ErrRange) {
		t.Errorf("no range: %v", err)
	}
	b.take("r5", 7) // nine left
	b.next = 101    // another site got what is between
	b.lease()
	if got := b.take("r6", 12); got[8] != 20 || got[9] != 101 || got[11] != 103 {
		t.Errorf("over two blocks: %v", got)
	}
	want := []Holding{{Range: "a", Left: 17, Low: 10, Used: 23, Highest: 120}}
	if got := b.Holdings(); !slices.Equal(got, want) {
		t.Errorf("holdings %+v, want %+v", got, want)
	}
	b.set = nil
	b.refuse("r7", 1, ErrRange)
	if b.Holdings() != nil {
		t.Error("holdings without a policy")
	}
}

// A request stays the same until it is answered, over a restart; its answer is taken once.
func TestRequestsAreRepeated(t *testing.T) {
	b := newBench(t)
	first, err := b.Wanted()
	if err != nil || len(first) != 1 || first[0].Want != 20 {
		t.Fatalf("%+v, %v", first, err)
	}
	b.reopen()
	again, err := b.Wanted()
	if err != nil || !slices.Equal(first, again) {
		t.Fatalf("%+v, then %+v, %v", first, again, err)
	}
	for range 2 {
		if err := b.Leased("a", first[0].ID, 1, 20); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Leased("a", [16]byte{9}, 21, 40); err != nil {
		t.Fatal(err)
	}
	if got := b.Holdings()[0]; got.Left != 20 {
		t.Errorf("%+v", got)
	}
	b.take("r", 15)
	wanted, _ := b.Wanted()
	if err := b.Leased("a", wanted[0].ID, 20, 39); err == nil {
		t.Error("a block that overlaps was taken")
	}
	if err := b.Leased("a", wanted[0].ID, 50, 49); err == nil {
		t.Error("a block without numbers was taken")
	}
}

// In a new epoch nothing of the old lease is given; what is remembered of references stays.
func TestNewEpochDropsLeases(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b := newBench(t)
		b.lease()
		b.take("r1", 2)
		old, _ := b.Wanted()
		if restart { // the process ended between the identity's epoch and this one's
			b.cfg.Epoch = 2
			b.reopen()
		} else if err := b.Begin(2); err != nil {
			t.Fatal(err)
		}
		b.refuse("r2", 1, ErrUsedUp)
		form := serial.Form{Lead: "A", Digits: 9, Check: serial.CheckNone}
		if marks, ok := b.Marks(); !ok || !slices.Equal(marks, []Mark{{Range: "a", Highest: 20, Used: 2, Form: form}}) {
			t.Errorf("marks %v %v", marks, ok)
		}
		if got := b.take("r1", 2); !slices.Equal(got, []uint64{1, 2}) {
			t.Errorf("what was given: %v", got)
		}
		for _, w := range old {
			if err := b.Leased(w.Range, w.ID, 90, 99); err != nil {
				t.Fatal(err)
			}
		}
		b.refuse("r2", 1, ErrUsedUp)
		b.lease()
		if got := b.take("r2", 1); got[0] != 21 {
			t.Errorf("%v", got)
		}
		b.cfg.Epoch = 2
		b.reopen()
		if got := b.take("r3", 1); got[0] != 22 {
			t.Errorf("after a restart %v", got)
		}
	}
}

func TestFencedGivesNothing(t *testing.T) {
	b := newBench(t)
	b.lease()
	if err := b.Fenced(); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	b.refuse("r1", 1, ErrFenced)
	if wanted, err := b.Wanted(); err != nil || wanted != nil {
		t.Errorf("%v, %v", wanted, err)
	}
	if err := b.Begin(2); err != nil {
		t.Fatal(err)
	}
	if err := b.Agreed(); err != nil {
		t.Fatal(err)
	}
	b.cfg.Epoch = 2
	b.lease()
	if got := b.take("r1", 1); got[0] != 21 {
		t.Errorf("%v", got)
	}
}

// After a commit that failed nobody knows what is on disk: nothing is given, not even what was
// given before, and the process ends. A full disk has changed nothing.
func TestFailedCommit(t *testing.T) {
	b := newBench(t)
	b.lease()
	b.take("r1", 1)
	if err := b.failed(&fs.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}); errors.Is(err, ErrDisk) {
		t.Error(err)
	}
	b.take("r2", 1)
	db := b.db
	other := filepath.Join(t.TempDir(), "other.db")
	if err := db.View(func(tx *bolt.Tx) error { return tx.CopyFile(other, 0o600) }); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.db, err = bolt.Open(other, 0o600, &bolt.Options{ReadOnly: true}); err != nil { // each commit fails
		t.Fatal(err)
	}
	b.refuse("r3", 1, ErrDisk)
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	b.db = db
	b.refuse("r1", 1, ErrDisk)
	b.refuse("r4", 1, ErrDisk)
	if wanted, err := b.Wanted(); wanted != nil || !errors.Is(err, ErrDisk) {
		t.Errorf("wanted %v, %v", wanted, err)
	}
	select {
	case <-b.ended: // else it would run on
		if err := b.Run(t.Context()); !errors.Is(err, ErrDisk) {
			t.Errorf("it ends with %v", err)
		}
	default:
		t.Error("it runs on")
	}
}

// Who needs more at once than low says gets them when the line is up.
func TestMoreAtOnceThanLow(t *testing.T) {
	b := newBench(t)
	b.lease()
	b.take("r1", 5)
	b.refuse("r2", 50, ErrUsedUp) // 15 left, low is 10
	for range 3 {
		b.lease()
	}
	if got := b.take("r2", 50); len(got) != 50 {
		t.Errorf("%v", got)
	}
	b.lease()
	b.take("r3", 5)
	if wanted, err := b.Wanted(); err != nil || len(wanted) != 0 {
		t.Errorf("wanted %v, %v: it leases that many for ever", wanted, err)
	}
}

// What is told at once is bounded; ranges that the policy has go before others.
func TestMarksAreBounded(t *testing.T) {
	b := newBench(t)
	for i := range maxMarks + 5 {
		b.held[fmt.Sprintf("0-%03d", i)] = rangeRecord{Highest: 9}
	}
	b.lease()
	if marks, ok := b.Marks(); !ok || len(marks) != maxMarks || marks[0].Range != "a" || marks[1].Range != "0-000" {
		t.Errorf("%d marks, %v", len(marks), marks[:2])
	}
}

// A person at the site may know that nothing was put back.
func TestVouch(t *testing.T) {
	b := newBench(t)
	b.lease()
	b.take("r1", 2)
	if err := b.Vouch(); !errors.Is(err, ErrNoDoubt) {
		t.Errorf("without need: %v", err)
	}
	b.now = b.now.Add(time.Hour)
	b.connected = false
	b.reopen()
	if got := b.Holdings()[0]; got.Left != 0 || !strings.Contains(got.Refused, "vouch") {
		t.Errorf("%+v", got)
	}
	b.watch()
	b.now = b.now.Add(graceLow)
	b.watch()
	if err := b.Vouch(); err != nil {
		t.Fatal(err)
	}
	if got := b.take("r2", 1); got[0] != 3 {
		t.Errorf("%v", got)
	}
	if len(b.told) != 2 || b.told[0] != "numbers-used-up a/20" || !strings.HasPrefix(b.told[1], "numbers-vouched ") {
		t.Errorf("told %q", b.told)
	}
	b.reopen()
	if err := b.Agreed(); err != nil {
		t.Fatal(err)
	}
	if got := b.take("r3", 1); got[0] != 4 {
		t.Errorf("%v", got)
	}
}

// A file that is damaged goes aside: what it held is given up and said to be unknown.
func TestDamagedFile(t *testing.T) {
	for name, harm := range map[string]func(b *bench){
		"a page": func(b *bench) {
			text, err := os.ReadFile(b.cfg.Path)
			if err != nil {
				b.t.Fatal(err)
			}
			clear(text[:len(text)/2])
			if err := os.WriteFile(b.cfg.Path, text, 0o600); err != nil {
				b.t.Fatal(err)
			}
		},
		"another site": func(b *bench) { b.cfg.Site = "na" },
		"a bit of a serial": func(b *bench) {
			db, err := bolt.Open(b.cfg.Path, 0o600, nil)
			if err != nil {
				b.t.Fatal(err)
			}
			err = db.Update(func(tx *bolt.Tx) error {
				value := slices.Clone(tx.Bucket(bucketRanges).Get([]byte("a")))
				value[len(value)/2] ^= 1
				return tx.Bucket(bucketRanges).Put([]byte("a"), value)
			})
			if err := errors.Join(err, db.Close()); err != nil {
				b.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.lease()
			b.take("r1", 5)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			harm(b)
			b.open()
			b.refuse("r1", 1, ErrUsedUp)
			if _, ok := b.Marks(); ok || len(b.told) != 1 || !strings.HasPrefix(b.told[0], "numbers-damaged ") {
				t.Errorf("marks are known: %v; told %q", ok, b.told)
			}
			if aside, _ := filepath.Glob(b.cfg.Path + ".damaged-*"); len(aside) != 1 {
				t.Errorf("set aside: %q", aside)
			}
			b.next = 21
			b.lease()
			b.reopen()
			if got := b.take("r1", 1); got[0] < 21 {
				t.Errorf("%v", got)
			}
			if marks, ok := b.Marks(); !ok || len(marks) == 0 {
				t.Error("marks are not known again")
			}
		})
	}
}

// Few numbers are told once they stay few: without a line, or where no more are given.
func TestAlarms(t *testing.T) {
	b := newBench(t)
	look := func(want ...string) {
		t.Helper()
		b.watch()
		b.now = b.now.Add(graceLow)
		b.watch()
		if !slices.Equal(b.told, want) {
			t.Errorf("told %q, want %q", b.told, want)
		}
		b.told = nil
	}
	look() // nothing leased yet, but the line is up
	b.lease()
	b.connected = false
	look()
	b.take("r1", 11)
	look("numbers-low a/20")
	look()
	b.take("r2", 9)
	look("numbers-used-up a/20")
	look()
	b.connected = true
	look()
	b.Refused("a", "used up")
	b.reopen() // a restart tells again; the same id is the same exception
	b.Refused("a", "used up")
	look("numbers-used-up a/20")
	b.lease()
	look()
	if got := b.Holdings()[0]; got.Refused != "" {
		t.Errorf("%+v", got)
	}
	b.connected = false
	b.take("r3", 11)
	look("numbers-low a/40")
}

// References are remembered up to a limit, and the oldest is forgotten.
func TestOldReferencesAreForgotten(t *testing.T) {
	b := newBench(t)
	b.lease()
	b.take("r1", 1)
	err := b.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketOrder).SetSequence(keepReferences) })
	if err != nil {
		t.Fatal(err)
	}
	b.take("r2", 1)
	if got := b.take("r1", 1); got[0] != 3 {
		t.Errorf("%v", got)
	}
}
