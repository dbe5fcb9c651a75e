package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// Cursors live in a small file of their own, whose lock is the lock of the directory.
// They may lag behind what was saved in memory: reading something again is harmless.

const (
	cursorFile  = "cursors.db"
	flushPeriod = time.Second
)

var bucketCursors = []byte("cursors")

func (l *Log) openCursors() error {
	path := filepath.Join(l.cfg.Dir, cursorFile)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) && l.readOnly {
		return nil
	}
	var damage error
	if err == nil && info.Size() > 0 && !l.readOnly {
		// While another agent writes, its pages may look damaged: take the lock first.
		if damage, err = l.checkCursors(path); err != nil {
			return err
		}
	}
	if damage == nil {
		l.cursorDB, err = openBolt(path, l.readOnly)
		if err == nil {
			damage = l.loadCursors()
		} else if errors.Is(err, ErrDamage) {
			damage = err
		} else {
			return fmt.Errorf("queue: %w", err)
		}
	}
	if l.readOnly {
		return nil
	}
	if damage != nil {
		if err := l.replaceCursors(path, damage); err != nil {
			return err
		}
	}
	return l.hold(path)
}

// hold notes which file it is whose lock keeps other agents away.
func (l *Log) hold(path string) (err error) {
	if l.held, err = os.Stat(path); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	os.SameFile(l.held, l.held) // some systems learn only here which file it is
	return nil
}

// Gone says whether somebody has removed the directory under the open log, or put another in its
// place: ErrGone. What was read from it so far can still be read; what is appended ends with the
// process.
func (l *Log) Gone() error {
	if l.held == nil { // it is only read
		return nil
	}
	now, err := os.Stat(filepath.Join(l.cfg.Dir, cursorFile))
	if errors.Is(err, os.ErrNotExist) || err == nil && replaced(l.held, now) {
		return fmt.Errorf("%s: %w", l.cfg.Dir, ErrGone)
	}
	return nil // another error says nothing about that
}

// replaced says that another file stands where one was. Some systems have to open a file to learn
// which it is: where that does not work, as with a scanner that holds it, nothing is known.
func replaced(was, now os.FileInfo) bool {
	return os.SameFile(was, was) && os.SameFile(now, now) && !os.SameFile(was, now)
}

func (l *Log) checkCursors(path string) (damage, err error) {
	db, err := openBolt(path, true)
	switch {
	case errors.Is(err, ErrDamage):
		return err, nil
	case err != nil:
		return nil, fmt.Errorf("queue: %w", err)
	}
	damage = checkPages(path, true)
	return damage, db.Close()
}

func (l *Log) loadCursors() error {
	return view(l.cursorDB, cursorFile, func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketCursors)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			pos, err := decodeNumber(string(k), v)
			if err != nil {
				l.log.Error("a cursor of the queue is damaged and starts over", "cursor", string(k), "error", err)
				return nil
			}
			l.cursors[string(k)] = pos
			return nil
		})
	})
}

// replaceCursors starts without cursors, which costs repeats and loses nothing.
func (l *Log) replaceCursors(path string, damage error) error {
	l.log.Error("the cursors of the queue are damaged and start over", "file", path, "error", damage)
	if l.cursorDB != nil {
		if err := l.cursorDB.Close(); err != nil {
			return fmt.Errorf("queue: %w", err)
		}
		l.cursorDB = nil
	}
	if err := os.Rename(path, path+suffixDamaged); err != nil {
		return fmt.Errorf("queue: move damaged cursors aside: %w", err)
	}
	db, err := openBolt(path, false)
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	l.cursorDB = db
	return atomicfile.SyncDir(l.cfg.Dir)
}

// SaveCursor remembers a reader's position. It is on disk after the next Flush.
func (l *Log) SaveCursor(name string, pos uint64) {
	l.cursorMu.Lock()
	defer l.cursorMu.Unlock()
	if old, ok := l.cursors[name]; ok && old == pos {
		return
	}
	l.cursors[name] = pos
	l.unsaved[name] = true
}

// Cursor is a reader's position, 0 if it never saved one.
func (l *Log) Cursor(name string) uint64 {
	l.cursorMu.Lock()
	defer l.cursorMu.Unlock()
	return l.cursors[name]
}

// Flush writes changed cursors to disk.
func (l *Log) Flush() error {
	l.cursorMu.Lock()
	defer l.cursorMu.Unlock()
	if len(l.unsaved) == 0 || l.cursorDB == nil || l.readOnly {
		return nil
	}
	err := guard(cursorFile, func() error {
		return l.cursorDB.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucketCursors)
			if err != nil {
				return err
			}
			for name := range l.unsaved {
				if err := b.Put([]byte(name), encodeNumber(name, l.cursors[name])); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("save cursors: %w", classify(err))
	}
	clear(l.unsaved)
	return nil
}

// Run saves cursors every second until ctx ends, and once more then.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(flushPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return l.flushOrWarn()
		case <-tick.C:
			if err := l.flushOrWarn(); err != nil {
				return err
			}
		}
	}
}

// flushOrWarn lets cursors lag on a full disk; after a failed fsync the process must end.
func (l *Log) flushOrWarn() error {
	err := l.Flush()
	if errors.Is(err, ErrFull) {
		l.log.Warn("cursors are not saved for lack of space", "error", err)
		return nil
	}
	return err
}
