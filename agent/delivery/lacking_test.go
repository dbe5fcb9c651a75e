package delivery

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/event"
)

// pantry says of events by id what they lack, and who was named as their sender.
type pantry struct {
	mu    sync.Mutex
	lacks map[string]string
	from  map[string]string
}

func (p *pantry) lacking(e *event.Event, from string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from[e.ID] = from
	return p.lacks[e.ID]
}

func (p *pantry) fill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.lacks)
}

func newPantry(ids ...string) *pantry {
	p := &pantry{lacks: map[string]string{}, from: map[string]string{}}
	for _, id := range ids {
		p.lacks[id] = "document of " + id + " is not here"
	}
	return p
}

// What an event names and is not here holds up its key and no other, says nothing of the
// system, and is waited for over a restart; who sent the event is known after it.
func TestDeliveryWaitsForWhatItsEventNames(t *testing.T) {
	p := newPantry("a1")
	b := newBench(t, newRules([]string{"erp"}), func(c *Config) { c.Lacking, c.ParkAfter = p.lacking, time.Millisecond })
	b.rules.set.Systems["shop"].Site = "madrid" // where its events say that they are from
	b.run(t)
	first := makeItem("a1", "a", to("erp")...)
	first.Source = "madrid"
	b.journal.append(first)
	second, other := makeItem("a2", "a", to("erp")...), makeItem("b1", "b", to("erp")...)
	second.Source, other.Source = "madrid", "madrid"
	b.journal.append(second)
	b.journal.append(other)
	b.awaitDelivered(t, "erp", "b1")
	await(t, "both of the key are parked", func() bool { return b.of("erp").Parked == 2 })
	b.stop()
	b.run(t)
	await(t, "it is looked for after the restart", func() bool { return b.of("erp").LastError != "" })
	if got := b.target.delivered("erp"); !slices.Equal(got, []string{"b1"}) {
		t.Fatalf("delivered %v before what it names was here", got)
	}
	named := map[string]bool{}
	if err := b.Waiting(func(text []byte) {
		if e, err := event.Unmarshal(text); err == nil {
			named[e.ID] = true
		}
	}); err != nil || !named["a1"] || !named["a2"] || named["b1"] {
		t.Errorf("waiting %v, %v", named, err)
	}
	p.fill()
	b.Arrived()
	b.awaitDelivered(t, "erp", "a1", "a2")
	if got := b.target.delivered("erp"); !slices.Equal(got, []string{"b1", "a1", "a2"}) {
		t.Errorf("delivered %v", got)
	}
	if got := p.from["a1"]; got != "madrid" {
		t.Errorf("the sender is %q", got)
	}
}

// What does not come is a dead letter in the end, and its replay waits anew.
func TestWhatNeverComesIsADeadLetter(t *testing.T) {
	p := newPantry("a1")
	b := newBench(t, newRules([]string{"erp"}), func(c *Config) { c.Lacking, c.LackingLimit = p.lacking, 150*time.Millisecond })
	b.run(t)
	b.journal.append(makeItem("a1", "a", to("erp")...))
	letter := b.awaitDead(t, 1)[0]
	if letter.Cause == "" || letter.Attempts != 0 {
		t.Errorf("dead letter %+v", letter)
	}
	p.fill()
	if err := b.Replay(t.Context(), Command{ID: "1", DeadLetter: letter.ID, By: "ann"}); err != nil {
		t.Fatal(err)
	}
	b.awaitDelivered(t, "erp", "a1")
}
