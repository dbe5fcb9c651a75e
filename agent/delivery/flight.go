package delivery

import (
	"context"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/protocol/policy"
)

// flight is what goes to a system in one request: the heads of so many queues, each of
// another key. It has one answer, and what comes of that is decided for each by itself.
type flight struct {
	system  string
	shadow  bool // all of it, or nothing
	timeout time.Duration
	done    func(error) // the gate's
	orders  []order
	bytes   int // of events
	sent    int // orders without a fault
}

// order is one delivery of a flight.
type order struct {
	q     *keyQueue
	job   *job
	event []byte
	route *policy.Route
	dest  *policy.Destination
	turn  uint64 // of the queue before this one
	fault string // why it was not sent; the worker's until the flight is over
	lacks string // what it names and is not here; the worker's likewise
	left  bool   // it was not sent as there was no room or time; the worker's likewise
}

// takes reports whether a job may go with those that are aboard.
func (f *flight) takes(j *job, limits *policy.Limits) bool {
	if len(f.orders) == 0 {
		return true
	}
	return len(f.orders) < limits.Batch && f.bytes+j.Size <= MaxBatchBytes && j.Shadow == f.shadow &&
		!j.Alone && !f.orders[0].job.Alone
}

// dispatch starts attempts while there is leave to, and says when to ask again; zero
// means after the next result.
func (c *courier) dispatch(ctx context.Context, now time.Time) (again time.Time) {
	if _, held := c.held(); held {
		return time.Time{}
	}
	for c.inflight < c.gate.limits.Concurrency {
		f, again := c.board(now)
		if f == nil {
			return again
		}
		c.send(ctx, f)
	}
	return time.Time{}
}

// board makes a flight of heads whose turn it is, as many as may go together; the first one
// that may not go with them begins the next. Nobody waits for more. No flight: none may go
// before again.
func (c *courier) board(now time.Time) (f *flight, again time.Time) {
	f = &flight{system: c.name, timeout: c.gate.limits.Timeout}
	for q := c.ready.first(); q != nil; q = c.ready.first() {
		j, _ := q.head()
		route, dest := c.lookup(j)
		if c.settledUnsent(q, j, dest, now) {
			continue
		}
		if !f.takes(j, &c.gate.limits) {
			break
		}
		if f.done == nil {
			if f.done, again = c.gate.pass(now); f.done == nil {
				return nil, again
			}
		} else if len(f.orders) > 0 && !c.gate.another(now) {
			break
		}
		ev, err := c.load(q, j)
		if err != nil {
			c.bury(q, j, &result{fault: err.Error(), at: now})
			continue
		}
		f.shadow = j.Shadow
		f.bytes += j.Size
		f.orders = append(f.orders, order{q: q, job: j, event: ev, route: route, dest: dest, turn: q.lastTurn})
		c.turn++
		q.holds++
		q.flying = j
		q.absent, j.Absent = false, time.Time{}
		q.lacking = false
		q.lastTurn = c.turn
		q.move(nil)
	}
	if len(f.orders) > 0 {
		return f, time.Time{}
	}
	if f.done != nil {
		f.done(ErrNotSent)
	}
	return nil, time.Time{}
}

// settledUnsent sees to a head that is not to be sent now, or never.
func (c *courier) settledUnsent(q *keyQueue, j *job, dest *policy.Destination, now time.Time) bool {
	switch {
	case j.Shadow && (dest == nil || j.Fault != "" || !c.e.sandbox(c.name)):
		c.settleShadow(q, j, &result{at: now}, "not sent")
	case j.Fault != "":
		c.bury(q, j, &result{fault: j.Fault, at: now})
	case dest == nil:
		c.await(q, j, fmt.Sprintf("system %s with route %s is not in the policy of this site", c.name, j.Route), now)
	case j.Claim != nil:
		return c.doubt(q, j, now)
	default:
		return false
	}
	return true
}

// doubt looks again at what an event claims by a revision that was not here, and reports
// whether it is not to be sent.
func (c *courier) doubt(q *keyQueue, j *job, now time.Time) bool {
	fault, later := c.e.index.Load().foreign(j.Claim)
	switch {
	case later && j.Shadow:
		c.settleShadow(q, j, &result{at: now}, "not sent")
	case later:
		c.await(q, j, fault, now)
	case fault != "":
		c.bury(q, j, &result{fault: fault, at: now})
	default:
		j.Claim = nil
		return false
	}
	return true
}

func (c *courier) send(ctx context.Context, f *flight) {
	c.inflight++
	go func() {
		res := attempt(ctx, &c.e.cfg, f)
		c.post(func() { c.land(f, &res) })
	}()
}

// land decides what becomes of a flight after its attempt. The gate hears of it once.
func (c *courier) land(f *flight, res *result) {
	c.inflight--
	now := time.Now()
	pauses, longest := make([]time.Duration, len(f.orders)), time.Duration(0)
	for i := range f.orders {
		o := &f.orders[i]
		o.q.holds--
		o.q.flying = nil
		if failure := res.failure; failure != nil && failure.Class != Rejected && o.fault == "" && o.lacks == "" && !o.left {
			pauses[i] = o.pause(failure)
			longest = max(longest, pauses[i])
		}
	}
	c.gate.report(f.done, res, longest, now)
	if !res.void {
		c.noteReach(res, now)
	}
	for i := range f.orders {
		o := &f.orders[i]
		if o.left {
			o.q.lastTurn = o.turn // it had none
			c.schedule(o.q, now)
			continue
		}
		if o.lacks != "" {
			c.lack(o, now)
			continue
		}
		o.job.Lacking = time.Time{}
		if o.fault != "" {
			c.finish(o, false, &result{fault: o.fault, at: res.at, took: res.took}, 0, now)
			continue
		}
		c.finish(o, f.sent > 1, res, pauses[i], now)
	}
}

// pause is how long a delivery waits after a failure.
func (o *order) pause(f *Failure) time.Duration {
	retry := withRetryDefaults(o.route.Retry)
	if o.q.retry == nil {
		o.q.retry = newBackOff(retry, o.job.Tries)
	}
	return max(min(o.q.retry.NextBackOff(), retry.Max), min(f.RetryAfter, MaxRetryAfter))
}
