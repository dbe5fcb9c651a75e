package store

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// commitTimeout is how soon raft tells followers of a commit when no entry follows it that
	// would tell them too. Mail is handed out at followers as well, so it waits for that word.
	commitTimeout = time.Millisecond

	// quietPause is how often a leader with nothing to tell says so.
	quietPause = 50 * time.Millisecond
)

// quiet keeps a leader whose commits are told at once from telling all the time that there
// is none. To raft a call that rests is one on a slow line; the heartbeats, on which a
// leader's rule depends, are other calls.
type quiet struct {
	transporter
	position func() (committed, last uint64) // of this node's log

	mu      sync.Mutex
	told    map[raft.ServerID]uint64 // guarded by mu; commit that a node is known to have heard of
	coming  uint64                   // guarded by mu; entry that is being written here, or was last
	stirred chan struct{}            // guarded by mu; closed when there may be something to tell
}

func newQuiet(t transporter, position func() (committed, last uint64)) *quiet {
	return &quiet{transporter: t, position: position, told: map[raft.ServerID]uint64{}, stirred: make(chan struct{})}
}

// stir ends the rest of all calls. Of a node that is alone there is nothing to end.
func (q *quiet) stir() {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wake()
}

func (q *quiet) wake() {
	close(q.stirred)
	q.stirred = make(chan struct{})
}

// writes is told before entries are written to this node's log. Raft hands them to the others
// only when that is done, and a call that went to rest meanwhile would keep them waiting.
func (q *quiet) writes(last uint64) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.coming = last
	q.wake()
}

// AppendEntries rests before a call that brings a node nothing new.
func (q *quiet) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if stirred := q.idle(id, args); stirred != nil {
		pause := time.NewTimer(quietPause)
		select {
		case <-stirred:
		case <-pause.C:
		}
		pause.Stop()
	}
	err := q.transporter.AppendEntries(id, target, args, resp)
	if err == nil && resp.Success {
		q.mu.Lock()
		q.told[id] = max(q.told[id], args.LeaderCommitIndex)
		q.mu.Unlock()
	}
	return err
}

// idle gives what ends the rest of a call that brings nothing new, nil if it brings something
// or there is something newer. A heartbeat has neither entries nor a place in the log.
func (q *quiet) idle(id raft.ServerID, args *raft.AppendEntriesRequest) <-chan struct{} {
	if len(args.Entries) > 0 || args.PrevLogEntry == 0 {
		return nil
	}
	q.mu.Lock()
	stirred, told, coming := q.stirred, q.told[id], q.coming
	q.mu.Unlock()
	committed, last := q.position() // after stirred was taken: what comes later closes it
	if told < args.LeaderCommitIndex || args.LeaderCommitIndex < committed || args.PrevLogEntry < max(last, coming) {
		return nil
	}
	return stirred
}
