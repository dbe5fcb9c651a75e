// Package systemstest owns the contract suite of the driver contract: what every driver must
// do with every operation that it declares, and what it must survive. It also owns a foreign
// system over HTTP that drivers can be run against.
//
// It refuses to know any driver. Its invariant: a driver that passes was stopped after every
// foreign effect and before its acknowledgement, and neither lost nor doubled anything that
// an idempotency key or an event id could hold together.
package systemstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/event"
)

// patience is how long the suite waits for what must happen at once; it measures nothing.
const patience = 20 * time.Second

// Effect is what a delivery or command did at the foreign system.
type Effect struct {
	Key  string // the idempotency key that came with it
	Body string
}

// Fault is a way in which the foreign system fails.
type Fault string

// The faults, with the class that a driver must find. None heals.
const (
	None     Fault = ""
	Refuse   Fault = "refuse"   // it is not there: Unavailable
	Fail     Fault = "fail"     // it fails inside: Unavailable
	Throttle Fault = "throttle" // it asks to wait: Throttled, with RetryAfter
	Reject   Fault = "reject"   // it refuses the content, in words: Rejected, with Body
	Deny     Fault = "deny"     // it refuses the credential: Misconfigured
	Hang     Fault = "hang"     // it takes the request and never answers: Unknown after an effect could be
	Cut      Fault = "cut"      // it acts, and the line breaks before the answer: Unknown
)

// Foreign is the system on the other side, as a test sees it.
type Foreign interface {
	// Effects lists what deliveries and commands did. A system where a repeat leaves no
	// trace, such as a folder, lists one effect for it.
	Effects() []Effect
	// Offer makes n more events ready to be published, each with data of its own.
	Offer(t *testing.T, n int)
	// Unconfirmed counts the offered events that the driver has not confirmed.
	Unconfirmed(t *testing.T) int
	// Fault makes every exchange from now on fail so; false: it has no such fault.
	Fault(t *testing.T, f Fault) bool
	// AfterEffect has f called once, after the next effect and before its acknowledgement,
	// which is then never given.
	AfterEffect(f func())
}

// Fixture is one driver and the foreign system that it talks to.
type Fixture struct {
	// Open makes the driver, again after each kill. The suite closes it.
	Open    func(t *testing.T) systems.Driver
	Foreign Foreign
	// Operations is what the driver must declare, in any order.
	Operations []systems.Operation

	Query    string // declared name, for drivers that declare query
	Args     map[string]string
	Command  string // declared name, for drivers that declare command
	Contract string // of the snapshot, for drivers that declare it
	Records  int    // in that snapshot, at least 3
}

// Run runs the whole suite.
func Run(t *testing.T, f Fixture) {
	t.Helper()
	t.Run("declares what it implements", f.agreement)
	driver := f.open(t)
	for _, op := range driver.Operations() {
		t.Run(string(op), map[systems.Operation]func(*testing.T){
			systems.OpPublish:  f.publish,
			systems.OpDeliver:  f.deliver,
			systems.OpQuery:    f.query,
			systems.OpCommand:  f.command,
			systems.OpSnapshot: f.snapshot,
		}[op])
	}
	if _, ok := driver.(systems.BatchDeliverer); ok {
		t.Run("deliver many", f.deliverBatch)
	}
	t.Run("check", f.check)
}

func (f Fixture) open(t *testing.T) systems.Driver {
	t.Helper()
	d := f.Open(t)
	t.Cleanup(func() { d.Close() })
	return d
}

// agreement: declared means implemented, and what is not declared has no effect.
func (f Fixture) agreement(t *testing.T) {
	d := f.open(t)
	declared := map[systems.Operation]bool{}
	for _, op := range d.Operations() {
		if declared[op] {
			t.Errorf("%s is declared twice", op)
		}
		declared[op] = true
		if !slices.Contains(f.Operations, op) {
			t.Errorf("%s is declared, and the fixture does not expect it", op)
		}
	}
	for _, op := range f.Operations {
		if !declared[op] {
			t.Errorf("%s is expected and not declared", op)
		}
	}
	ctx := t.Context()
	calls := map[systems.Operation]func() error{}
	if v, ok := d.(systems.Publisher); ok {
		calls[systems.OpPublish] = func() error {
			return v.Publish(ctx, func(context.Context, []*event.Event) error { return nil })
		}
	}
	if v, ok := d.(systems.Deliverer); ok {
		calls[systems.OpDeliver] = func() error { _, err := v.Deliver(ctx, NewDelivery("undeclared")); return err }
	}
	if v, ok := d.(systems.Querier); ok {
		calls[systems.OpQuery] = func() error { _, err := v.Query(ctx, "undeclared", nil); return err }
	}
	if v, ok := d.(systems.Commander); ok {
		calls[systems.OpCommand] = func() error { _, err := v.Command(ctx, "undeclared", "k", nil); return err }
	}
	if v, ok := d.(systems.Snapshotter); ok {
		calls[systems.OpSnapshot] = func() error { return v.Snapshot(ctx, "undeclared", nil) }
	}
	before := len(f.Foreign.Effects())
	for _, op := range []systems.Operation{systems.OpPublish, systems.OpDeliver, systems.OpQuery, systems.OpCommand, systems.OpSnapshot} {
		call := calls[op]
		named := op == systems.OpQuery || op == systems.OpCommand || op == systems.OpSnapshot
		switch {
		case declared[op] && call == nil:
			t.Errorf("%s is declared and not implemented", op)
		case call != nil && (!declared[op] || named):
			if err := call(); !errors.Is(err, systems.ErrNotOffered) || systems.ClassOf(err) != systems.Misconfigured {
				t.Errorf("%s that is not declared: got %v, want a misconfigured error that says it is not offered", op, err)
			}
		}
	}
	if got := len(f.Foreign.Effects()); got != before {
		t.Errorf("undeclared operations had %d effects", got-before)
	}
}

// check: it has no effect, passes when all is well, and fails when the system is away.
func (f Fixture) check(t *testing.T) {
	d := f.open(t)
	before := len(f.Foreign.Effects())
	if err := d.Check(t.Context()); err != nil {
		t.Errorf("check of a system that is well: %v", err)
	}
	f.with(t, Refuse, func(t *testing.T) {
		if err := d.Check(t.Context()); err == nil {
			t.Error("check of a system that is away says it is well")
		}
	})
	if got := len(f.Foreign.Effects()); got != before {
		t.Errorf("check had %d effects", got-before)
	}
}

// with runs a subtest under a fault and heals it after.
func (f Fixture) with(t *testing.T, fault Fault, run func(t *testing.T)) {
	t.Helper()
	t.Run(string(fault), func(t *testing.T) {
		if !f.Foreign.Fault(t, fault) {
			t.Skip("this foreign system has no such fault")
		}
		defer f.Foreign.Fault(t, None)
		run(t)
	})
}

// NewDelivery makes a delivery whose event, ordering key and idempotency key follow from name.
func NewDelivery(name string) systems.Delivery {
	return systems.Delivery{
		Event: &event.Event{
			ID: name, Source: "test", Type: "order.captured.v1", Time: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC),
			DataContentType: event.JSONType, Data: fmt.Appendf(nil, `{"order":%q}`, name),
		},
		Key: "order-" + name, IdempotencyKey: "idem-" + name, System: "foreign", Route: "test", Attempt: 1,
	}
}

// soon runs what must end by itself, and fails the test if it does not.
func soon(t *testing.T, what string, run func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- run() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatalf("%s does not end", what)
		return nil
	}
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func since(all []Effect, before int) []Effect { return all[min(before, len(all)):] }

// sameEffect checks that effects are one and the same, once or repeated.
func sameEffect(t *testing.T, effects []Effect, key string) {
	t.Helper()
	if len(effects) == 0 {
		t.Fatal("no effect at the foreign system")
	}
	for _, e := range effects {
		if e.Key != key {
			t.Errorf("effect with idempotency key %q, want %q", e.Key, key)
		}
		if e.Body != effects[0].Body {
			t.Errorf("a repeat had another body:\n%s\n%s", e.Body, effects[0].Body)
		}
	}
}
