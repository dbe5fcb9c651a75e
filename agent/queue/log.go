package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/freespace"
)

// Log is the open log. All methods are safe for concurrent use.
type Log struct {
	cfg      Config
	log      *slog.Logger
	readOnly bool
	quota    atomic.Int64
	blind    atomic.Bool // what is free cannot be told, which was said

	appends sync.Mutex // held over a whole append, its fsync included; taken before mu
	fatal   error      // guarded by appends: why nothing is written any more
	room    []byte     // guarded by appends: kept for the next one

	mu      sync.RWMutex // held by a reader for one batch, so that its file stays open
	row     []*segment
	next    uint64
	marks   map[string]uint64
	stale   bool          // the newest marks were in a file that was lost
	changed chan struct{} // closed and replaced by every append
	closed  bool

	cursorMu sync.Mutex
	cursorDB *bolt.DB
	held     os.FileInfo // the file of cursorDB as it was opened; set by Open only
	cursors  map[string]uint64
	unsaved  map[string]bool
}

// Append writes the records under the next positions and sets the marks, all in one
// transaction that is on disk when it returns. ErrFull: nothing was written, the log goes
// on. ErrFatal: whether it was written is unknown, and no later append will be taken.
func (l *Log) Append(records [][]byte, marks map[string]uint64) (first uint64, err error) {
	payload, err := checkAppend(records, marks)
	if err != nil {
		return 0, err
	}
	l.appends.Lock()
	defer l.appends.Unlock()
	if l.fatal != nil {
		return 0, l.fatal
	}
	s, err := l.writable()
	if err != nil {
		return 0, l.failed(err)
	}
	st := s.state
	st.next += uint64(len(records))
	st.records += uint64(len(records))
	st.payload += payload
	st.written = l.cfg.Now()
	if err := s.write(s.next, records, marks, l.marks, st, l.roomFor(len(records), payload)); err != nil {
		err = classify(err)
		if errors.Is(err, ErrFull) {
			err = l.remap(s, err)
		}
		return 0, l.failed(err)
	}
	var size int64
	if err := view(s.db, s.path, func(tx *bolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return 0, l.failed(fmt.Errorf("%w: %w", ErrFatal, err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	first = s.next
	s.state, s.size, s.fresh = st, size, false
	l.next = st.next
	maps.Copy(l.marks, marks)
	close(l.changed)
	l.changed = make(chan struct{})
	return first, nil
}

// keptRoom bounds what is kept of it between two appends.
const keptRoom = 2 << 20

// roomFor gives room for the values of an append; the caller holds appends.
func (l *Log) roomFor(records int, payload int64) []byte {
	need := int(payload) + records*8 // their positions
	if need > keptRoom {
		return make([]byte, 0, need)
	}
	if cap(l.room) < need {
		l.room = make([]byte, 0, max(need, min(2*cap(l.room), keptRoom)))
	}
	return l.room
}

func checkAppend(records [][]byte, marks map[string]uint64) (payload int64, err error) {
	for _, r := range records {
		if len(r) > MaxRecordBytes {
			return 0, fmt.Errorf("%w: a record of %d bytes, at most %d are taken", ErrLimit, len(r), MaxRecordBytes)
		}
		payload += int64(len(r))
	}
	if payload > MaxAppendBytes {
		return 0, fmt.Errorf("%w: %d bytes in one append, at most %d are taken", ErrLimit, payload, MaxAppendBytes)
	}
	for name := range marks {
		if name == "" || len(name) > MaxMarkName {
			return 0, fmt.Errorf("%w: a mark's name has %d bytes, 1 to %d are taken", ErrLimit, len(name), MaxMarkName)
		}
	}
	return payload, nil
}

// failed remembers an error that nothing may be written after.
func (l *Log) failed(err error) error {
	if errors.Is(err, ErrFatal) {
		l.fatal = err
		l.log.Error("the queue stops writing", "dir", l.cfg.Dir, "error", err)
	}
	return err
}

// segmentBytes is the size at which a file is closed to appends. Where the disk has less
// than the quota, files are smaller in proportion: the newest is never dropped, and what
// is in it would hold the level up.
func (l *Log) segmentBytes(u Usage) int64 {
	return min(l.cfg.SegmentBytes, max(u.Quota/8, minSegment))
}

// writable gives the file to append to, and begins a new one when the newest is full, or
// is not to be written. The caller holds appends.
func (l *Log) writable() (*segment, error) {
	l.mu.RLock()
	closed, next := l.closed, l.next
	var newest *segment
	if n := len(l.row); n > 0 {
		newest = l.row[n-1]
	}
	l.mu.RUnlock()
	if closed || l.readOnly {
		return nil, ErrClosed
	}
	u := l.Usage()
	if u.Bytes >= u.Quota {
		return nil, fmt.Errorf("%w: %d bytes used in %s, the quota is %d and the disk has %d free", ErrFull, u.Bytes, l.cfg.Dir, l.quota.Load(), u.Free)
	}
	if newest != nil && newest.writes && newest.size < l.segmentBytes(u) {
		return newest, nil
	}
	s, err := l.newFile(next)
	if err != nil {
		return nil, fmt.Errorf("begin new file of the queue: %w", classify(err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.row = append(l.row, s)
	return s, nil
}

// remap reopens a file that bbolt lost its map of when it could not grow it. full is
// why, and stays the answer.
func (l *Log) remap(s *segment, full error) error {
	probe := view(s.db, s.path, func(*bolt.Tx) error { return nil })
	if probe == nil {
		return full
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = s.db.Close() // it is no longer mapped
	db, err := openBolt(s.path, false)
	if err != nil {
		return fmt.Errorf("%w: reopen %s: %w, after %w", ErrFatal, s.path, err, full)
	}
	s.db = db
	return full
}

// Read gives the records from position from on, at most maxRecords and, beyond the first,
// maxBytes. Nothing that it returns is shared. A position before the first held one means
// the first; at the end it returns nothing.
func (l *Log) Read(from uint64, maxRecords, maxBytes int) ([]Record, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, ErrClosed
	}
	b := &batch{at: from, records: maxRecords, bytes: maxBytes}
	for _, s := range l.row {
		if b.full() {
			break
		}
		if b.at >= s.next && s.next > s.first {
			continue
		}
		if b.at < s.first && len(b.out) == 0 && s == l.row[0] {
			b.at = s.first
		}
		if b.at < s.first {
			b.damage(s.first-1, fmt.Errorf("%w: positions before %d are missing", ErrDamage, s.first))
		}
		s.read(b)
		if b.at >= s.next && s != l.row[len(l.row)-1] {
			s.rest()
		}
	}
	return b.out, nil
}

// Each calls fn for what Read gives, in terms that another package can declare.
func (l *Log) Each(from uint64, maxRecords, maxBytes int, fn func(pos, last uint64, data []byte, damage error)) error {
	records, err := l.Read(from, maxRecords, maxBytes)
	for _, r := range records {
		fn(r.Pos, r.Last, r.Data, r.Err)
	}
	return err
}

// First is the position of the oldest record held, or Next if there is none.
func (l *Log) First() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.row) == 0 {
		return l.next
	}
	return l.row[0].first
}

// Next is the position that the next record will get.
func (l *Log) Next() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.next
}

// Wait returns when a record with position pos exists: when Next is beyond it.
func (l *Log) Wait(ctx context.Context, pos uint64) error {
	for {
		l.mu.RLock()
		next, changed, closed := l.next, l.changed, l.closed
		l.mu.RUnlock()
		switch {
		case closed:
			return ErrClosed
		case next > pos:
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// Mark is the value of a mark, 0 if it was never set.
func (l *Log) Mark(name string) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.marks[name]
}

// Marks lists the marks whose name begins with prefix.
func (l *Log) Marks(prefix string) map[string]uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := map[string]uint64{}
	for name, v := range l.marks {
		if strings.HasPrefix(name, prefix) {
			out[name] = v
		}
	}
	return out
}

// MarksStale reports that Open found the newest marks damaged: what Mark gives is older
// than what was once acknowledged, by an unknown amount. It stays so over restarts until
// an append writes marks anew; within this run it stays set.
func (l *Log) MarksStale() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.stale
}

// Trim removes files from the front that hold only positions before before and were last
// appended to before olderThan (the zero time: whatever their age). The newest file
// always stays. It returns how many records went.
func (l *Log) Trim(before uint64, olderThan time.Time) (dropped uint64, err error) {
	for {
		n, written, ok := l.oldest(before)
		if !ok || !olderThan.IsZero() && !written.Before(olderThan) {
			return dropped, nil
		}
		if err := l.dropOldest(before); err != nil {
			return dropped, err
		}
		dropped += n
	}
}

// TrimOne removes the first file if it holds only positions before before and is not the
// newest. It returns how many records went, and when the last of them was written.
func (l *Log) TrimOne(before uint64) (dropped uint64, written time.Time, err error) {
	n, written, ok := l.oldest(before)
	if !ok {
		return 0, time.Time{}, nil
	}
	return n, written, l.dropOldest(before)
}

// oldest describes the first file, if it may go.
func (l *Log) oldest(before uint64) (records uint64, written time.Time, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.row) < 2 || l.row[0].next > before {
		return 0, time.Time{}, false
	}
	return l.row[0].records, l.row[0].written, true
}

func (l *Log) dropOldest(before uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.readOnly {
		return ErrClosed
	}
	if len(l.row) < 2 || l.row[0].next > before {
		return nil // somebody else was quicker
	}
	s := l.row[0]
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			l.log.Warn("close a file of the queue before removing it", "file", s.path, "error", err)
		}
		s.db = nil
		s.lost = fmt.Errorf("%w: the file was closed to be removed", ErrDamage)
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("trim queue: %w", err)
	}
	l.row = l.row[1:]
	return atomicfile.SyncDir(l.cfg.Dir)
}

// SetQuota changes the quota. A smaller one than is used drops nothing: it is full until
// something is let go.
func (l *Log) SetQuota(bytes int64) { l.quota.Store(bytes) }

// Usage is what the log takes now.
func (l *Log) Usage() Usage {
	l.mu.RLock()
	u := Usage{Quota: l.quota.Load()}
	for _, s := range l.row {
		u.Bytes += s.size
		u.Records += s.records
	}
	l.mu.RUnlock()
	free, err := freespace.Of(l.cfg.Dir)
	if err != nil {
		if !l.blind.Swap(true) { // it is asked at every append
			l.log.Warn("free space of the disk is unknown", "dir", l.cfg.Dir, "error", err)
		}
		return u
	}
	l.blind.Store(false)
	u.Free = free
	u.Quota = min(u.Quota, u.Bytes+free)
	return u
}

// Level is Usage's level.
func (l *Log) Level() float64 { return l.Usage().Level() }

// Close saves the cursors and closes all files.
func (l *Log) Close() error {
	l.appends.Lock()
	defer l.appends.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	err := l.Flush()
	close(l.changed)
	for _, s := range l.row {
		// A panic inside a write may have left bbolt's lock held: Close would wait forever.
		if s.db != nil && (l.fatal == nil || !s.writes) {
			err = errors.Join(err, s.db.Close())
		}
	}
	l.cursorMu.Lock()
	defer l.cursorMu.Unlock()
	if l.cursorDB != nil {
		err = errors.Join(err, l.cursorDB.Close())
		l.cursorDB = nil
	}
	return err
}

// batch collects what one Read gives.
type batch struct {
	at      uint64 // next position wanted
	records int
	bytes   int
	size    int
	out     []Record
}

func (b *batch) full() bool {
	return len(b.out) >= b.records || len(b.out) > 0 && b.size >= b.bytes
}

func (b *batch) damage(last uint64, err error) {
	b.out = append(b.out, Record{Pos: b.at, Last: last, Err: err})
	b.at = last + 1
}

func (b *batch) value(v []byte) {
	if len(v) < 4 || binary.BigEndian.Uint32(v) != recordSum(b.at, v[4:]) {
		b.damage(b.at, fmt.Errorf("%w: checksum of record %d", ErrDamage, b.at))
		return
	}
	data := append(make([]byte, 0, len(v)-4), v[4:]...)
	b.out = append(b.out, Record{Pos: b.at, Last: b.at, Data: data})
	b.size += len(data)
	b.at++
}

// read adds records of this file to b until it is full or the file ends. Whatever cannot
// be reached becomes damage, so that b.at always moves on.
func (s *segment) read(b *batch) {
	if b.full() || b.at >= s.next {
		return
	}
	if s.lost != nil {
		b.damage(s.next-1, s.lost)
		return
	}
	s.check.Do(func() {
		if !s.writes && s.broken == nil { // else checked by Open, or made by this run
			s.broken = checkPages(s.path, true)
		}
	})
	if s.broken != nil {
		s.readBroken(b)
		return
	}
	err := view(s.db, s.path, func(tx *bolt.Tx) error { return s.readTx(tx, b) })
	if err != nil && !b.full() && b.at < s.next {
		b.damage(s.next-1, err)
	}
}

func (s *segment) readTx(tx *bolt.Tx, b *batch) error {
	commits := tx.Bucket(bucketCommits)
	if commits == nil {
		return fmt.Errorf("%w: %s: records are missing", ErrDamage, s.path)
	}
	c := commits.Cursor()
	k, _ := c.Seek(posKey(b.at))
	if k == nil {
		k, _ = c.Last()
	} else if string(k) != string(posKey(b.at)) {
		if before, _ := c.Prev(); before != nil {
			k = before
		} else {
			k, _ = c.First()
		}
	}
	for k != nil && !b.full() && b.at < s.next {
		first := binary.BigEndian.Uint64(padKey(k))
		name := k
		after := s.next
		for k, _ = c.Next(); k != nil; k, _ = c.Next() {
			if n := binary.BigEndian.Uint64(padKey(k)); n > first && n < s.next {
				after = n
				break
			}
		}
		if first >= s.next || after <= b.at {
			continue
		}
		if first > b.at {
			b.damage(first-1, fmt.Errorf("%w: records %d to %d are missing", ErrDamage, b.at, first-1))
		}
		err := guard(s.path, func() error { return readCommit(commits.Bucket(name), b, after) })
		if err != nil && !b.full() && b.at < after {
			b.damage(after-1, err)
		}
	}
	if !b.full() && b.at < s.next {
		b.damage(s.next-1, fmt.Errorf("%w: records %d to %d are missing", ErrDamage, b.at, s.next-1))
	}
	return nil
}

// padKey makes eight bytes of a key that damage may have shortened.
func padKey(k []byte) []byte {
	if len(k) == 8 {
		return k
	}
	return posKey(0)
}

// readCommit adds the records of one append up to position after.
func readCommit(commit *bolt.Bucket, b *batch, after uint64) error {
	if commit == nil {
		return fmt.Errorf("%w: the records of an append are missing", ErrDamage)
	}
	c := commit.Cursor()
	k, v := c.Seek(posKey(b.at))
	for ; !b.full() && b.at < after; k, v = c.Next() {
		if k == nil {
			return fmt.Errorf("%w: records %d to %d are missing", ErrDamage, b.at, after-1)
		}
		pos := binary.BigEndian.Uint64(padKey(k))
		switch {
		case pos < b.at || pos >= after: // not where it belongs: pass over
			continue
		case pos > b.at:
			b.damage(pos-1, fmt.Errorf("%w: records %d to %d are missing", ErrDamage, b.at, pos-1))
			if b.full() {
				return nil
			}
		}
		b.value(v)
	}
	return nil
}
