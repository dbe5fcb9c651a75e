package delivery

import (
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Hop is what became of an event at one system of this agent.
type Hop struct {
	System   string
	Shadow   bool
	State    string    // StatePending ...
	At       time.Time // of the state; zero while pending
	Attempts int
	Detail   string        // of what is not done: the last error, and what it waits for
	Status   int           // as the system last answered
	Duration time.Duration // of the last attempt
}

// Hops tells what became of the event at pos.index at each system: what the receipts hold,
// and as pending what the journal has for systems without one. What was a dead letter before
// comes as that too, as long as its record is kept.
func (e *Engine) Hops(pos uint64, index int) ([]Hop, error) {
	var out []Hop
	known := map[string]bool{}
	err := e.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(receiptsBucket).ForEachBucket(func(system []byte) error {
			b := tx.Bucket(receiptsBucket).Bucket(system)
			for _, shadow := range []bool{false, true} {
				text := b.Get(slot{Ref{pos, index}, shadow}.bytes())
				if text == nil {
					continue
				}
				r, err := parseReceipt(text)
				if err != nil {
					return fmt.Errorf("receipt of %d.%d at %s: %w", pos, index, system, err)
				}
				known[fmt.Sprint(string(system), shadow)] = true
				if r.state == StateDelivered || r.state == StateDiscarded {
					out = append(out, e.deadBefore(tx, Ref{pos, index}, string(system), shadow)...)
				}
				h := Hop{System: string(system), Shadow: shadow, State: r.state, At: r.at, Attempts: r.attempts, Status: r.status, Duration: r.took}
				if r.state == StateDead {
					h.Detail = e.deadCause(tx, Ref{pos, index}, string(system))
				}
				out = append(out, h)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	items, _, err := e.cfg.Source.ReadLocal(pos, 1)
	if err != nil {
		return nil, fmt.Errorf("delivery: reading the journal at %d: %w", pos, err)
	}
	for i := range items {
		if items[i].Pos != pos || items[i].Index != index {
			continue
		}
		for k := range out {
			if out[k].State == StateParked {
				e.tellWaits(&out[k], queueName{items[i].Key, out[k].Shadow}, Ref{pos, index})
			}
		}
		for _, t := range items[i].Head.TargetsAt(e.cfg.Agent) {
			if id := fmt.Sprint(t.System, t.Shadow); t.System != "" && !known[id] {
				known[id] = true
				h := Hop{System: t.System, Shadow: t.Shadow, State: StatePending}
				e.tellWaits(&h, queueName{items[i].Key, t.Shadow}, Ref{pos, index})
				out = append(out, h)
			}
		}
	}
	return out, nil
}

// deadCause is why a delivery became a dead letter; empty where that cannot be read.
func (e *Engine) deadCause(tx *bolt.Tx, ref Ref, system string) string {
	rec, _, err := readDead(tx, fmt.Sprintf("%s/%s/%s", e.cfg.Agent, ref, system))
	if err != nil {
		return ""
	}
	return rec.Cause
}

// deadBefore gives the hop of a closed dead letter.
func (e *Engine) deadBefore(tx *bolt.Tx, ref Ref, system string, shadow bool) []Hop {
	rec, _, err := readDead(tx, fmt.Sprintf("%s/%s/%s", e.cfg.Agent, ref, system))
	if err != nil || rec.Job.Shadow != shadow { // there was none, or what is left of it cannot be read
		return nil
	}
	return []Hop{{System: system, Shadow: shadow, State: StateDead, At: rec.At, Attempts: rec.Job.Tries, Status: rec.Status, Detail: rec.Cause}}
}

// maxForget is how many records one transaction of ForgetBefore drops.
const maxForget = 4096

// ForgetBefore drops receipts of events below pos, and closed dead letters that have been
// reported. What is not settled stays, and so does what a cursor still needs.
func (e *Engine) ForgetBefore(pos uint64) error {
	e.mu.Lock()
	limits := map[string]uint64{}
	for name, c := range e.couriers {
		limits[name] = min(pos, c.committed.Load())
	}
	e.mu.Unlock()
	for system, limit := range limits {
		// The buckets are not changed under a cursor: what goes is listed first.
		if err := e.forget(receiptsBucket, system, func(_ *bolt.Tx, k, text []byte) (drop, more bool) {
			if len(k) != refSize+1 || parseRef(k).Pos >= limit {
				return false, false
			}
			r, err := parseReceipt(text)
			return err != nil || r.state == StateDelivered || r.state == StateDiscarded || r.state == StateShadow, true
		}); err != nil {
			return err
		}
	}
	return e.forget(deadBucket, "", func(tx *bolt.Tx, k, text []byte) (drop, more bool) {
		rec := &deadRecord{}
		if _, err := unseal(text, rec); err != nil {
			return false, true
		}
		closed := rec.State == DeadLetterDelivered || rec.State == DeadLetterDiscarded
		return closed && rec.Job.Ref.Pos < pos && tx.Bucket(dirtyBucket).Get(k) == nil, true
	})
}

// forget deletes what drop chooses from a bucket, or from the one of a system in it, some
// in each transaction.
func (e *Engine) forget(bucket []byte, system string, drop func(tx *bolt.Tx, k, v []byte) (drop, more bool)) error {
	var from []byte
	for done := false; !done; {
		err := e.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(bucket)
			if system != "" {
				if b = b.Bucket([]byte(system)); b == nil {
					done = true
					return nil
				}
			}
			var keys [][]byte
			cursor := b.Cursor()
			k, v := cursor.Seek(from)
			for n := 0; k != nil && n < maxForget; n++ {
				out, more := drop(tx, k, v)
				if !more {
					k = nil
					break
				}
				if out {
					keys = append(keys, append([]byte(nil), k...))
				}
				k, v = cursor.Next()
			}
			done, from = k == nil, append([]byte(nil), k...)
			for _, key := range keys {
				if err := b.Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("delivery: dropping old receipts from %s: %w", e.db.Path(), err)
		}
	}
	return nil
}
