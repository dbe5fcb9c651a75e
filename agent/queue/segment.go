package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/crossdock/crossdock/agent/fulldisk"
)

// A file holds three buckets: commits, with one nested bucket for each append, keyed by
// its first position; state, with the counts; marks, complete from the first append on.
var (
	bucketCommits = []byte("commits")
	bucketState   = []byte("state")
	bucketMarks   = []byte("marks")
	keyState      = []byte("state")
)

const (
	suffix        = ".log"
	suffixNew     = ".new"     // not yet a valid file; removed at the next start
	suffixDamaged = ".damaged" // moved aside, kept for people
	lockTimeout   = 2 * time.Second
	fill          = 0.9     // appends come in key order
	growBytes     = 4 << 20 // a file grows in these steps
	stateBytes    = 36
	sumBytes      = 4 // of the checksum before a record
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// state is what a file knows of itself, kept in every append's transaction.
type state struct {
	next    uint64
	records uint64
	payload int64
	written time.Time
}

func (s state) encode() []byte {
	b := make([]byte, 0, stateBytes)
	b = binary.BigEndian.AppendUint64(b, s.next)
	b = binary.BigEndian.AppendUint64(b, s.records)
	b = binary.BigEndian.AppendUint64(b, uint64(s.payload))
	b = binary.BigEndian.AppendUint64(b, uint64(s.written.UnixMilli()))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeState(b []byte) (state, error) {
	if len(b) != stateBytes || crc32.Checksum(b[:32], castagnoli) != binary.BigEndian.Uint32(b[32:]) {
		return state{}, fmt.Errorf("%w: counts of the file", ErrDamage)
	}
	return state{
		next:    binary.BigEndian.Uint64(b),
		records: binary.BigEndian.Uint64(b[8:]),
		payload: int64(binary.BigEndian.Uint64(b[16:])),
		written: time.UnixMilli(int64(binary.BigEndian.Uint64(b[24:]))),
	}, nil
}

// A named number is stored behind a checksum over name and number.
func encodeNumber(name string, v uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, v)
	sum := crc32.Update(crc32.Checksum([]byte(name), castagnoli), castagnoli, b)
	return binary.BigEndian.AppendUint32(b, sum)
}

func decodeNumber(name string, b []byte) (uint64, error) {
	if len(b) != 12 {
		return 0, fmt.Errorf("%w: number %q", ErrDamage, name)
	}
	v := binary.BigEndian.Uint64(b)
	if string(encodeNumber(name, v)) != string(b) {
		return 0, fmt.Errorf("%w: number %q", ErrDamage, name)
	}
	return v, nil
}

// A record's checksum covers its position, so that a value under the wrong key shows.
func recordSum(pos uint64, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(posKey(pos), castagnoli), castagnoli, data)
}

func posKey(pos uint64) []byte { return binary.BigEndian.AppendUint64(nil, pos) }

// segment is one file of the row. Fields below the line are guarded by Log.mu.
type segment struct {
	path  string
	first uint64

	db     *bolt.DB
	lost   error     // the file was moved aside for this; db is nil
	fresh  bool      // holds nothing yet, not even marks
	writes bool      // opened for appends
	check  sync.Once // all pages, before the first read of a file that this run did not write
	broken error     // the check failed: the file is read without bbolt
	find   sync.Once
	spans  []span // found in a broken file
	size   int64  // pages in use; the file may have grown ahead
	state
	harm     error // found by this Open: records from harmFrom on may be lost
	harmFrom uint64
}

func fileName(first uint64) string { return fmt.Sprintf("%020d%s", first, suffix) }

func boltOptions(readOnly bool) *bolt.Options {
	return &bolt.Options{
		Timeout:        lockTimeout,
		NoFreelistSync: true,
		FreelistType:   bolt.FreelistMapType,
		ReadOnly:       readOnly,
		NoStatistics:   true,
	}
}

func openBolt(path string, readOnly bool) (*bolt.DB, error) {
	var db *bolt.DB
	var file *os.File
	options := boltOptions(readOnly)
	options.OpenFile = func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
		f, err = os.OpenFile(name, flag, mode)
		file = f
		return f, err
	}
	err := guard("open "+filepath.Base(path), func() (err error) {
		db, err = bolt.Open(path, 0o600, options)
		return err
	})
	switch {
	case err == nil:
		db.AllocSize = growBytes
		return db, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s; is another agent running on it?", ErrInUse, filepath.Dir(path))
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return nil, fmt.Errorf("%w: %s: %w", ErrDamage, filepath.Base(path), err)
	case errors.Is(err, ErrDamage) && file != nil:
		_ = file.Close() // after a panic nobody else closes it, and it holds the lock
	}
	return nil, err
}

// guard turns a panic of bbolt, and a fault in its memory map, into ErrDamage: bbolt
// trusts what its pages say, and damaged pages may say anything.
func guard(what string, fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s: %v", ErrDamage, what, p)
		}
	}()
	return fn()
}

// view runs fn in a read transaction under guard.
func view(db *bolt.DB, what string, fn func(tx *bolt.Tx) error) error {
	return guard(what, func() error {
		tx, err := db.Begin(false)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		return fn(tx)
	})
}

// load reads state, and the marks into marks. Damaged marks are left out and reported.
func (s *segment) load(marks map[string]uint64) (stateErr, marksErr error) {
	name := filepath.Base(s.path)
	stateErr = view(s.db, name, func(tx *bolt.Tx) error {
		s.size = tx.Size()
		b := tx.Bucket(bucketState)
		if b == nil {
			if tx.Bucket(bucketCommits) != nil {
				return fmt.Errorf("%w: %s: counts are missing", ErrDamage, name)
			}
			s.fresh, s.next = true, s.first
			return nil
		}
		st, err := decodeState(b.Get(keyState))
		if err != nil {
			return err
		}
		if st.next < s.first {
			return fmt.Errorf("%w: %s: counts", ErrDamage, name)
		}
		s.state = st
		return nil
	})
	if s.fresh || marks == nil {
		return stateErr, nil
	}
	marksErr = view(s.db, name, func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketMarks)
		if b == nil {
			return fmt.Errorf("%w: %s: marks are missing", ErrDamage, name)
		}
		var damage error
		err := b.ForEach(func(k, v []byte) error {
			n, err := decodeNumber(string(k), v)
			if err != nil {
				damage = err
				return nil
			}
			marks[string(k)] = n
			return nil
		})
		return errors.Join(err, damage)
	})
	return stateErr, marksErr
}

// write appends in one transaction. all is every mark if the file is fresh. The values are
// put together in room, which is free again afterwards: by then they are in the file's pages.
func (s *segment) write(first uint64, records [][]byte, marks, all map[string]uint64, st state, room []byte) error {
	return guard("append to "+filepath.Base(s.path), func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			if s.fresh {
				if err := putMarks(tx, all); err != nil {
					return err
				}
			}
			if err := putMarks(tx, marks); err != nil {
				return err
			}
			b, err := tx.CreateBucketIfNotExists(bucketState)
			if err != nil {
				return err
			}
			if err := b.Put(keyState, st.encode()); err != nil {
				return err
			}
			return putRecords(tx, first, records, room)
		})
	})
}

func putMarks(tx *bolt.Tx, marks map[string]uint64) error {
	b, err := tx.CreateBucketIfNotExists(bucketMarks)
	if err != nil {
		return err
	}
	for name, v := range marks {
		if err := b.Put([]byte(name), encodeNumber(name, v)); err != nil {
			return fmt.Errorf("mark %q: %w", name, err)
		}
	}
	return nil
}

// putRecords puts each record behind its checksum. In room it is written behind its
// position, which the checksum covers and then takes the place of.
func putRecords(tx *bolt.Tx, first uint64, records [][]byte, room []byte) error {
	commits, err := tx.CreateBucketIfNotExists(bucketCommits)
	if err != nil || len(records) == 0 {
		return err
	}
	commits.FillPercent = fill
	commit, err := commits.CreateBucket(posKey(first))
	if err != nil {
		return err
	}
	commit.FillPercent = fill
	key := posKey(first) // bbolt copies it
	room = room[:0]
	for i, data := range records {
		binary.BigEndian.PutUint64(key, first+uint64(i))
		at := len(room)
		room = append(append(room, key...), data...)
		value := room[at+len(key)-sumBytes : len(room) : len(room)]
		binary.BigEndian.PutUint32(value, crc32.Checksum(room[at:], castagnoli))
		if err := commit.Put(key, value); err != nil {
			return err
		}
	}
	return nil
}

// classify says what a failed write means: only want of room tells that nothing took effect.
// After anything else, above all a failed fsync, the state on disk is unknown.
func classify(err error) error {
	if errors.Is(err, berrors.ErrMaxSizeReached) || fulldisk.Is(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return fmt.Errorf("%w: %w", ErrFatal, err)
}
