package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/crossdock/crossdock/scripts/bench/load"
	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/report"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

// size is how much there is of everything that could make an event dearer.
type size struct {
	events  int // of the measurement
	rate    float64
	keys    int
	further material.Further // its sites have agents with sessions
}

// slopeFactor of the greater measurements.
const slopeFactor = 10

// slopeFactors are measured one at a time. The first and the last change nothing: their ratio
// is what the machine makes of the same.
var slopeFactors = []struct {
	name string
	grow func(*size)
}{
	{"base", func(*size) {}},
	{"events", func(s *size) { s.events *= slopeFactor; s.rate *= slopeFactor }},
	{"keys", func(s *size) { s.keys *= slopeFactor }},
	{"routes", func(s *size) { s.further.Routes *= slopeFactor }},
	{"contracts", func(s *size) { s.further.Contracts *= slopeFactor }},
	{"agents", func(s *size) { s.further.Sites *= slopeFactor }},
	{"journeys", func(s *size) { s.further.Journeys *= slopeFactor }},
	{"the base again", func(*size) {}},
}

// slopeSection measures what an event costs on its way from one agent over one node to a
// system of another, and again where there is ten times as much of one thing.
func slopeSection() section {
	return section{Section: report.Section{Name: "slope", Title: "cost of an event at ten times one thing to that at the base", Arms: []string{ours}},
		measure: measureSlope, long: true}
}

func (r *run) baseSize() size {
	return size{events: max(1, r.events/5), rate: 100, keys: 1000,
		further: material.Further{Sites: max(2, r.agents/100), Contracts: 10, Routes: 10, Journeys: 10}}
}

// cost of an event.
type cost struct {
	cpu      time.Duration // of all processes
	p50, p99 time.Duration // due to delivered
}

func measureSlope(ctx context.Context, r *run) error {
	var base cost
	for i, factor := range slopeFactors {
		s := r.baseSize()
		factor.grow(&s)
		c, err := r.costOf(ctx, filepath.Join(r.dir, fmt.Sprint(i)), s)
		if err != nil {
			return fmt.Errorf("%s: %w", factor.name, err)
		}
		if i == 0 {
			base = c
			r.note("CPU of all processes", "us/event", micros(c.cpu))
			r.note("p50, due to delivered", "ms", millis(c.p50))
			r.note("p99, due to delivered", "ms", millis(c.p99))
			continue
		}
		what := "10x " + factor.name
		if i == len(slopeFactors)-1 {
			what = factor.name
		}
		r.note("CPU, "+what, "ratio", float64(c.cpu)/float64(base.cpu))
		r.note("p50, "+what, "ratio", float64(c.p50)/float64(base.p50))
		r.note("p99, "+what, "ratio", float64(c.p99)/float64(base.p99))
	}
	return nil
}

// costOf measures one size in a world of its own.
func (r *run) costOf(ctx context.Context, dir string, s size) (out cost, err error) {
	sink, err := world.OpenSink()
	if err != nil {
		return out, err
	}
	defer sink.Close()
	c, err := world.StartCrossdock(ctx, world.CrossdockConfig{Programs: r.programs, Dir: dir, Size: 1, ERP: sink.Address, Policy: s.further.Files()})
	if err != nil {
		return out, err
	}
	defer func() { _ = c.Close() }() // what is left of the data goes with the run's directory
	var intake string
	for _, site := range []string{material.ERPSite, material.ShopSite} {
		a, err := c.Enrol(ctx, site, c.Syncs())
		if err == nil {
			err = a.Start(ctx)
		}
		if err != nil {
			return out, err
		}
		intake = a.Intake
	}
	f, _, err := joinFleet(ctx, c, s.further.Sites)
	if err != nil {
		return out, err
	}
	defer f.close()
	if _, err := f.connect(ctx, c); err != nil {
		return out, err
	}
	p := &path{intake: intake, processes: c.Processes()}
	poster := load.NewPoster(intake, r.orders.WithKeys(s.keys))
	defer poster.Close()
	if err := r.warm(ctx, p, poster, sink); err != nil {
		return out, err
	}
	if out.cpu, err = r.cpuOf(ctx, p, poster, sink, s.events); err != nil {
		return out, err
	}
	return out, r.latencyOf(ctx, p, poster, sink, warmUp+s.events, s.rate, &out)
}

// cpuOf posts as fast as it is taken.
func (r *run) cpuOf(ctx context.Context, p *path, poster *load.Poster, sink *world.Sink, count int) (time.Duration, error) {
	before, err := world.TotalOf(p.processes)
	if err != nil {
		return 0, err
	}
	if err := poster.All(ctx, saturating, saturatingBatch, warmUp, count); err != nil {
		return 0, err
	}
	if err := r.arrive(ctx, p, sink, warmUp+count); err != nil {
		return 0, err
	}
	after, err := world.TotalOf(p.processes)
	return (after.All().CPU - before.All().CPU) / time.Duration(count), err
}

// latencyOf posts by a schedule.
func (r *run) latencyOf(ctx context.Context, p *path, poster *load.Poster, sink *world.Sink, first int, rate float64, out *cost) error {
	stop, cancel := context.WithTimeout(ctx, r.lasts)
	defer cancel()
	paced, err := poster.Paced(ctx, stop, first, rate)
	if err != nil {
		return err
	}
	if err := r.arrive(ctx, p, sink, first+len(paced.Due)); err != nil {
		return err
	}
	took := make([]time.Duration, len(paced.Due))
	for i, due := range paced.Due {
		at, _ := sink.Arrived(first + i) // all have
		took[i] = at.Sub(due)
	}
	out.p50, out.p99 = load.Quantile(took, 0.5), load.Quantile(took, 0.99)
	return nil
}
