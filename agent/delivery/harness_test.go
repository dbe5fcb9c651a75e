package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

const here = "berlin"

// journal is a Source in memory. Each append is one position.
type journal struct {
	mu     sync.Mutex
	first  uint64
	blocks [][]Item
	grown  chan struct{}
}

func newJournal() *journal { return &journal{first: 1, grown: make(chan struct{})} }

func (j *journal) append(items ...Item) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	pos := j.first + uint64(len(j.blocks))
	for i := range items {
		items[i].Pos, items[i].Index, items[i].Received = pos, i, time.Now()
	}
	j.blocks = append(j.blocks, items)
	close(j.grown)
	j.grown = make(chan struct{})
	return pos
}

func (j *journal) ReadLocal(from uint64, maxEvents int) (items []Item, next uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	next = max(from, j.first)
	for next < j.first+uint64(len(j.blocks)) && len(items) < maxEvents {
		for _, item := range j.blocks[next-j.first] {
			if len(item.Head.TargetsAt(here)) > 0 {
				items = append(items, item)
			}
		}
		next++
	}
	return items, next, nil
}

func (j *journal) Wait(ctx context.Context, pos uint64) error {
	for {
		j.mu.Lock()
		next, grown := j.first+uint64(len(j.blocks)), j.grown
		j.mu.Unlock()
		if next > pos {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func to(systems ...string) []block.Target {
	var out []block.Target
	for _, s := range systems {
		out = append(out, block.Target{Agent: here, System: s, Route: "r-" + s})
	}
	return out
}

func makeItem(id, key string, targets ...block.Target) Item {
	ev := &event.Event{ID: id, Source: "shop", Type: "order.captured.v1", Data: fmt.Appendf(nil, `{"orderId":%q,"n":"<1>"}`, key)}
	text, err := ev.Marshal()
	if err != nil {
		panic(err)
	}
	return Item{Source: here, Key: key, Event: text, Head: block.Head{ID: ev.Hash(), Key: block.KeyHash(key), Type: ev.Type, System: "shop", Targets: targets}}
}

// rules is a policy that a test can change.
type rules struct {
	mu  sync.Mutex
	set *policy.Set
}

func (r *rules) get() *policy.Set {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set
}

type rule func(*policy.System, *policy.Route)

// newRules has a shop that publishes orders, and a system and a route r-<system> for each name.
func newRules(names []string, change ...rule) *rules {
	set := &policy.Set{
		Systems:   map[string]*policy.System{"shop": {Meta: policy.Meta{Name: "shop"}, Site: here, Publishes: []string{"order.captured"}}},
		Contracts: map[string]*policy.Contract{"order.captured": {Meta: policy.Meta{Name: "order.captured"}, Authority: "shop"}},
	}
	for _, name := range names {
		sys := &policy.System{Meta: policy.Meta{Name: name}, Site: here, Delivery: policy.Limits{
			Timeout: 5 * time.Second, Breaker: policy.Breaker{Failures: 1 << 20, Pause: 5 * time.Millisecond}}}
		route := &policy.Route{Meta: policy.Meta{Name: "r-" + name}, To: []policy.Destination{{System: name}},
			Retry: policy.Retry{Initial: time.Millisecond, Max: 4 * time.Millisecond, Attempts: 1 << 20}, OnExhausted: onPark}
		for _, c := range change {
			c(sys, route)
		}
		set.Systems[name], set.Routes = sys, append(set.Routes, route)
	}
	return &rules{set: set}
}

// attemptRecord is one line of the history that a target writes.
type attemptRecord struct {
	system, key, id, idempotency string
	begin, end                   int // ticks of one counter
	ok                           bool
}

// target is a Target that plays a script and writes the history.
type target struct {
	mu      sync.Mutex
	tick    int
	history []attemptRecord
	batches [][]string // ids, as they came
	script  func(ctx context.Context, d Delivery) (Answer, error)
	whole   func(ctx context.Context, ds []Delivery) (Answer, error) // if set, instead of script
}

// Deliver fails with the first failure that the script has for one of the events; those
// before it have been done then.
func (s *target) Deliver(ctx context.Context, ds []Delivery) (Answer, error) {
	s.mu.Lock()
	s.tick++
	begin, ids := s.tick, []string{}
	for _, d := range ds {
		ids = append(ids, d.Event.ID)
	}
	s.batches = append(s.batches, ids)
	script, whole := s.script, s.whole
	s.mu.Unlock()
	answer, err := Answer{Status: 200}, error(nil)
	switch {
	case whole != nil:
		answer, err = whole(ctx, ds)
	case script != nil:
		for i := 0; i < len(ds) && err == nil; i++ {
			answer, err = script(ctx, ds[i])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	for _, d := range ds {
		s.history = append(s.history, attemptRecord{d.System, d.Key, d.Event.ID, d.IdempotencyKey, begin, s.tick, err == nil})
	}
	return answer, err
}

func (s *target) play(script func(ctx context.Context, d Delivery) (Answer, error)) {
	s.mu.Lock()
	s.script = script
	s.mu.Unlock()
}

func (s *target) records() []attemptRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.history)
}

// delivered lists the ids that a system took, in order.
func (s *target) delivered(system string) []string {
	var out []string
	for _, r := range s.records() {
		if r.ok && r.system == system {
			out = append(out, r.id)
		}
	}
	return out
}

func (s *target) attempts(id string) (n int, idempotency []string) {
	for _, r := range s.records() {
		if r.id == id {
			n++
			idempotency = append(idempotency, r.idempotency)
		}
	}
	return n, idempotency
}

// facts keeps what was reported.
type facts struct {
	mu    sync.Mutex
	texts []json.RawMessage
	got   []Fact
	fail  bool
}

func (f *facts) Report(_ context.Context, text json.RawMessage) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail {
		return errors.New("no room")
	}
	var fact Fact
	if err := json.Unmarshal(text, &fact); err != nil {
		return err
	}
	f.got = append(f.got, fact)
	f.texts = append(f.texts, text)
	return nil
}

func (f *facts) last(id string) DeadLetter {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fact := range slices.Backward(f.got) {
		if fact.DeadLetter.ID == id {
			return *fact.DeadLetter
		}
	}
	return DeadLetter{}
}

// bench is an engine with everything around it.
type bench struct {
	*Engine
	journal *journal
	target  *target
	rules   *rules
	facts   *facts
	cfg     Config
	stop    func()
}

func newBench(t *testing.T, r *rules, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{journal: newJournal(), target: &target{}, rules: r, facts: &facts{}}
	b.cfg = Config{
		Agent: here, Path: filepath.Join(t.TempDir(), "delivery.db"), Source: b.journal, Target: b.target, Policy: r.get,
		Facts: b.facts, ParkAfter: time.Hour, ReportEvery: time.Millisecond, FlushEvery: 5 * time.Millisecond,
	}
	for _, c := range change {
		c(&b.cfg)
	}
	return b
}

// run opens the engine and runs it until stop or the test's end.
func (b *bench) run(t *testing.T) {
	t.Helper()
	e, err := Open(b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Engine = e
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Cleanup(func() { b.stop() })
}

func (b *bench) of(system string) SystemStatus {
	for _, s := range b.Status() {
		if s.System == system {
			return s
		}
	}
	return SystemStatus{}
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(time.Millisecond) // between looks at a condition
	}
}

func (b *bench) awaitDelivered(t *testing.T, system string, want ...string) {
	t.Helper()
	await(t, fmt.Sprintf("%s gets %v", system, want), func() bool {
		got := b.target.delivered(system)
		for _, id := range want {
			if !slices.Contains(got, id) {
				return false
			}
		}
		return true
	})
}

func (b *bench) awaitDead(t *testing.T, n int) []DeadLetter {
	t.Helper()
	var got []DeadLetter
	await(t, fmt.Sprintf("%d dead letters", n), func() bool {
		var err error
		if got, err = b.DeadLetters(); err != nil {
			t.Fatal(err)
		}
		return len(got) == n
	})
	return got
}

// expectation is what a system should have got, in order for each key.
type expectation struct{ system, key, id string }

// checkHistory is the judge: nothing lost or invented, attempts of one key never overlap,
// first successes in order, one idempotency key for each delivery and another for others.
func checkHistory(history []attemptRecord, want []expectation, repeats bool) error {
	type lane struct{ system, key string }
	busyUntil, idem, owner := map[lane]int{}, map[expectation]string{}, map[string]expectation{}
	got := map[lane][]string{}
	seen := map[expectation]bool{}
	sorted := slices.Clone(history)
	slices.SortFunc(sorted, func(a, b attemptRecord) int { return a.begin - b.begin })
	for _, r := range sorted {
		l, x := lane{r.system, r.key}, expectation{r.system, r.key, r.id}
		if r.begin < busyUntil[l] {
			return fmt.Errorf("%v: attempt overlaps the one before", x)
		}
		busyUntil[l] = r.end
		if known, ok := idem[x]; ok && known != r.idempotency {
			return fmt.Errorf("%v: two idempotency keys", x)
		}
		if o, ok := owner[r.idempotency]; ok && o != x {
			return fmt.Errorf("%v and %v share an idempotency key", x, o)
		}
		idem[x], owner[r.idempotency] = r.idempotency, x
		if !r.ok {
			continue
		}
		if seen[x] && !repeats {
			return fmt.Errorf("%v: delivered twice", x)
		}
		if !seen[x] {
			got[l] = append(got[l], r.id)
		}
		seen[x] = true
	}
	expected := map[lane][]string{}
	for _, x := range want {
		l := lane{x.system, x.key}
		expected[l] = append(expected[l], x.id)
	}
	for l := range got {
		if _, ok := expected[l]; !ok {
			return fmt.Errorf("%v: delivered and not expected", l)
		}
	}
	for l, ids := range expected {
		if !slices.Equal(got[l], ids) {
			return fmt.Errorf("%v: got %v, want %v", l, got[l], ids)
		}
	}
	return nil
}
