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

const (
	// Events that go first, so that every connection is open and every lane known.
	warmUp = 256

	// The load that saturates: more clients or larger batches bring no arm further.
	saturating      = 16
	saturatingBatch = 64

	// keepUp is how long after a schedule its events may arrive. An arm that takes longer
	// does not sustain the rate, and has no latency at it.
	keepUp = 20 * time.Second
)

// pacedRates are events a second at which latency is measured.
var pacedRates = []float64{200, 1000}

// endToEndSection takes orders from the shop's intake over the control plane to a system of
// another site. Both arms deliver in the batch format of CloudEvents, up to material.Batch
// events a request: what is ready goes, and nothing waits to fill one. As many requests are
// under way at once as our delivery makes by default.
//
// Differences that stay: our side validates and routes by governed policy, keeps the order
// of a key at delivery, recognises repeats, and drops from the relay what was acknowledged;
// the other side does none of it.
func endToEndSection() section {
	return section{Section: report.Section{Name: "endtoend", Title: "agent - three nodes - agent - system over HTTP, against leaf - hub of three - leaf - forwarder",
		Arms: pathArms,
		Targets: []report.Target{
			{Cell: cellThroughput, Peer: natsAlways, Least: 10}, {Cell: cellThroughput, Peer: natsDefault, Least: 1},
			{Cell: cellCPU, Peer: natsDefault, Most: 1}, {Cell: latencyCell(200, "p50"), Peer: natsAlways, Most: 1.5}}}, measure: measureEndToEnd}
}

// singleSection is the same at saturation with a request for each event, as a system needs it
// that takes no batches.
func singleSection() section {
	return section{Section: report.Section{Name: "single", Title: "end to end again, one event a request", Arms: pathArms}, batch: 1,
		measure: func(ctx context.Context, r *run) error {
			return r.onPath(ctx, false, func(p *path, poster *load.Poster, sink *world.Sink) error {
				return r.saturate(ctx, p, poster, sink, warmUp, r.measured())
			})
		}}
}

const (
	cellThroughput = "delivered at saturation"
	cellCPU        = "CPU of all processes"
)

func latencyCell(rate float64, quantile string) string {
	return fmt.Sprintf("%s at %.0f/s, due to delivered", quantile, rate)
}

func measureEndToEnd(ctx context.Context, r *run) error {
	return r.onPath(ctx, false, func(p *path, poster *load.Poster, sink *world.Sink) error {
		return r.passAlong(ctx, p, poster, sink)
	})
}

// onPath has do measure on a path, with lines that can be cut or without, which has brought
// its first events to the sink.
func (r *run) onPath(ctx context.Context, lines bool, do func(*path, *load.Poster, *world.Sink) error) (err error) {
	sink, err := world.OpenSink()
	if err != nil {
		return err
	}
	defer sink.Close()
	p, err := r.openPath(ctx, sink, lines)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	poster := load.NewPoster(p.intake, r.orders)
	defer poster.Close()
	if err := r.warm(ctx, p, poster, sink); err != nil {
		return err
	}
	return do(p, poster, sink)
}

func (r *run) passAlong(ctx context.Context, p *path, poster *load.Poster, sink *world.Sink) error {
	next, count := warmUp, r.measured()
	if err := r.saturate(ctx, p, poster, sink, next, count); err != nil {
		return err
	}
	next += count
	for _, rate := range pacedRates {
		done, err := r.latency(ctx, poster, sink, next, rate)
		if err != nil || done == 0 {
			return err
		}
		next += done
	}
	return nil
}

// measured is how many events measure throughput.
func (r *run) measured() int {
	if r.arm == natsAlways {
		return r.slow
	}
	return r.events
}

// warm sends the first events, which numbers 0 to warmUp-1 are for.
func (r *run) warm(ctx context.Context, p *path, poster *load.Poster, sink *world.Sink) error {
	if err := world.Await(ctx, "the intake takes its first event", p.processes, func(ctx context.Context) error {
		return poster.Post(ctx, 0, 1)
	}); err != nil {
		return err
	}
	if err := poster.All(ctx, saturating, 1, 1, warmUp-1); err != nil {
		return err
	}
	return r.arrive(ctx, p, sink, warmUp)
}

// arrive waits until the sink has so many events; a process that ended will not bring them.
func (r *run) arrive(ctx context.Context, p *path, sink *world.Sink, count int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, one := range p.processes {
		stop := one.OnEnd(func(err error) { cancel(err) })
		defer stop()
	}
	_, err := sink.Await(ctx, count)
	return err
}

// saturate posts as fast as it is taken, and measures until the sink has all.
func (r *run) saturate(ctx context.Context, p *path, poster *load.Poster, sink *world.Sink, first, count int) error {
	wire := r.openWire(p)
	if wire != nil {
		defer func() { _ = wire.Close() }() // the counters were read
	}
	before, err := world.TotalOf(p.processes)
	if err != nil {
		return err
	}
	own, repeats, begun := world.OwnCPU(), sink.Repeats(), time.Now()
	if err := poster.All(ctx, saturating, saturatingBatch, first, count); err != nil {
		return err
	}
	accepted := time.Since(begun)
	if err := r.arrive(ctx, p, sink, first+count); err != nil {
		return err
	}
	_, last := sink.Count()
	after, err := world.TotalOf(p.processes)
	if err != nil {
		return err
	}
	own = world.OwnCPU() - own
	events, bytes := float64(count), float64(count*len(r.orders.Append(nil, 0)))
	r.note(cellThroughput, "events/s", events/last.Sub(begun).Seconds())
	r.note("accepted meanwhile", "events/s", events/accepted.Seconds())
	r.note(cellCPU, "us/event", micros(after.All().CPU-before.All().CPU)/events)
	for _, place := range []world.Place{world.Center, world.Edge} {
		r.note("of it, "+string(place), "us/event", micros(after[place].CPU-before[place].CPU)/events)
	}
	r.note("CPU of load and sink, beside it", "us/event", micros(own)/events)
	r.note("written to disk", "bytes/byte", float64(after.All().Written-before.All().Written)/bytes)
	if wire != nil {
		if err := r.noteWire(wire, bytes); err != nil {
			return err
		}
	}
	for _, place := range []world.Place{world.Center, world.Edge} {
		r.note("peak memory, "+string(place), "MB", float64(after[place].Peak)/(1<<20))
	}
	r.note("delivered twice", "events", float64(sink.Repeats()-repeats))
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// openWire counts what passes between sites and center, or says once why it cannot.
func (r *run) openWire(p *path) *world.Wire {
	wire, err := world.OpenWire(map[string][]string{"site": p.site, "center": p.center})
	if err != nil {
		r.notWired.Do(func() { fmt.Fprintln(r.out, "bytes on the wire are not measured:", err) })
		return nil
	}
	return wire
}

func (r *run) noteWire(wire *world.Wire, payload float64) error {
	bytes, err := wire.Bytes()
	if err != nil {
		return err
	}
	r.note("on the wire, sites to center and back", "bytes/byte", float64(bytes["site"])/payload)
	r.note("on the wire, within the center", "bytes/byte", float64(bytes["center"])/payload)
	return nil
}

// latency posts by a schedule and gives how many events that were; 0: they did not arrive
// in time, and nothing more can be measured on this path.
func (r *run) latency(ctx context.Context, poster *load.Poster, sink *world.Sink, first int, rate float64) (int, error) {
	stop, cancel := context.WithTimeout(ctx, r.lasts)
	defer cancel()
	paced, err := poster.Paced(ctx, stop, first, rate)
	if err != nil {
		return 0, err
	}
	limit, cancel := context.WithTimeout(ctx, keepUp)
	defer cancel()
	if _, err := sink.Await(limit, first+len(paced.Due)); err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			fmt.Fprintf(r.out, "%s, round %d: does not sustain %.0f/s: %v\n", r.arm, r.round+1, rate, err)
			return 0, nil
		}
		return 0, err
	}
	took := make([]time.Duration, len(paced.Due))
	for i, due := range paced.Due {
		at, _ := sink.Arrived(first + i) // all have
		took[i] = at.Sub(due)
	}
	for _, q := range []struct {
		name string
		part float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}} {
		r.note(latencyCell(rate, q.name), "ms", millis(load.Quantile(took, q.part)))
	}
	return len(paced.Due), nil
}
