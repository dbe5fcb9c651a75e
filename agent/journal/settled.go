package journal

import (
	"cmp"
	"maps"
	"slices"

	"github.com/crossdock/crossdock/protocol/block"
)

const (
	maxTrail = 4096 // points of one inbound lane
	maxRuns  = 4096 // changes of revision
)

// trail says up to where an inbound lane had come at which position, for what is not
// settled yet.
type trail struct {
	points  []lanePoint // ascending; everything up to number stands at or before pos
	settled uint64
}

func (t *trail) add(number, pos uint64) {
	if len(t.points) == maxTrail { // every second one will do: the lane is then found settled a little later
		kept := t.points[:0]
		for i, p := range t.points {
			if i%2 == 1 {
				kept = append(kept, p)
			}
		}
		t.points = kept
	}
	t.points = append(t.points, lanePoint{number, pos})
}

// trailOf finds or makes the trail of a lane; j.mu is held.
func (j *Journal) trailOf(l lane) *trail {
	t := j.trails[l]
	if t == nil {
		t = &trail{}
		j.trails[l] = t
	}
	return t
}

// retrace notes an inbound record that was found at the start. What the lane had before it
// stands before the oldest position that was read.
func (j *Journal) retrace(l lane, first, last, pos, from uint64) {
	t := j.trailOf(l)
	if len(t.points) == 0 {
		t.add(first-1, from-1)
	}
	t.add(last, pos)
}

// retraceRest does so for lanes of which no record was found.
func (j *Journal) retraceRest(from uint64) {
	for source, epochs := range j.in {
		for epoch, n := range epochs {
			if t := j.trailOf(lane{source, epoch}); len(t.points) == 0 {
				t.add(n, from-1)
			}
		}
	}
}

// Settled gives for each lane to this agent the highest number up to which everything
// stands before a position, which is the lowest at which a delivery is still to be done.
func (j *Journal) Settled(unsettled uint64) []Inbound {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []Inbound
	for l, t := range j.trails {
		n := 0
		for n < len(t.points) && t.points[n].pos < unsettled {
			t.settled = max(t.settled, t.points[n].number)
			n++
		}
		t.points = slices.Delete(t.points, 0, n)
		if t.settled > 0 {
			out = append(out, Inbound{Source: l.source, Epoch: l.epoch, Highwater: t.settled})
		}
	}
	slices.SortFunc(out, func(a, b Inbound) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Epoch, b.Epoch))
	})
	return out
}

// run is a stretch of the journal whose events for other agents were accepted under one
// revision.
type run struct {
	last     uint64 // position of its last event
	revision block.Revision
}

// noteRevision adds an event for other agents; j.mu is held, except by Open.
func (j *Journal) noteRevision(r block.Revision, pos uint64) {
	if r == (block.Revision{}) { // a fact: no policy decided about it
		return
	}
	n := len(j.runs)
	if n > 0 && j.runs[n-1].revision == r {
		j.runs[n-1].last = pos
		return
	}
	if n == maxRuns { // the two oldest as one, under the earlier revision
		if j.runs[0].revision.Less(j.runs[1].revision) {
			j.runs[1].revision = j.runs[0].revision
		}
		j.runs = slices.Delete(j.runs, 0, 1)
	}
	j.runs = append(j.runs, run{last: pos, revision: r})
}

// Flushed gives the newest revision, at most held, such that every event that was accepted
// here under an earlier one has left for the other agents. taken says the lowest position
// that still holds something to be sent; it is asked only if that can matter. From the
// answer on, an event of an earlier revision is not accepted any more (ErrOutdated), so
// what was said stays true. Zero: not known yet.
func (j *Journal) Flushed(held block.Revision, taken func() (uint64, error)) (block.Revision, error) {
	if held == (block.Revision{}) {
		return held, nil
	}
	if j.mayLack(held) {
		needed, err := taken()
		if err != nil {
			return block.Revision{}, err
		}
		j.mu.Lock()
		j.runs = slices.DeleteFunc(j.runs, func(r run) bool { return r.last < needed })
		if needed >= j.runsFrom {
			j.runsFrom = 0
		}
		j.mu.Unlock()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.runsFrom > 0 {
		return block.Revision{}, nil
	}
	out := held
	for _, r := range j.runs {
		if r.revision.Less(out) {
			out = r.revision
		}
	}
	for _, r := range j.committing { // numbered by a commit that is under way
		if r.Less(out) {
			out = r
		}
	}
	if j.floor.Less(out) {
		j.floor = out
	}
	return out, nil
}

// mayLack reports whether something of an earlier revision may still be here.
func (j *Journal) mayLack(held block.Revision) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.runsFrom > 0 || slices.ContainsFunc(j.runs, func(r run) bool { return r.revision.Less(held) })
}

// enter reports whether an event of this revision may still be accepted. If so, Flushed
// minds it from now on.
func (j *Journal) enter(r block.Revision) bool {
	if r == (block.Revision{}) {
		return true
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.Less(j.floor) {
		return false
	}
	if !slices.Contains(j.committing, r) {
		j.committing = append(j.committing, r)
	}
	return true
}

// leave ends what enter began: what was committed stands in the runs.
func (j *Journal) leave() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.committing = nil
}

// inboundOf copies what is known of one source's lanes.
func (j *Journal) inboundOf(source string) map[uint64]uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.in[source])
}
