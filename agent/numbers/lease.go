package numbers

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Marks tells of each range that this agent holds or ever held, by name; of those that the
// policy has rather than of others, where they are too many. Not ok if that is not known,
// because the file was damaged.
func (s *Store) Marks() (marks []Mark, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.held))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(s.rank(a), s.rank(b)) })
	for _, name := range names[:min(len(names), maxMarks)] {
		if record := s.held[name]; record.Highest > 0 {
			marks = append(marks, Mark{Range: name, Highest: record.Highest, Used: record.Used, Form: record.Form})
		}
	}
	return marks, !s.lost
}

func (s *Store) rank(name string) int {
	if s.rangeOf(name) != nil {
		return 0
	}
	return 1
}

// Changed has a token when Wanted may have something new.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// PolicyChanged says that another revision is in force.
func (s *Store) PolicyChanged() {
	nudge(s.changed)
	nudge(s.look)
}

// Wanted lists what is to be leased now. A request is on disk before it is listed, and is
// listed until it is answered: its answer may have been lost.
func (s *Store) Wanted() (out []Request, err error) {
	set := s.cfg.Policy()
	if set == nil {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.barred(); errors.Is(err, ErrFenced) {
		return nil, nil // until this copy is let in again
	} else if err != nil {
		return nil, err // first it has to be known which copy this is
	}
	for _, r := range set.RangesAt(s.cfg.Site) {
		record := s.held[r.Name]
		if !s.few(r.Name) {
			continue
		}
		if record.Request == [16]byte{} {
			rand.Read(record.Request[:]) // never fails
			if err := s.commitOne(r.Name, record); err != nil {
				return nil, err
			}
			s.held[r.Name] = record
		}
		out = append(out, Request{Range: r.Name, ID: record.Request, Have: record.left(), Want: r.Block, Highest: record.Highest})
	}
	return out, nil
}

// Leased takes the answer to a request: serials that are this agent's from now on.
func (s *Store) Leased(name string, request [16]byte, first, last uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	record := s.held[name]
	if record.Request != request || request == [16]byte{} {
		return nil // it was answered, or belongs to an epoch that is over
	}
	if first <= record.Highest || last < first {
		return fmt.Errorf("range %s: the control plane leased serials %d to %d, and this agent holds or has given some up to %d already: "+
			"it is not to be given twice, look at `crossdock ranges` and at the record", name, first, last, record.Highest)
	}
	record.Blocks = append(slices.Clone(record.Blocks), block{First: first, Last: last})
	record.Highest, record.Request = last, [16]byte{}
	if r := s.rangeOf(name); r != nil {
		record.Form = r.Span.Form
	}
	if err := s.commitOne(name, record); err != nil {
		return err
	}
	s.held[name] = record
	delete(s.refused, name)
	if record.left() >= s.short[name] {
		delete(s.short, name)
	}
	s.log.Info("numbers leased", "range", name, "first", first, "last", last, "left", record.left())
	if s.few(name) {
		nudge(s.changed)
	}
	nudge(s.look)
	return nil
}

// Refused notes why a request was not answered by a block. The request stays.
func (s *Store) Refused(name, why string) {
	s.mu.Lock()
	before := s.refused[name]
	s.refused[name] = why
	s.mu.Unlock()
	if before != why {
		s.log.Warn("no numbers were leased", "range", name, "why", why)
		nudge(s.look)
	}
}

// Agreed says that the control plane knows this very copy of the agent as the one that
// counts. What a file held that was left alone is given up all the same: whoever put it back
// may have used the numbers that it still has, in an outage, and the control plane cannot tell.
func (s *Store) Agreed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.doubt && !s.state.Fenced {
		return nil
	}
	s.state.Fenced, s.state.Alive = false, s.cfg.Now().Unix()
	if !s.doubt {
		return s.save()
	}
	return s.drop(s.state.Epoch, "this data was left alone for a while, so that it may be a copy that was put back")
}

// Vouch is a person's word that the file is no copy that was put back.
func (s *Store) Vouch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.doubt {
		return ErrNoDoubt
	}
	s.state.Alive = s.cfg.Now().Unix()
	if err := s.save(); err != nil {
		return err
	}
	s.doubt = false
	s.log.Warn("a person vouches for the numbers that are held here")
	s.cfg.Alarm("numbers-vouched", fmt.Sprint(s.state.Alive), fmt.Sprintf("site %s was off for a while, and a person there has said that no image of its disk was put back: "+
		"it gives the numbers that it holds", s.cfg.Site))
	nudge(s.changed)
	return nil
}

// Fenced says that another copy of this agent counts: it gives what was leased.
func (s *Store) Fenced() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Fenced {
		return nil
	}
	s.state.Fenced = true
	return s.save()
}

// Begin goes on in another epoch: what was leased in the one before may have been given by
// the data that was lost.
func (s *Store) Begin(epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch == s.state.Epoch {
		return nil
	}
	return s.drop(epoch, "a new epoch has begun, because this is an old copy of the agent's data or another one is running")
}

// drop gives up all leases. The caller holds the lock.
func (s *Store) drop(epoch uint64, why string) error {
	left := s.leftInAll()
	s.state.Epoch = epoch
	held := maps.Clone(s.held)
	for name, record := range held {
		record.Blocks, record.Request = nil, [16]byte{}
		held[name] = record
	}
	if err := s.saveAll(held); err != nil {
		return err
	}
	s.held, s.doubt = held, false
	if left > 0 {
		s.log.Warn("leases of numbers are dropped", "numbers", left, "why", why)
	}
	nudge(s.changed)
	return nil
}
