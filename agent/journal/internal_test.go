package journal_test

import (
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// inner makes an event that agents send each other for themselves.
func inner(id string, agents ...string) journal.Admitted {
	a := journal.Admitted{Event: &event.Event{ID: id, Source: "/agents/ham", Type: "crossdock.document-chunk.v1", Data: []byte("{}")}}
	for _, agent := range agents {
		a.Targets = append(a.Targets, block.Target{Agent: agent})
	}
	return a
}

func ids(t *testing.T, items []journal.LocalItem) (out []string) {
	t.Helper()
	for _, item := range items {
		e, err := event.Unmarshal(item.Event)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.ID)
	}
	return out
}

// Internal events travel in order with the others, are read apart from them, and are counted
// nowhere among them: not after a restart either.
func TestInternalEventsAreApart(t *testing.T) {
	from := options{}
	from.queue.Dir = t.TempDir()
	source := start(t, from)
	submit(t, source, inner("i1", "muc", "ber"), inner("i2", "muc"))
	submit(t, source, admitted("e1", "k", data(1), "muc", "ham"), inner("i3", "muc"))
	to := options{}
	to.queue.Dir, to.journal.Self = t.TempDir(), "muc"
	destination := start(t, to)
	cuts, _, err := source.Cut(map[string]uint64{"muc": 1}, 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cuts {
		if _, err := destination.Receive(t.Context(), c.Block, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		for _, c := range []struct {
			at    *site
			local []string
			inner []string
			total uint64
		}{{source, []string{"e1"}, nil, source.Stats().Accepted}, {destination, []string{"e1"}, []string{"i1", "i2", "i3"}, destination.Stats().Received}} {
			local, end, err := c.at.ReadLocal(1, 100)
			if err != nil || !slices.Equal(ids(t, local), c.local) || end != c.at.Next() {
				t.Errorf("%s: local %v up to %d, %v", when, ids(t, local), end, err)
			}
			got, end, err := c.at.ReadInternal(1, 100)
			if err != nil || !slices.Equal(ids(t, got), c.inner) || end != c.at.Next() {
				t.Errorf("%s: internal %v up to %d, %v", when, ids(t, got), end, err)
			}
			if got, end, err = c.at.ReadInternal(end, 100); err != nil || len(got) > 0 || end != c.at.Next() {
				t.Errorf("%s: then %v up to %d, %v", when, ids(t, got), end, err)
			}
			if c.total != 1 {
				t.Errorf("%s: %d events are counted", when, c.total)
			}
		}
		if n := source.Highest("muc"); n != 4 {
			t.Errorf("%s: the lane is at %d", when, n)
		}
	}
	check("at first")
	source.stop()
	destination.stop()
	source, destination = start(t, from), start(t, to)
	t.Cleanup(source.stop)
	t.Cleanup(destination.stop)
	check("after a restart")
	var sent []string
	if err := source.ScanInternal(t.Context(), 1, func(item journal.ScanItem) { sent = append(sent, ids(t, []journal.LocalItem{item.LocalItem})...) }); err != nil || !slices.Equal(sent, []string{"i1", "i2", "i3"}) {
		t.Errorf("sent %v, %v", sent, err)
	}
	for taken, want := range []uint64{3, 2, 1, 1, 0} {
		if got := source.Internal("muc", uint64(taken), 4); got != want {
			t.Errorf("%d internal events behind %d, want %d", got, taken, want)
		}
	}
	if got := source.Internal("muc", 0, 4); got != 3 { // the relay was restored and goes back
		t.Errorf("%d internal events after the relay has gone back, want 3", got)
	}
	for last, want := range []uint64{0, 1} {
		if got := source.Internal("ber", 0, uint64(last)); got != want {
			t.Errorf("%d internal events for ber up to %d, want %d", got, last, want)
		}
	}
}
