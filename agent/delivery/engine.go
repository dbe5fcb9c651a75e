package delivery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/agent/shrink"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
)

var scoutKey = []byte("scout")

// Engine runs a courier for each system of this site, and for each other system that an
// event names.
type Engine struct {
	cfg       Config
	db        *shrink.DB
	committer *committer
	reporter  *reporter
	pages     pages
	index     atomic.Pointer[policyIndex]
	failed    chan struct{} // closed when the store failed
	stopped   chan struct{} // closed when Run has ended

	mu       sync.Mutex
	couriers map[string]*courier     // guarded by mu
	start    func(c *courier)        // guarded by mu; nil while Run is not running
	holds    map[string]*hold        // guarded by mu
	former   map[string][]*former    // guarded by mu; by system
	voices   map[string]*voice       // guarded by mu; by system
	heard    map[block.Revision]bool // guarded by mu; that the voices are of
	noted    block.Revision          // guarded by mu; by which former was changed last
	revision block.Revision          // guarded by mu; seen last
	coming   *policy.Set             // guarded by mu; announced last
	scouted  uint64                  // guarded by mu; below it every system is known
	saved    uint64                  // guarded by mu; scouted as stored
	measured time.Time               // guarded by mu; when room was
	room     int64                   // guarded by mu; on the disk, for all that the agent keeps
}

// Open opens the delivery file and starts nothing.
func Open(cfg Config) (*Engine, error) {
	if err := cfg.withDefaults(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, failed: make(chan struct{}), stopped: make(chan struct{})}
	if err := e.openWhole(); err != nil {
		return nil, err
	}
	e.shrink(shrink.AtStart)
	return e, nil
}

// reset begins with an open file and nothing in memory.
func (e *Engine) reset(db *shrink.DB) {
	e.db, e.committer = db, newCommitter(db, e.cfg.Metrics)
	e.couriers, e.holds, e.former = map[string]*courier{}, map[string]*hold{}, map[string][]*former{}
	e.voices, e.heard = map[string]*voice{}, map[block.Revision]bool{}
	e.reporter = newReporter(e)
	e.scouted, e.saved, e.revision, e.noted = 0, 0, block.Revision{}, block.Revision{}
}

// Close closes the file; Run must have ended.
func (e *Engine) Close() error { return e.db.Close() }

// Run delivers until ctx ends. Attempts under way are given Config.StopGrace to finish.
// Its error is fatal: the journal cannot be read, or progress cannot be stored.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.stopped)
	commits, stopCommits := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCommits()
	committed := make(chan error, 1)
	g, ctx := errgroup.WithContext(ctx)
	go func() {
		err := e.committer.run(commits)
		if err != nil {
			close(e.failed)
		}
		committed <- err
	}()
	g.Go(func() (err error) { // the store's failure ends the rest
		select {
		case <-e.failed:
			err = errors.New("delivery: the store failed")
		case <-ctx.Done():
		}
		e.mu.Lock()
		e.start = nil
		e.mu.Unlock()
		return err
	})
	e.mu.Lock()
	e.start = func(c *courier) { g.Go(func() error { return c.run(ctx) }) }
	for _, c := range e.couriers {
		e.start(c)
	}
	e.mu.Unlock()
	e.PolicyChanged()
	g.Go(func() error { return e.reporter.run(ctx) })
	g.Go(func() error { return e.scout(ctx) })
	g.Go(func() error { return e.ring(ctx) })
	err := g.Wait()
	stopCommits() // last: all others may still have something to store
	if commitErr := <-committed; commitErr != nil {
		return commitErr
	}
	return err
}

// PolicyChanged tells that Config.Policy gives another revision now.
func (e *Engine) PolicyChanged() {
	e.mu.Lock()
	index := e.follow(e.cfg.Policy())
	e.index.Store(index)
	for name, sys := range index.systems {
		if sys.Site == e.cfg.Agent && e.couriers[name] == nil {
			e.addCourier(name, e.scouted) // below it no event names the system
		}
	}
	all := make([]*courier, 0, len(e.couriers))
	for _, c := range e.couriers {
		all = append(all, c)
	}
	e.mu.Unlock()
	for _, c := range all {
		c.post(c.policyChanged)
	}
}

// addCourier makes the courier of a system that is new here; e.mu is held.
func (e *Engine) addCourier(name string, cursor uint64) *courier {
	c := newCourier(e, name, row{Cursor: cursor})
	e.couriers[name] = c
	r := c.row
	e.committer.submit(change{system: name, row: &r})
	if e.start != nil {
		e.start(c)
	}
	return c
}

func (e *Engine) courier(system string) *courier {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.couriers[system]
}

// scout reads the whole journal once, ahead of the couriers, to meet systems that no
// revision here has named yet, and to count what each system has to get.
func (e *Engine) scout(ctx context.Context) error {
	pos, flushed := e.scoutStart(), time.Now()
	for ctx.Err() == nil {
		items, next, err := e.read(pos)
		if err != nil {
			return err
		}
		for i := range items {
			e.meet(&items[i])
		}
		e.noteScouted(next)
		if next > pos {
			pos = next
			if time.Since(flushed) < e.cfg.FlushEvery {
				continue
			}
		}
		e.saveScouted()
		flushed = time.Now()
		if err := e.cfg.Source.Wait(ctx, pos); err != nil && ctx.Err() == nil {
			return fmt.Errorf("delivery: waiting for the journal: %w", err)
		}
	}
	e.saveScouted()
	return nil
}

// meet counts an event for its systems, and makes couriers of those that are new.
func (e *Engine) meet(item *Item) {
	met := map[string]bool{}
	for _, t := range item.Head.Targets {
		if t.Agent != e.cfg.Agent || t.System == "" || met[t.System] {
			continue
		}
		met[t.System] = true
		e.mu.Lock()
		c := e.couriers[t.System]
		if c == nil {
			c = e.addCourier(t.System, item.Pos)
		}
		e.mu.Unlock()
		if item.Pos >= c.start {
			c.seen.Add(uint64(len(targetsAt(item, e.cfg.Agent, t.System))))
		}
	}
}

func (e *Engine) scoutStart() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	pos := e.scouted
	for _, c := range e.couriers {
		pos = min(pos, c.start)
	}
	return pos
}

func (e *Engine) noteScouted(next uint64) {
	e.mu.Lock()
	e.scouted = max(e.scouted, next)
	e.mu.Unlock()
}

// saveScouted stores how far the scout is, after the systems that it met.
func (e *Engine) saveScouted() {
	e.mu.Lock()
	defer e.mu.Unlock()
	pos := e.scouted
	if pos == e.saved {
		return
	}
	e.committer.submit(change{
		apply: []func(tx *bolt.Tx) error{func(tx *bolt.Tx) error {
			return tx.Bucket(metaBucket).Put(scoutKey, binary.BigEndian.AppendUint64(nil, pos))
		}},
		done: func() {
			e.mu.Lock()
			e.saved = max(e.saved, pos)
			e.mu.Unlock()
		},
	})
}

// ring wakes the couriers when the journal has grown. What it waits for next is fixed
// before it wakes them: whatever stands below that, they read after.
func (e *Engine) ring(ctx context.Context) error {
	for pos := uint64(0); ctx.Err() == nil; {
		if err := e.cfg.Source.Wait(ctx, pos); err != nil {
			if ctx.Err() == nil {
				return fmt.Errorf("delivery: waiting for the journal: %w", err)
			}
			return nil
		}
		pos = max(pos+1, e.pages.end())
		e.mu.Lock()
		for _, c := range e.couriers {
			c.grown.Store(true)
			nudge(c.wake)
		}
		e.mu.Unlock()
	}
	return nil
}

// MinCursor is the lowest journal position that is still needed here; the journal may drop
// what is below. Parked events have copies of their own.
func (e *Engine) MinCursor() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	pos := e.saved
	for _, c := range e.couriers {
		pos = min(pos, c.committed.Load())
	}
	return pos
}

// read reads the journal through the cache of pages that the couriers share.
func (e *Engine) read(from uint64) (items []Item, next uint64, err error) {
	if items, next, ok := e.pages.get(from); ok {
		return items, next, nil
	}
	items, next, err = e.cfg.Source.ReadLocal(from, maxPage)
	if err != nil {
		return nil, from, fmt.Errorf("delivery: reading the journal from %d: %w", from, err)
	}
	if next < from {
		return nil, from, fmt.Errorf("delivery: the journal ends at %d, and deliveries reached %d: it is another journal, or an older copy; move %s aside to deliver from its start",
			next, from, e.cfg.Path)
	}
	e.pages.put(from, next, items)
	return items, next, nil
}

// pages keeps what was last read of the journal: couriers that are in step read it once.
type pages struct {
	mu    sync.Mutex
	last  []page
	bytes int
	tail  uint64
}

type page struct {
	from, next uint64
	items      []Item
	bytes      int
}

const maxCachedBytes = 16 << 20

func (p *pages) get(from uint64) ([]Item, uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pg := range p.last {
		if pg.from == from {
			return pg.items, pg.next, true
		}
	}
	return nil, 0, false
}

func (p *pages) put(from, next uint64, items []Item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tail = max(p.tail, next)
	if next == from {
		return
	}
	pg := page{from: from, next: next, items: items}
	for i := range items {
		pg.bytes += len(items[i].Event)
	}
	p.last = append(p.last, pg)
	p.bytes += pg.bytes
	for len(p.last) > 8 || p.bytes > maxCachedBytes {
		p.bytes -= p.last[0].bytes
		p.last[0] = page{}
		p.last = p.last[1:]
	}
}

func (p *pages) end() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tail
}

// targetsAt lists the deliveries of an event to one system: one live, one shadow at most.
// Two routes that want the same live delivery get one.
func targetsAt(item *Item, agent, system string) []block.Target {
	var out []block.Target
	for _, t := range item.Head.Targets {
		if t.Agent != agent || t.System != system {
			continue
		}
		known := false
		for _, o := range out {
			known = known || o.Shadow == t.Shadow
		}
		if !known {
			out = append(out, t)
		}
	}
	return out
}

// policyIndex finds the documents of one revision by name.
type policyIndex struct {
	systems  map[string]*policy.System
	routes   map[string]*policy.Route
	replaced map[string]bool // systems whose place another takes
	held     map[string]Held // of this site
	voices   map[string]*voice
	heard    map[block.Revision]bool
	revision block.Revision
}

func indexPolicy(set *policy.Set) *policyIndex {
	x := &policyIndex{systems: map[string]*policy.System{}, routes: map[string]*policy.Route{}, replaced: map[string]bool{}, held: map[string]Held{}}
	if set == nil {
		return x
	}
	for name, s := range set.Systems {
		x.systems[name] = s
		if s.Replaces != "" {
			x.replaced[s.Replaces] = true
		}
	}
	for _, r := range set.Routes {
		x.routes[r.Name] = r
	}
	return x
}

// system finds a system of this site.
func (e *Engine) system(name string) *policy.System {
	s := e.index.Load().systems[name]
	if s == nil || s.Site != e.cfg.Agent {
		return nil
	}
	return s
}

func (e *Engine) sandbox(name string) bool {
	s := e.system(name)
	return s != nil && s.Sandbox
}

// destination finds how a route of the revision in force delivers to a system.
func (e *Engine) destination(route, system string, shadow bool) (*policy.Route, *policy.Destination) {
	if r := e.index.Load().routes[route]; r != nil {
		for i := range r.To {
			if d := &r.To[i]; d.System == system && d.Shadow == shadow {
				return r, d
			}
		}
	}
	return e.formerDestination(route, system, shadow)
}

func (e *Engine) onExhausted(route, system string, shadow bool) string {
	if r, _ := e.destination(route, system, shadow); r != nil && r.OnExhausted == onSkip {
		return onSkip
	}
	if r := e.index.Load().routes[route]; r != nil && r.OnExhausted == onSkip {
		return onSkip
	}
	return onPark
}
