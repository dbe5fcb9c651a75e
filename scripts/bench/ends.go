package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/scripts/bench/material"
)

// outbox is a journal whose blocks were all cut before. Nothing is in it until release, and
// then everything. Its positions are the numbers of the one lane.
type outbox struct {
	cuts     []uplink.Cut
	last     uint64
	released chan struct{}
	cut      atomic.Int64 // events handed out: more than there are, where the uplink went back
}

var _ uplink.Outbox = (*outbox)(nil)

func newOutbox(cuts []uplink.Cut) *outbox {
	o := &outbox{cuts: cuts, released: make(chan struct{})}
	if n := len(cuts); n > 0 {
		o.last = cuts[n-1].Lanes[0].First + uint64(cuts[n-1].Count) - 1
	}
	return o
}

func (o *outbox) release() { close(o.released) }

func (o *outbox) empty() bool {
	select {
	case <-o.released:
		return false
	default:
		return true
	}
}

// Cut gives the blocks from the wanted number on, which is always a block's first.
func (o *outbox) Cut(want map[string]uint64, from uint64, maxBlocks int) (cuts []uplink.Cut, next uint64, err error) {
	next = from
	for _, c := range o.cuts {
		if first := c.Lanes[0].First; first >= want[material.ERPSite] && len(cuts) < maxBlocks {
			cuts = append(cuts, c)
			next = first + uint64(c.Count)
			o.cut.Add(int64(c.Count))
		}
	}
	return cuts, next, nil
}

// Seek is the uplink's.
func (o *outbox) Seek(_ string, number uint64) (uint64, error) { return number, nil }

// Outbound is the uplink's.
func (o *outbox) Outbound() map[string]uint64 {
	if o.empty() {
		return map[string]uint64{}
	}
	return map[string]uint64{material.ERPSite: o.last}
}

// Next is the uplink's.
func (o *outbox) Next() uint64 {
	if o.empty() {
		return 1
	}
	return o.last + 1
}

// Wait is the uplink's.
func (o *outbox) Wait(ctx context.Context, pos uint64) error {
	released := o.released
	if pos > o.last { // nothing will ever be there
		released = nil
	}
	select {
	case <-released:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Earlier is the uplink's.
func (o *outbox) Earlier(string) uint64 { return 0 }

// Taken is the uplink's.
func (o *outbox) Taken(string, uint64) {}

// inbox counts what comes, in the order of the lane.
type inbox struct {
	want uint64
	all  chan struct{} // closed when that many have come

	mu   sync.Mutex // guards what follows
	mark uplink.Highwater
}

var _ uplink.Inbox = (*inbox)(nil)

// Receive is the uplink's.
func (i *inbox) Receive(_ context.Context, text []byte, _ time.Time) error {
	e, err := block.ParseEnvelope(text)
	if err != nil {
		return err
	}
	lane, ok := e.Lane(material.ERPSite)
	i.mu.Lock()
	defer i.mu.Unlock()
	if !ok || lane.First != i.mark.Number+1 {
		return fmt.Errorf("%w: number %d after %d", uplink.ErrGap, lane.First, i.mark.Number)
	}
	i.mark = uplink.Highwater{Source: e.Origin.Agent, Epoch: e.Origin.Epoch, Number: e.Last(lane.First)}
	if i.mark.Number == i.want {
		close(i.all)
	}
	return nil
}

// ReceiveGap is the uplink's. Here nothing is ever lost.
func (i *inbox) ReceiveGap(_ context.Context, gap uplink.Gap) error {
	return fmt.Errorf("a gap from %d to %d: %s", gap.First, gap.Last, gap.Cause)
}

// Highwaters is the uplink's.
func (i *inbox) Highwaters() []uplink.Highwater {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.mark.Number == 0 {
		return nil
	}
	return []uplink.Highwater{i.mark}
}
