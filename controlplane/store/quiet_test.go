package store

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// openLine is a transport that takes everything.
type openLine struct {
	transporter
	sent chan *raft.AppendEntriesRequest
}

func (l openLine) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	resp.Success = true
	l.sent <- args
	return nil
}

// A call that brings nothing new rests until there is something to tell; every other goes
// out at once, a heartbeat above all.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		committed, last := uint64(7), uint64(8)
		l := openLine{sent: make(chan *raft.AppendEntriesRequest, 1)}
		q := newQuiet(l, func() (uint64, uint64) { return committed, last })
		call := func(args raft.AppendEntriesRequest) {
			go func() { _ = q.AppendEntries("b", "b", &args, &raft.AppendEntriesResponse{}) }() // openLine gives no error
			synctest.Wait()
		}
		sent := func() bool {
			select {
			case <-l.sent:
				return true
			default:
				return false
			}
		}
		news := raft.AppendEntriesRequest{PrevLogEntry: 8, LeaderCommitIndex: 7}
		if call(news); !sent() {
			t.Error("the first word of a commit rested")
		}
		if call(news); sent() {
			t.Error("the same word again did not rest")
		}
		if q.stir(); !arrives(sent) {
			t.Error("it rested on although it was stirred")
		}
		if call(raft.AppendEntriesRequest{}); !sent() {
			t.Error("a heartbeat rested")
		}
		if call(raft.AppendEntriesRequest{PrevLogEntry: 8, LeaderCommitIndex: 7, Entries: []*raft.Log{{}}}); !sent() {
			t.Error("an entry rested")
		}
		committed = 8
		if call(news); !sent() {
			t.Error("a call that was made before the newest commit rested")
		}
		committed, last = 7, 9
		if call(news); !sent() {
			t.Error("a call that was made before the newest entry rested")
		}
		last = 8
		call(news)
		if q.writes(9); !arrives(sent) {
			t.Error("it rested on although an entry is on its way")
		}
		if call(news); !sent() {
			t.Error("a call rested while an entry was written, and the entry would have to wait for it")
		}
		news.PrevLogEntry, last = 9, 9
		call(news)
		if time.Sleep(quietPause); !arrives(sent) {
			t.Error("a leader with nothing to tell says nothing at all")
		}
	})
}

func arrives(sent func() bool) bool {
	synctest.Wait()
	return sent()
}
