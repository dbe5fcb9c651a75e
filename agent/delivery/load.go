package delivery

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// load builds what is held in memory from the file.
func (e *Engine) load(tx *bolt.Tx) error {
	if err := e.loadHolds(tx); err != nil {
		return err
	}
	e.mu.Lock()
	e.index.Store(e.follow(e.cfg.Policy()))
	e.mu.Unlock()
	if text := tx.Bucket(metaBucket).Get(scoutKey); len(text) == 8 {
		e.scouted = binary.BigEndian.Uint64(text)
	}
	e.scouted = max(e.scouted, 1) // positions begin there
	e.saved = e.scouted
	rows, err := readRows(tx)
	if err != nil {
		return err
	}
	for name, r := range rows {
		c := newCourier(e, name, r)
		if err := c.restore(tx); err != nil {
			return fmt.Errorf("system %s: %w", name, err)
		}
		e.couriers[name] = c
	}
	if err := e.loadDead(tx); err != nil {
		return err
	}
	for _, c := range e.couriers {
		for _, q := range c.keys {
			if q.blocked != "" {
				e.reporter.setWaiting(q.blocked, q.parked)
			}
			c.schedule(q, c.flushed)
		}
	}
	return tx.Bucket(dirtyBucket).ForEach(func(id, _ []byte) error {
		e.reporter.mark(string(id), true)
		return nil
	})
}

// restore reads what is settled above the cursor, and which keys have parked copies.
func (c *courier) restore(tx *bolt.Tx) error {
	if b := tx.Bucket(receiptsBucket).Bucket([]byte(c.name)); b != nil {
		cursor := b.Cursor()
		from := appendRef(nil, Ref{Pos: c.row.Cursor})
		for k, _ := cursor.Seek(from); len(k) == refSize+1; k, _ = cursor.Next() {
			c.settled[parseSlot(k)] = true
		}
	}
	b := tx.Bucket(parkedBucket).Bucket([]byte(c.name))
	if b == nil {
		return nil
	}
	var q *keyQueue
	err := b.ForEach(func(k, text []byte) error {
		if len(k) <= refSize {
			return fmt.Errorf("%w: key of a parked copy", errDamaged)
		}
		prefix := k[:len(k)-refSize]
		if q == nil || !bytes.Equal(q.prefix, prefix) {
			q = c.queue(queueName{key: keyOf(b, prefix)})
			q.prefix = bytes.Clone(prefix)
			q.firstPos = parseRef(k[len(prefix):]).Pos
		}
		q.parked++
		q.stored++
		c.parked++
		return nil
	})
	return err
}

// keyOf reads the key from the first parked copy that can be read.
func keyOf(b *bolt.Bucket, prefix []byte) string {
	cursor := b.Cursor()
	for k, text := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, text = cursor.Next() {
		var j job
		if _, err := unseal(text, &j); err == nil {
			return j.Key
		}
	}
	return "damaged " + hex.EncodeToString(prefix)
}

func (e *Engine) loadDead(tx *bolt.Tx) error {
	return tx.Bucket(deadBucket).ForEach(func(id, text []byte) error {
		rec := &deadRecord{}
		if _, err := unseal(text, rec); err != nil {
			e.cfg.Logger.Error("dead letter cannot be read; it blocks nothing and stays", "id", string(id), "error", err)
			return nil
		}
		c := e.couriers[rec.System]
		if c == nil || rec.State != DeadLetterOpen && rec.State != DeadLetterReplaying {
			return nil
		}
		c.openDead(rec.ID, &rec.Job)
		q := c.queue(queueName{key: rec.Key})
		if rec.OnExhausted == onSkip {
			q.skipped = append(q.skipped, skipped{id: rec.ID, ref: rec.Job.Ref, overtaken: rec.Overtaken})
		} else {
			if q.blocked == "" {
				c.blocked++
			}
			q.blocked = rec.ID
		}
		if rec.State == DeadLetterReplaying {
			j := rec.Job
			j.place, j.deadID = inDead, rec.ID
			q.replays = append(q.replays, &j)
		}
		return nil
	})
}
