package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/revision"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/peer"
	"github.com/crossdock/crossdock/scripts/bench/report"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

// relaySection is the center alone: blocks that were cut before go up by the agent's uplink
// to three nodes and come down to another uplink, which counts and acknowledges them. On the
// other side messages are published to a stream with three replicas and pulled from it.
func relaySection() section {
	s := &relayBench{}
	return section{Section: report.Section{Name: "relay", Title: "events pushed to three nodes and pulled again, nothing stored at either end",
		Arms: pathArms}, measure: s.measure}
}

type relayBench struct{ cuts []uplink.Cut }

func (b *relayBench) measure(ctx context.Context, r *run) error {
	switch r.arm {
	case natsAlways:
		return measureStream(ctx, r, peer.Always, r.slow)
	case natsDefault:
		return measureStream(ctx, r, peer.Default, r.events)
	}
	if b.cuts == nil {
		var err error
		if b.cuts, err = cutBlocks(admitted(r.orders, r.events)); err != nil {
			return err
		}
	}
	return measureRelay(ctx, r, b.cuts)
}

// measureStream is the relay's counterpart.
func measureStream(ctx context.Context, r *run, sync peer.Sync, count int) error {
	hub, err := peer.StartHub(ctx, r.programs, filepath.Join(r.dir, "nats"), sync)
	if err != nil {
		return err
	}
	defer hub.Kill()
	return r.relayed(hub.Processes(), count, func() error {
		return hub.Carry(ctx, count, func(serial int) []byte { return r.orders.Append(nil, serial) })
	})
}

// relayed measures what carries so many events.
func (r *run) relayed(processes []*world.Process, count int, carry func() error) error {
	before, err := world.TotalOf(processes)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := carry(); err != nil {
		return err
	}
	took := time.Since(begun)
	after, err := world.TotalOf(processes)
	if err != nil {
		return err
	}
	r.note("pushed and pulled", "events/s", float64(count)/took.Seconds())
	r.note("CPU of the center", "us/event", micros(after.All().CPU-before.All().CPU)/float64(count))
	return nil
}

// cutBlocks makes blocks as an agent's journal cuts them.
func cutBlocks(events []intake.Admitted) (out []uplink.Cut, err error) {
	for first := 0; first < len(events); {
		var items []block.Item
		size := 0
		for i := first; i < len(events) && len(items) < block.MaxEvents; i++ {
			e := &events[i]
			body := block.AppendBody(nil, e.Key, e.Data)
			if size += len(body); size > block.MaxPayload {
				break
			}
			items = append(items, block.Item{Head: block.Head{ID: e.Event.Hash(), Key: block.KeyHash(e.Key), Type: e.Event.Type, System: e.System,
				Revision: e.Revision, Targets: e.Targets, Occurred: time.Now(), Received: time.Now()}, Body: body})
		}
		lanes := []block.Lane{{Agent: material.ERPSite, First: uint64(first) + 1}}
		text, err := block.Cut(block.Origin{Agent: material.ShopSite, Epoch: 1}, lanes, items)
		if err != nil {
			return nil, err
		}
		out = append(out, uplink.Cut{Block: text, Lanes: lanes, Count: len(items)})
		first += len(items)
	}
	return out, nil
}

func measureRelay(ctx context.Context, r *run, cuts []uplink.Cut) error {
	c, err := r.startCrossdock(ctx, nobody, world.NoLines)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // what is left of the data goes with the run's directory
	from := newOutbox(cuts)
	to := &inbox{want: from.last, all: make(chan struct{})}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	group, linksCtx := errgroup.WithContext(ctx)
	for _, end := range []struct {
		site string
		out  uplink.Outbox
		in   uplink.Inbox
	}{{material.ShopSite, from, &inbox{}}, {material.ERPSite, newOutbox(nil), to}} {
		link, err := openUplink(linksCtx, c, end.site, end.out, end.in)
		if err != nil {
			return err
		}
		group.Go(func() error { return link.Run(linksCtx) })
		if err := world.Await(ctx, "uplink of "+end.site, c.Processes(), func(context.Context) error {
			if state := link.State(); !state.Connected {
				return errors.New("not connected: " + state.LastError)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	err = r.relayed(c.Processes(), int(to.want), func() error {
		from.release()
		select {
		case <-to.all:
			return nil
		case <-time.After(2 * time.Minute):
			return fmt.Errorf("the relay brought %v of %d events", to.Highwaters(), to.want)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err == nil {
		r.note("sent for each event that was taken", "events", float64(from.cut.Load())/float64(to.want))
	}
	cancel(nil)
	return errors.Join(err, group.Wait())
}

// openUplink enrols a site and makes its uplink as the agent does.
func openUplink(ctx context.Context, c *world.Crossdock, site string, out uplink.Outbox, in uplink.Inbox) (*uplink.Uplink, error) {
	a, err := c.Enrol(ctx, site, c.Syncs())
	if err != nil {
		return nil, err
	}
	cfg := agent.DefaultConfig()
	cfg.Data, cfg.ControlPlane.Addresses = a.Data, c.Syncs()
	log := slog.New(slog.DiscardHandler)
	id, err := identity.Open(cfg.IdentityDir())
	if err != nil {
		return nil, err
	}
	dialer, err := agent.NewDialer(cfg, id, log)
	if err != nil {
		return nil, err
	}
	policy, err := revision.Open(filepath.Join(a.Data, "policy"), log)
	if err != nil {
		return nil, err
	}
	config := uplink.DefaultConfig()
	config.Agent, config.Version, config.Epoch, config.Logger = site, "bench", id.Epoch, log
	config.Dialer, config.Outbox, config.Inbox, config.Policy, config.Identity = dialer, out, in, still{policy}, id
	config.Status = func() json.RawMessage { return json.RawMessage("{}") }
	config.Command = func(context.Context, string, string, []byte) ([]byte, error) {
		return nil, errors.New("the benchmark carries out no commands")
	}
	return uplink.New(config), nil
}

// still is the policy of a site at which no system moves.
type still struct{ *revision.Holder }

// Offer puts a revision in force.
func (s still) Offer(r uplink.Revision) error { return s.Holder.Offer(revision.Offered(r)) }

// Former has nothing to note.
func (still) Former(uplink.Revision) error { return nil }
