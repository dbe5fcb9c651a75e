package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/scripts/bench/load"
	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/report"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

const (
	cellRevised  = "a revision is approved until the last agent has it"
	cellNodeIdle = "memory of the node, all connected"
)

// scaleSection puts many agents on one node. They run in this process, on the same
// processors: how long things take is told with that load, what the node uses is its own.
func scaleSection() section {
	return section{Section: report.Section{Name: "scale", Title: "many agents on one node of the control plane", Arms: []string{ours},
		Targets: []report.Target{{Cell: cellRevised, Most: 10}, {Cell: cellNodeIdle, Most: 1024}}}, measure: measureScale, long: true}
}

// tooMany says that the control plane asks to come again later.
func tooMany(err error) bool { return connect.CodeOf(err) == connect.CodeResourceExhausted }

func measureScale(ctx context.Context, r *run) (err error) {
	further := material.Further{Sites: r.agents}
	c, err := world.StartCrossdock(ctx, world.CrossdockConfig{Programs: r.programs, Dir: filepath.Join(r.dir, "crossdock"), Size: 1, ERP: nobody, Policy: further.Files()})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // what is left of the data goes with the run's directory
	node := c.Nodes[0].Process
	before, err := node.Usage()
	if err != nil {
		return err
	}
	r.note("agents", "agents", float64(r.agents))
	r.note("memory of the node, nobody connected", "MB", megabytes(before.RSS))
	f, took, err := joinFleet(ctx, c, r.agents)
	if err != nil {
		return err
	}
	defer f.close()
	r.note("enrolled", "agents/s", float64(r.agents)/took.Seconds())
	opened, err := f.connect(ctx, c)
	if err != nil {
		return err
	}
	r.note("all sessions open", "s", opened.Seconds())
	idle, err := r.nodeCPU(ctx, c, "idle, a status every 5 s from each", func(ctx context.Context) error { return pause(ctx, 2*r.lasts) })
	if err != nil {
		return err
	}
	r.note(cellNodeIdle, "MB", megabytes(idle.RSS))
	r.note("memory of each session", "KB", float64(idle.RSS-before.RSS)/1024/float64(r.agents))
	if err := r.revise(ctx, c, f, further); err != nil {
		return err
	}
	return r.pulse(ctx, c, f)
}

// nodeCPU says what part of a processor the node uses during work.
func (r *run) nodeCPU(ctx context.Context, c *world.Crossdock, when string, work func(context.Context) error) (world.Usage, error) {
	node := c.Nodes[0].Process
	before, err := node.Usage()
	if err != nil {
		return before, err
	}
	begun := time.Now()
	if err := work(ctx); err != nil {
		return before, err
	}
	after, err := node.Usage()
	if err == nil {
		r.note("CPU of the node, "+when, "% of one", 100*float64(after.CPU-before.CPU)/float64(time.Since(begun)))
	}
	return after, err
}

// revise approves a revision that adds a journey.
func (r *run) revise(ctx context.Context, c *world.Crossdock, f *fleet, further material.Further) error {
	further.Journeys++
	for name, text := range further.Files() {
		if err := os.WriteFile(filepath.Join(c.PolicyDir(), name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := c.Propose(ctx); err != nil {
		return err
	}
	begun := time.Now()
	if err := c.Approve(ctx, 2); err != nil {
		return err
	}
	err := f.await(ctx, "all have the new revision", c, func(a *simulated) error {
		if held := a.Held(); held.Number != 2 {
			return fmt.Errorf("it holds revision %s", held)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.note(cellRevised, "s", time.Since(begun).Seconds())
	begun = time.Now()
	if _, err := material.ReadPolicy(c.PolicyDir()); err != nil {
		return err
	}
	r.note("compiling it, which each agent does for itself and not in this time", "ms", millis(time.Since(begun)))
	return nil
}

// pulse has every agent send an event a second to the next.
func (r *run) pulse(ctx context.Context, c *world.Crossdock, f *fleet) error {
	count := 0
	begun, used := time.Now(), world.OwnCPU()
	u, err := r.nodeCPU(ctx, c, "1 event/s from each", func(ctx context.Context) error {
		begun := time.Now()
		for ; time.Since(begun) < 2*r.lasts; count++ {
			due := begun.Add(time.Duration(count) * time.Second / time.Duration(len(f.agents)))
			if err := pause(ctx, time.Until(due)); err != nil {
				return err
			}
			if err := f.agents[count%len(f.agents)].emit(r.orders.Append(nil, count), due); err != nil {
				return err
			}
		}
		return world.Await(ctx, "all events arrived", c.Processes(), func(context.Context) error {
			if n := f.received.Load(); n < int64(count) {
				return fmt.Errorf("%d of %d", n, count)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	own := 100 * float64(world.OwnCPU()-used) / float64(time.Since(begun))
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.latency) != count {
		return fmt.Errorf("%d events arrived of %d that were sent", len(f.latency), count)
	}
	r.note("events meanwhile", "events", float64(count))
	r.note("CPU of the agents meanwhile, in this process", "% of one", own)
	r.note("agent to relay, p50", "ms", millis(load.Quantile(f.taken, 0.5)))
	r.note("agent to agent, p50", "ms", millis(load.Quantile(f.latency, 0.5)))
	r.note("agent to agent, p99", "ms", millis(load.Quantile(f.latency, 0.99)))
	r.note("memory of the node, 1 event/s from each", "MB", megabytes(u.RSS))
	return nil
}
