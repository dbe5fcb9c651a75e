package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/scripts/bench/load"
	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/peer"
	"github.com/crossdock/crossdock/scripts/bench/report"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

const (
	cellReady       = "start to ready, nothing queued"
	cellReadyFull   = "start to ready, backlog queued"
	cellIdle        = "memory idle"
	cellFlat        = "of it, not pages of files, idle with the backlog"
	flatMB          = 128
	footprintStarts = 5 // of which the median counts
	footprintRate   = 1000
	footprintQuota  = "journal: {quota: 60GB}\n" // the backlog must not meet it
)

// footprintSection is what one agent takes of a site's server. Memory is told twice: all of
// it, and the process's own, without the pages of files, which the kernel takes back when
// others need them: the queue's files are mapped, so that reading them counts as memory.
//
// On the other side is a server with JetStream on files, as it stands at a site. Ready is
// the agent's readiness door, and the answer about the stream there; the first event
// accepted shows that neither says so too early. Before each start the program was killed.
//
// The agent's own memory grows with a backlog until the table is full by which it knows
// repeats, at 2^20 events, and not beyond: the bound is for any backlog.
func footprintSection() section {
	return section{Section: report.Section{Name: "footprint", Title: "an agent at a site, against a nats-server with JetStream",
		Arms: []string{ours, natsDefault},
		Targets: []report.Target{{Cell: cellIdle, Most: 40}, {Cell: cellReady, Most: 300}, {Cell: cellReadyFull, Most: 3000},
			{Cell: cellFlat, Most: flatMB}}}, measure: measureFootprint, long: true}
}

// resident is one program that takes events and keeps them.
type resident struct {
	programs []string // by which it is installed
	process  func() *world.Process
	start    func(context.Context) error // until ready
	post     func(ctx context.Context, first, count int) error
	cut      func() error // nothing that comes after goes anywhere
	close    func()
}

func measureFootprint(ctx context.Context, r *run) (err error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	open := r.openResidentAgent
	if r.arm != ours {
		open = r.openResidentServer
	}
	one, err := open(ctx)
	if err != nil {
		return err
	}
	defer one.close()
	for _, name := range one.programs {
		info, err := os.Stat(r.programs.Path(name))
		if err != nil {
			return err
		}
		r.note("program "+name, "MB", megabytes(info.Size()))
	}
	next := 0
	for _, step := range []func(context.Context, *resident, *int) error{r.emptyStarts, r.idleMemory, r.memoryUnderLoad, r.backlog, r.fullStart} {
		if err := step(ctx, one, &next); err != nil {
			return err
		}
	}
	return nil
}

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }

func (r *run) openResidentAgent(ctx context.Context) (*resident, error) {
	c, err := world.StartCrossdock(ctx, world.CrossdockConfig{Programs: r.programs, Dir: filepath.Join(r.dir, "crossdock"), Size: 1,
		ERP: nobody, Lines: world.Relayed, Agent: footprintQuota})
	if err != nil {
		return nil, err
	}
	var lines *world.Lines
	var poster *load.Poster
	closeAll := func() {
		if poster != nil {
			poster.Close()
		}
		if lines != nil {
			_ = lines.Close() // it cannot fail
		}
		_ = c.Close() // what is left of the data goes with the run's directory
	}
	agent := (*world.Agent)(nil)
	if lines, err = world.StartLines(r.dir, c.LineAddresses(), c.Syncs()); err == nil {
		agent, err = c.Enrol(ctx, material.ShopSite, lines.Addresses)
	}
	if err == nil {
		err = agent.Start(ctx)
	}
	if err != nil {
		closeAll()
		return nil, err
	}
	poster = load.NewPoster(agent.Intake, r.orders)
	return &resident{programs: []string{"crossdock-agent", "crossdock"}, process: func() *world.Process { return agent.Process }, start: agent.Start,
		post: poster.Post, cut: lines.Cut, close: closeAll}, nil
}

func (r *run) openResidentServer(ctx context.Context) (*resident, error) {
	server, err := peer.StartServer(ctx, r.programs, r.dir, peer.Default)
	if err != nil {
		return nil, err
	}
	journal, err := peer.OpenJournal(server.URL())
	if err != nil {
		server.Process.Kill()
		return nil, err
	}
	return &resident{programs: []string{"nats-server"}, process: func() *world.Process { return server.Process },
		start: func(ctx context.Context) error { return server.Again(ctx, r.programs, r.dir, peer.Default) },
		post: func(ctx context.Context, first, count int) error {
			events := make([]intake.Admitted, count)
			for i := range events {
				events[i].Data = r.orders.Append(nil, first+i)
			}
			_, err := journal.Submit(ctx, events)
			return err
		},
		cut: func() error { return nil }, // it has no line
		close: func() {
			_ = journal.Close() // it has no way to fail
			server.Process.Kill()
		}}, nil
}

// restart kills the program and says how long it takes to be ready again, and to accept an
// event.
func (r *run) restart(ctx context.Context, one *resident, next *int) (ready, accepted time.Duration, err error) {
	one.process().Kill()
	begun := time.Now()
	if err := one.start(ctx); err != nil {
		return 0, 0, err
	}
	ready = time.Since(begun)
	serial := *next
	*next++
	err = world.Await(ctx, "an event is accepted", []*world.Process{one.process()}, func(ctx context.Context) error {
		limit, cancel := context.WithTimeout(ctx, 5*time.Second) // a connection of before the start may not have noticed
		defer cancel()
		return one.post(limit, serial, 1)
	})
	return ready, time.Since(begun), err
}

func (r *run) emptyStarts(ctx context.Context, one *resident, next *int) error {
	var ready, accepted []time.Duration
	for range footprintStarts {
		a, b, err := r.restart(ctx, one, next)
		if err != nil {
			return err
		}
		ready, accepted = append(ready, a), append(accepted, b)
	}
	r.note(cellReady, "ms", millis(load.Quantile(ready, 0.5)))
	r.note("start to first event accepted, nothing queued", "ms", millis(load.Quantile(accepted, 0.5)))
	return nil
}

func (r *run) noteMemory(one *resident, when string) error {
	u, err := one.process().Usage()
	if err == nil {
		r.note("memory "+when, "MB", megabytes(u.RSS))
		r.note("of it, not pages of files, "+when, "MB", megabytes(u.Anon))
	}
	return err
}

func (r *run) idleMemory(ctx context.Context, one *resident, _ *int) error {
	one.process().Kill() // the peak of an earlier start is not this one's
	if err := one.start(ctx); err != nil {
		return err
	}
	if err := pause(ctx, r.idle); err != nil {
		return err
	}
	return r.noteMemory(one, "idle")
}

// pause lets time pass that is itself what is measured.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sampled runs work and looks at the memory meanwhile.
func sampled(ctx context.Context, p *world.Process, work func(context.Context) error) (most world.Usage, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	done := make(chan struct{})
	group.Go(func() {
		for {
			u, err := p.Usage()
			if err != nil {
				cancel(err)
				return
			}
			most.RSS, most.Anon = max(most.RSS, u.RSS), max(most.Anon, u.Anon)
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	err = work(ctx)
	close(done)
	group.Wait()
	if cause := context.Cause(ctx); cause != nil && err == nil {
		err = cause
	}
	return most, err
}

func (r *run) memoryUnderLoad(ctx context.Context, one *resident, next *int) error {
	const batch = 10
	most, err := sampled(ctx, one.process(), func(ctx context.Context) error {
		begun := time.Now()
		for i := 0; time.Since(begun) < r.lasts; i++ {
			if err := one.post(ctx, *next, batch); err != nil {
				return err
			}
			*next += batch
			if err := pause(ctx, time.Until(begun.Add(time.Duration(i+1)*batch*time.Second/footprintRate))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.note(fmt.Sprintf("memory at %d events/s, most", footprintRate), "MB", megabytes(most.RSS))
	r.note(fmt.Sprintf("of it, not pages of files, at %d events/s, most", footprintRate), "MB", megabytes(most.Anon))
	return nil
}

// backlog fills the queue while nothing can leave it.
func (r *run) backlog(ctx context.Context, one *resident, next *int) error {
	if err := one.cut(); err != nil {
		return err
	}
	first, begun := *next, time.Now()
	most, err := sampled(ctx, one.process(), func(ctx context.Context) error {
		return each(ctx, saturating, saturatingBatch, first, r.queued, one.post)
	})
	if err != nil {
		return err
	}
	*next += r.queued
	size := int64(r.queued) * int64(len(r.orders.Append(nil, 0)))
	r.note("queued", "GB", float64(size)/1e9)
	r.note("events queued", "events", float64(r.queued))
	r.note("queued at", "events/s", float64(r.queued)/time.Since(begun).Seconds())
	r.note("memory while it is queued, most", "MB", megabytes(most.RSS))
	r.note("of it, not pages of files, while it is queued, most", "MB", megabytes(most.Anon))
	return r.noteMemory(one, "when it is queued")
}

// each calls post for batches of count events from first on, by several at once.
func each(ctx context.Context, clients, batch, first, count int, post func(ctx context.Context, first, count int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	batches := make(chan int)
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for at := range batches {
				if err := post(ctx, first+at, min(batch, count-at)); err != nil {
					cancel(err)
				}
			}
		})
	}
	for at := 0; at < count && ctx.Err() == nil; at += batch {
		batches <- at
	}
	close(batches)
	group.Wait()
	return context.Cause(ctx)
}

// fullStart starts with the backlog and reads the memory once that is in view.
func (r *run) fullStart(ctx context.Context, one *resident, next *int) error {
	ready, accepted, err := r.restart(ctx, one, next)
	if err != nil {
		return err
	}
	r.note(cellReadyFull, "ms", millis(ready))
	r.note("start to first event accepted, backlog queued", "ms", millis(accepted))
	if err := pause(ctx, r.idle); err != nil {
		return err
	}
	return r.noteMemory(one, "idle with the backlog")
}
