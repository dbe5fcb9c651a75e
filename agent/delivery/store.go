package delivery

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/shrink"
)

// The buckets. Below receipts and parked stands one bucket for each system.
var (
	metaBucket     = []byte("meta")
	systemsBucket  = []byte("systems")  // name -> row
	receiptsBucket = []byte("receipts") // system: ref, shadow -> receipt
	parkedBucket   = []byte("parked")   // system: hash of the key, ref -> job and event
	deadBucket     = []byte("dead")     // id -> dead letter, job and event
	dirtyBucket    = []byte("dirty")    // id -> serial of the change that is still to be told
)

const (
	formatVersion = "1"
	lockTimeout   = 2 * time.Second
)

// errDamaged marks a record that fails its checksum or does not decode.
var errDamaged = errors.New("damaged record")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// row is what is kept of one system.
type row struct {
	Cursor      uint64    `json:"cursor"` // every event of the system below this position is settled
	Delivered   uint64    `json:"delivered"`
	Shadow      uint64    `json:"shadow"`
	ParkedBytes int64     `json:"parkedBytes"`
	LastSuccess time.Time `json:"lastSuccess"`
}

func openStore(path, journal string) (*shrink.DB, error) {
	db, err := shrink.Open(path, &bolt.Options{
		Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
	})
	if err != nil {
		return nil, openError(path, err)
	}
	if err := db.Update(func(tx *bolt.Tx) error { return prepareStore(tx, journal) }); err != nil {
		return nil, errors.Join(fmt.Errorf("delivery: %s: %w", path, err), db.Close())
	}
	return db, nil
}

func prepareStore(tx *bolt.Tx, journal string) error {
	for _, name := range [][]byte{metaBucket, systemsBucket, receiptsBucket, parkedBucket, deadBucket, dirtyBucket, holdsBucket, formerBucket, voicesBucket, revisionsBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(metaBucket)
	switch v := string(meta.Get([]byte("format"))); v {
	case formatVersion:
	case "":
		if err := meta.Put([]byte("format"), []byte(formatVersion)); err != nil {
			return err
		}
	default:
		return fmt.Errorf("format %q is not known to this version, which writes %q", v, formatVersion)
	}
	// Positions mean nothing in another journal: its events would pass for done.
	known := string(meta.Get([]byte("journal")))
	if known != "" && journal != "" && known != journal {
		return fmt.Errorf("%w: %q, the journal here is %q; move the file aside to deliver from this journal's start", ErrOtherJournal, known, journal)
	}
	if known == "" && journal != "" {
		return meta.Put([]byte("journal"), []byte(journal))
	}
	return nil
}

// seal writes a record: checksum, length of the JSON, JSON, the event as it came. bbolt
// does not notice a flipped bit, so each record proves itself.
func seal(v any, event []byte) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 4, 4+binary.MaxVarintLen32+len(text)+len(event))
	b = binary.AppendUvarint(b, uint64(len(text)))
	b = append(b, text...)
	b = append(b, event...)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b, nil
}

// unseal undoes seal. event is a copy.
func unseal(b []byte, v any) (event []byte, err error) {
	if len(b) < 5 || binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return nil, fmt.Errorf("%w: checksum", errDamaged)
	}
	n, used := binary.Uvarint(b[4:])
	rest := b[4+max(used, 0):]
	if used <= 0 || n > uint64(len(rest)) {
		return nil, fmt.Errorf("%w: length", errDamaged)
	}
	if err := json.Unmarshal(rest[:n], v); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return bytes.Clone(rest[n:]), nil
}

const refSize = 12

func appendRef(b []byte, r Ref) []byte {
	b = binary.BigEndian.AppendUint64(b, r.Pos)
	return binary.BigEndian.AppendUint32(b, uint32(r.Index))
}

func parseRef(b []byte) Ref {
	return Ref{Pos: binary.BigEndian.Uint64(b), Index: int(binary.BigEndian.Uint32(b[8:]))}
}

// slot is one delivery at one system: an event may have a live and a shadow one.
type slot struct {
	ref    Ref
	shadow bool
}

func (s slot) bytes() []byte {
	b := appendRef(make([]byte, 0, refSize+1), s.ref)
	if s.shadow {
		return append(b, 1)
	}
	return append(b, 0)
}

func parseSlot(b []byte) slot { return slot{parseRef(b), b[refSize] != 0} }

// keyPrefix is what the parked copies of one key have in common.
func keyPrefix(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:16]
}

func parkedKey(prefix []byte, ref Ref) []byte {
	return appendRef(append(make([]byte, 0, len(prefix)+refSize), prefix...), ref)
}

// The states of a delivery in receipts, and in hops.
const (
	StatePending   = "pending" // never stored: no receipt says it
	StateDelivered = "delivered"
	StateParked    = "parked"
	StateDead      = "dead"
	StateDiscarded = "discarded"
	StateShadow    = "shadow"
)

var stateCodes = []string{StatePending, StateDelivered, StateParked, StateDead, StateDiscarded, StateShadow}

// receipt is what became of one delivery.
type receipt struct {
	state    string
	at       time.Time
	attempts int
	status   int
	took     time.Duration // of the last attempt
}

func (r receipt) bytes() []byte {
	b := make([]byte, 4, 32)
	for code, name := range stateCodes {
		if name == r.state {
			b = append(b, byte(code))
		}
	}
	b = binary.AppendVarint(b, r.at.UnixMilli())
	b = binary.AppendUvarint(b, uint64(r.attempts))
	b = binary.AppendUvarint(b, uint64(r.status))
	b = binary.AppendUvarint(b, uint64(r.took.Microseconds()))
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

func parseReceipt(b []byte) (receipt, error) {
	if len(b) < 6 || binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) || int(b[4]) >= len(stateCodes) {
		return receipt{}, fmt.Errorf("%w: receipt", errDamaged)
	}
	r := receipt{state: stateCodes[b[4]]}
	rest := b[5:]
	ms, n := binary.Varint(rest)
	if n <= 0 {
		return receipt{}, fmt.Errorf("%w: receipt", errDamaged)
	}
	r.at, rest = time.UnixMilli(ms), rest[n:]
	var numbers [3]uint64
	for i := range numbers {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return receipt{}, fmt.Errorf("%w: receipt", errDamaged)
		}
		numbers[i], rest = v, rest[n:]
	}
	r.attempts, r.status, r.took = int(numbers[0]), int(numbers[1]), time.Duration(numbers[2])*time.Microsecond
	return r, nil
}

func putRow(tx *bolt.Tx, system string, r row) error {
	text, err := seal(r, nil)
	if err != nil {
		return err
	}
	return tx.Bucket(systemsBucket).Put([]byte(system), text)
}

func readRows(tx *bolt.Tx) (map[string]row, error) {
	rows := map[string]row{}
	err := tx.Bucket(systemsBucket).ForEach(func(name, text []byte) error {
		var r row
		if _, err := unseal(text, &r); err != nil {
			return fmt.Errorf("system %s: %w", name, err)
		}
		rows[string(name)] = r
		return nil
	})
	return rows, err
}

func putReceipt(tx *bolt.Tx, system string, s slot, r receipt) error {
	b, err := tx.Bucket(receiptsBucket).CreateBucketIfNotExists([]byte(system))
	if err != nil {
		return err
	}
	return b.Put(s.bytes(), r.bytes())
}

func putParked(tx *bolt.Tx, system string, prefix []byte, j *job, event []byte) error {
	b, err := tx.Bucket(parkedBucket).CreateBucketIfNotExists([]byte(system))
	if err != nil {
		return err
	}
	text, err := seal(j, event)
	if err != nil {
		return err
	}
	return b.Put(parkedKey(prefix, j.Ref), text)
}

func deleteParked(tx *bolt.Tx, system string, prefix []byte, ref Ref) error {
	b := tx.Bucket(parkedBucket).Bucket([]byte(system))
	if b == nil {
		return nil
	}
	return b.Delete(parkedKey(prefix, ref))
}

func readParked(tx *bolt.Tx, system string, prefix []byte, ref Ref) (job, []byte, error) {
	var j job
	b := tx.Bucket(parkedBucket).Bucket([]byte(system))
	if b == nil {
		return j, nil, fmt.Errorf("%w: parked %s of %s is not there", errDamaged, ref, system)
	}
	event, err := unseal(b.Get(parkedKey(prefix, ref)), &j)
	if err != nil {
		return j, nil, fmt.Errorf("parked %s of %s: %w", ref, system, err)
	}
	return j, event, nil
}

// firstParked finds the oldest parked copy of a key.
func firstParked(tx *bolt.Tx, system string, prefix []byte) (ref Ref, ok bool) {
	b := tx.Bucket(parkedBucket).Bucket([]byte(system))
	if b == nil {
		return Ref{}, false
	}
	found, _ := b.Cursor().Seek(prefix)
	if !bytes.HasPrefix(found, prefix) {
		return Ref{}, false
	}
	return parseRef(found[len(prefix):]), true
}

// deadRecord is a dead letter with what a replay needs.
type deadRecord struct {
	DeadLetter
	Job       job      `json:"job"`
	Overtaken bool     `json:"overtaken,omitempty"` // a later event of the key was delivered
	Commands  []string `json:"commands,omitempty"`  // that it has obeyed
}

func putDead(tx *bolt.Tx, rec *deadRecord, event []byte) error {
	text, err := seal(rec, event)
	if err != nil {
		return err
	}
	if err := tx.Bucket(deadBucket).Put([]byte(rec.ID), text); err != nil {
		return err
	}
	return markDirty(tx, rec.ID)
}

func markDirty(tx *bolt.Tx, id string) error {
	b := tx.Bucket(dirtyBucket)
	serial, err := b.NextSequence()
	if err != nil {
		return err
	}
	return b.Put([]byte(id), binary.BigEndian.AppendUint64(nil, serial))
}

func readDead(tx *bolt.Tx, id string) (*deadRecord, []byte, error) {
	text := tx.Bucket(deadBucket).Get([]byte(id))
	if text == nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrNoDeadLetter, id)
	}
	rec := &deadRecord{}
	event, err := unseal(text, rec)
	if err != nil {
		return nil, nil, fmt.Errorf("dead letter %s: %w", id, err)
	}
	return rec, event, nil
}
