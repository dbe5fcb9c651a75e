package delivery

import (
	"math"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/shrink"
)

// What waits for a system takes room here, parked or as a dead letter, that the journal can
// then not have; and what is delivered needs a little room before it gives some back. So a
// system takes no more than a share of the disk. What is beyond it waits in the journal, which
// then refuses what is new.

const (
	roomParts   = 4   // a part of so many of what the agent has on the disk is for all systems together
	copyBytes   = 512 // of a copy, beside the event
	measureRoom = time.Second
)

// share is how many bytes the events of one system may take here.
func (e *Engine) share(now time.Time) int64 {
	if e.cfg.Space == nil {
		return math.MaxInt64
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if now.Sub(e.measured) >= measureRoom {
		own := int64(0)
		_ = e.db.View(func(tx *bolt.Tx) error { own = tx.Size(); return nil }) // the function returns no error
		e.measured, e.room = now, own+e.cfg.Space()
	}
	return e.room / roomParts / int64(max(len(e.couriers), 1))
}

// stored is what the system's events take in the store: parked, or as open dead letters.
func (c *courier) stored() int64 {
	return c.row.ParkedBytes + c.deadBytes + int64(c.parked+c.dead)*copyBytes
}

// inMemory is what those that were read may take there yet.
func (c *courier) inMemory() int64 { return int64(c.window.bytes) + int64(c.window.undone)*copyBytes }

// overfull reports whether the system may be read for no more until something of it is done.
func (c *courier) overfull(now time.Time) bool {
	return c.row.ParkedBytes >= c.e.cfg.MaxParked || c.stored() >= c.e.share(now)
}

// crowded reports whether as much was read above the cursor as may be. An event may have two
// deliveries here: one live, one shadow.
func (c *courier) crowded(now time.Time) bool {
	return c.window.count > 0 && (c.window.count+2 > c.e.cfg.Window || c.stored()+c.inMemory() >= c.e.share(now))
}

// Shrink gives the disk back what a backlog has left free in the file, if that is much.
func (e *Engine) Shrink() { e.shrink(shrink.AtWork) }

func (e *Engine) shrink(most int64) {
	won, err := e.db.Shrink(most)
	if err != nil {
		e.cfg.Logger.Error("the delivery file cannot be made smaller", "error", err)
	} else if won > 0 {
		e.cfg.Logger.Info("the delivery file was made smaller", "bytes", won)
	}
}
