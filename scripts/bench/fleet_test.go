package main

import (
	"errors"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/scripts/bench/material"
)

// pair is a fleet of two, without a control plane.
func pair() (from, to *simulated) {
	f := &fleet{}
	a := &simulated{fleet: f, site: "a", epoch: 1, sent: map[uint64]time.Time{}, grown: make(chan struct{})}
	b := &simulated{fleet: f, site: "b", epoch: 1, sent: map[uint64]time.Time{}, grown: make(chan struct{})}
	a.next, a.from, b.next, b.from = b, b, a, a
	f.agents = []*simulated{a, b}
	return a, b
}

func TestSimulatedAgentsPassEventsOnInOrder(t *testing.T) {
	from, to := pair()
	orders := material.NewOrders(1)
	for i := range 3 {
		if err := from.emit(orders.Append(nil, i), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	cuts, next, err := from.Cut(map[string]uint64{"b": 2}, 1, 8)
	if err != nil || len(cuts) != 2 || next != 4 {
		t.Fatalf("%d blocks, next %d, %v; want 2 and 4", len(cuts), next, err)
	}
	if err := to.Receive(t.Context(), cuts[0].Block, time.Now()); !errors.Is(err, uplink.ErrGap) {
		t.Errorf("the second event came first: %v", err)
	}
	all, _, err := from.Cut(map[string]uint64{"b": 1}, 1, 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(all, all[0]) { // the last is a repeat
		if err := to.Receive(t.Context(), c.Block, time.Now()); err != nil {
			t.Error(err)
		}
	}
	from.Taken("b", 2)
	if to.fleet.received.Load() != 3 || len(to.fleet.latency) != 3 || len(from.cuts) != 1 || to.Highwaters()[0].Number != 3 {
		t.Errorf("received %d with %d times, %d not taken, %v", to.fleet.received.Load(), len(to.fleet.latency), len(from.cuts), to.Highwaters())
	}
}
