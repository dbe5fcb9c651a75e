package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/scripts/bench/load"
	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/report"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

const (
	burstShops  = 2    // in each of two regions
	burstRate   = 25.0 // events a second that one may send
	burstFactor = 10   // what it sends, over that
	burstBurst  = 50   // what it may send at once

	burstGrace = 2 * time.Minute // for what was accepted to be delivered

	cellLost    = "accepted and not delivered"
	cellUnclear = "refused by other than 429 with Retry-After"
)

// burstSection has shops of two regions send ten times what they may. Each shop has its own
// limit at its own agent; both regions go to one system over one node.
func burstSection() section {
	return section{Section: report.Section{Name: "burst", Title: "ten times the configured rate from shops of two regions", Arms: []string{ours},
		Targets: []report.Target{{Cell: cellLost, None: true}, {Cell: cellUnclear, None: true}, {Cell: "most memory to that before", Most: 3}}},
		measure: measureBurst, long: true}
}

// outcome of one shop's events.
type outcome struct {
	sent, limited, unclear, late atomic.Int64

	mu       sync.Mutex // guards what follows
	accepted []int      // serial numbers
	example  error      // an answer that was not clear
}

func measureBurst(ctx context.Context, r *run) (err error) {
	sink, err := world.OpenSink()
	if err != nil {
		return err
	}
	defer sink.Close()
	files, secrets := material.Shops(burstShops, burstRate, burstBurst)
	c, err := world.StartCrossdock(ctx, world.CrossdockConfig{Programs: r.programs, Dir: filepath.Join(r.dir, "crossdock"), Size: 1,
		ERP: sink.Address, Policy: files, Secrets: secrets})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // what is left of the data goes with the run's directory
	intakes := map[string]string{}
	for _, at := range []struct{ region, site string }{{"", material.ERPSite}, {material.RegionNear, material.ShopSite}, {material.RegionFar, material.ShopsSite}} {
		a, err := c.Enrol(ctx, at.site, c.Syncs())
		if err == nil {
			err = a.Start(ctx)
		}
		if err != nil {
			return err
		}
		intakes[at.region] = a.Intake
	}
	delete(intakes, "")
	before, err := world.TotalOf(c.Processes())
	if err != nil {
		return err
	}
	results, memory, err := r.storm(ctx, c, intakes)
	if err != nil {
		return err
	}
	r.note("memory of all processes before", "MB", megabytes(before.All().RSS))
	r.note("memory of all processes, most", "MB", megabytes(memory.most))
	r.note("most memory to that before", "ratio", float64(memory.most)/float64(before.All().RSS))
	r.note("of it without pages of files, most in the first half", "MB", megabytes(memory.own[0]))
	r.note("of it without pages of files, most in the second half", "MB", megabytes(memory.own[1]))
	return r.settle(ctx, sink, results)
}

// memory of all processes during a storm, in bytes. What is their own and still grows in the
// second half would have no bound; pages of files are the system's to take back.
type memory struct {
	most int64
	own  [2]int64
}

// storm has all shops send at once while the memory is looked at.
func (r *run) storm(ctx context.Context, c *world.Crossdock, intakes map[string]string) (results map[string]*outcome, seen memory, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, end := context.WithTimeout(ctx, r.burst)
	defer end()
	results = map[string]*outcome{}
	var group sync.WaitGroup
	var serial atomic.Int64
	for region, intake := range intakes {
		results[region] = &outcome{}
		poster := load.NewPoster(intake, r.orders)
		defer poster.Close()
		for i := range burstShops {
			group.Go(func() {
				if err := r.shop(ctx, stop, poster.As(material.ShopToken(material.ShopName(region, i))), &serial, results[region]); err != nil {
					cancel(err)
				}
			})
		}
	}
	for begun := time.Now(); stop.Err() == nil; {
		total, err := world.TotalOf(c.Processes())
		if err != nil {
			cancel(err)
			break
		}
		half := min(1, int(2*time.Since(begun)/r.burst))
		seen.most, seen.own[half] = max(seen.most, total.All().RSS), max(seen.own[half], total.All().Anon)
		_ = pause(stop, time.Second/4) // its end is the loop's
	}
	group.Wait()
	return results, seen, context.Cause(ctx)
}

// shop sends by a schedule and never again what was refused.
func (r *run) shop(ctx, stop context.Context, poster *load.Poster, serial *atomic.Int64, o *outcome) error {
	var group sync.WaitGroup
	defer group.Wait()
	places := make(chan struct{}, load.Outstanding/(2*burstShops))
	begun := time.Now()
	for i := 0; ; i++ {
		if pause(stop, time.Until(begun.Add(time.Duration(float64(i)/(burstRate*burstFactor)*float64(time.Second))))) != nil || stop.Err() != nil {
			return ctx.Err()
		}
		select {
		case places <- struct{}{}:
		default:
			o.late.Add(1) // all requests that may be under way are
			continue
		}
		group.Go(func() {
			defer func() { <-places }()
			o.sent.Add(1)
			number := int(serial.Add(1))
			status, after, text, err := poster.Try(ctx, number)
			o.judge(number, status, after, text, err)
		})
	}
}

func (o *outcome) judge(number, status int, retryAfter string, text []byte, err error) {
	seconds, unreadable := strconv.Atoi(retryAfter)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil && status == http.StatusAccepted:
		o.accepted = append(o.accepted, number)
	case err == nil && status == http.StatusTooManyRequests && unreadable == nil && seconds > 0:
		o.limited.Add(1)
	default:
		o.unclear.Add(1)
		o.example = fmt.Errorf("status %d, Retry-After %q: %s: %w", status, retryAfter, text, err)
	}
}

// settle waits for what was accepted and notes what became of all.
func (r *run) settle(ctx context.Context, sink *world.Sink, results map[string]*outcome) error {
	var unclear, sent, limited int64
	accepted := 0
	for _, o := range results {
		accepted += len(o.accepted)
		unclear, sent, limited = unclear+o.unclear.Load(), sent+o.sent.Load(), limited+o.limited.Load()
	}
	begun := time.Now()
	limit, cancel := context.WithTimeout(ctx, burstGrace)
	defer cancel()
	if _, err := sink.Await(limit, accepted); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	r.note("sent", "events/s", float64(sent)/r.burst.Seconds())
	r.note("allowed", "events/s", 2*burstShops*(burstRate+burstBurst/r.burst.Seconds()))
	r.note("accepted", "events/s", float64(accepted)/r.burst.Seconds())
	r.note("all delivered after the end", "s", time.Since(begun).Seconds())
	r.note("refused by 429 with Retry-After", "events", float64(limited))
	r.note(cellUnclear, "events", float64(unclear))
	lost := 0
	for _, region := range []string{material.RegionNear, material.RegionFar} {
		o := results[region]
		for _, number := range o.accepted {
			if _, ok := sink.Arrived(number); !ok {
				lost++
			}
		}
		r.note("share of region "+region, "% of accepted", 100*float64(len(o.accepted))/float64(max(accepted, 1)))
		r.note("not sent, the shop had too many requests under way, "+region, "events", float64(o.late.Load()))
		if o.example != nil {
			fmt.Fprintf(r.out, "region %s, for example: %v\n", region, o.example)
		}
	}
	r.note(cellLost, "events", float64(lost))
	return nil
}
