package numbers

import (
	"errors"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/policy"
)

// A file that was left alone may be a copy that was put back: it gives nothing, and what it
// held is given up when the control plane has been reached.
func TestLongAbsence(t *testing.T) {
	b := newBench(t)
	if err := b.Agreed(); err != nil {
		t.Fatal(err)
	}
	b.lease()
	b.now = b.now.Add(copyAge)
	b.reopen()
	b.take("r1", 1) // a restart in an outage goes on
	for range 30 {  // it ran all the time
		b.now = b.now.Add(aliveEvery)
		if err := b.alive(); err != nil {
			t.Fatal(err)
		}
	}
	b.reopen()
	b.take("r2", 1)
	b.now = b.now.Add(copyAge + time.Second)
	b.reopen()
	b.refuse("r3", 1, ErrCopy)
	b.take("r2", 1) // what was given is no question
	if err := b.alive(); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	b.refuse("r3", 1, ErrCopy)
	if wanted, err := b.Wanted(); wanted != nil || !errors.Is(err, ErrCopy) {
		t.Errorf("wanted %v, %v", wanted, err)
	}
	if err := b.Agreed(); err != nil {
		t.Fatal(err)
	}
	b.refuse("r3", 1, ErrUsedUp)
	b.lease()
	if got := b.take("r3", 1); got[0] != 21 {
		t.Errorf("after a new lease %v", got)
	}
}

// The memory of the process may have been put back with the disk: what it holds is looked at
// at each use. A clock that is far behind says nothing of the age either.
func TestAnImageWithItsMemory(t *testing.T) {
	for _, away := range []time.Duration{copyAge + time.Second, -copyAge - time.Second} {
		for name, use := range map[string]func(b *bench) error{
			"take":      func(b *bench) error { _, err := b.Take("a", "r", 1); return err },
			"wanted":    func(b *bench) error { _, err := b.Wanted(); return err },
			"alive":     func(b *bench) error { return errors.Join(b.alive(), b.barredNow()) },
			"a restart": func(b *bench) error { b.reopen(); return b.barredNow() },
		} {
			b := newBench(t)
			b.lease()
			for len(b.changed) > 0 {
				<-b.changed
			}
			b.now = b.now.Add(away)
			if err := use(b); !errors.Is(err, ErrCopy) {
				t.Errorf("%s after %v: %v", name, away, err)
			}
			if name != "a restart" && len(b.changed) == 0 {
				t.Errorf("%s after %v wakes nobody who would find out", name, away)
			}
		}
	}
}

func (s *Store) barredNow() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doubt {
		return ErrCopy
	}
	return nil
}

// A range that comes into the policy late is no copy.
func TestLongWithoutRanges(t *testing.T) {
	b := newBench(t)
	set := b.set
	b.set = &policy.Set{}
	b.now = b.now.Add(time.Hour)
	b.reopen()
	for range 60 {
		b.now = b.now.Add(aliveEvery)
		if err := b.alive(); err != nil {
			t.Fatal(err)
		}
	}
	b.set = set
	b.lease()
	b.take("r1", 1)
}
