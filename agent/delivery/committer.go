package delivery

import (
	"context"
	"fmt"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/fulldisk"
	"github.com/crossdock/crossdock/agent/shrink"
)

// retryFull is how long the committer waits for space on a full disk.
const retryFull = time.Second

// change is what one system wants stored, wholly or not at all.
type change struct {
	system string
	row    *row // nil: unchanged
	apply  []func(tx *bolt.Tx) error
	done   func() // after the commit
}

// committer stores the changes of all systems in order, many with one fsync.
type committer struct {
	db      *shrink.DB
	metrics *Metrics
	wake    chan struct{}

	mu      sync.Mutex
	waiting []change // grows by at most what is in flight and one page for each system
}

func newCommitter(db *shrink.DB, m *Metrics) *committer {
	return &committer{db: db, metrics: m, wake: make(chan struct{}, 1)}
}

// submit never blocks, so that a system's goroutine and the committer cannot wait for
// each other.
func (c *committer) submit(ch change) {
	c.mu.Lock()
	c.waiting = append(c.waiting, ch)
	c.mu.Unlock()
	nudge(c.wake)
}

func (c *committer) take() []change {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.waiting), maxBatch)
	batch := c.waiting[:n:n]
	c.waiting = c.waiting[n:]
	return batch
}

// run commits until ctx ends and nothing is waiting. Its error is fatal: what is stored is
// not known any more.
func (c *committer) run(ctx context.Context) error {
	for {
		batch := c.take()
		if len(batch) == 0 {
			select {
			case <-c.wake:
				continue
			case <-ctx.Done():
				if batch = c.take(); len(batch) == 0 {
					return nil
				}
			}
		}
		if err := c.commit(ctx, batch); err != nil {
			return err
		}
		for _, ch := range batch {
			if ch.done != nil {
				ch.done()
			}
		}
	}
}

func (c *committer) commit(ctx context.Context, batch []change) error {
	for {
		err := c.db.Update(func(tx *bolt.Tx) error { return applyBatch(tx, batch) })
		if err == nil {
			c.metrics.commits.Observe(float64(len(batch)))
			return nil
		}
		// A full disk leaves the file as it was; the journal is trimmed by others meanwhile.
		if !fulldisk.Is(err) || ctx.Err() != nil {
			return fmt.Errorf("delivery: storing progress in %s: %w", c.db.Path(), err)
		}
		select {
		case <-time.After(retryFull):
		case <-ctx.Done():
		}
	}
}

func applyBatch(tx *bolt.Tx, batch []change) error {
	rows := map[string]row{}
	for _, ch := range batch {
		for _, apply := range ch.apply {
			if err := apply(tx); err != nil {
				return err
			}
		}
		if ch.row != nil {
			rows[ch.system] = *ch.row // the newest stands
		}
	}
	for system, r := range rows {
		if err := putRow(tx, system, r); err != nil {
			return err
		}
	}
	return nil
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
