package queue

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
)

const (
	walkRecords = 1024
	walkBytes   = 8 << 20
)

// Inspect describes the log of a stopped agent. A running one is ErrInUse.
func Inspect(dir string) (Report, error) {
	l, err := OpenReadOnly(dir)
	if err != nil {
		return Report{}, err
	}
	r, err := l.Inspect()
	return r, closeAfter(l, err)
}

// Verify reads every record of a stopped agent's log and lists what is damaged.
func Verify(dir string) ([]Damage, error) {
	l, err := OpenReadOnly(dir)
	if err != nil {
		return nil, err
	}
	d, err := l.Verify()
	return d, closeAfter(l, err)
}

// Export calls each for the records of a stopped agent's log, damaged ones with Err set.
func Export(dir string, from uint64, each func(Record) error) error {
	l, err := OpenReadOnly(dir)
	if err != nil {
		return err
	}
	return closeAfter(l, l.Export(from, each))
}

func closeAfter(l *Log, err error) error {
	if e := l.Close(); err == nil && e != nil {
		return fmt.Errorf("close queue: %w", e)
	}
	return err
}

// Inspect describes the log.
func (l *Log) Inspect() (Report, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return Report{}, ErrClosed
	}
	r := Report{Dir: l.cfg.Dir, First: l.next, Next: l.next, Marks: maps.Clone(l.marks)}
	for i, s := range l.row {
		if i == 0 {
			r.First = s.first
		}
		f := File{
			Name: filepath.Base(s.path), First: s.first, Next: s.next, Records: s.records,
			Payload: s.payload, Size: s.size, Written: s.written.UTC(),
		}
		if err := cmp.Or(s.lost, s.harm); err != nil {
			f.Error = err.Error()
		}
		r.Records += s.records
		r.Bytes += s.size
		r.Files = append(r.Files, f)
	}
	l.cursorMu.Lock()
	defer l.cursorMu.Unlock()
	r.Cursors = maps.Clone(l.cursors)
	return r, nil
}

// Verify reads every record and lists what is damaged.
func (l *Log) Verify() ([]Damage, error) {
	var out []Damage
	err := l.Export(0, func(r Record) error {
		if r.Err != nil {
			out = append(out, Damage{File: l.fileOf(r.Pos), First: r.Pos, Last: r.Last, Cause: r.Err.Error()})
		}
		return nil
	})
	return out, err
}

func (l *Log) fileOf(pos uint64) string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	name := ""
	for _, s := range l.row {
		if s.first <= pos {
			name = filepath.Base(s.path)
		}
	}
	return name
}

// Export calls each for the records from position from to the end that Next was at the
// beginning, damaged ones with Err set.
func (l *Log) Export(from uint64, each func(Record) error) error {
	end := l.Next()
	for from < end {
		records, err := l.Read(from, walkRecords, walkBytes)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, r := range records {
			if r.Pos >= end {
				return nil
			}
			if err := each(r); err != nil {
				return err
			}
			from = r.Last + 1
		}
	}
	return nil
}

// HeldFrom is what the files take that hold a position or one behind it. The newest always
// counts: it is never removed.
func (l *Log) HeldFrom(pos uint64) (n int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i, s := range l.row {
		if s.next > pos || i == len(l.row)-1 {
			n += s.size
		}
	}
	return n
}
