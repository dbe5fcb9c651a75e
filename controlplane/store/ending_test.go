package store

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// A store that ends under load ends in order, and whoever waits for an answer gets one.
func TestEndsUnderLoad(t *testing.T) {
	const rounds, senders = 40, 8
	dir := t.TempDir()
	s := open(t, testConfig(dir))
	begin(s)
	s.end()
	for round := range rounds {
		s := open(t, testConfig(dir))
		var group sync.WaitGroup
		busy := make(chan struct{}, 1)
		for sender := range senders {
			group.Go(func() {
				for i := 0; ; i++ {
					id := "t" + strconv.Itoa(round) + "-" + strconv.Itoa(sender) + "-" + strconv.Itoa(i)
					if _, err := s.Apply(context.Background(), tokenOf(id)); err != nil {
						return
					}
					select {
					case busy <- struct{}{}:
					default: // it is known
					}
				}
			})
		}
		<-busy
		s.end()
		group.Wait()
	}
}

// stuck is a step that raft never answers.
type stuck struct{ raft.Future }

func (stuck) Error() error { select {} }

func TestUnansweredStepEndsWithRaft(t *testing.T) {
	n := &node{halted: make(chan struct{})}
	close(n.halted)
	if err := n.await(stuck{}); !errors.Is(err, raft.ErrRaftShutdown) {
		t.Errorf("got %v", err)
	}
}
