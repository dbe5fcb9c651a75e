package journal_test

import (
	"fmt"
	"testing"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
)

// TestAllThatWasAcceptedIsKnownAfterARestart takes more events than are read at once, so that
// reading runs ahead of learning.
func TestAllThatWasAcceptedIsKnownAfterARestart(t *testing.T) {
	const events = 1700
	dir := t.TempDir()
	var all []journal.Admitted
	for i := range events {
		all = append(all, admitted(fmt.Sprint(i), fmt.Sprint(i%7), data(i), "nyc"))
	}
	s := start(t, options{queue: queue.Config{Dir: dir}})
	first := submit(t, s, all...)
	s.stop()
	s = start(t, options{queue: queue.Config{Dir: dir}})
	defer s.stop()
	for i, r := range submit(t, s, all...) {
		if !r.Repeat || r.Pos != first[i].Pos {
			t.Fatalf("event %d was accepted as %d and is now %+v", i, first[i].Pos, r)
		}
	}
	if got := s.Highest("nyc"); got != events {
		t.Errorf("the lane is at %d after %d events", got, events)
	}
}
