package state

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/serial"
)

// A serial that was leased may be printed on a parcel, so it is never leased again: not after
// a repeat, not by another range, not by a range of that name in a later revision, and not
// after a restore, when this state has forgotten leases of the life that was lost. Therefore
// the row of a range stays for ever; and after a restore a range gives nothing until every
// agent that may hold numbers of it has said what it holds, or an operator has.

// Limits on number ranges.
const (
	maxRanges     = 500
	maxLease      = 1_000_000 // numbers
	maxBlocksKept = 64        // blocks of one lease that are told apart
	maxMark       = math.MaxInt64
	maxStrange    = 4 * maxRanges // rows, beyond which names that only agents know make none
)

type (
	rangeRow struct {
		Range    model.NumberRange // as of the revision that came into force last; Span.Last is the highest ever
		Next     uint64            // first serial that was never leased
		Released uint64            // generation in which an operator has vouched for Next
	}
	leaseRow struct {
		Epoch     uint64
		Blocks    []model.NumberBlock
		Leased    uint64
		Forfeited uint64
		Request   [16]byte // that was answered with the last of Blocks
		At        time.Time
	}
)

// known tells a range from a name that only agents have spoken of.
func (r *rangeRow) known() bool { return r.Range.Span.Last > 0 }

func (v view) ranges() (rows []*rangeRow) {
	v.each(tableRanges, nil, nil, func(k, value []byte) bool {
		rows = append(rows, parse[rangeRow](tableRanges, k, value))
		return true
	})
	return rows
}

func (t *tx) storeRange(row *rangeRow) {
	put(t, tableRanges, []byte(row.Range.Name), row)
	t.changed("ranges")
}

// checkRanges looks at the ranges of a proposal and gives them by name.
func (t *tx) checkRanges(ranges []model.NumberRange, sites []string) ([]model.NumberRange, *model.Error) {
	if len(ranges) > maxRanges {
		return nil, model.Errorf(model.TooLarge, "the revision has %d number ranges, the limit is %d", len(ranges), maxRanges)
	}
	out := slices.SortedFunc(slices.Values(ranges), func(a, b model.NumberRange) int { return strings.Compare(a.Name, b.Name) })
	for i, r := range out {
		switch fault := r.Span.Fault(); {
		case !validName(r.Name) || r.Block == 0 || r.Block > maxLease || len(r.Sites) > maxSites:
			return nil, model.Errorf(model.Invalid, "number range %q in blocks of %d cannot be", clip(r.Name, maxName), r.Block)
		case fault != "":
			return nil, model.Errorf(model.Invalid, "number range %s has %s", r.Name, fault)
		case slices.ContainsFunc(r.Sites, func(s string) bool { _, found := slices.BinarySearch(sites, s); return !found }):
			return nil, model.Errorf(model.Invalid, "number range %s is for a site that is not in the revision", r.Name)
		}
		for _, other := range out[:i] {
			if other.Name == r.Name || serial.Cross(other.Span, r.Span) {
				return nil, model.Errorf(model.Invalid, "number ranges %s and %s could make the same numbers", other.Name, r.Name)
			}
		}
	}
	return out, t.neverGiven(out)
}

// neverGiven refuses ranges that could make numbers again which were given before, by
// whatever range that is in force or ever was.
func (t *tx) neverGiven(ranges []model.NumberRange) *model.Error {
	for _, row := range t.ranges() {
		if !row.known() {
			continue
		}
		old := row.Range
		for _, r := range ranges {
			switch {
			case r.Name != old.Name && serial.Cross(r.Span, old.Span):
				return model.Errorf(model.Conflict, "number range %s could make numbers of range %s again, which is in force or was before: choose serials that it never had", r.Name, old.Name)
			case r.Name == old.Name && (r.Span.Form != old.Span.Form || r.Span.First != old.Span.First || r.Span.Last+1 < row.Next):
				return model.Errorf(model.Conflict, "number range %s had another form, or begins or ends elsewhere, and its serials up to %d are leased: "+
					"a range only grows at its end; anything else is a new range with a name of its own", r.Name, row.Next-1)
			}
		}
	}
	return nil
}

// keepRanges makes rows of what a revision has, from when on sites may take from it.
func (t *tx) keepRanges(r *model.Revision) {
	for _, n := range r.Ranges {
		row := get[rangeRow](t.view, tableRanges, []byte(n.Name))
		if row == nil {
			row = &rangeRow{}
		}
		n.Span.Last = max(n.Span.Last, row.Range.Span.Last)
		row.Range, row.Next = n, max(row.Next, n.Span.First)
		t.storeRange(row)
	}
}

// rangeAt finds what the revision that is in force at a site says of a range; nil if it does
// not let the site take from it.
func (t *tx) rangeAt(site, name string) *model.NumberRange {
	r := t.canary()
	if r == nil || !slices.Contains(r.Canary, site) {
		r = t.inForce()
	}
	if r == nil {
		return nil
	}
	for i := range r.Ranges {
		if n := &r.Ranges[i]; n.Name == name && slices.Contains(n.Sites, site) {
			return n
		}
	}
	return nil
}

// roll is what the agents have said of numbers since a restore.
type roll struct {
	generation uint64
	agents     []*model.Agent // that may hold some
	manned     map[string]bool
}

func (v view) roll() roll {
	cluster := v.cluster()
	out := roll{manned: map[string]bool{}}
	if cluster == nil || cluster.Generation <= 1 {
		return out
	}
	out.generation = cluster.Generation
	v.each(tableAgents, nil, nil, func(k, value []byte) bool {
		a := parse[model.Agent](tableAgents, k, value)
		out.manned[a.Site] = true
		// One that was revoked before got nothing in the life that was lost.
		if a.Revoked.IsZero() || cluster.Rebuilt != nil && a.Revoked.After(cluster.Rebuilt.At) {
			out.agents = append(out.agents, a)
		}
		return true
	})
	return out
}

// unheard names who may hold numbers of a range that this state does not know of: after a
// restore agents that have not said yet what they hold, agents whose former data is lost, and
// sites whose agent may have enrolled in the life that was lost.
func (r roll) unheard(row *rangeRow) (names []string) {
	if r.generation == 0 || row.Released >= r.generation {
		return nil
	}
	for _, a := range r.agents {
		if a.Doubt > row.Released {
			names = append(names, a.Name+" (its former data)")
		} else if a.Heard < r.generation {
			names = append(names, a.Name)
		}
	}
	for _, s := range row.Range.Sites {
		if !r.manned[s] {
			names = append(names, "site "+s)
		}
	}
	return names
}

func nameSome(names []string) string {
	const few = 8
	if len(names) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}

func (t *tx) leaseNumbers(c *model.LeaseNumbers) (*model.NumberBlock, *model.Error) {
	agent, err := t.speaker(c.Agent)
	if err != nil {
		return nil, err
	}
	if c.Epoch != agent.Epoch {
		return nil, fenced(agent, c.Epoch)
	}
	if c.Request == [16]byte{} || c.Highest > maxMark {
		return nil, model.Errorf(model.Invalid, "numbers are asked for with a request id, so that a repeat is known, and beyond a serial that can be")
	}
	k := key(c.Range, []byte(agent.Name))
	lease := get[leaseRow](t.view, tableLeases, k)
	if lease == nil || lease.Epoch != agent.Epoch {
		lease = &leaseRow{Epoch: agent.Epoch, Leased: leasedBy(lease), Forfeited: forfeitedBy(lease)}
	}
	if lease.Request == c.Request {
		last := lease.Blocks[len(lease.Blocks)-1]
		return &last, nil // the answer was lost
	}
	row, says := get[rangeRow](t.view, tableRanges, []byte(c.Range)), t.rangeAt(agent.Site, c.Range)
	if row == nil || says == nil {
		return nil, model.Errorf(model.NotFound, "the revision in force at site %s lets it take from no number range %q", agent.Site, clip(c.Range, maxName))
	}
	if waiting := t.roll().unheard(row); len(waiting) > 0 {
		return nil, model.Errorf(model.Conflict, "range %s gives no numbers yet: the control plane was restored, and what it leased since the backup is known "+
			"when these have spoken: %s; or run: crossdock ranges release %s", row.Range.Name, nameSome(waiting), row.Range.Name)
	}
	first := max(row.Next, c.Highest+1)
	if first > says.Span.Last {
		return nil, t.usedUp(row, says, c.At)
	}
	count := says.Block
	if c.Want > 0 {
		count = min(count, c.Want)
	}
	given := model.NumberBlock{First: first, Last: first + min(count-1, says.Span.Last-first)}
	row.Next = given.Last + 1
	t.storeRange(row)
	lease.Blocks = append(stillHeld(lease.Blocks, c.Have), given)
	lease.Leased += given.Count()
	lease.Request, lease.At = c.Request, c.At
	put(t, tableLeases, k, lease)
	t.audit(c.At, "agent:"+agent.Name, "numbers.lease", row.Range.Name, map[string]any{
		"first": given.First, "last": given.Last, "have": c.Have, "epoch": agent.Epoch,
	})
	return &given, nil
}

func leasedBy(l *leaseRow) uint64 {
	if l == nil {
		return 0
	}
	return l.Leased
}

func forfeitedBy(l *leaseRow) uint64 {
	if l == nil {
		return 0
	}
	return l.Forfeited
}

// usedUp refuses, and tells people once for each end of the range.
func (t *tx) usedUp(row *rangeRow, says *model.NumberRange, at time.Time) *model.Error {
	t.exceptOnce(&model.Exception{
		ID: fmt.Sprintf("%s/range-used-up/%s/%d", block.Control, row.Range.Name, says.Span.Last), Agent: block.Control, Kind: "range-used-up", At: at,
		Text: fmt.Sprintf("Number range %s is leased up to its end, %d. Sites go on with what they hold. Propose a revision in which it ends later (to), or a new range.",
			row.Range.Name, says.Span.Last),
	})
	return model.Errorf(model.TooLarge, "number range %s is leased up to its end, %d: let it end later (to), or make a new range", row.Range.Name, says.Span.Last)
}

// stillHeld leaves of the blocks, which are used in their order, those that an agent with so
// many numbers left may still have some of.
func stillHeld(blocks []model.NumberBlock, have uint64) []model.NumberBlock {
	held := uint64(0)
	for i := len(blocks) - 1; i >= 0; i-- {
		if held >= have || len(blocks)-i >= maxBlocksKept {
			return slices.Clone(blocks[i+1:])
		}
		held += blocks[i].Count()
	}
	return slices.Clone(blocks)
}

// forfeit ends the leases of an agent: a copy of it, or its lost data, may have used them.
// After a restore they may have been more than this state knows of.
func (t *tx) forfeit(agent *model.Agent, at time.Time) {
	if g := t.cluster().Generation; g > 1 && agent.Heard < g {
		agent.Doubt = g
	}
	for _, row := range t.ranges() {
		k := key(row.Range.Name, []byte(agent.Name))
		lease := get[leaseRow](t.view, tableLeases, k)
		if lease == nil || len(lease.Blocks) == 0 {
			continue
		}
		for _, b := range lease.Blocks {
			lease.Forfeited += b.Count()
		}
		t.audit(at, "agent:"+agent.Name, "numbers.forfeit", row.Range.Name, map[string]any{"blocks": lease.Blocks, "epoch": lease.Epoch})
		lease.Blocks, lease.Request = nil, [16]byte{}
		put(t, tableLeases, k, lease)
		t.changed("ranges")
	}
}

// endEpoch is for when an agent's data of an epoch counts no more. The caller stores the agent.
func (t *tx) endEpoch(agent *model.Agent, at time.Time) {
	t.endLanes(agent.Name, agent.Epoch, at)
	t.forfeit(agent, at)
}

// heard takes what an agent says it holds. The next lease of a range begins beyond it,
// whatever this state knew before. The caller stores the agent.
func (t *tx) heard(agent *model.Agent, marks []model.NumberMark, at time.Time) {
	generation := t.cluster().Generation
	strange := maxStrange - len(t.ranges())
	for _, m := range marks[:min(len(marks), maxRanges)] {
		row := get[rangeRow](t.view, tableRanges, []byte(m.Range))
		if row == nil && generation > 1 && validName(m.Range) && strange > 0 {
			strange--
			row = &rangeRow{Range: model.NumberRange{Name: m.Range}} // of a revision of the life that was lost
		}
		if row == nil || m.Highest < row.Next || m.Highest > maxMark {
			continue
		}
		before := row.Next
		row.Next = m.Highest + 1
		t.storeRange(row)
		t.exceptOnce(&model.Exception{
			ID: fmt.Sprintf("%s/numbers-ahead/%s/%d", agent.Name, m.Range, m.Highest), Agent: agent.Name, Kind: "numbers-ahead", At: at,
			Text: fmt.Sprintf("Agent %s holds numbers of range %s up to %d, and the control plane knew of leases up to %d only: they were leased after the backup "+
				"that it was restored from. It goes on behind them. Nothing is to be done.", agent.Name, m.Range, m.Highest, max(before, 1)-1),
		})
		t.audit(at, "agent:"+agent.Name, "numbers.ahead", m.Range, map[string]any{"highest": m.Highest, "next": before})
	}
	if agent.Heard != generation {
		agent.Heard = generation
		t.changed("ranges")
	}
}

// holdRanges tells people that numbers have to wait, when another life of the cluster begins.
func (t *tx) holdRanges(at time.Time) {
	if len(t.ranges()) == 0 {
		return
	}
	generation := t.cluster().Generation
	t.except(&model.Exception{
		ID: fmt.Sprintf("%s/ranges-held/%d", block.Control, generation), Agent: block.Control, Kind: "ranges-held", At: at,
		Text: "The control plane was restored and does not know which numbers it leased since the backup. Number ranges give no new numbers until every agent " +
			"has said what it holds; sites go on with what they have. Who is missing: crossdock ranges. For an agent that never comes back: crossdock ranges release",
	})
	t.changed("ranges")
}

func (t *tx) releaseRange(c *model.ReleaseRange) *model.Error {
	if err := t.need(c.By, model.Operator); err != nil {
		return err
	}
	row := get[rangeRow](t.view, tableRanges, []byte(c.Range))
	if c.Range == "" || row == nil || !row.known() {
		return model.Errorf(model.NotFound, "there is no number range %q", clip(c.Range, maxName))
	}
	waiting := t.roll().unheard(row)
	switch {
	case len(waiting) == 0:
		return model.Errorf(model.Conflict, "number range %s waits for nobody", row.Range.Name)
	case c.Next < row.Next || c.Next > row.Range.Span.Last+1:
		return model.Errorf(model.Invalid, "number range %s goes on at %d at the earliest and %d at the latest, not at %d", row.Range.Name, row.Next, row.Range.Span.Last+1, c.Next)
	}
	before := row.Next
	row.Next, row.Released = c.Next, t.cluster().Generation
	t.storeRange(row)
	t.audit(c.At, c.By, "numbers.release", row.Range.Name, map[string]any{"next": c.Next, "before": before, "waiting": waiting})
	return nil
}

// Ranges lists the number ranges that are in force or ever were, by name, and who holds what.
func (r *Reader) Ranges() (list []model.RangeStatus) {
	r.read(func(v view) {
		inForce := map[string]bool{}
		n, agents := v.counters(), v.roll()
		for _, number := range []uint64{n.Active, n.Canary} {
			if revision := get[model.Revision](v, tableRevisions, key(number)); number != 0 && revision != nil {
				for _, one := range revision.Ranges {
					inForce[one.Name] = true
				}
			}
		}
		for _, row := range v.ranges() {
			if !row.known() {
				continue
			}
			one := model.RangeStatus{NumberRange: row.Range, InForce: inForce[row.Range.Name], Next: row.Next, Waiting: agents.unheard(row)}
			prefix := key(row.Range.Name)
			v.each(tableLeases, prefix, nil, func(k, value []byte) bool {
				l := parse[leaseRow](tableLeases, k, value)
				one.Leases = append(one.Leases, model.LeaseStatus{Agent: string(k[len(prefix):]), Epoch: l.Epoch, Blocks: l.Blocks,
					Leased: l.Leased, Forfeited: l.Forfeited, At: l.At})
				return true
			})
			list = append(list, one)
		}
	})
	return list
}
