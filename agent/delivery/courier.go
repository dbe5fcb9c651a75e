package delivery

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/policy"
)

// showEvery is how soon people see where a courier stands.
const showEvery = 10 * time.Millisecond

// courier takes one system's deliveries to it. One goroutine owns everything below but
// what is marked shared; others reach it through post.
type courier struct {
	e    *Engine
	name string

	row    row
	saved  uint64 // cursor as last submitted
	gate   *gate
	window *window
	keys   map[queueName]*keyQueue
	ready  *turnHeap // may be sent now; the one that waited longest first
	timed  *turnHeap // by wake
	turn   uint64

	settled  map[slot]bool // at and above the cursor, as found at the start
	leftover []Item        // read, and not admitted for want of room
	left     uint64        // deliveries of those to this system
	readNext uint64        // where the source is asked next
	more     bool          // the source may have more

	ops         []func(tx *bolt.Tx) error // of the change that is being made up
	dones       []func()
	inflight    int // requests
	uncommitted int
	stopping    bool
	flushed     time.Time

	locked    map[string]int // dead letters with a commit under way
	deferred  []func()       // commands that wait for those
	parked    int
	dead      int              // open dead letters
	deadBytes int64            // of their events
	deadSize  map[string]int64 // likewise, of each
	blocked   int              // keys that one of them blocks
	storing   int              // changes with outcomes under way to the store
	lastErr   string
	errAt     time.Time
	down      bool      // told to be unreachable, and not yet to be back
	toldDown  time.Time // when last
	oldest    time.Time // parked event, as of lookedAt
	due       time.Time // the first of timed, likewise
	unsettled uint64    // likewise
	lookedAt  time.Time
	shown     time.Time // when publish last did

	// shared
	wake      chan struct{}
	grown     atomic.Bool // the journal has more than was read
	mu        sync.Mutex
	posted    []func()     // guarded by mu
	status    SystemStatus // guarded by mu
	progress  progress     // guarded by mu
	committed atomic.Uint64
	seen      atomic.Uint64 // events for this system that the scout met at or above start
	start     uint64        // fixed
	admitted  uint64        // of those, read by the courier itself
}

func newCourier(e *Engine, name string, r row) *courier {
	c := &courier{
		e: e, name: name, row: r, saved: r.Cursor, start: r.Cursor, readNext: r.Cursor, more: true,
		window: newWindow(r.Cursor), keys: map[queueName]*keyQueue{}, settled: map[slot]bool{},
		locked: map[string]int{}, deadSize: map[string]int64{}, wake: make(chan struct{}, 1),
	}
	c.ready = &turnHeap{less: func(a, b *keyQueue) bool { return a.lastTurn < b.lastTurn }}
	c.timed = &turnHeap{less: func(a, b *keyQueue) bool { return a.wake().Before(b.wake()) }}
	limits := policy.Limits{}
	if sys := e.system(name); sys != nil {
		limits = sys.Delivery
	}
	c.gate = newGate(limits)
	c.committed.Store(r.Cursor)
	return c
}

// post has f run by the courier's goroutine. It never blocks.
func (c *courier) post(f func()) {
	c.mu.Lock()
	c.posted = append(c.posted, f)
	c.mu.Unlock()
	nudge(c.wake)
}

func (c *courier) takePosted() []func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	fs := c.posted
	c.posted = nil
	return fs
}

// run works until ctx ends, lets attempts finish for the grace that the configuration
// gives, and stores what they brought.
func (c *courier) run(ctx context.Context) error {
	attempts, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	var giveUp <-chan time.Time
	for {
		for _, f := range c.takePosted() {
			f()
		}
		if c.grown.Swap(false) {
			c.more = true
		}
		now := time.Now()
		next := now.Add(c.e.cfg.FlushEvery)
		if !c.stopping {
			var err error
			if next, err = c.step(attempts, now); err != nil {
				return err
			}
		}
		c.flush(now)
		c.keepProgress(now)
		if due := c.shown.Add(showEvery); c.stopping || !due.After(now) {
			c.publish(now)
			c.shown = now
		} else if due.Before(next) {
			next = due
		}
		if c.stopping && c.inflight == 0 && c.uncommitted == 0 {
			return nil
		}
		timer.Reset(max(time.Until(next), 0))
		select {
		case <-c.wake:
		case <-timer.C:
		case <-stop:
			stop, c.stopping = nil, true
			defer time.AfterFunc(c.e.cfg.StopGrace, cut).Stop()
			giveUp = time.After(2 * c.e.cfg.StopGrace)
		case <-giveUp: // a target that does not mind its context
			return nil
		case <-c.e.failed:
			return nil
		}
	}
}

// step does all that can be done now, and says when there is more to do by itself.
func (c *courier) step(ctx context.Context, now time.Time) (next time.Time, err error) {
	deferred := c.deferred
	c.deferred = nil
	for _, f := range deferred {
		f()
	}
	for q := c.timed.first(); q != nil && !q.wake().After(now); q = c.timed.first() {
		c.awake(q, now)
	}
	more, err := c.fill(now)
	if err != nil {
		return now, err
	}
	again := c.dispatch(ctx, now)
	if more {
		return now, nil
	}
	next = now.Add(c.e.cfg.FlushEvery)
	if q := c.timed.first(); q != nil && q.wake().Before(next) {
		next = q.wake()
	}
	if !again.IsZero() && again.Before(next) {
		next = again
	}
	return next, nil
}

// fill reads one page of the journal if there is room for it, and reports whether there
// may be another at once.
func (c *courier) fill(now time.Time) (more bool, err error) {
	if len(c.leftover) == 0 {
		room := c.e.cfg.Window - c.window.count
		if _, held := c.held(); held {
			return false, nil
		}
		if !c.more || room <= 0 || c.window.bytes >= MaxWindowBytes || c.overfull(now) || !c.gate.reading(now) {
			return false, nil
		}
		items, next, err := c.e.read(c.readNext)
		if err != nil {
			return false, err
		}
		c.more = next > c.readNext
		c.readNext = max(next, c.readNext)
		c.leftover = items
		for i := range items {
			c.left += uint64(len(targetsAt(&items[i], c.e.cfg.Agent, c.name)))
		}
	}
	c.admit(now)
	c.window.next = c.readNext
	if len(c.leftover) > 0 {
		c.window.next = c.leftover[0].Pos
	}
	c.window.advance()
	return len(c.leftover) == 0 && c.more, nil
}

// admit takes events that were read into the queues of their keys while there is room.
func (c *courier) admit(now time.Time) {
	park := map[*keyQueue]bool{}
	index := c.e.index.Load()
	for len(c.leftover) > 0 && !c.crowded(now) && !c.overfull(now) {
		item := &c.leftover[0]
		says := claim{item.Source, item.Head.System, item.Head.Type, item.Head.Revision}
		foreign, later := index.foreign(&says)
		for _, t := range targetsAt(item, c.e.cfg.Agent, c.name) {
			c.left--
			c.admitted++
			s := slot{Ref{item.Pos, item.Index}, t.Shadow}
			if c.settled[s] {
				delete(c.settled, s)
				continue
			}
			q := c.queue(queueName{item.Key, t.Shadow})
			j := &job{
				Ref: s.ref, Key: item.Key, Route: t.Route, Shadow: t.Shadow, Fault: cmp.Or(item.Fault, t.Fault),
				Received: item.Received, Size: len(item.Event), Type: item.Head.Type, event: item.Event,
			}
			if item.Source != c.e.cfg.Agent {
				j.From = item.Source
			}
			if later {
				j.Claim = &says
			} else {
				j.Fault = cmp.Or(j.Fault, foreign)
			}
			q.queue = append(q.queue, j)
			c.window.add(item.Pos, item.Received)
			c.window.bytes += len(item.Event)
			if q.mustPark() {
				park[q] = true
			} else if len(q.queue) == 1 {
				c.schedule(q, now)
			}
		}
		c.leftover = c.leftover[1:]
	}
	if len(c.leftover) == 0 {
		c.leftover = nil
	}
	for q := range park {
		c.park(q, now)
	}
}

// queue finds or makes the queue of a key.
func (c *courier) queue(name queueName) *keyQueue {
	q := c.keys[name]
	if q == nil {
		q = newKeyQueue(name)
		c.turn++
		q.lastTurn = c.turn // behind those that have waited since
		c.keys[name] = q
	}
	return q
}

// schedule puts q where its head belongs; it is called whenever that may have changed.
func (c *courier) schedule(q *keyQueue, now time.Time) {
	if q.holds > 0 {
		q.move(nil)
		return
	}
	j, known := q.head()
	if !known {
		c.loadFirst(q)
		j = q.first
	}
	switch {
	case j == nil:
		q.move(nil)
		if q.idle() {
			delete(c.keys, q.name)
		}
	case q.due.After(now): // if it is to be parked before that, awake sees to it
		q.move(c.timed)
	default:
		q.move(c.ready)
	}
}

// awake handles a queue whose time has come: to be parked, or to be tried again.
func (c *courier) awake(q *keyQueue, now time.Time) {
	if !q.parkAt.IsZero() && !q.parkAt.After(now) {
		if c.gate.healthy() || c.crowded(now) { // a full window would hold back all other keys
			c.park(q, now)
			return
		}
		q.parkAt = now.Add(c.e.cfg.ParkAfter) // the system waits, not this delivery
	}
	c.schedule(q, now)
}

// load finds the event of a job that is kept in the store.
func (c *courier) load(q *keyQueue, j *job) (event []byte, err error) {
	if j.place == inJournal {
		return j.event, nil
	}
	err = c.e.db.View(func(tx *bolt.Tx) error {
		if j.place == inDead {
			_, event, err = readDead(tx, j.deadID)
			return err
		}
		_, event, err = readParked(tx, c.name, q.prefix, j.Ref)
		return err
	})
	return event, err
}

// loadFirst learns which parked copy of a key is the oldest. One that is damaged becomes a
// dead letter when its turn comes.
func (c *courier) loadFirst(q *keyQueue) {
	_ = c.e.db.View(func(tx *bolt.Tx) error { // the function returns no error
		ref, ok := firstParked(tx, c.name, q.prefix)
		if !ok {
			return nil
		}
		j, _, err := readParked(tx, c.name, q.prefix, ref)
		if err != nil {
			j = job{Ref: ref, Key: q.name.key, Fault: fmt.Sprintf("its parked copy cannot be read: %v", err)}
		}
		j.place = inParked
		q.first, q.firstPos = &j, ref.Pos
		return nil
	})
}

// lookup finds the route and destination of a job in the revision in force here.
func (c *courier) lookup(j *job) (*policy.Route, *policy.Destination) {
	if c.e.system(c.name) == nil {
		return nil, nil
	}
	return c.e.destination(j.Route, c.name, j.Shadow)
}

// await keeps a delivery that a revision which is not here yet may allow.
func (c *courier) await(q *keyQueue, j *job, why string, now time.Time) {
	if j.Absent.IsZero() {
		j.Absent = now
		if j.place != inJournal {
			c.saveJob(q, j)
		}
	}
	limit := j.Absent.Add(c.e.cfg.RolloutLimit)
	if !limit.After(now) {
		c.bury(q, j, &result{at: now, fault: fmt.Sprintf("%s, waited for it since %s", why, j.Absent.UTC().Format(time.RFC3339))})
		return
	}
	q.absent, q.due, q.parkAt = true, limit, time.Time{}
	if j.place == inJournal {
		c.park(q, now)
		return
	}
	c.schedule(q, now)
}

// policyChanged takes new limits, and tries again what a new revision may have repaired.
func (c *courier) policyChanged() {
	now := time.Now()
	if sys := c.e.system(c.name); sys != nil {
		c.gate.configure(sys.Delivery)
	}
	if c.gate.wrong != "" {
		c.gate.reset()
	}
	for _, q := range c.keys {
		if q.absent {
			q.due = now
			c.schedule(q, now)
		}
	}
}

// stage adds to the change that flush submits; done runs here, after the commit.
func (c *courier) stage(op func(tx *bolt.Tx) error, done func()) {
	c.ops = append(c.ops, op)
	if done != nil {
		c.dones = append(c.dones, done)
	}
}

// flush submits what was staged, with the cursor that it allows.
func (c *courier) flush(now time.Time) {
	c.row.Cursor = c.window.advance()
	moved := c.row.Cursor != c.saved && (c.stopping || now.Sub(c.flushed) >= c.e.cfg.FlushEvery)
	if len(c.ops) == 0 && !moved {
		return
	}
	r, dones := c.row, c.dones
	storing := 0
	if len(c.ops) > 0 {
		storing = 1
	}
	c.storing += storing
	c.saved, c.flushed = r.Cursor, now
	c.uncommitted++
	c.e.committer.submit(change{system: c.name, row: &r, apply: c.ops, done: func() {
		c.committed.Store(r.Cursor)
		c.post(func() {
			c.uncommitted--
			c.storing -= storing
			for _, done := range dones {
				done()
			}
		})
	}})
	c.ops, c.dones = nil, nil
}

// holdUntilStored lets nothing be sent for a key before what is staged is stored.
func (c *courier) holdUntilStored(q *keyQueue, then func()) {
	q.holds++
	c.dones = append(c.dones, func() {
		q.holds--
		then()
		c.schedule(q, time.Now())
	})
}
