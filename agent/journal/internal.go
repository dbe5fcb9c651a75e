package journal

import (
	"context"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/protocol/block"
)

// InternalPrefix begins the types of events that agents send each other for themselves: they
// go to no system, and are not counted among events of the business.
const InternalPrefix = "crossdock."

// internal tells them by both: what a system publishes is routed to systems, or nowhere.
func internal(h *block.Head) bool {
	return len(h.Targets) > 0 && strings.HasPrefix(h.Type, InternalPrefix) &&
		!slices.ContainsFunc(h.Targets, func(t block.Target) bool { return t.System != "" || t.Agent == block.Control })
}

// isInternal reports whether an internal event is for this agent.
func (j *Journal) isInternal(h *block.Head) bool {
	return internal(h) && slices.ContainsFunc(h.Targets, func(t block.Target) bool { return t.Agent == j.cfg.Self })
}

// internalIn counts those of a block that count.
func (j *Journal) internalIn(heads []block.Head, r *record) (n int) {
	for i := range heads {
		if !r.passes(i) && internal(&heads[i]) {
			n++
		}
	}
	return n
}

// span is a row of numbers of a lane, and where in the journal the last stands.
type span struct{ first, last, pos uint64 }

// noteInternal remembers the numbers of an internal event; j.mu is held, except by Open.
func (j *Journal) noteInternal(h *block.Head, numbers []block.Number, pos uint64) {
	if !internal(h) {
		return
	}
	for _, n := range numbers {
		spans := j.inner[n.Agent]
		if i := len(spans) - 1; i >= 0 && spans[i].last+1 == n.Seq {
			spans[i].last, spans[i].pos = n.Seq, pos
			continue
		}
		j.inner[n.Agent] = append(spans, span{n.Seq, n.Seq, pos})
	}
}

// Internal counts the internal events on the lane to an agent behind a number that the relay
// has taken, up to another.
func (j *Journal) Internal(dest string, taken, last uint64) (n uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.inner[dest] {
		if s.first <= last && s.last > taken {
			n += min(s.last, last) - max(s.first-1, taken)
		}
	}
	return n
}

// forgetInternal forgets numbers of which nothing is in the journal any more; j.mu is held. What
// the relay has taken it may ask for again, after it was restored.
func (j *Journal) forgetInternal(first uint64) {
	for dest, spans := range j.inner {
		j.inner[dest] = slices.DeleteFunc(spans, func(s span) bool { return s.pos < first })
	}
}

// ScanInternal calls fn for the internal events that were sent from here since a position.
func (j *Journal) ScanInternal(ctx context.Context, from uint64, fn func(ScanItem)) error {
	return j.each(ctx, max(from, j.First()), j.Next(), func(pos uint64, r record) bool {
		if r.entry != nil {
			for _, item := range j.items(pos, r, internal) {
				fn(item)
			}
		}
		return true
	})
}
