package delivery

import (
	"context"
	"time"
)

// progress is what others may build on of a courier. It never says more than is so.
type progress struct {
	readTo    uint64 // everything below has been read, and counts in undone or is settled
	undone    uint64
	unsettled uint64 // everything below is settled; 0: not known yet
}

// readWait is how long Pending waits for a system's reader to come up to the position.
const readWait = 500 * time.Millisecond

// Pending counts the deliveries to a system below a journal position that are not done:
// waiting, parked, under way, or behind a dead letter that blocks its key. It is zero only
// if none is left; when that cannot be told at once it waits a little, and then says one.
func (e *Engine) Pending(ctx context.Context, system string, below uint64) uint64 {
	wait, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	for {
		n, sure := e.pending(system, below)
		if n > 0 || sure {
			return n
		}
		select {
		case <-wait.Done():
			return 1
		case <-time.After(readWait / 100):
		}
	}
}

func (e *Engine) pending(system string, below uint64) (n uint64, sure bool) {
	e.mu.Lock()
	c, saved := e.couriers[system], e.saved
	e.mu.Unlock()
	if c == nil {
		return 0, saved >= below // nothing here names the system
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.progress.undone, c.progress.readTo >= below
}

// Unsettled is the lowest journal position at which a delivery may still have to be done,
// parked ones too. A delivery that became a dead letter is settled.
func (e *Engine) Unsettled() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	pos := e.saved
	for _, c := range e.couriers {
		c.mu.Lock()
		pos = min(pos, c.progress.unsettled)
		c.mu.Unlock()
	}
	return pos
}

// observe looks over the keys for what others are shown; not at each turn, for there may be
// many. Both parts of unsettled are of one moment: what the cursor passes later may be
// parked then.
func (c *courier) observe(now time.Time) {
	if now.Sub(c.lookedAt) < c.e.cfg.FlushEvery {
		return
	}
	c.lookedAt, c.oldest, c.due = now, time.Time{}, c.earliest()
	c.unsettled = c.committed.Load()
	for _, q := range c.keys {
		if q.first != nil && (c.oldest.IsZero() || q.first.Received.Before(c.oldest)) {
			c.oldest = q.first.Received
		}
		if q.parked > 0 {
			c.unsettled = min(c.unsettled, q.firstPos)
		}
	}
}

// keepProgress shows at each turn what others build on; what people look at may be older.
func (c *courier) keepProgress(now time.Time) {
	c.observe(now)
	undone := uint64(c.window.undone+c.parked+c.blocked) + c.left
	if undone == 0 && c.storing > 0 {
		undone = 1 // done, and not yet stored
	}
	c.mu.Lock()
	c.progress = progress{readTo: c.readNext, undone: undone, unsettled: c.unsettled}
	c.mu.Unlock()
}
