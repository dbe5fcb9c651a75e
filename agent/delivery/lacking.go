package delivery

import (
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Pauses between two looks whether what an event names is here. Arrived has all look at once.
const (
	minLackingPause = 100 * time.Millisecond
	maxLackingPause = 30 * time.Second
)

// lack keeps a delivery that was not sent since something that its event names is not here:
// it waits as for a system that fails, but says nothing of the system.
func (c *courier) lack(o *order, now time.Time) {
	q, j := o.q, o.job
	if j.Shadow {
		c.settleShadow(q, j, &result{at: now}, o.lacks)
		return
	}
	if j.Lacking.IsZero() {
		j.Lacking = now
	}
	j.Cause = clip(o.lacks, MaxCause)
	waited := now.Sub(j.Lacking)
	if waited >= c.e.cfg.LackingLimit {
		since := j.Lacking
		j.Lacking = time.Time{} // a replay waits anew
		c.bury(q, j, &result{at: now, fault: fmt.Sprintf("%s, waited for it since %s", o.lacks, since.UTC().Format(time.RFC3339))})
		return
	}
	c.lastErr, c.errAt = j.Cause, now
	q.lacking = true
	c.wait(q, j, min(max(waited, minLackingPause), maxLackingPause), now)
}

// Arrived has all deliveries that wait for what their events name look again.
func (e *Engine) Arrived() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.couriers {
		c.post(func() {
			now := time.Now()
			for _, q := range c.keys {
				if q.lacking && q.holds == 0 {
					q.due = now
					c.schedule(q, now)
				}
			}
		})
	}
}

// Waiting calls fn with the events that are kept here, parked or as open dead letters, and
// that the journal may have let go.
func (e *Engine) Waiting(fn func(event []byte)) error {
	return e.db.View(func(tx *bolt.Tx) error {
		err := tx.Bucket(parkedBucket).ForEachBucket(func(system []byte) error {
			return tx.Bucket(parkedBucket).Bucket(system).ForEach(func(_, text []byte) error {
				var j job
				if event, err := unseal(text, &j); err == nil { // what is damaged, its turn brings up
					fn(event)
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		return tx.Bucket(deadBucket).ForEach(func(_, text []byte) error {
			rec := &deadRecord{}
			if event, err := unseal(text, rec); err == nil && (rec.State == DeadLetterOpen || rec.State == DeadLetterReplaying) {
				fn(event)
			}
			return nil
		})
	})
}
