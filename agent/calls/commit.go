package calls

import (
	"fmt"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/fulldisk"
)

// maxShared is how many changes one transaction takes: what may be in flight, and as many from
// workers.
const maxShared = 2 * MaxInFlight

// change is what somebody waits for. Whoever has received from done may read err.
type change struct {
	do   func(tx *bolt.Tx) error
	err  error
	done chan struct{}
}

// line is of changes that wait for the disk. A commit waits for it twice, whatever it holds: so
// those that come while one is being written share the next. bbolt's Batch collects for a time
// instead, which one caller alone would wait for in vain.
type line struct {
	mu      sync.Mutex // guards what follows
	waiting []*change
	served  bool // a goroutine commits what waits
}

// update commits a change, together with those of others, and returns when it is on disk. It
// may be called again in another transaction, after one that came to nothing. One that fails
// for want of room, or by what it finds, has changed nothing. Else nobody knows what is on
// disk, while the open file shows what was to be written: nothing that it says counts any
// more, and the process has to end.
func (s *store) update(do func(tx *bolt.Tx) error) error {
	c := &change{do: do, done: make(chan struct{})}
	s.line.mu.Lock()
	s.line.waiting = append(s.line.waiting, c)
	serve := !s.line.served
	s.line.served = true
	s.line.mu.Unlock()
	if serve {
		go s.serveLine()
	}
	<-c.done
	return c.err
}

// serveLine commits until nobody waits.
func (s *store) serveLine() {
	for {
		s.line.mu.Lock()
		n := min(len(s.line.waiting), maxShared)
		changes := s.line.waiting[:n:n]
		s.line.waiting = s.line.waiting[n:]
		if n == 0 {
			s.line.waiting, s.line.served = nil, false
		}
		s.line.mu.Unlock()
		if n == 0 {
			return
		}
		s.commit(changes)
	}
}

// commit has each of its changes answered. One that cannot be made, or a disk that has no room
// for all, is no other's harm: then each has a transaction of its own.
func (s *store) commit(changes []*change) {
	err := s.why()
	if err == nil {
		var found error
		err = s.db.Update(func(tx *bolt.Tx) error {
			for _, c := range changes {
				if found = c.do(tx); found != nil {
					break
				}
			}
			return found
		})
		nothing := err != nil && (found != nil || fulldisk.Is(err))
		if nothing && len(changes) > 1 {
			for i := range changes {
				s.commit(changes[i : i+1])
			}
			return
		}
		if err != nil && !nothing {
			err = s.breakOff(err)
		}
	}
	for _, c := range changes {
		c.err = err
		close(c.done)
	}
}

// breakOff has nothing count any more.
func (s *store) breakOff(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = fmt.Errorf("%w: %w", ErrDisk, err)
		close(s.ended)
	}
	return s.broken
}
