package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/event"
)

// What a route says about the events behind a dead letter.
const (
	onPark = "park"
	onSkip = "skip"
)

// Command is what a person decided about a dead letter. A command that comes again with
// the same ID changes nothing.
type Command struct {
	ID         string
	DeadLetter string
	By         string
	Reason     string
	Confirm    bool // Replay: out of order is meant
}

// bury makes the head of q a dead letter.
func (c *courier) bury(q *keyQueue, j *job, res *result) {
	if j.place == inDead {
		c.buryAgain(q, j, res)
		return
	}
	id := fmt.Sprintf("%s/%s/%s", c.e.cfg.Agent, j.Ref, c.name)
	mode := c.e.onExhausted(j.Route, c.name, j.Shadow)
	rec := &deadRecord{DeadLetter: DeadLetter{
		ID: id, Agent: c.e.cfg.Agent, Ref: j.Ref.String(), System: c.name, Route: j.Route, Key: j.Key,
		Cause: buryCause(j, res), Status: statusOf(res), Answer: answerOf(res), Attempts: j.Tries,
		OnExhausted: mode, At: res.at, State: DeadLetterOpen,
	}}
	text := j.event
	release := c.settleQueue(q, j)
	rec.Job = *j
	rec.Job.event = nil
	r := receipt{state: StateDead, at: res.at, attempts: j.Tries, status: statusOf(res), took: res.took}
	c.stage(func(tx *bolt.Tx) error {
		if j.place == inParked {
			// A copy that cannot be read leaves a dead letter without its event.
			_, text, _ = readParked(tx, c.name, q.prefix, j.Ref)
			if err := deleteParked(tx, c.name, q.prefix, j.Ref); err != nil {
				return err
			}
		}
		if ev, err := event.Unmarshal(text); err == nil {
			rec.EventID, rec.Source, rec.Type = ev.ID, ev.Source, ev.Type
		}
		if err := putReceipt(tx, c.name, j.slot(), r); err != nil {
			return err
		}
		return putDead(tx, rec, text)
	}, release)
	c.lock(id)
	c.openDead(id, j)
	c.e.cfg.Metrics.deadLetters.WithLabelValues(c.name).Inc()
	c.e.cfg.Logger.Warn("dead letter", "id", id, "key", j.Key, "cause", rec.Cause)
	if mode == onSkip {
		q.skipped = append(q.skipped, skipped{id: id, ref: j.Ref})
		return
	}
	q.blocked = id
	c.blocked++
	c.park(q, res.at)
	c.tellWaiting(q) // also those that were parked before
}

func (c *courier) openDead(id string, j *job) {
	c.dead++
	c.deadSize[id] = int64(j.Size)
	c.deadBytes += int64(j.Size)
}

func buryCause(j *job, res *result) string {
	if res.fault == "" && j.Cause != "" {
		return clip(j.Cause, MaxCause)
	}
	return causeOf(res)
}

// buryAgain opens a dead letter again whose replay failed.
func (c *courier) buryAgain(q *keyQueue, j *job, res *result) {
	release := c.settleQueue(q, j)
	copied, cause := *j, buryCause(j, res)
	c.updateDead(j.deadID, func(rec *deadRecord) {
		rec.State, rec.Cause, rec.Status, rec.Answer = DeadLetterOpen, cause, statusOf(res), answerOf(res)
		rec.Attempts, rec.At, rec.Job = copied.Tries, res.at, copied
	})
	c.dones = append(c.dones, release)
	c.tellWaiting(q)
}

// updateDead changes a dead letter, and has that told.
func (c *courier) updateDead(id string, f func(rec *deadRecord)) {
	c.stage(func(tx *bolt.Tx) error {
		rec, text, err := readDead(tx, id)
		if errors.Is(err, errDamaged) {
			c.e.cfg.Logger.Error("dead letter cannot be read; it stays as it is", "id", id, "error", err)
			return nil
		}
		if err != nil {
			return err
		}
		f(rec)
		return putDead(tx, rec, text)
	}, nil)
	c.lock(id)
}

// lock keeps commands away from a dead letter until what was staged about it is stored;
// then the fact about it goes out.
func (c *courier) lock(id string) {
	c.locked[id]++
	c.dones = append(c.dones, func() {
		if c.locked[id]--; c.locked[id] == 0 {
			delete(c.locked, id)
		}
		c.e.reporter.mark(id, true)
	})
}

// closeDead ends the life of a dead letter; what waited behind it goes on.
func (c *courier) closeDead(q *keyQueue, id string, f func(rec *deadRecord)) {
	c.updateDead(id, f)
	c.dead--
	c.deadBytes -= c.deadSize[id]
	delete(c.deadSize, id)
	if q.blocked == id {
		q.blocked = ""
		c.blocked--
	}
	q.skipped = slices.DeleteFunc(q.skipped, func(s skipped) bool { return s.id == id })
	c.e.reporter.setWaiting(id, 0)
}

// tellWaiting notes how many events wait behind the dead letter of q.
func (c *courier) tellWaiting(q *keyQueue) {
	id := q.blocked
	if id == "" || !c.e.reporter.setWaiting(id, q.parked) {
		return
	}
	c.stage(func(tx *bolt.Tx) error { return markDirty(tx, id) }, func() { c.e.reporter.mark(id, false) })
}

// obey carries out a command, or puts it off until what is under way is stored.
func (c *courier) obey(cmd Command, replay bool, reply func(error)) {
	if c.locked[cmd.DeadLetter] > 0 {
		c.deferred = append(c.deferred, func() { c.obey(cmd, replay, reply) })
		return
	}
	var rec *deadRecord
	if err := c.e.db.View(func(tx *bolt.Tx) (err error) {
		rec, _, err = readDead(tx, cmd.DeadLetter)
		return err
	}); err != nil {
		reply(err)
		return
	}
	if cmd.ID != "" && slices.Contains(rec.Commands, cmd.ID) {
		reply(nil)
		return
	}
	q := c.queue(queueName{key: rec.Key})
	if q.flying != nil && q.flying.deadID == cmd.DeadLetter {
		if replay {
			reply(nil) // it is just what happens
			return
		}
		c.deferred = append(c.deferred, func() { c.obey(cmd, replay, reply) })
		return
	}
	switch {
	case rec.State == DeadLetterDelivered || rec.State == DeadLetterDiscarded:
		reply(fmt.Errorf("%w: %s was %s", ErrNotOpen, rec.ID, rec.State))
	case !replay:
		c.discard(q, rec, cmd, reply)
	case rec.State == DeadLetterReplaying:
		reply(nil)
	case q.overtaken(rec.ID) && !cmd.Confirm:
		reply(fmt.Errorf("%s: %w", rec.ID, ErrOutOfOrder))
	default:
		c.replay(q, rec, cmd, reply)
	}
	c.schedule(q, time.Now())
}

func (q *keyQueue) overtaken(id string) bool {
	return slices.ContainsFunc(q.skipped, func(s skipped) bool { return s.id == id && s.overtaken })
}

func (c *courier) replay(q *keyQueue, rec *deadRecord, cmd Command, reply func(error)) {
	j := replayJob(rec)
	q.replays = append(q.replays, j)
	if len(q.replays) == 1 && q.flying == nil {
		q.retry, q.due, q.parkAt = nil, time.Time{}, time.Time{}
	}
	c.park(q, time.Now())
	copied := *j
	c.updateDead(rec.ID, func(rec *deadRecord) {
		rec.State, rec.By, rec.Reason, rec.Job = DeadLetterReplaying, cmd.By, cmd.Reason, copied
		rec.obeyed(cmd.ID)
	})
	c.holdUntilStored(q, func() { reply(nil) })
}

// replayJob is the job of a dead letter with its count of attempts begun anew. A routing
// fault is forgiven, and what it claims is believed: who replays it means it for this system.
func replayJob(rec *deadRecord) *job {
	j := rec.Job
	j.place, j.deadID, j.event = inDead, rec.ID, nil
	j.Alone, j.Company = false, 0
	j.Type, j.Claim = "", nil
	j.Fault, j.Counted, j.Since, j.Absent, j.Cause = "", 0, time.Time{}, time.Time{}, ""
	return &j
}

func (c *courier) discard(q *keyQueue, rec *deadRecord, cmd Command, reply func(error)) {
	if len(q.replays) > 0 && q.replays[0].deadID == rec.ID {
		q.retry, q.due, q.absent = nil, time.Time{}, false
	}
	q.replays = slices.DeleteFunc(q.replays, func(j *job) bool { return j.deadID == rec.ID })
	now := time.Now()
	r := receipt{state: StateDiscarded, at: now, attempts: rec.Attempts, status: rec.Status}
	s := rec.Job.slot()
	c.stage(func(tx *bolt.Tx) error { return putReceipt(tx, c.name, s, r) }, nil)
	c.closeDead(q, rec.ID, func(rec *deadRecord) {
		rec.State, rec.By, rec.Reason = DeadLetterDiscarded, cmd.By, cmd.Reason
		rec.obeyed(cmd.ID)
	})
	c.holdUntilStored(q, func() { reply(nil) })
}

func (rec *deadRecord) obeyed(id string) {
	if id == "" {
		return
	}
	rec.Commands = append(rec.Commands, id)
	if n := len(rec.Commands) - MaxCommands; n > 0 {
		rec.Commands = rec.Commands[n:]
	}
}

// Replay has a dead letter tried again, with the same idempotency key; when it succeeds,
// what waits behind it goes on in order. It returns when that is stored, before the
// attempt. ErrOutOfOrder asks for Command.Confirm. Run must be running.
func (e *Engine) Replay(ctx context.Context, cmd Command) error { return e.command(ctx, cmd, true) }

// Discard gives a dead letter up; what waits behind it goes on in order.
func (e *Engine) Discard(ctx context.Context, cmd Command) error { return e.command(ctx, cmd, false) }

func (e *Engine) command(ctx context.Context, cmd Command, replay bool) error {
	var system string
	if err := e.db.View(func(tx *bolt.Tx) error {
		rec, _, err := readDead(tx, cmd.DeadLetter)
		if err == nil {
			system = rec.System
		}
		return err
	}); err != nil {
		return err
	}
	c := e.courier(system)
	if c == nil {
		return fmt.Errorf("%w: %s, whose system %s is not known here", ErrNoDeadLetter, cmd.DeadLetter, system)
	}
	answer := make(chan error, 1)
	c.post(func() { c.obey(cmd, replay, func(err error) { answer <- err }) })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped:
		return ErrStopped
	}
}

// DeadLetters lists those that are not closed, without their events.
func (e *Engine) DeadLetters() ([]DeadLetter, error) {
	var out []DeadLetter
	err := e.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(deadBucket).ForEach(func(id, text []byte) error {
			rec := &deadRecord{}
			if _, err := unseal(text, rec); err != nil {
				rec.DeadLetter = DeadLetter{ID: string(id), Agent: e.cfg.Agent, State: DeadLetterOpen, Cause: err.Error()}
			}
			if rec.State == DeadLetterOpen || rec.State == DeadLetterReplaying {
				rec.Waiting = e.reporter.waitingOf(rec.ID)
				out = append(out, rec.DeadLetter)
			}
			return nil
		})
	})
	return out, err
}

// DeadLetter finds one, with its event.
func (e *Engine) DeadLetter(id string) (DeadLetter, error) {
	var out DeadLetter
	err := e.db.View(func(tx *bolt.Tx) error {
		rec, text, err := readDead(tx, id)
		if err != nil {
			return err
		}
		out = rec.DeadLetter
		out.Waiting = e.reporter.waitingOf(id)
		if len(text) > 0 {
			out.Event = text
		}
		return nil
	})
	return out, err
}
