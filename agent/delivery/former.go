package delivery

import (
	"fmt"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

// No route of a revision leads to a system that is replaced, and what is pending for it has
// to go there still: as the last revision had it that did lead there, whether it was ever in
// force here or not.

var (
	formerBucket = []byte("former") // system -> its destinations as they stood last
	notedKey     = []byte("noted")  // the revision by which they were changed last
)

// noteWait bounds how long a note is waited for. A full disk takes it later, and must not
// hold back what else the control plane has to say.
const noteWait = 5 * time.Second

// former is one destination that routes had.
type former struct {
	Route       string       `json:"route"`
	Shadow      bool         `json:"shadow,omitempty"`
	Map         string       `json:"map,omitempty"`
	Retry       policy.Retry `json:"retry"`
	OnExhausted string       `json:"onExhausted"`

	route *policy.Route // of these, once it is asked for
	dest  *policy.Destination
}

// Note keeps how a revision that was in force while this agent was away delivers to the
// systems here.
func (e *Engine) Note(set *policy.Set) {
	e.mu.Lock()
	x := indexPolicy(set)
	stored := e.storeNotes(append(e.keepFormer(x, set.Revision), e.keepVoices(x, set)...))
	e.mu.Unlock()
	e.awaitNotes(stored)
}

// storeNotes has notes stored; the channel is closed then. e.mu is held.
func (e *Engine) storeNotes(ops []func(tx *bolt.Tx) error) <-chan struct{} {
	stored := make(chan struct{})
	if len(ops) == 0 {
		close(stored)
	} else {
		e.committer.submit(change{apply: ops, done: func() { close(stored) }})
	}
	return stored
}

func (e *Engine) awaitNotes(stored <-chan struct{}) {
	select {
	case <-stored:
	case <-e.stopped:
	case <-time.After(noteWait):
	}
}

// keepFormer notes how the routes of a revision deliver to each system here, for the time
// when the system is replaced; of one that is, the notes stay. A revision that is older than
// what is noted has nothing to say. e.mu is held.
func (e *Engine) keepFormer(x *policyIndex, revision block.Revision) (ops []func(tx *bolt.Tx) error) {
	if revision.Less(e.noted) {
		return nil
	}
	next := map[string][]*former{}
	for _, r := range x.routes {
		for _, d := range r.To {
			s := x.systems[d.System]
			if s == nil || s.Site != e.cfg.Agent || x.replaced[d.System] && !d.Shadow {
				continue
			}
			f := &former{Route: r.Name, Shadow: d.Shadow, Retry: r.Retry, OnExhausted: r.OnExhausted}
			if d.Map != nil {
				f.Map = d.Map.Source()
			}
			next[d.System] = append(next[d.System], f)
		}
	}
	for name, s := range x.systems {
		if s.Site != e.cfg.Agent || x.replaced[name] {
			continue
		}
		slices.SortFunc(next[name], func(a, b *former) int {
			return strings.Compare(fmt.Sprint(a.Route, a.Shadow), fmt.Sprint(b.Route, b.Shadow))
		})
		if slices.EqualFunc(next[name], e.former[name], sameFormer) {
			continue
		}
		e.former[name] = next[name]
		list := next[name]
		ops = append(ops, func(tx *bolt.Tx) error {
			text, err := seal(list, nil)
			if err != nil {
				return err
			}
			return tx.Bucket(formerBucket).Put([]byte(name), text)
		})
	}
	if len(ops) > 0 {
		e.noted = revision
		ops = append(ops, storeRevision(notedKey, revision))
	}
	return ops
}

func sameFormer(a, b *former) bool {
	return a.Route == b.Route && a.Shadow == b.Shadow && a.Map == b.Map && a.Retry == b.Retry && a.OnExhausted == b.OnExhausted
}

// formerDestination is how a system that is replaced was delivered to.
func (e *Engine) formerDestination(route, system string, shadow bool) (*policy.Route, *policy.Destination) {
	if !e.index.Load().replaced[system] {
		return nil, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.former[system] {
		if f.Route != route || f.Shadow != shadow {
			continue
		}
		if f.dest == nil {
			d := &policy.Destination{System: system, Shadow: shadow}
			if f.Map != "" {
				m, err := expr.Compile(f.Map)
				if err != nil {
					e.cfg.Logger.Error("the map by which a replaced system was delivered to does not compile any more", "system", system, "route", route, "err", err)
					return nil, nil
				}
				d.Map = m
			}
			f.route = &policy.Route{Meta: policy.Meta{Name: route}, Retry: f.Retry, OnExhausted: f.OnExhausted}
			f.dest = d
		}
		return f.route, f.dest
	}
	return nil, nil
}
