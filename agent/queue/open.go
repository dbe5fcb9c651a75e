package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// Open opens the log in cfg.Dir, which it creates. Files that cannot be opened are moved
// aside and reported; a newest file with broken pages is read but not written any more.
func Open(cfg Config) (*Log, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("queue: data directory: %w", err)
	}
	l := newLog(cfg, false)
	if err := l.openCursors(); err != nil { // takes the lock of the directory
		return nil, err
	}
	if err := l.openRow(); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// OpenReadOnly opens a stopped agent's log and changes nothing.
func OpenReadOnly(dir string) (*Log, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("queue: data directory: %w", err)
	}
	cfg := Config{Dir: dir}
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	l := newLog(cfg, true)
	if err := l.openCursors(); err != nil {
		return nil, err
	}
	if err := l.openRow(); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func newLog(cfg Config, readOnly bool) *Log {
	l := &Log{
		cfg: cfg, log: cfg.Logger, readOnly: readOnly, next: 1,
		marks: map[string]uint64{}, cursors: map[string]uint64{}, unsaved: map[string]bool{},
		changed: make(chan struct{}),
	}
	l.quota.Store(cfg.Quota)
	return l
}

// openRow opens the files in order of position. What is known of the end of a lost file
// is the beginning of the next one; behind a lost newest file a range stays unused.
func (l *Log) openRow() error {
	firsts, err := l.list()
	if err != nil {
		return err
	}
	for i, name := range firsts {
		s, err := l.openSegment(name, i == len(firsts)-1)
		if err != nil {
			return err
		}
		if i > 0 {
			l.joinRow(l.row[i-1], s)
		}
		l.row = append(l.row, s)
	}
	if n := len(l.row); n > 0 {
		l.next = l.row[n-1].next
	}
	for _, s := range l.row {
		if s.harm != nil && s.next > s.harmFrom {
			l.log.Error("records of the queue were lost", "file", s.path, "first", s.harmFrom, "last", s.next-1, "error", s.harm)
			if l.cfg.OnDamage != nil {
				l.cfg.OnDamage(s.harmFrom, s.next-1, s.harm)
			}
		}
	}
	return nil
}

// joinRow settles where the earlier of two neighbours ends.
func (l *Log) joinRow(s, after *segment) {
	if s.lost != nil || s.next > after.first {
		s.next = after.first
	}
}

// list names the files of the row in order, and clears away unfinished ones.
func (l *Log) list() ([]string, error) {
	entries, err := os.ReadDir(l.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("queue: data directory: %w", err)
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, suffix+suffixNew) && !l.readOnly {
			if err := os.Remove(filepath.Join(l.cfg.Dir, name)); err != nil {
				return nil, fmt.Errorf("queue: remove unfinished file: %w", err)
			}
			continue
		}
		if _, ok := firstOf(name); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names) // digits of equal length; .log before .log.damaged
	return names, nil
}

func firstOf(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(strings.TrimSuffix(name, suffixDamaged), suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && first > 0 && first < math.MaxInt64
}

func (l *Log) openSegment(name string, newest bool) (*segment, error) {
	first, _ := firstOf(name)
	s := &segment{path: filepath.Join(l.cfg.Dir, name), first: first}
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	s.written = info.ModTime()
	if strings.HasSuffix(name, suffixDamaged) {
		l.lose(s, fmt.Errorf("%w: %s was moved aside", ErrDamage, name), info)
		return s, nil
	}
	s.broken = checkPages(s.path, newest)
	switch {
	case errors.Is(s.broken, errNoMeta):
		l.lose(s, s.broken, info)
		s.harm, s.harmFrom = s.lost, s.first
		return s, l.moveAside(s)
	case errors.Is(s.broken, ErrDamage):
		// The last appends may be lost without a trace (of two meta pages the older one may
		// be left), so neither the file's end nor its marks are believed.
		s.size, s.next = info.Size(), s.first+jump(info)
		s.harm, s.harmFrom = s.broken, s.first
		l.stale = true // until a later file shows marks
		l.log.Error("a file of the queue has damaged pages; it is read but not written any more", "file", s.path, "error", s.broken)
		return s, nil
	case s.broken != nil:
		return nil, fmt.Errorf("queue: %w", s.broken)
	}
	if s.db, err = openBolt(s.path, true); err != nil {
		return nil, fmt.Errorf("queue: open %s: %w", s.path, err)
	}
	return s, l.loadSegment(s, newest, info)
}

// loadSegment reads what a sound file says of itself, and reopens the newest for writing.
func (l *Log) loadSegment(s *segment, newest bool, info fs.FileInfo) error {
	stateErr, marksErr := s.load(l.marks)
	if !s.fresh {
		l.stale = marksErr != nil
	}
	if s.harm = errors.Join(stateErr, marksErr); s.harm != nil {
		l.log.Error("a file of the queue has damaged values; it is read but not written any more", "file", s.path, "error", s.harm)
		s.harmFrom = max(s.first, s.next)
		if stateErr != nil {
			s.next = s.first + jump(info)
		}
		return nil
	}
	if !newest || l.readOnly {
		return nil
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("queue: reopen %s: %w", s.path, err)
	}
	db, err := openBolt(s.path, false)
	if err != nil {
		s.db = nil
		return fmt.Errorf("queue: reopen %s for writing: %w", s.path, err)
	}
	s.db, s.writes = db, true
	return nil
}

// jump is more than the records that a file of this size can hold.
func jump(info fs.FileInfo) uint64 { return max(positionJump, uint64(info.Size())/16) }

func (l *Log) lose(s *segment, cause error, info fs.FileInfo) {
	s.lost, s.size, s.next = cause, info.Size(), s.first+jump(info)
	l.stale = true // until a later file shows marks
}

func (l *Log) moveAside(s *segment) error {
	if l.readOnly {
		return nil
	}
	to := s.path + suffixDamaged
	if err := os.Rename(s.path, to); err != nil {
		return fmt.Errorf("queue: move damaged file aside: %w", err)
	}
	s.path = to
	return atomicfile.SyncDir(l.cfg.Dir)
}

// newFile creates a file for positions from first on. It gets its name only when bbolt's
// first pages are on disk, so that a file in the row that cannot be opened was damaged.
func (l *Log) newFile(first uint64) (*segment, error) {
	path := filepath.Join(l.cfg.Dir, fileName(first))
	db, err := openBolt(path+suffixNew, false)
	if err == nil {
		err = db.Close()
	}
	if err == nil {
		err = os.Rename(path+suffixNew, path)
	}
	if err != nil {
		_ = os.Remove(path + suffixNew)
		return nil, err
	}
	if err := atomicfile.SyncDir(l.cfg.Dir); err != nil {
		return nil, err
	}
	if db, err = openBolt(path, false); err != nil {
		return nil, err
	}
	s := &segment{path: path, first: first, db: db, fresh: true, writes: true}
	s.next = first
	return s, nil
}
