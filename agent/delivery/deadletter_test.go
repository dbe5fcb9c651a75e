package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

func reject(ids ...string) func(context.Context, Delivery) (Answer, error) {
	return func(_ context.Context, d Delivery) (Answer, error) {
		if slices.Contains(ids, d.Event.ID) {
			return Answer{}, &Failure{Class: Rejected, Status: 400, Body: []byte("no " + d.Event.ID)}
		}
		return Answer{Status: 200}, nil
	}
}

// TestEventOfASystemElsewhereIsNotBelieved: an agent sends for the systems of its site only.
// What says otherwise reaches nobody, until a person vouches for it.
func TestEventOfASystemElsewhereIsNotBelieved(t *testing.T) {
	rules := newRules([]string{"erp"})
	rules.set.Systems["shop-na"] = shopAt("shop-na", "na", "order.captured", "stock.counted")
	rules.set.Systems["wms-eu"] = shopAt("wms-eu", "eu", "stock.counted")
	rules.set.Revision = revisionOf(5)
	b := newBench(t, rules)
	from := func(agent, system, id string, change func(*block.Head)) {
		b.journal.append(itemFrom(agent, system, id, 5, change))
	}
	same := func(*block.Head) {}
	from("eu", "shop-na", "forged", same)
	from("na", "shop-na", "true", same)
	from("eu", "unknown", "unknown", same)
	from("eu", "", "of-nobody", same)
	from("eu", "wms-eu", "not-listed", same)
	from("na", "shop-na", "no-authority", func(h *block.Head) { h.Type = "stock.counted.v1" })
	from("eu", "gone", "of-a-revision-not-held", func(h *block.Head) { h.Revision = revisionOf(2) })
	rules.set.Contracts["stock.counted"] = &policy.Contract{Authority: "wms-eu"}
	from("eu", "wms-eu", "another-type", func(h *block.Head) { h.Type = "stock.counted.v1" })
	rules.set.Contracts["label.created"] = &policy.Contract{Authority: policy.AgentRole}
	from("na", policy.AgentRole, "own", func(h *block.Head) { h.Type = "label.created.v1" })
	from("na", policy.AgentRole, "own-not", same)
	causes := map[string]string{
		"own": "its sender routed it as label.created.v1", "own-not": "let that system publish order.captured.v1",
		"forged": "agent eu sent it as an event of system shop-na, which is at site na", "unknown": "no revision held here had that system",
		"of-nobody": "as an event of no system", "not-listed": "let that system publish order.captured.v1",
		"no-authority": "let that system publish stock.counted.v1", "another-type": "is of type order.captured.v1, and its sender routed it as stock.counted.v1",
	}
	b.run(t)
	dead := b.awaitDead(t, len(causes))
	b.awaitDelivered(t, "erp", "true", "of-a-revision-not-held")
	for _, dl := range dead {
		if n, _ := b.attempts(dl.EventID); n != 0 || causes[dl.EventID] == "" || !strings.Contains(dl.Cause, causes[dl.EventID]) {
			t.Errorf("%d attempts, %+v", n, dl)
		}
		if err := b.Replay(t.Context(), Command{ID: "c", DeadLetter: dl.ID, By: "eva"}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "they are delivered when somebody has looked", func() bool { return len(b.target.delivered("erp")) == 2+len(causes) })
}

// TestEventOfAnAgentItself: what an agent tells of its own calls is believed from every site,
// by the revision that has a contract for it, also when a later one has none.
func TestEventOfAnAgentItself(t *testing.T) {
	rules := newRules([]string{"erp"})
	first := rules.set
	first.Revision = revisionOf(5)
	first.Contracts["order.captured"] = &policy.Contract{Authority: policy.AgentRole}
	b := newBench(t, rules)
	b.journal.append(itemFrom("eu", policy.AgentRole, "label", 5, func(*block.Head) {}))
	b.run(t)
	b.awaitDelivered(t, "erp", "label")
	b.stop()
	later := *first
	later.Revision = revisionOf(6)
	later.Contracts = maps.Clone(first.Contracts)
	later.Contracts["order.captured"] = &policy.Contract{Authority: "shop"}
	rules.set = &later
	b.journal.append(itemFrom("na", policy.AgentRole, "in-flight", 5, func(*block.Head) {}))
	b.run(t)
	b.awaitDelivered(t, "erp", "label", "in-flight")
}

// TestEventOfAnotherRevisionIsJudgedByIt: what a former revision allowed stays allowed, over a
// restart, and what a later one may allow waits for it.
func TestEventOfAnotherRevisionIsJudgedByIt(t *testing.T) {
	rules := newRules([]string{"erp"})
	first := rules.set
	first.Revision = revisionOf(5)
	first.Systems["old"] = shopAt("old", "eu", "order.captured")
	b := newBench(t, rules)
	b.journal.append(itemFrom("eu", "old", "before", 5, func(*block.Head) {}))
	b.run(t)
	b.awaitDelivered(t, "erp", "before")
	b.stop()
	turn := func(n uint64, names ...string) *policy.Set {
		set := *first
		set.Revision = revisionOf(n)
		set.Systems = map[string]*policy.System{"erp": first.Systems["erp"]}
		for _, name := range names {
			set.Systems[name] = shopAt(name, "eu", "order.captured")
		}
		return &set
	}
	rules.set = turn(6)
	for _, says := range []struct {
		id, system string
		revision   uint64
	}{{"in-flight", "old", 5}, {"forged", "rogue", 5}, {"early", "new", 7}, {"never", "rogue", 7}} {
		b.journal.append(itemFrom("eu", says.system, says.id, says.revision, func(*block.Head) {}))
	}
	b.run(t)
	b.awaitDelivered(t, "erp", "in-flight")
	await(t, "two wait", func() bool { return b.of("erp").Parked == 2 })
	b.put(t, turn(7, "new"))
	b.awaitDelivered(t, "erp", "before", "in-flight", "early")
	for _, dl := range b.awaitDead(t, 2) {
		if (dl.EventID != "never" && dl.EventID != "forged") || !strings.Contains(dl.Cause, "no revision held here had that system") {
			t.Errorf("%+v", dl)
		}
	}
}

func shopAt(name, site string, publishes ...string) *policy.System {
	return &policy.System{Meta: policy.Meta{Name: name}, Site: site, Role: "shop", Publishes: publishes}
}

func itemFrom(agent, system, id string, revision uint64, change func(*block.Head)) Item {
	item := makeItem(id, id, to("erp")...)
	item.Source, item.Head.System, item.Head.Revision = agent, system, revisionOf(revision)
	change(&item.Head)
	return item
}

// TestPark keeps what comes behind a dead letter in order over a restart, through a replay
// that fails and one that succeeds, with one idempotency key.
func TestPark(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}))
	b.target.play(reject("k0"))
	want := []expectation{}
	for i := range 5 {
		want = append(want, expectation{"erp", "k", fmt.Sprint("k", i)})
		b.journal.append(makeItem(fmt.Sprint("k", i), "k", to("erp")...))
	}
	b.run(t)
	dl := b.awaitDead(t, 1)[0]
	await(t, "four wait, and it is told", func() bool { return b.facts.last(dl.ID).Waiting == 4 && b.of("erp").Parked == 4 })
	if s := b.of("erp"); s.State != SystemDeadLetters || s.Pending != 0 || s.LastError == "" || s.LastErrorAt.IsZero() {
		t.Errorf("status %+v", s)
	}
	if f := b.facts.last(dl.ID); f.State != DeadLetterOpen || f.EventID != "k0" || f.Answer != "no k0" || f.Route != "r-erp" || f.OnExhausted != onPark || len(f.Event) == 0 {
		t.Errorf("told %+v", f)
	}
	if err := b.Replay(t.Context(), Command{ID: "c1", DeadLetter: dl.ID}); err != nil {
		t.Fatal(err)
	}
	await(t, "the replay fails too", func() bool { n, _ := b.attempts("k0"); return n == 2 && b.facts.last(dl.ID).Attempts == 2 })
	if err := b.Replay(t.Context(), Command{ID: "c1", DeadLetter: dl.ID}); err != nil {
		t.Errorf("a repeat of a command: %v", err)
	}
	b.stop()
	b.run(t)
	b.journal.append(makeItem("k5", "k", to("erp")...))
	want = append(want, expectation{"erp", "k", "k5"})
	await(t, "five wait after the restart", func() bool { return b.facts.last(dl.ID).Waiting == 5 })
	if n, _ := b.attempts("k0"); n != 2 || len(b.target.delivered("erp")) != 0 {
		t.Errorf("%d attempts, delivered %v", n, b.target.delivered("erp"))
	}
	b.target.play(nil)
	if err := b.Replay(t.Context(), Command{ID: "c2", DeadLetter: dl.ID, By: "eva"}); err != nil {
		t.Fatal(err)
	}
	b.awaitSettled(t, 6)
	await(t, "it is told, and who wanted it", func() bool {
		f := b.facts.last(dl.ID)
		return f.State == DeadLetterDelivered && f.By == "eva"
	})
	if hops, err := b.Hops(1, 0); err != nil || len(hops) != 2 || hops[0].State != StateDead || hops[0].Attempts != 2 || hops[1].State != StateDelivered {
		t.Errorf("hops %+v, %v", hops, err)
	}
	await(t, "all is well, and the old failure is not shown", func() bool { s := b.of("erp"); return s.State == SystemOK && s.LastError == "" })
	if err := b.Discard(t.Context(), Command{ID: "c3", DeadLetter: dl.ID}); !errors.Is(err, ErrNotOpen) {
		t.Errorf("discard of a delivered one: %v", err)
	}
	b.stop()
	if err := checkHistory(b.target.records(), want, false); err != nil {
		t.Error(err)
	}
}

func TestDiscard(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}))
	b.target.play(reject("k0"))
	for i := range 3 {
		b.journal.append(makeItem(fmt.Sprint("k", i), "k", to("erp")...))
	}
	b.run(t)
	dl := b.awaitDead(t, 1)[0]
	for range 2 { // a repeat is harmless
		if err := b.Discard(t.Context(), Command{ID: "c1", DeadLetter: dl.ID, By: "eva", Reason: "test order"}); err != nil {
			t.Fatal(err)
		}
	}
	b.awaitSettled(t, 2)
	if got := b.target.delivered("erp"); !slices.Equal(got, []string{"k1", "k2"}) {
		t.Errorf("delivered %v", got)
	}
	await(t, "it is told", func() bool {
		f := b.facts.last(dl.ID)
		return f.State == DeadLetterDiscarded && f.By == "eva" && f.Reason == "test order"
	})
	hops, err := b.Hops(1, 0)
	if err != nil || len(hops) != 2 || hops[0].State != StateDead || hops[1].State != StateDiscarded {
		t.Errorf("hops %+v, %v", hops, err)
	}
	if err := b.Replay(t.Context(), Command{ID: "c2", DeadLetter: "berlin/9.9/erp"}); !errors.Is(err, ErrNoDeadLetter) {
		t.Errorf("unknown dead letter: %v", err)
	}
}

// TestSkip lets later events go on, and asks before a replay behind them.
func TestSkip(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}, func(_ *policy.System, r *policy.Route) { r.OnExhausted = onSkip }))
	b.target.play(reject("k0", "j0"))
	b.journal.append(makeItem("k0", "k", to("erp")...), makeItem("k1", "k", to("erp")...), makeItem("j0", "j", to("erp")...))
	b.run(t)
	b.awaitDelivered(t, "erp", "k1")
	dls := b.awaitDead(t, 2)
	b.stop()
	b.run(t) // it is remembered who was overtaken
	b.target.play(nil)
	k, j := dls[0].ID, dls[1].ID
	if err := b.Replay(t.Context(), Command{ID: "c1", DeadLetter: k}); !errors.Is(err, ErrOutOfOrder) {
		t.Errorf("replay behind a later event: %v", err)
	}
	if err := b.Replay(t.Context(), Command{ID: "c2", DeadLetter: j}); err != nil {
		t.Errorf("replay of one that nothing has overtaken: %v", err)
	}
	if err := b.Replay(t.Context(), Command{ID: "c3", DeadLetter: k, Confirm: true}); err != nil {
		t.Error(err)
	}
	b.awaitDelivered(t, "erp", "k0", "j0")
	b.awaitDead(t, 0)
	if _, idem := b.attempts("k0"); len(idem) != 2 || idem[0] != idem[1] {
		t.Errorf("idempotency keys %q", idem)
	}
}

// TestWaitingIsNotDead: a key that only waits is parked, tried on, and free again.
func TestWaitingIsNotDead(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}), func(c *Config) { c.ParkAfter = time.Millisecond })
	b.target.play(func(context.Context, Delivery) (Answer, error) { return Answer{}, &Failure{Class: Unavailable} })
	want := []expectation{}
	for i := range 4 {
		want = append(want, expectation{"erp", "k", fmt.Sprint("k", i)})
		b.journal.append(makeItem(fmt.Sprint("k", i), "k", to("erp")...))
	}
	b.run(t)
	await(t, "all are parked, and the journal is free", func() bool { return b.of("erp").Parked == 4 && b.MinCursor() == 5 })
	if hops, err := b.Hops(2, 0); err != nil || len(hops) != 1 || hops[0].State != StateParked {
		t.Errorf("hops %+v, %v", hops, err)
	}
	b.stop()
	b.run(t)
	b.awaitDead(t, 0)
	b.target.play(nil)
	b.awaitSettled(t, 4)
	await(t, "nothing is parked", func() bool { s := b.of("erp"); return s.Parked == 0 && s.State == SystemOK && s.Pending == 0 })
	b.stop()
	if err := checkHistory(b.target.records(), want, false); err != nil {
		t.Error(err)
	}
}

// TestReplayOverRestart finds a replay that was asked for and not finished.
func TestReplayOverRestart(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}))
	b.target.play(reject("k0"))
	b.journal.append(makeItem("k0", "k", to("erp")...), makeItem("k1", "k", to("erp")...))
	b.run(t)
	dl := b.awaitDead(t, 1)[0]
	b.target.play(func(context.Context, Delivery) (Answer, error) { return Answer{}, &Failure{Class: Unavailable} })
	if err := b.Replay(t.Context(), Command{ID: "c1", DeadLetter: dl.ID}); err != nil {
		t.Fatal(err)
	}
	await(t, "the replay is tried", func() bool { n, _ := b.attempts("k0"); return n > 2 })
	b.stop()
	b.target.play(nil)
	b.run(t)
	b.awaitDelivered(t, "erp", "k0", "k1")
	if got := b.target.delivered("erp"); !slices.Equal(got, []string{"k0", "k1"}) {
		t.Errorf("delivered %v", got)
	}
}

// TestFactsSurvive tells after a restart what could not be told before.
func TestFactsSurvive(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}))
	b.facts.fail = true
	b.target.play(reject("k0"))
	b.journal.append(makeItem("k0", "k", to("erp")...))
	b.run(t)
	dl := b.awaitDead(t, 1)[0]
	b.stop()
	b.facts.fail = false
	b.run(t)
	await(t, "it is told", func() bool { return b.facts.last(dl.ID).State == DeadLetterOpen })
}

// TestRollout has a delivery wait for the revision that knows its system.
func TestRollout(t *testing.T) {
	b := newBench(t, newRules(nil))
	b.journal.append(makeItem("a", "k", to("new")...), makeItem("b", "k", to("new")...))
	b.run(t)
	await(t, "both wait, visibly", func() bool { s := b.of("new"); return s.Parked == 2 && s.State == SystemUnknown })
	b.stop()
	b.run(t)
	await(t, "they still wait", func() bool { return b.of("new").Parked == 2 })
	known := newRules([]string{"new"}).get()
	b.rules.mu.Lock()
	b.rules.set = known
	b.rules.mu.Unlock()
	b.PolicyChanged()
	b.awaitSettled(t, 2)
	if got := b.target.delivered("new"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("delivered %v", got)
	}
}

// TestRolloutLimit ends the wait in a dead letter.
func TestRolloutLimit(t *testing.T) {
	b := newBench(t, newRules(nil), func(c *Config) { c.RolloutLimit = time.Millisecond })
	b.journal.append(makeItem("a", "k", to("new")...), makeItem("b", "k", to("new")...))
	b.run(t)
	dl := b.awaitDead(t, 1)[0]
	if dl.EventID != "a" || dl.System != "new" || len(b.target.records()) != 0 {
		t.Errorf("got %+v", dl)
	}
}

// An event may be nested as deep as a fact that holds it may not: the fact goes without.
func TestFactOfADeepEvent(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}))
	b.target.play(reject("deep"))
	item := makeItem("deep", "k", to("erp")...)
	deep := strings.Repeat("[", event.MaxDepth) + strings.Repeat("]", event.MaxDepth)
	ev := event.Event{ID: "deep", Source: "shop", Type: "order.captured.v1", Data: []byte(deep)}
	var err error
	if item.Event, err = ev.Marshal(); err != nil {
		t.Fatal(err)
	}
	b.journal.append(item)
	b.run(t)
	dl := b.awaitDead(t, 1)[0]
	await(t, "it is told", func() bool { return b.facts.last(dl.ID).State == DeadLetterOpen })
	b.facts.mu.Lock()
	defer b.facts.mu.Unlock()
	for _, text := range b.facts.texts {
		fact := event.Event{ID: "f", Source: "s", Type: "t", Data: text}
		if _, err := fact.Marshal(); err != nil {
			t.Errorf("the fact cannot travel: %v", err)
		}
	}
}
