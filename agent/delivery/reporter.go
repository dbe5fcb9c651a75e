package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/event"
)

// reporter tells the control plane of dead letters. What is still to be told stands in the
// store, so that a crash delays it only.
type reporter struct {
	e    *Engine
	wake chan struct{}

	mu      sync.Mutex
	dirty   map[string]time.Time // id -> when to tell
	waiting map[string]int       // id -> events parked behind it
}

func newReporter(e *Engine) *reporter {
	return &reporter{e: e, wake: make(chan struct{}, 1), dirty: map[string]time.Time{}, waiting: map[string]int{}}
}

// mark notes a dead letter as to be told: now, or soon when only its count changed.
func (r *reporter) mark(id string, urgent bool) {
	at := time.Now()
	r.mu.Lock()
	if !urgent { // the more there are, the slower each: ten in ReportEvery, however many keys are blocked
		at = at.Add(r.e.cfg.ReportEvery + r.e.cfg.ReportEvery*time.Duration(len(r.dirty))/10)
	}
	if old, ok := r.dirty[id]; !ok || at.Before(old) {
		r.dirty[id] = at
	}
	r.mu.Unlock()
	nudge(r.wake)
}

// setWaiting reports whether the number is another than before.
func (r *reporter) setWaiting(id string, n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[id] == n {
		return false
	}
	if n == 0 {
		delete(r.waiting, id)
	} else {
		r.waiting[id] = n
	}
	return true
}

func (r *reporter) waitingOf(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting[id]
}

// due takes one dead letter whose time has come, or says when the next has its time.
func (r *reporter) due(now time.Time) (id string, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for d, at := range r.dirty {
		if !at.After(now) {
			delete(r.dirty, d)
			return d, time.Time{}
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return "", next
}

func (r *reporter) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		id, next := r.due(time.Now())
		if id != "" {
			if err := r.tell(ctx, id); err != nil && ctx.Err() == nil {
				r.e.cfg.Logger.Warn("a dead letter could not be reported; it is tried again", "id", id, "error", err)
				r.mark(id, false)
			}
			continue
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = time.Until(next)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
		}
	}
	return nil
}

// tell reports one dead letter as it stands, and forgets that it has to be told unless it
// changed meanwhile.
func (r *reporter) tell(ctx context.Context, id string) error {
	var fact []byte
	var serial []byte
	err := r.e.db.View(func(tx *bolt.Tx) (err error) {
		if serial = bytes.Clone(tx.Bucket(dirtyBucket).Get([]byte(id))); serial == nil {
			return nil
		}
		fact, err = r.fact(tx, id)
		return err
	})
	if err != nil || serial == nil {
		return err
	}
	if r.e.cfg.Facts != nil {
		if err := r.e.cfg.Facts.Report(ctx, fact); err != nil {
			return err
		}
	}
	r.e.committer.submit(change{apply: []func(tx *bolt.Tx) error{func(tx *bolt.Tx) error {
		b := tx.Bucket(dirtyBucket)
		if !bytes.Equal(b.Get([]byte(id)), serial) {
			return nil
		}
		return b.Delete([]byte(id))
	}}})
	return nil
}

func (r *reporter) fact(tx *bolt.Tx, id string) ([]byte, error) {
	rec, text, err := readDead(tx, id)
	if errors.Is(err, errDamaged) || errors.Is(err, ErrNoDeadLetter) {
		rec = &deadRecord{DeadLetter: DeadLetter{ID: id, Agent: r.e.cfg.Agent, State: DeadLetterOpen,
			Cause: fmt.Sprintf("its record at the agent is lost: %v", err)}}
	} else if err != nil {
		return nil, err
	}
	dl := rec.DeadLetter
	dl.Waiting = r.waitingOf(id)
	if len(text) > 0 && len(text) <= MaxFactEvent && json.Valid(text) {
		dl.Event = text
	}
	fact, err := encodeFact(&dl)
	if err == nil && (len(fact) > maxFact || event.CheckJSON(fact) != nil) { // as deep as an event may be, and now deeper
		dl.Event = nil
		fact, err = encodeFact(&dl)
	}
	return fact, err
}

func encodeFact(dl *DeadLetter) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // the event is to look as it came
	if err := enc.Encode(Fact{DeadLetter: dl}); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
