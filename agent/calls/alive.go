package calls

import (
	"cmp"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	copyAge    = 15 * time.Minute // a file left alone for longer may be one that was put back: a restart is over sooner
	aliveEvery = time.Minute
)

// examine doubts the file if it was left alone: it may be an image that was put back, while the
// line is cut and nobody can tell, and what was bought since is not in it. It is asked at each
// purchase, not at the start only: an image of a machine may hold the memory of this process. A
// clock that is far behind tells nothing of how old the file is. The caller holds the lock.
func (s *store) examine(now time.Time) {
	age := now.Sub(time.Unix(s.state.Alive, 0))
	if age.Abs() <= copyAge {
		return
	}
	s.state.Doubt, s.state.Alive = now.Add(s.retain), now.Unix()
	s.log.Warn("the journal of calls was left alone for a while: each purchase is looked for before it is made", "age", age.Round(time.Second))
}

// doubts says whether calls may have been made that this file does not know.
func (s *store) doubts(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.examine(now)
	return now.Before(s.state.Doubt)
}

// alive notes now and then that this is the file that is worked with.
func (s *store) alive(now time.Time) error {
	s.mu.Lock()
	due := now.Sub(s.noted).Abs() >= aliveEvery
	s.mu.Unlock()
	if !due {
		return nil
	}
	err := s.update(func(tx *bolt.Tx) error {
		return s.amend(tx, func(state *stateRecord) {
			s.examine(now)
			state.Alive = now.Unix()
		})
	})
	if err != nil {
		return fmt.Errorf("calls: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noted = now.Round(0)
	return nil
}

// doubt notes until when calls may have been made that this file does not know, and in which
// epoch it is from now on; 0: in the same.
func (s *store) doubt(epoch uint64, until time.Time) error {
	err := s.update(func(tx *bolt.Tx) error {
		return s.amend(tx, func(state *stateRecord) { state.Epoch, state.Doubt = cmp.Or(epoch, state.Epoch), until })
	})
	if err != nil {
		return fmt.Errorf("calls: %w", err)
	}
	return nil
}

// amend changes what the file says of itself. Should that not be written, it counts all the
// same until the process ends: there is no harm in a doubt.
func (s *store) amend(tx *bolt.Tx, change func(state *stateRecord)) error {
	s.mu.Lock()
	change(&s.state)
	state := s.state
	s.mu.Unlock()
	return put(tx, bucketMeta, keyState, state)
}
