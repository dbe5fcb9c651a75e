package store

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
)

// tapped is a transport that notes what is sent and answers as it is told to.
type tapped struct {
	transporter
	sent   []string
	answer func() (success bool, err error)
}

func (l *tapped) AppendEntries(id raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (err error) {
	l.sent = append(l.sent, fmt.Sprintf("%s: term %d, %d entries behind %d/%d, commit %d", id, args.Term, len(args.Entries), args.PrevLogTerm, args.PrevLogEntry, args.LeaderCommitIndex))
	resp.Success, err = l.answer()
	return err
}

func TestTeller(t *testing.T) {
	entry := func(index, term uint64) *raft.Log { return &raft.Log{Index: index, Term: term} }
	five := raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 4, PrevLogTerm: 2, Entries: []*raft.Log{entry(5, 3)}, LeaderCommitIndex: 4}
	done := func() (bool, error) { return true, nil }
	for name, c := range map[string]struct {
		calls           []raft.AppendEntriesRequest // raft's, while nothing is committed beyond what they say
		answer          func() (bool, error)
		term, committed uint64 // of this node then
		want            []string
	}{
		"a commit is told at once, and once": {[]raft.AppendEntriesRequest{five}, done, 3, 5,
			[]string{"b: term 3, 0 entries behind 3/5, commit 5"}},
		"no further than the follower is known to be": {[]raft.AppendEntriesRequest{five}, done, 3, 9,
			[]string{"b: term 3, 0 entries behind 3/5, commit 5"}},
		"not what raft's call has told": {[]raft.AppendEntriesRequest{five, {Term: 3, PrevLogEntry: 5, PrevLogTerm: 3, LeaderCommitIndex: 5}}, done, 3, 5, nil},
		"not in another term":           {[]raft.AppendEntriesRequest{five}, done, 4, 5, nil},
		"not by one that leads no more": {[]raft.AppendEntriesRequest{five}, done, 0, 5, nil},
		"a new term begins anew": {[]raft.AppendEntriesRequest{five, {Term: 4, PrevLogEntry: 4, PrevLogTerm: 2, LeaderCommitIndex: 3}}, done, 4, 5,
			[]string{"b: term 4, 0 entries behind 2/4, commit 4"}},
		"a late call does not set it back": {[]raft.AppendEntriesRequest{five, {Term: 3, PrevLogEntry: 4, PrevLogTerm: 2, LeaderCommitIndex: 4}}, done, 3, 5,
			[]string{"b: term 3, 0 entries behind 3/5, commit 5"}},
		"a heartbeat says nothing of the follower's log": {[]raft.AppendEntriesRequest{{Term: 3}}, done, 3, 5, nil},
		"a follower that refused is not told":            {[]raft.AppendEntriesRequest{five}, func() (bool, error) { return false, nil }, 3, 5, nil},
		"nor one that cannot be reached":                 {[]raft.AppendEntriesRequest{five}, func() (bool, error) { return false, errors.New("cut") }, 3, 5, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var term, committed uint64
				line := &tapped{answer: c.answer}
				teller := newTeller(line, func() (uint64, uint64) { return term, committed })
				for _, args := range c.calls {
					_ = teller.AppendEntries("b", "b", &args, &raft.AppendEntriesResponse{}) // the case's own error
				}
				line.sent = nil
				term, committed = c.term, c.committed
				for range 2 {
					teller.tell()
					synctest.Wait()
				}
				if fmt.Sprint(line.sent) != fmt.Sprint(c.want) {
					t.Errorf("sent %q, want %q", line.sent, c.want)
				}
			})
		})
	}
}

// One that does not answer is told by one call at a time; what was committed meanwhile is
// told when it does.
func TestTellerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, committed := uint64(1), uint64(0)
		hold := make(chan struct{})
		line := &tapped{answer: func() (bool, error) { return true, nil }}
		teller := newTeller(line, func() (uint64, uint64) { return term, committed })
		args := raft.AppendEntriesRequest{Term: 1, Entries: []*raft.Log{{Index: 1, Term: 1}, {Index: 2, Term: 1}}}
		if err := teller.AppendEntries("b", "b", &args, &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
		line.sent, line.answer = nil, func() (bool, error) { <-hold; return true, nil }
		for committed = 1; committed < 3; committed++ {
			teller.tell()
			synctest.Wait()
		}
		committed--
		if got := len(line.sent); got != 1 {
			t.Errorf("%d calls at a time: %q", got, line.sent)
		}
		close(hold)
		teller.wait()
		if got, want := fmt.Sprint(line.sent), "[b: term 1, 0 entries behind 1/2, commit 1 b: term 1, 0 entries behind 1/2, commit 2]"; got != want {
			t.Errorf("sent %s, want %s", got, want)
		}
	})
}

// One that could not be told is left to raft: it would be dialed at every commit.
func TestTellerLeavesWhoIsLostToRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		committed := uint64(0)
		line := &tapped{answer: func() (bool, error) { return true, nil }}
		teller := newTeller(line, func() (uint64, uint64) { return 1, committed })
		args := raft.AppendEntriesRequest{Term: 1, Entries: []*raft.Log{{Index: 1, Term: 1}, {Index: 2, Term: 1}}}
		reach := func() {
			if err := teller.AppendEntries("b", "b", &args, &raft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			line.sent = nil
		}
		reach()
		line.answer = func() (bool, error) { return false, errors.New("cut") }
		for committed = 1; committed < 3; committed++ {
			teller.tell()
			synctest.Wait()
		}
		if got := len(line.sent); got != 1 {
			t.Errorf("%d calls to one that cannot be reached: %q", got, line.sent)
		}
		line.answer = func() (bool, error) { return true, nil }
		committed = 1
		reach()
		committed = 2
		teller.tell()
		synctest.Wait()
		if got, want := fmt.Sprint(line.sent), "[b: term 1, 0 entries behind 1/2, commit 2]"; got != want {
			t.Errorf("sent %s, want %s", got, want)
		}
	})
}
