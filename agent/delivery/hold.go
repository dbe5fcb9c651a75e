package delivery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
)

// A system that takes the place of another is held: its events wait in the journal, in
// order, and none is delivered until somebody who knows that nothing is pending for the old
// one any more says so.

var (
	holdsBucket = []byte("holds") // system -> hold
	seenKey     = []byte("revision")
)

// hold is what is kept of a system that takes, or took, the place of another.
type hold struct {
	Replaces string         `json:"replaces"`
	After    block.Revision `json:"after"` // in force here before; the move came with a later one
	Begun    block.Revision `json:"begun"` // that brought the move, as the control plane says; zero: it does not
	Since    time.Time      `json:"since"`
	Released block.Revision `json:"released"` // of the newest move that was released, known here yet or not
	Ended    bool           `json:"ended"`    // a revision came without it: what comes next is another move
}

func (h *hold) over() bool {
	if h.Begun != (block.Revision{}) {
		return !h.Released.Less(h.Begun)
	}
	return h.After.Less(h.Released)
}

// of reports whether the hold is of a move that came with this revision. An agent that was
// away may have missed that one move ended and the next began.
func (h *hold) of(begun, seen block.Revision) bool {
	if h.Begun == (block.Revision{}) { // nobody had said so
		return !seen.Less(begun)
	}
	return begun == (block.Revision{}) || begun == h.Begun
}

// Held is a system whose deliveries wait.
type Held struct {
	System   string         `json:"system"`
	Replaces string         `json:"replaces"`
	After    block.Revision `json:"after"`
	Since    time.Time      `json:"since"`
}

// Why says it to people.
func (h Held) Why() string {
	return fmt.Sprintf("it takes the place of %s and waits until nothing is pending there, since %s; an operator can release it",
		h.Replaces, h.Since.Local().Format(time.DateTime))
}

// Holding lists the systems that are held, by name.
func (e *Engine) Holding() []Held {
	index := e.index.Load()
	out := make([]Held, 0, len(index.held))
	for _, h := range index.held {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Held) int { return strings.Compare(a.System, b.System) })
	return out
}

// ReadHolding lists the held systems as the file of a stopped agent has them.
func ReadHolding(path string) (out []Held, err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return nil, openError(path, err)
	}
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(holdsBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(name, text []byte) error {
			var h hold
			if _, err := unseal(text, &h); err == nil && !h.Ended && !h.over() {
				out = append(out, Held{System: string(name), Replaces: h.Replaces, After: h.After, Since: h.Since})
			}
			return nil // what is damaged, the agent reports when it starts
		})
	})
	return out, errors.Join(err, db.Close())
}

// Release ends the hold of a system for a move that came with this revision, or an earlier
// one: it returns when that is stored. A repeat changes nothing, and what comes before the
// revision itself is kept for it. A move that comes with a later revision is held anew.
func (e *Engine) Release(ctx context.Context, system string, revision block.Revision) error {
	if system == "" || revision == (block.Revision{}) {
		return fmt.Errorf("release of system %q, revision %s: both are required", system, revision)
	}
	e.mu.Lock()
	h, known := e.holds[system]
	if !known {
		h = &hold{Ended: true}
		e.holds[system] = h
	}
	if h.Released.Less(revision) {
		h.Released = revision
	}
	e.mu.Unlock()
	stored := make(chan struct{})
	e.committer.submit(change{apply: []func(*bolt.Tx) error{e.storeHold(system)}, done: func() { close(stored) }})
	select {
	case <-stored:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped:
		return ErrStopped
	}
	e.PolicyChanged()
	return nil
}

// storeHold writes what is known of a hold when it is stored, which may be more than when
// it was asked for.
func (e *Engine) storeHold(system string) func(tx *bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		e.mu.Lock()
		text, err := seal(e.holds[system], nil)
		e.mu.Unlock()
		if err != nil {
			return err
		}
		return tx.Bucket(holdsBucket).Put([]byte(system), text)
	}
}

// Announce tells of a revision that is about to come into force. What it holds is held from
// now on, though its systems are attached, and the rest of it followed, only with
// PolicyChanged; and one that is replaced before that is not passed over.
func (e *Engine) Announce(set *policy.Set) {
	e.mu.Lock()
	e.coming = set
	x := *e.index.Load()
	ops := e.hold(&x, set)
	ops = append(ops, e.keepFormer(indexPolicy(set), set.Revision)...)
	e.index.Store(&x)
	stored := e.storeNotes(ops)
	e.mu.Unlock()
	e.awaitNotes(stored)
}

// follow makes the index of a revision: what it holds is found out, and put down to be
// stored, before anybody reads by it. e.mu is held.
func (e *Engine) follow(set *policy.Set) *policyIndex {
	x := indexPolicy(set)
	if set == nil {
		return x
	}
	ops := append(e.keepFormer(x, set.Revision), e.keepVoices(x, set)...)
	if e.coming != nil && set.Revision.Less(e.coming.Revision) {
		set = e.coming
	}
	ops = append(e.hold(x, set), ops...)
	if len(ops) > 0 {
		e.committer.submit(change{apply: ops})
	}
	return x
}

// hold finds out which systems a revision holds. e.mu is held.
func (e *Engine) hold(x *policyIndex, set *policy.Set) (ops []func(tx *bolt.Tx) error) {
	x.held = map[string]Held{}
	for name, h := range e.holds {
		if s := set.Systems[name]; !h.Ended && (s == nil || s.Site != e.cfg.Agent || s.Replaces == "") {
			h.Ended = true
			ops = append(ops, e.storeHold(name))
		}
	}
	for name, s := range set.Systems {
		if s.Site != e.cfg.Agent || s.Replaces == "" {
			continue
		}
		h := e.holds[name]
		begun := set.Begun[name]
		if h == nil || h.Ended || h.Replaces != s.Replaces || !h.of(begun, e.revision) {
			next := &hold{Replaces: s.Replaces, After: e.revision, Begun: begun, Since: time.Now()}
			if h != nil {
				next.Released = h.Released
			}
			h = next
			e.holds[name] = h
			ops = append(ops, e.storeHold(name))
		}
	}
	// Of both, while the index is of the revision before: what that one held is held until it is
	// followed by the next.
	for _, systems := range []map[string]*policy.System{set.Systems, x.systems} {
		for name, s := range systems {
			if h := e.holds[name]; s.Site == e.cfg.Agent && s.Replaces != "" && h != nil && !h.over() {
				x.held[name] = Held{System: name, Replaces: h.Replaces, After: h.After, Since: h.Since}
			}
		}
	}
	if e.revision != set.Revision {
		e.revision = set.Revision
		ops = append(ops, storeRevision(seenKey, set.Revision))
	}
	return ops
}

func storeRevision(key []byte, r block.Revision) func(tx *bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		text, err := seal(r, nil)
		if err != nil {
			return err
		}
		return tx.Bucket(metaBucket).Put(key, text)
	}
}

// loadHolds reads what this file keeps. What is damaged is told, and is as if it had never
// been: the system is held again, and released again.
func (e *Engine) loadHolds(tx *bolt.Tx) error {
	for _, of := range []struct {
		key      []byte
		revision *block.Revision
	}{{seenKey, &e.revision}, {notedKey, &e.noted}} {
		if text := tx.Bucket(metaBucket).Get(of.key); text != nil {
			if _, err := unseal(text, of.revision); err != nil {
				e.cfg.Logger.Error("which revision was seen last cannot be read", "as", string(of.key), "error", err)
			}
		}
	}
	if err := e.loadVoices(tx); err != nil {
		return err
	}
	err := tx.Bucket(holdsBucket).ForEach(func(name, text []byte) error {
		h := &hold{}
		if _, err := unseal(text, h); err != nil {
			e.cfg.Logger.Error("what was known of a held system cannot be read", "system", string(name), "error", err)
			return nil
		}
		e.holds[string(name)] = h
		return nil
	})
	if err != nil {
		return err
	}
	return tx.Bucket(formerBucket).ForEach(func(name, text []byte) error {
		var list []*former
		if _, err := unseal(text, &list); err != nil {
			e.cfg.Logger.Error("how a system was delivered to cannot be read", "system", string(name), "error", err)
			return nil
		}
		e.former[string(name)] = list
		return nil
	})
}

// held reports whether the courier's system waits for another to be done.
func (c *courier) held() (Held, bool) {
	h, ok := c.e.index.Load().held[c.name]
	return h, ok
}
