package systemstest

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
)

// act is one operation with an effect, reduced to what the suite varies.
type act func(ctx context.Context, d systems.Driver, name string) error

func (f Fixture) deliver(t *testing.T) {
	f.effects(t, func(ctx context.Context, d systems.Driver, name string) error {
		deliverer, err := systems.As[systems.Deliverer](d, systems.OpDeliver)
		if err != nil {
			return err
		}
		_, err = deliverer.Deliver(ctx, NewDelivery(name))
		return err
	})
}

// deliverBatch is deliver for a driver that can take many events at once, with one, and
// then what many have beside.
func (f Fixture) deliverBatch(t *testing.T) {
	send := func(ctx context.Context, d systems.Driver, ds ...systems.Delivery) error {
		deliverer, err := systems.As[systems.BatchDeliverer](d, systems.OpDeliver)
		if err != nil {
			return err
		}
		_, err = deliverer.DeliverBatch(ctx, ds)
		return err
	}
	f.effects(t, func(ctx context.Context, d systems.Driver, name string) error { return send(ctx, d, NewDelivery(name)) })
	t.Run("all of them, and the same again", func(t *testing.T) {
		var ds []systems.Delivery
		for _, name := range []string{"one", "two", "three"} {
			ds = append(ds, NewDelivery(t.Name()+"/"+name))
		}
		before, d := len(f.Foreign.Effects()), f.open(t)
		if err := send(t.Context(), d, ds...); err != nil {
			t.Fatal(err)
		}
		first := since(f.Foreign.Effects(), before)
		if len(first) != len(ds) {
			t.Fatalf("%d effects of %d deliveries", len(first), len(ds))
		}
		for i := range ds { // one after the other: a repeat may come in other company
			between := len(f.Foreign.Effects())
			ds[i].Attempt++
			if err := send(t.Context(), d, ds[i]); err != nil {
				t.Fatal(err)
			}
			sameEffect(t, append(since(f.Foreign.Effects(), between), first[i]), ds[i].IdempotencyKey)
		}
	})
}

func (f Fixture) command(t *testing.T) {
	f.effects(t, func(ctx context.Context, d systems.Driver, name string) error {
		commander, err := systems.As[systems.Commander](d, systems.OpCommand)
		if err != nil {
			return err
		}
		answer, err := commander.Command(ctx, f.Command, "idem-"+name, json.RawMessage(`{"order":"`+name+`"}`))
		if err == nil && !json.Valid(answer) {
			return errors.New("the answer is not JSON")
		}
		return err
	})
}

// effects is what deliver and command have in common.
func (f Fixture) effects(t *testing.T, do act) {
	base := t.Name()
	t.Run("carries the key and repeats harmlessly", func(t *testing.T) {
		before := len(f.Foreign.Effects())
		d := f.open(t)
		for range 3 {
			if err := do(t.Context(), d, base+"/one"); err != nil {
				t.Fatal(err)
			}
		}
		sameEffect(t, since(f.Foreign.Effects(), before), effectKey(base+"/one"))
		between := len(f.Foreign.Effects())
		if err := do(t.Context(), d, base+"/two"); err != nil {
			t.Fatal(err)
		}
		sameEffect(t, since(f.Foreign.Effects(), between), effectKey(base+"/two"))
	})
	t.Run("killed between effect and acknowledgement", func(t *testing.T) { f.killed(t, do) })
	t.Run("cancelled before it begins", func(t *testing.T) {
		before := len(f.Foreign.Effects())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := soon(t, "a cancelled call", func() error { return do(ctx, f.open(t), base+"/cancelled") })
		coded(t, err, systems.Unavailable)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error inside", err)
		}
		if got := len(f.Foreign.Effects()); got != before {
			t.Errorf("a call that was cancelled before it began had %d effects", got-before)
		}
	})
	f.failures(t, systems.Unknown, func(ctx context.Context, d systems.Driver) error { return do(ctx, d, base+"/failing") })
	f.with(t, Cut, func(t *testing.T) {
		coded(t, do(t.Context(), f.open(t), base+"/cut"), systems.Unknown)
	})
}

// effectKey is the key of the effect that do(name) has.
func effectKey(name string) string { return NewDelivery(name).IdempotencyKey }

// killed stops the driver after the effect and before the answer, and has another one do it
// again: at the foreign system both are one.
func (f Fixture) killed(t *testing.T, do act) {
	name := t.Name()
	before := len(f.Foreign.Effects())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reached := make(chan struct{})
	f.Foreign.AfterEffect(func() { cancel(); close(reached) })
	first := f.Open(t)
	err := soon(t, "a killed call", func() error { return do(ctx, first, name) })
	if err != nil {
		coded(t, err, systems.Unknown) // an effect may stand, so nothing milder is true
	}
	<-reached
	first.Close()
	if got := len(since(f.Foreign.Effects(), before)); got != 1 {
		t.Fatalf("the killed driver had %d effects, want 1", got)
	}
	if err := do(t.Context(), f.open(t), name); err != nil {
		t.Fatalf("the repeat: %v", err)
	}
	sameEffect(t, since(f.Foreign.Effects(), before), effectKey(name))
}

// failures checks the class of each fault. lost is the class of an answer that never came.
func (f Fixture) failures(t *testing.T, lost systems.Class, do func(context.Context, systems.Driver) error) {
	for _, c := range []struct {
		fault Fault
		want  systems.Class
	}{
		{Refuse, systems.Unavailable}, {Fail, systems.Unavailable}, {Throttle, systems.Throttled},
		{Reject, systems.Rejected}, {Deny, systems.Misconfigured},
	} {
		f.with(t, c.fault, func(t *testing.T) {
			e := coded(t, do(t.Context(), f.open(t)), c.want)
			if c.fault == Throttle && e.RetryAfter <= 0 {
				t.Error("the system asked to wait, and the error does not say how long")
			}
			if c.fault == Reject && len(e.Body) == 0 {
				t.Error("the system said why, and the error does not keep it")
			}
		})
	}
	f.with(t, Hang, func(t *testing.T) {
		d := f.open(t)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := soon(t, "a call past its deadline", func() error { return do(ctx, d) })
		coded(t, err, lost)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error inside", err)
		}
	})
	if err := do(t.Context(), f.open(t)); err != nil {
		t.Errorf("after the faults are healed: %v", err)
	}
}

// coded checks the class of an error.
func coded(t *testing.T, err error, want systems.Class) *systems.Error {
	t.Helper()
	var e *systems.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v (%T), want a *systems.Error", err, err)
	}
	if e.Class != want {
		t.Errorf("got %v, want class %v", err, want)
	}
	return e
}

func (f Fixture) query(t *testing.T) {
	ask := func(ctx context.Context, d systems.Driver) error {
		q, err := systems.As[systems.Querier](d, systems.OpQuery)
		if err != nil {
			return err
		}
		answer, err := q.Query(ctx, f.Query, f.Args)
		if err == nil && (!json.Valid(answer) || string(answer) == "null") {
			return errors.New("the answer is empty or not JSON")
		}
		return err
	}
	before := len(f.Foreign.Effects())
	if err := ask(t.Context(), f.open(t)); err != nil {
		t.Fatal(err)
	}
	f.failures(t, systems.Unavailable, ask)
	f.with(t, Cut, func(t *testing.T) { coded(t, ask(t.Context(), f.open(t)), systems.Unavailable) })
	if got := len(f.Foreign.Effects()); got != before {
		t.Errorf("queries had %d effects", got-before)
	}
}

func (f Fixture) snapshot(t *testing.T) {
	read := func(ctx context.Context, d systems.Driver, each func(json.RawMessage) error) error {
		s, err := systems.As[systems.Snapshotter](d, systems.OpSnapshot)
		if err != nil {
			return err
		}
		return s.Snapshot(ctx, f.Contract, each)
	}
	all := func(ctx context.Context, d systems.Driver) error {
		seen := map[string]bool{}
		err := read(ctx, d, func(r json.RawMessage) error { seen[string(r)] = true; return nil })
		if err == nil && len(seen) != f.Records {
			t.Errorf("got %d different records, want %d", len(seen), f.Records)
		}
		return err
	}
	t.Run("gives every record", func(t *testing.T) {
		if err := all(t.Context(), f.open(t)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("stops when told", func(t *testing.T) {
		stop, n := errors.New("stop"), 0
		err := read(t.Context(), f.open(t), func(json.RawMessage) error {
			if n++; n == 2 {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) || n != 2 {
			t.Errorf("got %v after %d records, want the callback's error after 2", err, n)
		}
	})
	t.Run("killed between two records", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		d := f.Open(t)
		err := soon(t, "a killed snapshot", func() error {
			return read(ctx, d, func(json.RawMessage) error { n++; cancel(); return nil })
		})
		d.Close()
		if err == nil || n != 1 {
			t.Errorf("a snapshot that was killed after one record gave %d and the error %v", n, err)
		}
		if err := all(t.Context(), f.open(t)); err != nil {
			t.Errorf("the repeat: %v", err)
		}
	})
	f.failures(t, systems.Unavailable, all)
}
