package numbers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/checked"
	"github.com/crossdock/crossdock/agent/fulldisk"
	"github.com/crossdock/crossdock/protocol/serial"
)

// The file. Every value stands behind a checksum over its bucket, key and content: bbolt does
// not notice a bit that has turned, and one in a serial would give numbers twice.
var (
	bucketMeta   = []byte("meta")
	bucketRanges = []byte("ranges") // name -> rangeRecord
	bucketGiven  = []byte("given")  // name, 0, reference -> []block
	bucketOrder  = []byte("order")  // number -> key in given, the oldest first
	keyState     = []byte("state")
)

// errOther makes a file one that is set aside, as damage does.
var errOther = errors.New("it is another site's")

type (
	stateRecord struct {
		Site   string `json:"site"`
		Epoch  uint64 `json:"epoch"` // in which the blocks were leased
		Alive  int64  `json:"alive"` // seconds since 1970, when somebody worked with this file last
		Fenced bool   `json:"fenced,omitempty"`
	}
	// rangeRecord is what is held of a range. Blocks are used in their order, each from its
	// first serial on.
	rangeRecord struct {
		Blocks  []block  `json:"blocks"`
		Highest uint64   `json:"highest"` // serial that was ever leased
		Used    uint64   `json:"used"`
		Request [16]byte `json:"request"` // under way; zero: none

		Form serial.Form `json:"form,omitzero"` // of what was leased last
	}
	block struct {
		First uint64 `json:"first"`
		Last  uint64 `json:"last"`
	}
)

func countOf(blocks []block) (count uint64) {
	for _, b := range blocks {
		count += b.Last - b.First + 1
	}
	return count
}

func (r rangeRecord) left() uint64 { return countOf(r.Blocks) }

// take gives the record without its next numbers, and those. There have to be so many.
func (r rangeRecord) take(count uint64) (rest rangeRecord, taken []block) {
	rest = r
	rest.Used += count
	rest.Blocks = nil
	for _, b := range r.Blocks {
		if n := min(count, b.Last-b.First+1); n > 0 {
			taken = append(taken, block{b.First, b.First + n - 1})
			b.First += n
			count -= n
		}
		if b.First <= b.Last {
			rest.Blocks = append(rest.Blocks, b)
		}
	}
	return rest, taken
}

func (s *Store) open() error {
	s.state, s.held = stateRecord{}, map[string]rangeRecord{}
	lost, err := s.setAside()
	if err != nil {
		return err
	}
	s.db, err = bolt.Open(s.cfg.Path, 0o600, &bolt.Options{Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("numbers: %s (is another process using it?): %w", s.cfg.Path, err)
	}
	err = s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketRanges, bucketGiven, bucketOrder} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return s.load(tx)
	})
	if (errors.Is(err, checked.ErrDamaged) || errors.Is(err, errOther)) && !lost {
		// The pages do not say it: the file goes aside all the same.
		return errors.Join(s.db.Close(), s.reopen(err))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("numbers: %s: %w", s.cfg.Path, err), s.db.Close())
	}
	s.state.Site = s.cfg.Site
	s.lost = s.lost || lost
	return nil
}

// reopen begins a new file in the place of one that cannot be used.
func (s *Store) reopen(cause error) error {
	check := s.cfg.Check
	s.cfg.Check = func(string) error { return cause }
	err := s.open()
	s.cfg.Check = check
	return err
}

// setAside moves a file away that cannot be trusted. What it held is never given again.
func (s *Store) setAside() (lost bool, err error) {
	if _, err := os.Stat(s.cfg.Path); errors.Is(err, fs.ErrNotExist) || s.cfg.Check == nil {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("numbers: %w", err)
	}
	harm := s.cfg.Check(s.cfg.Path)
	if harm == nil {
		return false, nil
	}
	aside := fmt.Sprintf("%s.damaged-%d", s.cfg.Path, s.cfg.Now().UnixNano())
	if err := os.Rename(s.cfg.Path, aside); err != nil {
		return false, fmt.Errorf("numbers: set a damaged file aside: %w", err)
	}
	s.log.Error("the file of number leases cannot be used and is set aside; what was leased is given up, and leased anew", "file", aside, "err", harm)
	s.cfg.Alarm("numbers-damaged", fmt.Sprint(s.cfg.Now().Unix()), fmt.Sprintf("the file of number leases cannot be used (%v) and is set aside as %s: its numbers are given up, and a shipment "+
		"that asks again for the numbers it had gets others", harm, aside))
	return true, nil
}

func (s *Store) load(tx *bolt.Tx) error {
	if value := tx.Bucket(bucketMeta).Get(keyState); value != nil {
		if err := checked.Decode(bucketMeta, keyState, value, &s.state); err != nil {
			return err
		}
		if s.state.Site != s.cfg.Site {
			return fmt.Errorf("%w: of %s", errOther, s.state.Site)
		}
	}
	return tx.Bucket(bucketRanges).ForEach(func(k, value []byte) error {
		var record rangeRecord
		if err := checked.Decode(bucketRanges, k, value, &record); err != nil {
			return err
		}
		s.held[string(k)] = record
		return nil
	})
}

func givenKey(name, reference string) []byte { return append(append([]byte(name), 0), reference...) }

// given finds the numbers of a reference.
func (s *Store) given(name, reference string) (blocks []block, found bool, err error) {
	k := givenKey(name, reference)
	err = s.db.View(func(tx *bolt.Tx) error {
		value := tx.Bucket(bucketGiven).Get(k)
		if value == nil {
			return nil
		}
		found = true
		return checked.Decode(bucketGiven, k, value, &blocks)
	})
	if err != nil {
		return nil, false, fmt.Errorf("numbers: what was given for %q cannot be read (%w): ask with another reference", reference, err)
	}
	return blocks, found, nil
}

// commit writes what is held of ranges, and the numbers that were taken for references. The
// caller holds the lock, and takes the records over when they are on disk.
func (s *Store) commit(b *batch) error {
	state := s.state
	state.Alive = s.cfg.Now().Unix()
	err := s.db.Update(func(tx *bolt.Tx) error {
		for name, record := range b.records {
			if err := put(tx, bucketRanges, []byte(name), record); err != nil {
				return err
			}
		}
		for _, k := range b.keys {
			if err := note(tx, []byte(k), b.given[k]); err != nil {
				return err
			}
		}
		return put(tx, bucketMeta, keyState, state)
	})
	if err != nil {
		return s.failed(err)
	}
	s.state = state
	return nil
}

// commitOne writes what is held of one range.
func (s *Store) commitOne(name string, record rangeRecord) error {
	return s.commit(&batch{records: map[string]rangeRecord{name: record}})
}

// failed judges a commit that failed. For want of room it has changed nothing. Else nobody
// knows what is on disk, while the open file shows what it was to write: nothing that it says
// counts any more, and the process has to end.
func (s *Store) failed(err error) error {
	if fulldisk.Is(err) {
		return fmt.Errorf("numbers: %w", err)
	}
	if s.broken == nil {
		s.broken = fmt.Errorf("numbers: %s: %w: %w", s.cfg.Path, ErrDisk, err)
		close(s.ended)
	}
	return s.broken
}

// note keeps what was given for a reference, and forgets the oldest beyond the limit.
func note(tx *bolt.Tx, k []byte, taken []block) error {
	if err := put(tx, bucketGiven, k, taken); err != nil {
		return err
	}
	order := tx.Bucket(bucketOrder)
	number, err := order.NextSequence()
	if err != nil {
		return err
	}
	if err := order.Put(binary.BigEndian.AppendUint64(nil, number), k); err != nil {
		return err
	}
	if number <= keepReferences {
		return nil
	}
	oldest := binary.BigEndian.AppendUint64(nil, number-keepReferences)
	if gone := order.Get(oldest); gone != nil {
		if err := tx.Bucket(bucketGiven).Delete(gone); err != nil {
			return err
		}
	}
	return order.Delete(oldest)
}

func (s *Store) save() error { return s.saveAll(nil) }

// saveAll writes the state, and records if there are any.
func (s *Store) saveAll(records map[string]rangeRecord) error {
	err := s.db.Update(func(tx *bolt.Tx) error {
		for name, record := range records {
			if err := put(tx, bucketRanges, []byte(name), record); err != nil {
				return err
			}
		}
		return put(tx, bucketMeta, keyState, s.state)
	})
	if err != nil {
		return s.failed(err)
	}
	return nil
}

// alive notes that this is the file that is worked with.
func (s *Store) alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.examine(); s.doubt {
		return nil
	}
	s.state.Alive = s.cfg.Now().Unix()
	if !s.concerned() {
		return nil // nothing is held that could be given twice: not worth a write
	}
	return s.save()
}

func put(tx *bolt.Tx, bucket, k []byte, value any) error {
	kept, err := checked.Encode(bucket, k, value)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put(k, kept)
}
