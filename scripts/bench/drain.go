package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/scripts/bench/load"
	"github.com/crossdock/crossdock/scripts/bench/report"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

// drainRate is events a second posted before the cut and while the backlog drains.
const drainRate = 200

const (
	cellDrain = "stored at head office, from its first event on"
	cellFelt  = "intake p99 while draining to undisturbed"
	cellAway  = "stored at head office, system away"

	// slowPart is the part of the backlog that an arm gets whose every message is synced by
	// itself: it takes so much longer. What is noted are rates.
	slowPart = 8
)

// drainSection cuts the shop's line, lets a backlog grow, and restores the line, twice: once
// all is delivered as it comes, while the shop goes on; once the system is away, so that the
// way to head office's store is seen by itself, and what delivery costs is not.
//
// The line is cut by the kernel. Where that cannot be it is a relay of datagrams and streams
// in a process of its own, which costs QUIC more than TCP: it passes datagrams one by one.
//
// The store is the agent's journal, or the stream at the leaf. A session that broke during
// the cut comes back after a pause; rates are told with that pause and without.
func drainSection() section {
	return section{Section: report.Section{Name: "drain", Title: "a backlog that was accepted while the line was cut",
		Arms:    pathArms,
		Targets: []report.Target{{Cell: cellDrain, Peer: natsDefault, Least: 3}, {Cell: cellFelt, Most: 2}}}, measure: measureDrain}
}

func measureDrain(ctx context.Context, r *run) error {
	return r.onPath(ctx, true, func(p *path, poster *load.Poster, sink *world.Sink) error {
		return r.cutAndDrain(ctx, p, poster, sink)
	})
}

func (r *run) cutAndDrain(ctx context.Context, p *path, poster *load.Poster, sink *world.Sink) error {
	stop, cancel := context.WithTimeout(ctx, r.lasts)
	defer cancel()
	quiet, err := poster.Paced(ctx, stop, warmUp, drainRate)
	if err != nil {
		return err
	}
	next := warmUp + len(quiet.Due)
	if err := r.arrive(ctx, p, sink, next); err != nil {
		return err
	}
	backlog := r.drain
	if r.arm == natsAlways {
		backlog = max(1, r.drain/slowPart)
	}
	if err := r.pile(ctx, p, poster, next, backlog); err != nil {
		return err
	}
	next += backlog
	busy, err := r.release(ctx, p, poster, next, backlog)
	if err != nil {
		return err
	}
	before, during := load.Quantile(quiet.Answers, 0.99), load.Quantile(busy.Answers, 0.99)
	r.note("intake p99 undisturbed", "ms", millis(before))
	r.note("intake p99 while draining", "ms", millis(during))
	r.note(cellFelt, "ratio", float64(during)/float64(before))
	all := next + len(busy.Due)
	if err := r.arrive(ctx, p, sink, all); err != nil {
		return err
	}
	_, last := sink.Count()
	r.note("delivered, from the line's return on", "events/s", float64(all-next+backlog)/last.Sub(busy.Due[0]).Seconds())
	sink.Leave()
	backlog = max(1, backlog/2)
	if err := r.pile(ctx, p, poster, all, backlog); err != nil {
		return err
	}
	if err := r.follow(ctx, p, backlog, cellAway, ", system away"); err != nil {
		return err
	}
	if n, _ := sink.Count(); n != all {
		return fmt.Errorf("the system is away, and yet took %d events", n-all)
	}
	return nil
}

// pile cuts the line and has the shop accept the backlog.
func (r *run) pile(ctx context.Context, p *path, poster *load.Poster, first, backlog int) error {
	if err := p.lines.Cut(); err != nil {
		return err
	}
	held, err := p.received(ctx)
	if err != nil {
		return err
	}
	if err := poster.All(ctx, saturating, saturatingBatch, first, backlog); err != nil {
		return err
	}
	now, err := p.received(ctx)
	if err == nil && now != held {
		err = fmt.Errorf("the line is cut, and yet %d events passed it", now-held)
	}
	return err
}

// release restores the line and posts by a schedule until head office has the backlog.
func (r *run) release(ctx context.Context, p *path, poster *load.Poster, first, backlog int) (*load.Paced, error) {
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		paced *load.Paced
		err   error
	}
	done := make(chan result, 1)
	go func() {
		paced, err := poster.Paced(ctx, stop, first, drainRate)
		done <- result{paced, err}
	}()
	err := r.follow(ctx, p, backlog, cellDrain, "")
	cancel()
	posted := <-done
	return posted.paced, errors.Join(err, posted.err)
}

// follow restores the line, and notes how head office comes to have the backlog.
func (r *run) follow(ctx context.Context, p *path, backlog int, cell, when string) error {
	held, err := p.received(ctx)
	if err != nil {
		return err
	}
	if err := p.lines.Restore(); err != nil {
		return err
	}
	begun := time.Now()
	began, ended, err := r.watch(ctx, p, held, uint64(backlog))
	if err != nil {
		return err
	}
	r.note(cell, "events/s", float64(backlog)/ended.Sub(began).Seconds())
	r.note("the same, from the line's return on"+when, "events/s", float64(backlog)/ended.Sub(begun).Seconds())
	r.note("pause between the two"+when, "s", began.Sub(begun).Seconds())
	return nil
}

// watch sees the backlog come in at head office. began is the last look before the first of it.
func (r *run) watch(ctx context.Context, p *path, held, backlog uint64) (began, ended time.Time, err error) {
	began = time.Now()
	err = r.until(ctx, p, func(ctx context.Context) (bool, error) {
		at := time.Now()
		n, err := p.received(ctx)
		if err != nil {
			return false, err
		}
		if n == held {
			began = at
		}
		ended = time.Now()
		return n >= held+backlog, nil
	})
	return began, ended, err
}

// until looks again and again, with pauses that leave the processors to what is measured.
func (r *run) until(ctx context.Context, p *path, look func(context.Context) (bool, error)) error {
	for {
		done, err := look(ctx)
		if done || err != nil {
			return err
		}
		for _, one := range p.processes {
			if err := one.Err(); err != nil {
				return err
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
