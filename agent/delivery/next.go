package delivery

import (
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"
	bolt "go.etcd.io/bbolt"
)

// askWait is how long a trace waits for a courier, which is busy with deliveries.
const askWait = 200 * time.Millisecond

// troubled are the states in which deliveries wait for another attempt.
var troubled = map[string]bool{SystemOpen: true, SystemRetrying: true, SystemThrottled: true, SystemMisconfigured: true, SystemNoDriver: true}

// nextTry is when the next attempt may be made; zero: one is under way, or none is due.
func (c *courier) nextTry(now time.Time) time.Time {
	if c.inflight > 0 {
		return time.Time{}
	}
	if c.ready.Len() == 0 && !c.due.After(now) {
		c.due = c.earliest() // it was tried since, or something new failed
	}
	due := c.due
	if c.ready.Len() > 0 {
		due = now
	}
	if due.IsZero() {
		return due
	}
	if c.gate.paused.After(due) {
		due = c.gate.paused
	}
	if end := c.gate.opened.Add(c.gate.limits.Breaker.Pause); c.gate.breaker.State() == gobreaker.StateOpen && end.After(due) {
		due = end
	}
	return due.UTC()
}

// earliest is when the first of the deliveries is due that wait for their time; zero: none does.
// One that the policy does not allow yet waits for a policy, not for its time.
func (c *courier) earliest() (due time.Time) {
	for _, q := range c.timed.queues {
		if !q.absent && (due.IsZero() || q.due.Before(due)) {
			due = q.due
		}
	}
	return due
}

// Words tells the state with when the next attempt is, by this machine's clock.
func (s *SystemStatus) Words() string {
	const near = 12 * time.Hour // the time of the day says it
	switch {
	case s.NextTry.IsZero():
		return s.State
	case time.Until(s.NextTry) < near:
		return s.State + ": next try " + s.NextTry.Local().Format(time.TimeOnly)
	}
	return s.State + ": next try " + s.NextTry.Local().Format(time.DateTime)
}

// find gives what is known of a job that is kept in memory.
func (c *courier) find(name queueName, ref Ref) (tries int, cause string) {
	q := c.keys[name]
	if q == nil {
		return 0, ""
	}
	for _, j := range append([]*job{q.flying, q.first}, q.queue...) {
		if j != nil && j.Ref == ref {
			return j.Tries, j.Cause
		}
	}
	return 0, ""
}

// tellWaits says of a hop that is not done how often it was tried, and what it waits for.
func (e *Engine) tellWaits(h *Hop, name queueName, ref Ref) {
	var cause string
	if h.State == StateParked {
		_ = e.db.View(func(tx *bolt.Tx) error { // what cannot be read is told when its turn comes
			if j, _, err := readParked(tx, h.System, keyPrefix(name.key), ref); err == nil {
				h.Attempts, cause = j.Tries, j.Cause
			}
			return nil
		})
	}
	e.mu.Lock()
	c := e.couriers[h.System]
	e.mu.Unlock()
	if c == nil {
		h.Detail = cause
		return
	}
	if h.State == StatePending {
		type answer struct {
			tries int
			cause string
		}
		found := make(chan answer, 1)
		c.post(func() {
			tries, cause := c.find(name, ref)
			found <- answer{tries, cause}
		})
		select {
		case a := <-found:
			h.Attempts, cause = a.tries, a.cause
		case <-time.After(askWait):
		case <-e.stopped:
		}
	}
	c.mu.Lock()
	s := c.status
	c.mu.Unlock()
	var said []string
	if cause != "" {
		said = append(said, cause)
	}
	if troubled[s.State] {
		text := h.System + " is " + s.State
		if !s.NextTry.IsZero() {
			text += ", next try " + s.NextTry.Format(time.RFC3339)
		}
		if cause == "" && s.LastError != "" {
			text += "; its last error: " + s.LastError
		}
		said = append(said, text)
	}
	h.Detail = strings.Join(said, "; ")
}
