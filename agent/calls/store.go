package calls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/checked"
	"github.com/crossdock/crossdock/agent/shrink"
)

// The file. Every value stands behind a checksum over its bucket, key and content: bbolt does
// not notice a bit that has turned.
var (
	bucketMeta   = []byte("meta")
	bucketCalls  = []byte("calls") // id -> record
	bucketKeys   = []byte("keys")  // system, 0, key -> id
	bucketRefs   = []byte("refs")  // plugin, 0, reference of what is bought -> id
	bucketOpen   = []byte("open")  // id -> nothing; its sequence gives the turns
	bucketEnded  = []byte("ended") // time, id -> size of the record, the oldest first
	bucketLeave  = []byte("leave") // number -> event
	keyState     = []byte("state")
	allBuckets   = [][]byte{bucketMeta, bucketCalls, bucketKeys, bucketRefs, bucketOpen, bucketEnded, bucketLeave}
	errDamaged   = checked.ErrDamaged
	errOtherSite = errors.New("it is another site's")

	// ErrDisk ends a Service.
	ErrDisk = errors.New("the disk did not take a write, and nobody knows what is on it now")
)

const lockTimeout = 2 * time.Second

// stateRecord is what the file says of itself.
type stateRecord struct {
	Site  string `json:"site"`
	Epoch uint64 `json:"epoch"`
	// Doubt is until when calls may have been made that this file does not know: it took the
	// place of a damaged one, or is a copy that was put back.
	Doubt time.Time `json:"doubt,omitzero"`
	Alive int64     `json:"alive"` // seconds since 1970, when somebody worked with this file last
}

// store is the file, and what is looked up often.
type store struct {
	db     *shrink.DB
	log    *slog.Logger
	retain time.Duration // of finished calls
	ended  chan struct{} // closed when broken is set
	line   line

	mu     sync.Mutex // guards what follows
	broken error      // a commit failed, and nobody knows what is on disk
	state  stateRecord
	noted  time.Time         // when the file said last that it is worked with
	open   map[string]record // without what is large
	done   int               // finished calls that are kept
	bytes  int64             // of them
}

func openStore(cfg *Config, log *slog.Logger) (*store, error) {
	s := &store{log: log, retain: cfg.Retain, open: map[string]record{}, ended: make(chan struct{})}
	harm := s.harm(cfg)
	if harm == nil {
		err := s.begin(cfg, false)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errDamaged) && !errors.Is(err, errOtherSite) {
			return nil, err
		}
		harm = err
	}
	aside := fmt.Sprintf("%s.damaged-%d", cfg.Path, cfg.Now().UnixNano())
	if err := os.Rename(cfg.Path, aside); err != nil {
		return nil, fmt.Errorf("calls: set a damaged file aside: %w", err)
	}
	text := fmt.Sprintf("the journal of calls to carriers and tax engines cannot be used (%v) and is set aside as %s: "+
		"what waited in it is not done, and what was asked for is looked for before it is bought again; look at the carrier's own list", harm, aside)
	log.Error(text)
	cfg.Alarm("calls-damaged", fmt.Sprint(cfg.Now().Unix()), text)
	s.open, s.done, s.bytes, s.state = map[string]record{}, 0, 0, stateRecord{}
	if err := s.begin(cfg, true); err != nil {
		return nil, err
	}
	return s, nil
}

// harm says what is wrong with the pages of a file that is there.
func (s *store) harm(cfg *Config) error {
	if _, err := os.Stat(cfg.Path); errors.Is(err, fs.ErrNotExist) || cfg.Check == nil {
		return nil
	}
	return cfg.Check(cfg.Path)
}

// begin opens the file. Another copy of this agent may have made calls in another epoch.
func (s *store) begin(cfg *Config, lost bool) (err error) {
	s.db, err = shrink.Open(cfg.Path, &bolt.Options{Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("calls: %s (is another process using it?): %w", cfg.Path, err)
	}
	var damaged []string
	err = s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range allBuckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if damaged, err = s.load(tx, cfg.Site); err != nil {
			return err
		}
		if lost || len(damaged) > 0 || s.state.Epoch != cfg.Epoch && max(s.state.Epoch, cfg.Epoch) > 1 { // without a file it is the former data that is lost
			s.state.Doubt = cfg.Now().Add(cfg.Retain)
		}
		if s.state.Site != "" { // it was there before
			s.examine(cfg.Now())
		}
		s.state.Site, s.state.Epoch, s.state.Alive = cfg.Site, cfg.Epoch, cfg.Now().Unix()
		return put(tx, bucketMeta, keyState, s.state)
	})
	if err != nil {
		return errors.Join(fmt.Errorf("calls: %s: %w", cfg.Path, err), s.db.Close())
	}
	for _, id := range damaged {
		text := fmt.Sprintf("call %s to a carrier or tax engine was not done yet and cannot be read any more: it is given up, and what was asked for is looked for before it is bought; "+
			"look at the carrier's own list, and ask the site's systems what they wait for", id)
		s.log.Error(text)
		cfg.Alarm(alarmDamaged, id, text)
	}
	return nil
}

// view reads.
func (s *store) view(read func(tx *bolt.Tx) error) error {
	if err := s.why(); err != nil {
		return err
	}
	return s.db.View(read)
}

func (s *store) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// load reads what is looked up often. A call that cannot be read is given up, and named; its
// record stays for people.
func (s *store) load(tx *bolt.Tx, site string) (damaged []string, err error) {
	if value := tx.Bucket(bucketMeta).Get(keyState); value != nil {
		if err := checked.Decode(bucketMeta, keyState, value, &s.state); err != nil {
			return nil, err
		}
		if s.state.Site != site {
			return nil, fmt.Errorf("%w: of %s", errOtherSite, s.state.Site)
		}
	}
	err = tx.Bucket(bucketOpen).ForEach(func(id, _ []byte) error {
		r, err := get(tx, string(id))
		if errors.Is(err, errDamaged) {
			damaged = append(damaged, string(id))
			return nil
		}
		if err == nil {
			s.open[r.ID] = r.light()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, id := range damaged {
		if err := disown(tx, id); err != nil {
			return nil, err
		}
	}
	return damaged, s.loadEnded(tx)
}

// loadEnded adds up what is finished.
func (s *store) loadEnded(tx *bolt.Tx) error {
	return tx.Bucket(bucketEnded).ForEach(func(k, value []byte) error {
		size, err := sizeOf(tx, k, value)
		s.done++
		s.bytes += size
		return err
	})
}

// sizeOf is the size of a finished call. One that cannot be read is found out again.
func sizeOf(tx *bolt.Tx, k, value []byte) (size int64, err error) {
	err = checked.Decode(bucketEnded, k, value, &size)
	if errors.Is(err, errDamaged) && len(k) > 8 {
		return int64(len(tx.Bucket(bucketCalls).Get(k[8:]))), nil
	}
	return size, err
}

// disown takes a call from those that are open, and its key and reference from it.
func disown(tx *bolt.Tx, id string) error {
	for _, bucket := range []*bolt.Bucket{tx.Bucket(bucketKeys), tx.Bucket(bucketRefs)} {
		var names [][]byte
		err := bucket.ForEach(func(name, of []byte) error {
			if string(of) == id {
				names = append(names, slices.Clone(name)) // never deleted through a cursor
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := bucket.Delete(name); err != nil {
				return err
			}
		}
	}
	return tx.Bucket(bucketOpen).Delete([]byte(id))
}

func (s *store) close() error { return s.db.Close() }

// light is a record without what is large.
func (r *record) light() record {
	out := *r
	out.Body, out.Answer, out.Provisional, out.Numbers = nil, nil, nil, nil
	return out
}

func keyName(system, key string) []byte       { return []byte(system + "\x00" + key) }
func refName(plugin, reference string) []byte { return []byte(plugin + "\x00" + reference) }

func endedName(r *record) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(r.Ended.UnixNano())), r.ID...)
}

// save writes a call as it stands now, and the events that leave with it, in one transaction.
func (s *store) save(r *record, bought bool, events ...leaving) error {
	var size, before int64
	last := r.State == Queued && r.Turn == 0 // a turn of a transaction that came to nothing is not kept
	err := s.update(func(tx *bolt.Tx) error {
		if last {
			turn, err := tx.Bucket(bucketOpen).NextSequence()
			if err != nil {
				return err
			}
			r.Turn = turn
		}
		var err error
		if before, err = unend(tx, r.ID); err != nil {
			return err
		}
		if size, err = write(tx, r, bought); err != nil {
			return err
		}
		if r.gaveBack() {
			if err := markVoided(tx, r); err != nil {
				return err
			}
		}
		for _, e := range events {
			number, err := tx.Bucket(bucketLeave).NextSequence()
			if err != nil {
				return err
			}
			if err := put(tx, bucketLeave, binary.BigEndian.AppendUint64(nil, number), e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("calls: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before > 0 {
		s.done--
		s.bytes -= before
	}
	if r.State.open() {
		s.open[r.ID] = r.light()
		return nil
	}
	delete(s.open, r.ID)
	s.done++
	s.bytes += size
	return nil
}

func write(tx *bolt.Tx, r *record, bought bool) (size int64, err error) {
	id := []byte(r.ID)
	if err := put(tx, bucketCalls, id, r); err != nil {
		return 0, err
	}
	if err := tx.Bucket(bucketKeys).Put(keyName(r.System, r.Key), id); err != nil {
		return 0, err
	}
	if bought {
		if err := tx.Bucket(bucketRefs).Put(refName(r.Plugin, r.Reference), id); err != nil {
			return 0, err
		}
	}
	if r.State.open() {
		return 0, tx.Bucket(bucketOpen).Put(id, nil)
	}
	size = int64(len(tx.Bucket(bucketCalls).Get(id)))
	if err := tx.Bucket(bucketOpen).Delete(id); err != nil {
		return 0, err
	}
	return size, put(tx, bucketEnded, endedName(r), size)
}

// unend takes a call that is made again from the finished ones, and gives its size there.
func unend(tx *bolt.Tx, id string) (size int64, err error) {
	if tx.Bucket(bucketCalls).Get([]byte(id)) == nil {
		return 0, nil
	}
	old, err := get(tx, id)
	if err != nil || old.State.open() {
		return 0, err
	}
	k := endedName(old)
	if size, err = sizeOf(tx, k, tx.Bucket(bucketEnded).Get(k)); err != nil {
		return 0, err
	}
	return size, tx.Bucket(bucketEnded).Delete(k)
}

// waiting lists the calls that somebody still has to do something about, the oldest first.
func (s *store) waiting() []record {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]record, 0, len(s.open))
	for _, r := range s.open {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b record) int {
		if d := a.Began.Compare(b.Began); d != 0 {
			return d
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

// count says how many calls are open, finished, and how large the finished ones are.
func (s *store) count() (open, ended int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open), s.done, s.bytes
}

// queues says whether something waits for the line of a plugin.
func (s *store) queues(plugin string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.open {
		if r.State == Queued && r.Plugin == plugin {
			return true
		}
	}
	return false
}

// next gives the event that has waited longest to leave; nil: none does.
func (s *store) next() (number []byte, e *leaving, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		k, value := tx.Bucket(bucketLeave).Cursor().First()
		if k == nil {
			return nil
		}
		number, e = slices.Clone(k), &leaving{}
		return checked.Decode(bucketLeave, k, value, e)
	})
	return number, e, err
}

// gone forgets an event that has left.
func (s *store) gone(number []byte) error {
	return s.update(func(tx *bolt.Tx) error { return tx.Bucket(bucketLeave).Delete(number) })
}

// leavings counts the events that wait to leave.
func (s *store) leavings() (n int) {
	_ = s.view(func(tx *bolt.Tx) error { // of a file that is closed there are none
		c := tx.Bucket(bucketLeave).Cursor()
		for k, _ := c.First(); k != nil && n < MaxOpen; k, _ = c.Next() {
			n++
		}
		return nil
	})
	return n
}

func get(tx *bolt.Tx, id string) (*record, error) {
	r := new(record)
	return r, checked.Decode(bucketCalls, []byte(id), tx.Bucket(bucketCalls).Get([]byte(id)), r)
}

func put(tx *bolt.Tx, bucket, k []byte, value any) error {
	kept, err := checked.Encode(bucket, k, value)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put(k, kept)
}
