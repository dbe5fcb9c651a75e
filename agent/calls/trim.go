package calls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	trimAtOnce = 500 // finished calls that are forgotten in one transaction
	// trimPace is how many times as fast as time passes finished calls are let go at most. An
	// agent that is off for most of the time still keeps up.
	trimPace = 4
	// MinRetain is the age below which finished calls are let go for want of room only with an
	// exception.
	MinRetain = 24 * time.Hour
)

// horizon is before when finished calls ended that have been kept for long enough. It moves by
// the time that this process saw pass, and not by the clock alone: one that jumps ahead would
// have all of them forgotten at once. Run's goroutine asks.
func (s *Service) horizon() time.Time {
	up := s.cfg.Uptime()
	reach, limit := s.reach.Add(trimPace*(up-s.reached)), s.cfg.Now().Add(-s.cfg.Retain)
	if limit.Before(reach) {
		reach = limit
	}
	s.reach, s.reached = reach, up
	return reach
}

// trim forgets finished calls that are old, or too many.
func (s *Service) trim() {
	before := s.horizon()
	for {
		gone, early, err := s.store.trim(before, s.quota.Load())
		if err != nil {
			s.log.Error("finished calls cannot be forgotten", "err", err)
		}
		if now := s.cfg.Now(); now.Sub(early) < MinRetain {
			s.cfg.Alarm(alarmCut, now.UTC().Format(time.DateOnly), fmt.Sprintf("more than %d bytes of finished calls to carriers and tax engines are kept, so that one was let go that ended %s ago: "+
				"who asks again for what it bought has it looked for at the carrier; raise calls.quota", s.quota.Load(), now.Sub(early).Round(time.Second)))
		}
		if gone < trimAtOnce {
			return
		}
	}
}

// shrink gives the disk back what finished calls have left free in the file, if that is much.
func (s *Service) shrink(most int64) {
	won, err := s.store.db.Shrink(most)
	if err != nil {
		s.log.Error("the journal of calls cannot be made smaller", "err", err)
	} else if won > 0 {
		s.log.Info("the journal of calls was made smaller", "bytes", won)
	}
}

// oldest is when the finished call ended that is kept for longest.
func (s *store) oldest() (ended time.Time, ok bool) {
	_ = s.view(func(tx *bolt.Tx) error { // of a file that cannot be read there is none
		k, _ := tx.Bucket(bucketEnded).Cursor().First()
		if ok = k != nil; ok {
			ended = endedAt(k)
		}
		return nil
	})
	return ended, ok
}

func endedAt(k []byte) time.Time { return time.Unix(0, int64(binary.BigEndian.Uint64(k))) }

// trim forgets finished calls that ended before a time, and the oldest beyond a size; early is
// when the last of these ended, and zero if there is none. What they bought is doubted for as
// long as they were to be kept.
func (s *store) trim(before time.Time, most int64) (gone int, early time.Time, err error) {
	s.mu.Lock()
	excess := s.bytes - most
	s.mu.Unlock()
	var freed int64
	err = s.update(func(tx *bolt.Tx) error {
		gone, freed, early = 0, 0, time.Time{}
		var keys [][]byte
		c := tx.Bucket(bucketEnded).Cursor()
		for k, value := c.First(); k != nil && len(keys) < trimAtOnce; k, value = c.Next() {
			if !endedAt(k).Before(before) && freed >= excess {
				break
			}
			size, err := sizeOf(tx, k, value)
			if err != nil {
				return err
			}
			freed += size
			keys = append(keys, slices.Clone(k)) // never deleted through a cursor
		}
		var doubt time.Time
		for _, k := range keys {
			bought, err := forget(tx, k)
			if err != nil {
				return err
			}
			if ended := endedAt(k); !ended.Before(before) {
				early = ended
				if bought {
					doubt = ended.Add(s.retain)
				}
			}
		}
		gone = len(keys)
		if doubt.IsZero() {
			return nil
		}
		return s.amend(tx, func(state *stateRecord) {
			if doubt.After(state.Doubt) {
				state.Doubt = doubt
			}
		})
	})
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("calls: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done -= gone
	s.bytes -= freed
	return gone, early, nil
}

// forget removes a finished call, and its key and reference if no other has taken them since.
// It says whether the call may have bought something.
func forget(tx *bolt.Tx, k []byte) (bought bool, err error) {
	id := k[8:]
	r, err := get(tx, string(id))
	switch {
	case errors.Is(err, errDamaged):
		bought, err = true, disown(tx, string(id))
	case err == nil:
		op, unknown := find(r.Kind, r.Operation)
		bought = unknown == nil && op.bought && r.State == Done
		err = unname(tx, r)
	}
	if err != nil {
		return false, err
	}
	if err := tx.Bucket(bucketCalls).Delete(id); err != nil {
		return false, err
	}
	return bought, tx.Bucket(bucketEnded).Delete(k)
}

func unname(tx *bolt.Tx, r *record) error {
	for bucket, name := range map[*bolt.Bucket][]byte{
		tx.Bucket(bucketKeys): keyName(r.System, r.Key), tx.Bucket(bucketRefs): refName(r.Plugin, r.Reference),
	} {
		if string(bucket.Get(name)) != r.ID {
			continue
		}
		if err := bucket.Delete(name); err != nil {
			return err
		}
	}
	return nil
}
