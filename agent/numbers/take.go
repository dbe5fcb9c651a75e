package numbers

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// maxShared is how many references get their numbers in one commit.
const maxShared = 256

// taking is a reference that wants numbers. Everything in it is guarded by the store's lock once
// it stands in the line.
type taking struct {
	name, reference string
	count           uint64
	answered        bool
	blocks          []block
	err             error
}

// line is of those that wait for the store's lock, which is held while a commit waits for the
// disk: whoever gets it takes for all of them with one commit.
type line struct {
	mu      sync.Mutex // guards waiting
	waiting []*taking
}

func (l *line) join(t *taking) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, t)
}

func (l *line) next() []*taking {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.waiting), maxShared)
	out := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	return out
}

// batch is what one commit gives.
type batch struct {
	records map[string]rangeRecord // as they are when it is on disk, by range
	given   map[string][]block     // by key
	keys    []string               // of given, in their order
}

// Take gives numbers for a reference, such as a shipment and its parcel. The same reference
// gets the same numbers again. They are this reference's for good when Take returns.
func (s *Store) Take(name, reference string, count int) ([]Number, error) {
	if reference == "" || len(reference) > MaxReference || count < 1 || count > MaxCount {
		return nil, fmt.Errorf("%w: a reference of 1 to %d bytes, and 1 to %d numbers", ErrRequest, MaxReference, MaxCount)
	}
	r := s.rangeOf(name)
	if r == nil {
		return nil, fmt.Errorf("%w: %q is not in the policy, or not for site %s", ErrRange, name, s.cfg.Site)
	}
	t := &taking{name: name, reference: reference, count: uint64(count)}
	s.line.join(t)
	blocks, err := s.taken(t)
	if err != nil {
		return nil, err
	}
	out := make([]Number, 0, count)
	for _, b := range blocks {
		for n := b.First; n <= b.Last; n++ {
			text, err := Text(r.Span.Form, n)
			if err != nil {
				return nil, err
			}
			out = append(out, Number{Serial: n, Text: text})
		}
	}
	return out, nil
}

// taken waits for what came of one in the line.
func (s *Store) taken(t *taking) ([]block, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !t.answered { // a longer line than one commit takes has others before it
		s.serve(s.line.next())
	}
	return t.blocks, t.err
}

// serve answers those that wait, with one commit for all. The caller holds the lock.
func (s *Store) serve(waiting []*taking) {
	b := batch{records: map[string]rangeRecord{}, given: map[string][]block{}}
	var unsure []*taking // until the commit
	for _, t := range waiting {
		t.answered = true
		var known bool
		if t.blocks, known, t.err = s.takeOne(t, &b); t.err == nil && !known {
			unsure = append(unsure, t)
		}
	}
	if len(unsure) == 0 {
		return
	}
	if err := s.commit(&b); err != nil {
		for _, t := range unsure {
			t.blocks, t.err = nil, err
		}
		return
	}
	maps.Copy(s.held, b.records)
	for name := range b.records {
		if s.few(name) {
			nudge(s.changed)
			nudge(s.look)
		}
	}
}

// takeOne finds what a reference has, or takes numbers that nobody has into the batch. known
// says that they are on disk already. The caller holds the lock.
func (s *Store) takeOne(t *taking, b *batch) (blocks []block, known bool, err error) {
	if s.broken != nil {
		return nil, false, s.broken // also what was given before: it may not be on disk
	}
	k := string(givenKey(t.name, t.reference))
	blocks, found := b.given[k]
	if !found {
		if blocks, known, err = s.given(t.name, t.reference); err != nil {
			return nil, false, err
		}
	}
	switch {
	case (found || known) && countOf(blocks) != t.count:
		return nil, false, fmt.Errorf("%w: %d then, %d now", ErrReference, countOf(blocks), t.count)
	case found || known:
		return blocks, known, nil
	}
	if err := s.barred(); err != nil {
		return nil, false, err
	}
	record, begun := b.records[t.name]
	if !begun {
		record = s.held[t.name]
	}
	if record.left() < t.count {
		s.short[t.name] = max(s.short[t.name], t.count) // it is asked again, and low may be less
		nudge(s.changed)
		return nil, false, fmt.Errorf("%w: range %s has %d here, %d are asked for", ErrUsedUp, t.name, record.left(), t.count)
	}
	b.records[t.name], blocks = record.take(t.count)
	b.given[k], b.keys = blocks, append(b.keys, k)
	return blocks, false, nil
}
