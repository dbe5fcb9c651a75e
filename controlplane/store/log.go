package store

import (
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// guardedLog is the log, ending the process when a write fails or hangs. A node that went
// on would keep its leadership by heartbeats and answer nobody, or have a log with holes.
type guardedLog struct {
	*wal.WAL
	s     *Store
	sizes sizes
}

var (
	_ raft.LogStore          = (*guardedLog)(nil)
	_ raft.StableStore       = (*guardedLog)(nil)
	_ raft.MonotonicLogStore = (*guardedLog)(nil)
)

// deadline ends the process unless it is stopped in time.
func (s *Store) deadline(what string) *time.Timer {
	return time.AfterFunc(s.cfg.WriteDeadline, func() {
		s.fail(fmt.Errorf("store: %s: not done after %s; look at the disk of %s", what, s.cfg.WriteDeadline, s.cfg.Dir))
	})
}

func (g *guardedLog) guard(what string, write func() error) error {
	timer := g.s.deadline(what)
	err := write()
	timer.Stop()
	if err != nil && !errors.Is(err, wal.ErrClosed) {
		g.s.fail(fmt.Errorf("store: %s in %s: %w", what, g.s.cfg.Dir, err))
	}
	return err
}

// GetLog does not give what was deleted, which the log beneath does until a file is full: a
// node that needs it is to get a snapshot.
func (g *guardedLog) GetLog(index uint64, l *raft.Log) error {
	if first, err := g.FirstIndex(); err == nil && index < first {
		return raft.ErrLogNotFound
	}
	return g.WAL.GetLog(index, l)
}

func (g *guardedLog) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

func (g *guardedLog) StoreLogs(logs []*raft.Log) error {
	err := g.guard("write to the log", func() error { return g.WAL.StoreLogs(logs) })
	if err == nil {
		for _, l := range logs {
			g.sizes.add(l.Index, len(l.Data))
		}
	}
	return err
}

func (g *guardedLog) DeleteRange(first, last uint64) error {
	err := g.guard("shorten the log", func() error { return g.WAL.DeleteRange(first, last) })
	if err == nil {
		g.sizes.remove(first, last)
	}
	return err
}

func (g *guardedLog) Set(key, value []byte) error {
	return g.guard("write raft's own state", func() error { return g.WAL.Set(key, value) })
}

func (g *guardedLog) SetUint64(key []byte, value uint64) error {
	return g.guard("write raft's own state", func() error { return g.WAL.SetUint64(key, value) })
}

// The log is measured by marks, not entry by entry.
const (
	markBytes     = 1 << 20 // between two marks
	entryOverhead = 32      // of an entry on disk, about
)

// mark says how much had been written when an entry was.
type mark struct {
	index uint64
	total int64
}

// sizes knows, closely enough, how many bytes the end of the log has from any entry on. It
// counts from where this run began to count; what is older counts nothing.
type sizes struct {
	mu    sync.Mutex
	marks []mark // ascending, about markBytes apart
	last  mark   // the newest entry
}

func (z *sizes) add(index uint64, data int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(z.marks) == 0 {
		z.marks = append(z.marks, mark{index - 1, z.last.total})
	}
	z.last = mark{index, z.last.total + int64(data) + entryOverhead}
	if z.last.total-z.marks[len(z.marks)-1].total >= markBytes {
		z.marks = append(z.marks, z.last)
	}
}

// remove follows a cut at either end of the log.
func (z *sizes) remove(first, last uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if last < z.last.index { // the head: the mark before the cut still measures what follows it
		z.marks = z.marks[max(z.at(last), 0):]
		return
	}
	if i := z.at(first - 1); first > 0 && i >= 0 {
		z.marks = z.marks[:i+1]
		z.last = mark{first - 1, z.marks[i].total}
		return
	}
	z.marks, z.last = nil, mark{}
}

// at finds the newest mark that is not beyond an entry; -1: there is none.
func (z *sizes) at(index uint64) int {
	return sort.Search(len(z.marks), func(i int) bool { return z.marks[i].index > index }) - 1
}

// since is how many bytes follow an entry, by at most markBytes and an entry too many.
func (z *sizes) since(index uint64) int64 {
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(z.marks) == 0 || index >= z.last.index {
		return 0
	}
	return z.last.total - z.marks[max(z.at(index), 0)].total
}

// trailing is how many entries at the end have at most so many bytes.
func (z *sizes) trailing(bytes int64) uint64 {
	z.mu.Lock()
	defer z.mu.Unlock()
	i := sort.Search(len(z.marks), func(i int) bool { return z.last.total-z.marks[i].total <= bytes })
	if i == len(z.marks) {
		return 0
	}
	return z.last.index - z.marks[i].index
}
