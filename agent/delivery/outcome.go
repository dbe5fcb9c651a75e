package delivery

import (
	"fmt"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// finish decides what becomes of a delivery after an attempt, which others may have been
// part of.
func (c *courier) finish(o *order, company bool, res *result, pause time.Duration, now time.Time) {
	const voidPause = 50 * time.Millisecond // a new revision takes a moment to be in force everywhere
	q, j := o.q, o.job
	if res.void {
		q.due = now.Add(voidPause)
		c.schedule(q, now)
		return
	}
	c.e.cfg.Metrics.attempt(c.name, res)
	if res.fault == "" {
		j.Tries++
	}
	if res.failure != nil || res.fault != "" {
		c.lastErr, c.errAt = causeOf(res), res.at
		j.Cause = c.lastErr
	}
	rejected := res.failure != nil && res.failure.Class == Rejected
	switch {
	case rejected && company: // which one is meant, nobody knows
		c.setApart(q, j, now)
	case j.Shadow:
		c.settleShadow(q, j, res, causeOf(res))
	case res.fault != "" || rejected:
		c.bury(q, j, res)
	case res.failure == nil:
		c.delivered(q, j, res)
	default:
		c.again(o, company, res, pause, now)
	}
}

// setApart has a delivery tried again at once, alone, so that the answer is about it.
func (c *courier) setApart(q *keyQueue, j *job, now time.Time) {
	j.Alone = true
	if j.Shadow {
		c.schedule(q, now)
		return
	}
	c.wait(q, j, 0, now)
}

// noteReach logs when the system stops answering and when it does again: the change, not
// each attempt, and for a system that comes and goes at most once in tellPause.
func (c *courier) noteReach(res *result, now time.Time) {
	const tellPause = 10 * time.Second
	f := res.failure
	switch {
	case res.fault != "": // nothing was sent
	case f == nil || f.Class == Rejected || f.Class == Throttled: // it answered
		if c.down {
			c.down = false
			c.e.cfg.Logger.Info("system is back", "system", c.name, "after", now.Sub(c.toldDown).Round(time.Millisecond))
		}
	case !c.down && now.Sub(c.toldDown) >= tellPause:
		c.down, c.toldDown = true, now
		c.e.cfg.Logger.Warn("system does not take events; its deliveries wait and are tried again",
			"system", c.name, "class", string(f.Class), "err", causeOf(res))
	}
}

// again has a job wait for its next attempt, or buries it after the last. A failure counts
// only while the system as a whole works: an outage does not use up attempts. The last one
// is made alone: a system that fails over one event of many must not cost the others. So
// failures beside others count by themselves too: one that opens the breaker each time would
// take its company down with it for ever. Throttled says nothing of a single event.
func (c *courier) again(o *order, company bool, res *result, pause time.Duration, now time.Time) {
	q, j := o.q, o.job
	attempts := withRetryDefaults(o.route.Retry).Attempts
	class := res.failure.Class
	if company && (class == Unavailable || class == Unknown) {
		j.Company++
		j.Alone = j.Alone || j.Company >= maxCompany
	}
	if c.gate.healthy() && class != Misconfigured && class != NoDriver {
		j.Counted++
		if j.Counted >= attempts && !company {
			j.Cause = fmt.Sprintf("gave up after %d attempts: %s", j.Tries, j.Cause)
			c.bury(q, j, res)
			return
		}
		j.Alone = j.Alone || j.Counted >= min(maxCompany, attempts-1)
	}
	c.wait(q, j, pause, now)
}

// wait keeps a job that has to be tried again: where it is, or parked if that is its place.
func (c *courier) wait(q *keyQueue, j *job, pause time.Duration, now time.Time) {
	if j.Since.IsZero() {
		j.Since = now
	}
	q.due = now.Add(pause)
	if j.place != inJournal {
		c.saveJob(q, j)
		c.schedule(q, now)
		return
	}
	if q.parkAt.IsZero() || !c.gate.healthy() {
		q.parkAt = now.Add(c.e.cfg.ParkAfter)
	}
	if q.mustPark() {
		c.park(q, now)
		return
	}
	c.schedule(q, now)
}

// saveJob keeps the attempts and times of a job that is kept in the store over a restart.
func (c *courier) saveJob(q *keyQueue, j *job) {
	copied := *j
	copied.event = nil
	c.stage(func(tx *bolt.Tx) error {
		if copied.place == inDead {
			rec, event, err := readDead(tx, copied.deadID)
			if err != nil {
				return nil // it is damaged; the next turn finds that out
			}
			rec.Job = copied
			return putDead(tx, rec, event)
		}
		_, event, err := readParked(tx, c.name, q.prefix, copied.Ref)
		if err != nil {
			return nil // as above
		}
		return putParked(tx, c.name, q.prefix, &copied, event)
	}, nil)
}

// settleQueue takes the settled head out of its queue, and holds the queue until that is
// stored.
func (c *courier) settleQueue(q *keyQueue, j *job) (release func()) {
	q.settle(j)
	q.move(nil)
	q.holds++
	switch j.place {
	case inJournal:
		c.window.settle(j.Ref.Pos)
		c.window.bytes -= j.Size
	case inParked:
		q.stored--
		c.parked--
		c.row.ParkedBytes -= int64(j.Size)
	}
	return func() {
		q.holds--
		c.schedule(q, time.Now())
	}
}

func (c *courier) delivered(q *keyQueue, j *job, res *result) {
	release := c.settleQueue(q, j)
	c.row.Delivered++
	c.row.LastSuccess = res.at
	r := receipt{state: StateDelivered, at: res.at, attempts: j.Tries, status: res.answer.Status, took: res.took}
	c.stage(func(tx *bolt.Tx) error {
		if j.place == inParked {
			if err := deleteParked(tx, c.name, q.prefix, j.Ref); err != nil {
				return err
			}
		}
		return putReceipt(tx, c.name, j.slot(), r)
	}, release)
	if j.place == inDead {
		c.closeDead(q, j.deadID, func(rec *deadRecord) { rec.State, rec.Attempts = DeadLetterDelivered, j.Tries })
	}
	for i := range q.skipped {
		if s := &q.skipped[i]; !s.overtaken && s.ref.Less(j.Ref) {
			s.overtaken = true
			c.updateDead(s.id, func(rec *deadRecord) { rec.Overtaken = true })
		}
	}
	if q.blocked != "" || j.place == inParked {
		c.tellWaiting(q)
	}
}

func (c *courier) settleShadow(q *keyQueue, j *job, res *result, cause string) {
	release := c.settleQueue(q, j)
	c.row.Shadow++
	c.e.cfg.Metrics.shadow(c.name, cause == "")
	r := receipt{state: StateShadow, at: res.at, attempts: j.Tries, status: statusOf(res), took: res.took}
	c.stage(func(tx *bolt.Tx) error { return putReceipt(tx, c.name, j.slot(), r) }, release)
}

// park copies what the queue holds of the journal into the store, so that the cursor can
// pass it. An attempt that is under way keeps its job.
func (c *courier) park(q *keyQueue, now time.Time) {
	keep := 0
	if q.sending() {
		keep = 1
	}
	jobs := q.queue[keep:]
	if len(jobs) == 0 {
		c.schedule(q, now)
		return
	}
	q.queue = append([]*job(nil), q.queue[:keep]...)
	if q.parked == 0 && keep == 0 {
		q.first = jobs[0]
	}
	if q.parked == 0 || jobs[0].Ref.Pos < q.firstPos { // one that was under way may be earlier than what is parked
		q.firstPos = jobs[0].Ref.Pos
	}
	q.parked += len(jobs)
	q.parkAt = time.Time{}
	c.parked += len(jobs)
	for _, j := range jobs {
		event := j.event
		j.event, j.place = nil, inParked
		if j.Since.IsZero() {
			j.Since = now
		}
		if q.absent && j.Absent.IsZero() {
			j.Absent = now
		}
		c.window.settle(j.Ref.Pos)
		c.window.bytes -= j.Size
		c.row.ParkedBytes += int64(j.Size)
		copied := *j
		r := receipt{state: StateParked, at: now, attempts: j.Tries}
		c.stage(func(tx *bolt.Tx) error {
			if err := putParked(tx, c.name, q.prefix, &copied, event); err != nil {
				return err
			}
			return putReceipt(tx, c.name, copied.slot(), r)
		}, nil)
	}
	q.move(nil)
	n := len(jobs)
	c.holdUntilStored(q, func() { q.stored += n })
	c.tellWaiting(q)
}

// causeOf puts a failure into one line; empty for a success.
func causeOf(res *result) string {
	text := res.fault
	if f := res.failure; f != nil {
		text = f.Error()
		if !strings.Contains(text, string(f.Class)) {
			text = string(f.Class) + ": " + text
		}
	}
	return clip(text, MaxCause)
}

func statusOf(res *result) int {
	if res.failure != nil && res.failure.Status != 0 {
		return res.failure.Status
	}
	return res.answer.Status
}

func answerOf(res *result) string {
	if res.failure != nil && len(res.failure.Body) > 0 {
		return clip(string(res.failure.Body), MaxAnswer)
	}
	return clip(string(res.answer.Body), MaxAnswer)
}

// clip keeps at most n bytes of text, in valid UTF-8.
func clip(text string, n int) string {
	if len(text) > n {
		text = text[:n]
	}
	return strings.ToValidUTF8(text, "")
}
