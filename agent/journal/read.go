package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/crossdock/crossdock/protocol/block"
)

// ErrNotHeld says that a Ref names nothing that the journal still holds.
var ErrNotHeld = errors.New("not in the journal any more, or never was")

// ForeignError says that a received block, whole as it was sent, cannot be opened: its
// sender made it so.
type ForeignError struct {
	Agent string // that sent it
	Err   error
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("a block of agent %s, whose checksums are right, cannot be opened: %v", e.Agent, e.Err)
}

func (e *ForeignError) Unwrap() error { return e.Err }

// stored is one record as Each gave it.
type stored struct {
	pos, last uint64
	data      []byte
	damage    error
}

// batch reads the next records from position from.
func (j *Journal) batch(from uint64) ([]stored, error) {
	var out []stored
	err := j.cfg.Log.Each(from, readRecords, readBytes, func(pos, last uint64, data []byte, damage error) {
		out = append(out, stored{pos, last, data, damage})
	})
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	return out, nil
}

// parse decodes a record, and reports one that cannot be.
func (j *Journal) parse(s stored) (record, error) {
	err := s.damage
	var r record
	if err == nil {
		r, err = parseRecord(s.data)
	}
	if err != nil {
		j.report(s.pos, s.last, err)
	}
	return r, err
}

// report tells of damaged positions once.
func (j *Journal) report(first, last uint64, err error) {
	j.mu.Lock()
	known := j.reported[first]
	j.reported[first] = true
	j.mu.Unlock()
	if known {
		return
	}
	j.cfg.Logger.Error("records of the journal cannot be read and are passed over", "first", first, "last", last, "error", err)
	if j.cfg.OnDamage != nil {
		j.cfg.OnDamage(first, last, err)
	}
}

// each calls fn for the readable records of positions from..end-1 until it gives false.
func (j *Journal) each(ctx context.Context, from, end uint64, fn func(pos uint64, r record) bool) error {
	for from < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		batch, err := j.batch(from)
		if err != nil || len(batch) == 0 {
			return err
		}
		for _, s := range batch {
			if s.pos >= end {
				return nil
			}
			from = s.last + 1
			if r, err := j.parse(s); err == nil && !fn(s.pos, r) {
				return nil
			}
		}
	}
	return nil
}

// readAhead is how many batches are read while one is looked at.
const readAhead = 2

// eachAhead is each without an end before the last, and reads on while fn is at work: a
// million records at the start are worth a second processor.
func (j *Journal) eachAhead(from, end uint64, fn func(pos uint64, r record)) (failed error) {
	batches := make(chan []stored, readAhead)
	go func() {
		defer close(batches)
		for from < end {
			batch, err := j.batch(from)
			if err != nil || len(batch) == 0 {
				failed = err
				return
			}
			from = batch[len(batch)-1].last + 1
			batches <- batch
		}
	}()
	for batch := range batches {
		for _, s := range batch {
			if s.pos >= end {
				break
			}
			if r, err := j.parse(s); err == nil {
				fn(s.pos, r)
			}
		}
	}
	return failed
}

// ReadLocal gives the events from position from on that have a target at this agent, and
// the position to go on from. A block's events come together, so there may be up to a
// block more than maxEvents, and after much that is not for this agent there may be none
// although next is not yet the end.
func (j *Journal) ReadLocal(from uint64, maxEvents int) (items []LocalItem, next uint64, err error) {
	end, local, _ := j.ends()
	return j.readUpTo(from, maxEvents, end, local, j.isLocal)
}

// ReadInternal is ReadLocal for the events that agents send to each other for themselves.
func (j *Journal) ReadInternal(from uint64, maxEvents int) (items []LocalItem, next uint64, err error) {
	end, _, internal := j.ends()
	return j.readUpTo(from, maxEvents, end, internal, j.isInternal)
}

// readUpTo gives the wanted events from a position on; from position last to the end there
// are none.
func (j *Journal) readUpTo(from uint64, maxEvents int, end, last uint64, wanted func(*block.Head) bool) (items []LocalItem, next uint64, err error) {
	next = max(from, j.First())
	if next >= last { // a site that only sends need not read again what it sent
		return nil, max(next, end), nil
	}
	read := 0
	for next < end && len(items) < maxEvents && read < scanBytes {
		batch, err := j.batch(next)
		if err != nil || len(batch) == 0 {
			return items, next, err
		}
		for _, s := range batch {
			if s.pos >= end || len(items) >= maxEvents {
				break
			}
			next = s.last + 1
			read += len(s.data)
			r, err := j.parse(s)
			if err != nil {
				continue
			}
			for _, item := range j.items(s.pos, r, wanted) {
				items = append(items, item.LocalItem)
			}
		}
	}
	return items, next, nil
}

func (j *Journal) isLocal(h *block.Head) bool {
	return !internal(h) && slices.ContainsFunc(h.Targets, func(t block.Target) bool { return t.Agent == j.cfg.Self })
}

// Scan calls fn for the events of one ordering key, or all with keyHash 0, accepted here
// and received, in the order of the journal, until fn gives false.
func (j *Journal) Scan(ctx context.Context, keyHash uint64, fn func(ScanItem) bool) error {
	wanted := func(h *block.Head) bool { return keyHash == 0 || h.Key == keyHash }
	return j.each(ctx, j.First(), j.Next(), func(pos uint64, r record) bool {
		for _, item := range j.items(pos, r, wanted) {
			if !fn(item) {
				return false
			}
		}
		return true
	})
}

// Get gives one event.
func (j *Journal) Get(ref Ref) (ScanItem, error) {
	var s stored
	err := j.cfg.Log.Each(ref.Pos, 1, 1, func(pos, last uint64, data []byte, damage error) {
		s = stored{pos, last, data, damage}
	})
	if err != nil {
		return ScanItem{}, fmt.Errorf("read journal: %w", err)
	}
	if s.pos != ref.Pos {
		return ScanItem{}, fmt.Errorf("event %s: %w", ref, ErrNotHeld)
	}
	r, err := j.parse(s)
	if err != nil {
		return ScanItem{}, fmt.Errorf("event %s: %w", ref, err)
	}
	for _, item := range j.items(s.pos, r, func(*block.Head) bool { return true }) {
		if item.Index == ref.Index {
			return item, nil
		}
	}
	return ScanItem{}, fmt.Errorf("event %s: %w", ref, ErrNotHeld)
}

// items gives the events of a record whose head is wanted. A block is opened only if it
// holds one.
func (j *Journal) items(pos uint64, r record, wanted func(*block.Head) bool) []ScanItem {
	if e := r.entry; e != nil {
		if !wanted(&e.Head) {
			return nil
		}
		item := ScanItem{Epoch: 0, Numbers: e.Numbers, Received: e.Received}
		item.LocalItem = localItem(pos, 0, j.cfg.Self, e.Head, e.Body)
		return []ScanItem{item}
	}
	if r.block == nil {
		return nil
	}
	envelope, heads, err := block.ParseHeads(r.block)
	if err != nil {
		j.report(pos, pos, err)
		return nil
	}
	var out []ScanItem
	var bodies []block.Item
	var fault error
	for i := range heads {
		if r.passes(i) || !wanted(&heads[i]) {
			continue
		}
		if bodies == nil && fault == nil {
			if _, bodies, fault = block.Open(r.block); fault != nil {
				if _, err := block.ParseEnvelope(r.block); err == nil { // whole as it came: not this disk's doing
					fault = &ForeignError{Agent: envelope.Origin.Agent, Err: fault}
				}
				j.report(pos, pos, fault)
			}
		}
		item := ScanItem{Epoch: envelope.Origin.Epoch, Relayed: r.relayed, Received: r.received}
		if fault == nil {
			item.LocalItem = localItem(pos, i, envelope.Origin.Agent, heads[i], bodies[i].Body)
		} else {
			item.LocalItem = LocalItem{Pos: pos, Index: i, Source: envelope.Origin.Agent, Head: heads[i], Fault: fault.Error()}
		}
		out = append(out, item)
	}
	return out
}

func localItem(pos uint64, index int, source string, head block.Head, body []byte) LocalItem {
	item := LocalItem{Pos: pos, Index: index, Source: source, Head: head}
	var err error
	if item.Key, item.Event, err = block.SplitBody(body); err != nil {
		item.Fault = err.Error()
	}
	return item
}

// Gaps lists the gap records still held, in the order of the journal.
func (j *Journal) Gaps(ctx context.Context) ([]GapRecord, error) {
	var out []GapRecord
	err := j.each(ctx, j.First(), j.Next(), func(_ uint64, r record) bool {
		if r.gap != nil {
			out = append(out, *r.gap)
		}
		return true
	})
	return out, err
}
