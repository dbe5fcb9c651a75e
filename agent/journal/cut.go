package journal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/crossdock/crossdock/protocol/block"
)

const notHeld = "no longer held in the source's journal: its history was let go after it had been taken"

// Cut reads the journal from position from and cuts what the lanes in want need next into
// at most about maxBlocks blocks; want maps a destination to the next number wanted. next
// is where to go on from, with the numbers that follow the cuts. It may return nothing
// although next is not yet the end, after a stretch that holds nothing for these lanes.
//
// Lower numbers are passed over. A higher one means that from is behind the wanted entry
// (*SeekError, ask Seek), unless records on the way were damaged or the whole journal was
// read: then the numbers between are a Gap.
func (j *Journal) Cut(want map[string]uint64, from uint64, maxBlocks int) (cuts []Cut, next uint64, err error) {
	first := j.First()
	c := &cutter{j: j, want: map[string]uint64{}, max: max(maxBlocks, 1), met: map[string]bool{}, unsure: map[string]bool{}, whole: from <= first}
	j.mu.Lock()
	c.highest, c.end = maps.Clone(j.out), j.end
	j.mu.Unlock()
	for dest, n := range want {
		c.want[dest] = max(n, 1)
	}
	next, err = c.run(max(from, first))
	if err != nil {
		return nil, from, err
	}
	return c.cuts, next, nil
}

// cutter is one call of Cut.
type cutter struct {
	j       *Journal
	want    map[string]uint64
	highest map[string]uint64 // numbers given by position end
	end     uint64
	max     int
	whole   bool // the scan began with the oldest record
	cuts    []Cut

	// The block being gathered.
	lanes             []block.Lane
	items             []block.Item
	size              int
	firstPos, lastPos uint64

	// What a damaged record left open: its position, why, and the lanes that were met before
	// it and not again since. Of a lane not met before it, the wanted number may lie before
	// the scan as well.
	damagePos uint64
	cause     string
	met       map[string]bool
	unsure    map[string]bool
}

func (c *cutter) run(at uint64) (next uint64, err error) {
	read := 0
	for at < c.end {
		batch, err := c.j.batch(at)
		if err != nil {
			return 0, err
		}
		if len(batch) == 0 {
			break
		}
		for _, s := range batch {
			if s.pos >= c.end {
				break
			}
			full, err := c.record(s)
			if err != nil {
				return 0, err
			}
			if full {
				return c.resume(s.pos), nil
			}
			at = s.last + 1
			read += len(s.data)
		}
		if read >= scanBytes && len(c.unsure) == 0 {
			c.flush()
			return at, nil
		}
	}
	c.flush()
	return c.end, c.finish()
}

// resume goes back to a damaged record while some lane was not met since: what is missing
// on it can only be told from there.
func (c *cutter) resume(at uint64) uint64 {
	if len(c.unsure) > 0 {
		return c.damagePos
	}
	return at
}

// finish settles lanes whose numbers were given but not met up to the end.
func (c *cutter) finish() error {
	for _, dest := range slices.Sorted(maps.Keys(c.want)) {
		if c.want[dest] <= c.highest[dest] {
			if err := c.gap(dest, c.highest[dest]+1, c.end-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// record takes one record into the cuts; full says that it has to wait for another call.
func (c *cutter) record(s stored) (full bool, err error) {
	r, err := c.j.parse(s)
	if err != nil {
		c.damaged(s.pos, err)
		return false, nil
	}
	if r.entry == nil {
		return false, nil
	}
	set, missing := c.lanesOf(r.entry)
	if len(set) == 0 {
		return false, nil
	}
	if missing || !c.joins(set, len(r.entry.Body)) {
		if c.flush(); len(c.cuts) >= c.max {
			return true, nil
		}
	}
	for _, l := range set {
		if l.First > c.want[l.Agent] {
			if err := c.gap(l.Agent, l.First, s.pos); err != nil {
				return false, err
			}
		}
		c.want[l.Agent] = l.First + 1
		c.met[l.Agent] = true
		delete(c.unsure, l.Agent)
	}
	if len(c.items) == 0 {
		c.lanes, c.firstPos, c.size = set, s.pos, 0
	}
	c.items = append(c.items, r.entry.Item)
	c.size += len(r.entry.Body)
	c.lastPos = s.pos
	return false, nil
}

// lanesOf gives the wanted lanes that an entry is next on, and whether on one of them
// numbers before it are missing.
func (c *cutter) lanesOf(e *block.Entry) (set []block.Lane, missing bool) {
	for _, n := range e.Numbers {
		want, ok := c.want[n.Agent]
		if !ok {
			continue
		}
		if n.Seq < want {
			c.met[n.Agent] = true
			delete(c.unsure, n.Agent)
			continue
		}
		missing = missing || n.Seq > want
		set = append(set, block.Lane{Agent: n.Agent, First: n.Seq})
	}
	slices.SortFunc(set, func(a, b block.Lane) int { return cmp.Compare(a.Agent, b.Agent) })
	return set, missing
}

// joins says whether an entry for set can go into the block being gathered. Density makes
// its numbers follow on.
func (c *cutter) joins(set []block.Lane, size int) bool {
	if len(c.items) == 0 {
		return true
	}
	return len(c.items) < block.MaxEvents && c.size+size <= block.MaxPayload &&
		slices.EqualFunc(c.lanes, set, func(a, b block.Lane) bool { return a.Agent == b.Agent })
}

func (c *cutter) damaged(pos uint64, err error) {
	if len(c.unsure) == 0 {
		c.damagePos = pos
	}
	c.cause = fmt.Sprintf("record %d of the source's journal: %v", pos, err)
	for dest, n := range c.want {
		if n <= c.highest[dest] && (c.whole || c.met[dest]) {
			c.unsure[dest] = true
		}
	}
}

// gap emits the numbers from the wanted one to met-1 as a gap.
func (c *cutter) gap(dest string, met, pos uint64) error {
	cause := notHeld
	switch {
	case c.unsure[dest]:
		cause = c.cause
	case !c.whole:
		return &SeekError{Destination: dest, Want: c.want[dest], Met: met}
	}
	c.cuts = append(c.cuts, Cut{
		Gap:      &Gap{Destination: dest, First: c.want[dest], Last: met - 1, Cause: cause},
		FirstPos: pos, LastPos: pos,
	})
	c.want[dest] = met
	delete(c.unsure, dest)
	return nil
}

// flush encodes the gathered block.
func (c *cutter) flush() {
	if len(c.items) > 0 {
		c.encode(c.lanes, c.items)
	}
	c.lanes, c.items, c.size = nil, nil, 0
}

// encode cuts one block, or two when heads with many targets make it too large.
func (c *cutter) encode(lanes []block.Lane, items []block.Item) {
	origin := block.Origin{Agent: c.j.cfg.Self, Epoch: c.j.epoch.Load()}
	text, err := block.Cut(origin, lanes, items)
	switch {
	case err == nil:
		c.cuts = append(c.cuts, Cut{Block: text, Lanes: lanes, Count: len(items), FirstPos: c.firstPos, LastPos: c.lastPos})
	case len(items) > 1:
		half := len(items) / 2
		c.encode(lanes, items[:half])
		rest := slices.Clone(lanes)
		for i := range rest {
			rest[i].First += uint64(half)
		}
		c.encode(rest, items[half:])
	default:
		for _, l := range lanes {
			c.cuts = append(c.cuts, Cut{
				Gap:      &Gap{Destination: l.Agent, First: l.First, Last: l.First, Cause: err.Error()},
				FirstPos: c.firstPos, LastPos: c.lastPos,
			})
		}
	}
}

// Seek gives a position from which Cut meets the wanted number of a lane: its entry's. If
// that is lost, it is a lower one's, or the first one held, so that Cut sees what is
// missing. Numbers not given yet are at the end.
func (j *Journal) Seek(dest string, number uint64) (pos uint64, err error) {
	number = max(number, 1)
	j.mu.Lock()
	end, highest := j.end, j.out[dest]
	points := j.index[dest]
	i, exact := slices.BinarySearchFunc(points, number, func(p lanePoint, n uint64) int { return cmp.Compare(p.number, n) })
	at := uint64(0)
	switch {
	case exact:
		at = points[i].pos
	case i > 0:
		at = points[i-1].pos
	}
	j.mu.Unlock()
	if number > highest {
		return end, nil
	}
	lower := j.First()
	for at = max(at, lower); at < end; {
		batch, err := j.batch(at)
		if err != nil {
			return 0, err
		}
		if len(batch) == 0 {
			break
		}
		for _, s := range batch {
			at = s.last + 1
			r, err := j.parse(s)
			if err != nil || r.entry == nil {
				continue
			}
			switch n, ok := r.entry.Number(dest); {
			case !ok:
			case n < number:
				lower = s.pos
			case n == number:
				return s.pos, nil
			default:
				return lower, nil
			}
		}
	}
	return lower, nil
}
