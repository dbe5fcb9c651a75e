package store

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// commitTimeout is how soon raft itself tells followers of a commit when no entry follows it
// that would tell them too, and again and again of nothing new. The teller is sooner; this is
// for a word of its that was lost.
const commitTimeout = 50 * time.Millisecond

// teller tells followers of a commit as soon as there is one: mail is handed out at followers
// as well, and what a follower has handed on is answered there. Raft would let a millisecond
// or two pass, at the least.
//
// What it sends is a call without entries, as raft's own are, and never says more than raft
// would: the commit that this node knows as the leader of the term in which the follower took
// its entries, and no entry beyond those.
type teller struct {
	transporter
	position func() (term, committed uint64) // term 0: this node does not lead
	calls    sync.WaitGroup

	mu        sync.Mutex
	followers map[raft.ServerID]*follower // guarded by mu
}

// follower is what the others are to the node that leads.
type follower struct {
	call raft.AppendEntriesRequest // without entries, behind the last one that it is known to hold
	at   raft.ServerAddress
	told uint64 // commit that it is known to have heard of
	busy bool   // being told
	lost bool   // could not be told: nobody does until raft has reached it again
}

func newTeller(t transporter, position func() (term, committed uint64)) *teller {
	return &teller{transporter: t, position: position, followers: map[raft.ServerID]*follower{}}
}

// AppendEntries learns from raft's calls how far the followers are.
func (t *teller) AppendEntries(id raft.ServerID, at raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.transporter.AppendEntries(id, at, args, resp)
	if err == nil && resp.Success && (args.PrevLogEntry > 0 || len(args.Entries) > 0) { // else it is a heartbeat
		t.took(id, at, args)
		t.tell() // the commit may be known already, by the word of others
	}
	return err
}

func (t *teller) took(id raft.ServerID, at raft.ServerAddress, args *raft.AppendEntriesRequest) {
	call := *args
	call.Entries = nil
	if n := len(args.Entries); n > 0 {
		call.PrevLogEntry, call.PrevLogTerm = args.Entries[n-1].Index, args.Entries[n-1].Term
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.followers[id]
	if f == nil {
		f = &follower{}
		t.followers[id] = f
	}
	if f.call.Term != call.Term {
		f.call, f.told = call, 0
	}
	if call.PrevLogEntry >= f.call.PrevLogEntry {
		f.call, f.at = call, at
	}
	f.told = max(f.told, min(args.LeaderCommitIndex, call.PrevLogEntry))
	f.lost = false
}

// tell sends word of the newest commit to all that have it to hear and are not being told.
// There is nobody to tell at a node that is alone.
func (t *teller) tell() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, f := range t.followers {
		if call, ok := t.news(f); ok {
			f.busy = true
			at := f.at
			t.calls.Go(func() { t.send(id, at, f, call) })
		}
	}
}

// news gives the call that tells a follower of a commit; the caller holds mu.
func (t *teller) news(f *follower) (call raft.AppendEntriesRequest, ok bool) {
	term, committed := t.position()
	call = f.call
	call.LeaderCommitIndex = min(committed, call.PrevLogEntry)
	return call, !f.busy && !f.lost && term == call.Term && call.LeaderCommitIndex > f.told
}

// send tells a follower until there is nothing newer. One that cannot be told is left to raft.
func (t *teller) send(id raft.ServerID, at raft.ServerAddress, f *follower, call raft.AppendEntriesRequest) {
	for more := true; more; {
		var resp raft.AppendEntriesResponse
		err := t.transporter.AppendEntries(id, at, &call, &resp)
		t.mu.Lock()
		f.busy = false
		more = err == nil && resp.Success
		f.lost = !more
		if more {
			if f.call.Term == call.Term {
				f.told = max(f.told, call.LeaderCommitIndex)
			}
			call, more = t.news(f)
			f.busy = more
		}
		t.mu.Unlock()
	}
}

// wait returns when no call is under way. The connections have to be closed before.
func (t *teller) wait() {
	if t != nil {
		t.calls.Wait()
	}
}
