package state

import (
	"encoding/json"
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
// the row of a range stays for ever; and a range leases so many numbers an hour at most, a
// limit that is fixed with the range, so that a restored state knows which serials it can have
// leased since: it goes on behind them. It takes nobody's word for that. Where the limit cannot
// tell, the range is held until an operator says where to go on.

// Limits on number ranges.
const (
	maxRanges     = 500
	maxLease      = 1_000_000 // numbers
	maxBlocksKept = 64        // blocks of one lease that are told apart
	maxMark       = math.MaxInt64

	hourlyBlocks = 50                  // that a range leases in an hour, where its document does not say
	maxHourly    = 1_000_000_000       // numbers
	maxSkew      = time.Hour           // between the clocks of nodes, and between a backup and its time
	maxLost      = 31 * 24 * time.Hour // between backup and restore: behind more than that, people say where to go on
)

type (
	rangeRow struct {
		Range  model.NumberRange // as of the revision that came into force last; Span.Last is the highest ever, Hourly the first
		Next   uint64            // first serial that may be leased
		Sure   uint64            // serials from here up to Next may have been leased in a life that was lost; those below were
		Hour   int64             // of the newest lease, since 1970
		Leased uint64            // in that hour
		Held   string            // why nothing is leased; empty: nothing holds it
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
		case !validName(r.Name) || r.Block == 0 || r.Block > maxLease || r.Hourly > maxHourly || len(r.Sites) > maxSites:
			return nil, model.Errorf(model.Invalid, "number range %q in blocks of %d, %d an hour, cannot be", clip(r.Name, maxName), r.Block, r.Hourly)
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
		old := row.Range
		for _, r := range ranges {
			switch {
			case r.Name != old.Name && serial.Cross(r.Span, old.Span):
				return model.Errorf(model.Conflict, "number range %s could make numbers of range %s again, which is in force or was before: choose serials that it never had", r.Name, old.Name)
			case r.Name == old.Name && (r.Span.Form != old.Span.Form || r.Span.First != old.Span.First || r.Span.Last+1 < row.Next):
				return model.Errorf(model.Conflict, "number range %s had another form, or begins or ends elsewhere, and its serials up to %d are leased: "+
					"a range only grows at its end; anything else is a new range with a name of its own", r.Name, row.Next-1)
			case r.Name == old.Name && r.Hourly != 0 && old.Hourly != 0 && r.Hourly != old.Hourly:
				return model.Errorf(model.Conflict, "number range %s leases at most %d numbers an hour, and not %d: that is fixed with the range, as a restore has to count on it; "+
					"another limit is a new range with a name of its own", r.Name, old.Hourly, r.Hourly)
			}
		}
	}
	return nil
}

// keepRanges makes rows of what a revision has, from when on sites may take from it. A range
// that is new behind a restore may have been there in the life that was lost.
func (t *tx) keepRanges(r *model.Revision, at time.Time) {
	restored := t.cluster().Generation > 1
	var held []string
	for _, n := range r.Ranges {
		row := get[rangeRow](t.view, tableRanges, []byte(n.Name))
		if row == nil {
			row = &rangeRow{}
			if restored {
				row.Held = "it came into force after the control plane was restored, and may have been in force before, after the backup"
				held = append(held, n.Name)
			}
		}
		switch {
		case row.Range.Hourly > 0:
			n.Hourly = row.Range.Hourly
		case n.Hourly == 0:
			n.Hourly = hourlyBlocks * n.Block
		}
		n.Span.Last = max(n.Span.Last, row.Range.Span.Last)
		row.Range, row.Next, row.Sure = n, max(row.Next, n.Span.First), max(row.Sure, n.Span.First)
		t.storeRange(row)
	}
	t.tellHeld(fmt.Sprintf("new/%s", r.ID), held, "came into force after the control plane was restored, and may have been in force before, after the backup", at)
}

// rangeAt finds what the revision that is in force at a site says of a range; nil if it does
// not let the site take from it.
func (v view) rangeAt(n countersRow, site, name string) *model.NumberRange {
	for _, number := range []uint64{n.Canary, n.Active} {
		r := get[model.Revision](v, tableRevisions, key(number))
		if r == nil || number == n.Canary && !slices.Contains(r.Canary, site) {
			continue
		}
		for i := range r.Ranges {
			if n := &r.Ranges[i]; n.Name == name && slices.Contains(n.Sites, site) {
				return n
			}
		}
		return nil
	}
	return nil
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
	t.ahead(agent, []model.NumberMark{{Range: c.Range, Highest: c.Highest}}, c.At)
	row, says, room, err := t.room(t.n, agent.Site, c.Range, c.At)
	if err != nil {
		if row != nil && row.Held == "" && row.Next > says.Span.Last {
			t.usedUp(row, says, c.At)
		}
		return nil, err
	}
	count := min(says.Block, room)
	if c.Want > 0 {
		count = min(count, c.Want)
	}
	given := model.NumberBlock{First: row.Next, Last: row.Next + count - 1}
	hour := hourOf(c.At)
	if row.window(hour) {
		row.Hour, row.Leased = hour, 0
	}
	row.Leased += count
	row.Next, row.Sure = given.Last+1, given.Last+1
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

func hourOf(at time.Time) int64 { return at.Unix() / int64(time.Hour/time.Second) }

// window reports whether an hour is counted anew. The clock of another node may be a little
// behind: that hour is over. One that was far ahead must not hold a range up until then.
func (r *rangeRow) window(hour int64) bool {
	return hour > r.Hour || hour < r.Hour-int64(maxSkew/time.Hour)
}

// room is how many numbers a site may lease of a range now, at least one, or why it may not.
func (v view) room(n countersRow, site, name string, at time.Time) (row *rangeRow, says *model.NumberRange, count uint64, err *model.Error) {
	row, says = get[rangeRow](v, tableRanges, []byte(name)), v.rangeAt(n, site, name)
	if row == nil || says == nil {
		return nil, nil, 0, model.Errorf(model.NotFound, "the revision in force at site %s lets it take from no number range %q", site, clip(name, maxName))
	}
	leased := row.Leased
	if row.window(hourOf(at)) {
		leased = 0
	}
	switch {
	case row.Held != "":
		return row, says, 0, model.Errorf(model.Conflict, "range %s gives no numbers: %s; find out up to where they may be printed, and run: crossdock ranges release %s --next N", name, row.Held, name)
	case row.Next > says.Span.Last:
		return row, says, 0, model.Errorf(model.TooLarge, "number range %s is leased up to its end, %d: let it end later (to), or make a new range", name, says.Span.Last)
	case leased >= row.Range.Hourly:
		return row, says, 0, model.Errorf(model.Conflict, "range %s has leased %d numbers in this hour, which is its limit (hourly): it goes on in the next", name, leased)
	}
	return row, says, min(row.Range.Hourly-leased, says.Span.Last-row.Next+1), nil
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

// usedUp tells people once for each end of the range.
func (t *tx) usedUp(row *rangeRow, says *model.NumberRange, at time.Time) {
	skipped := ""
	if row.Sure < row.Next {
		skipped = fmt.Sprintf(" Of these, %d and above were only passed over after a restore: if nothing was leased there, run: crossdock ranges release %s --next %d", row.Sure, row.Range.Name, row.Sure)
	}
	t.exceptOnce(&model.Exception{
		ID: fmt.Sprintf("%s/range-used-up/%s/%d", block.Control, row.Range.Name, says.Span.Last), Agent: block.Control, Kind: "range-used-up", At: at,
		Text: fmt.Sprintf("Number range %s is leased up to its end, %d. Sites go on with what they hold. Propose a revision in which it ends later (to), or a new range.%s",
			row.Range.Name, says.Span.Last, skipped),
	})
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
func (t *tx) forfeit(agent *model.Agent, at time.Time) {
	var lost []string
	for _, row := range t.ranges() {
		k := key(row.Range.Name, []byte(agent.Name))
		lease := get[leaseRow](t.view, tableLeases, k)
		if lease == nil || len(lease.Blocks) == 0 {
			continue
		}
		count := uint64(0)
		for _, b := range lease.Blocks {
			count += b.Count()
		}
		lease.Forfeited += count
		lost = append(lost, fmt.Sprintf("%s (%d)", row.Range.Name, count))
		t.audit(at, "agent:"+agent.Name, "numbers.forfeit", row.Range.Name, map[string]any{"blocks": lease.Blocks, "epoch": lease.Epoch})
		lease.Blocks, lease.Request = nil, [16]byte{}
		put(t, tableLeases, k, lease)
		t.changed("ranges")
	}
	if len(lost) > 0 {
		t.exceptOnce(&model.Exception{
			ID: fmt.Sprintf("%s/numbers-forfeited/%d", agent.Name, agent.Epoch), Agent: agent.Name, Kind: "numbers-forfeited", At: at,
			Text: fmt.Sprintf("What agent %s still held of number ranges in epoch %d is given up, at most so many: %s. Its former data, or a copy, may have printed them, "+
				"so they are given to nobody. Nothing is to be done.", agent.Name, agent.Epoch, nameSome(lost)),
		})
	}
}

// endEpoch is for when an agent's data of an epoch counts no more. The caller stores the agent.
func (t *tx) endEpoch(agent *model.Agent, at time.Time) {
	t.endLanes(agent.Name, agent.Epoch, at)
	t.forfeit(agent, at)
}

// ahead compares what an agent says it holds with what was leased. A serial that was never
// leased here shows that this state is older than it knows, or that the agent is wrong; either
// way nobody here can tell where to go on. The word of an agent moves nothing: it holds the
// ranges of its own site, until an operator has looked.
func (t *tx) ahead(agent *model.Agent, marks []model.NumberMark, at time.Time) {
	var held []string
	furthest := uint64(0)
	for _, m := range marks[:min(len(marks), maxRanges)] {
		row := get[rangeRow](t.view, tableRanges, []byte(m.Range))
		if row == nil || row.Held != "" || m.Highest < row.Next || m.Highest > serial.Most(row.Range.Span.Form.Digits) ||
			m.Form != (serial.Form{}) && m.Form != row.Range.Span.Form || !t.borrows(agent, row) {
			continue
		}
		row.Held = fmt.Sprintf("agent %s says that it holds serials up to %d, and nothing beyond %d was ever leased here", agent.Name, m.Highest, row.Next-1)
		t.storeRange(row)
		t.audit(at, "agent:"+agent.Name, "numbers.ahead", m.Range, map[string]any{"highest": m.Highest, "next": row.Next})
		held, furthest = append(held, m.Range), max(furthest, m.Highest)
	}
	if len(held) == 0 {
		return
	}
	t.tellHeld(fmt.Sprintf("%s/%s/%d", agent.Name, held[0], furthest), held, fmt.Sprintf("may go beyond what is known here: agent %s says that it holds serials which were never leased. "+
		"This control plane was put back to an older copy of its disks, or the agent is wrong", agent.Name), at)
}

// borrows reports whether an agent may hold numbers of a range.
func (t *tx) borrows(agent *model.Agent, row *rangeRow) bool {
	return slices.Contains(row.Range.Sites, agent.Site) || t.raw(tableLeases, key(row.Range.Name, []byte(agent.Name))) != nil
}

// fewerUsed reports whether an agent says that it has given fewer numbers than it said
// before: then it is a copy that was put back.
func fewerUsed(agent *model.Agent, marks []model.NumberMark) bool {
	var said model.AgentStatus
	if len(agent.Status) == 0 || json.Unmarshal(agent.Status, &said) != nil { // an agent may say anything
		return false
	}
	used := map[string]uint64{}
	for _, m := range marks {
		if !m.Counted {
			return false // by an agent that does not say
		}
		used[m.Range] = m.Used
	}
	return slices.ContainsFunc(said.Numbers, func(n model.AgentNumbers) bool { return used[n.Range] < n.Used })
}

// tellHeld tells people of ranges that are held, by one exception.
func (t *tx) tellHeld(why string, names []string, text string, at time.Time) {
	if len(names) == 0 {
		return
	}
	t.exceptOnce(&model.Exception{
		ID: fmt.Sprintf("%s/ranges-held/%s", block.Control, why), Agent: block.Control, Kind: "ranges-held", At: at,
		Text: fmt.Sprintf("What was leased of number ranges %s. They give no new numbers (%s); sites go on with what they hold. Find out up to where numbers may be printed, "+
			"and for each run: crossdock ranges release NAME --next N", text, nameSome(names)),
	})
}

// holdRanges holds all ranges, for a reason that goes for each.
func (t *tx) holdRanges(id, why string, at time.Time) {
	var held []string
	for _, row := range t.ranges() {
		if row.Held == "" {
			row.Held = why
			t.storeRange(row)
			held = append(held, row.Range.Name)
		}
	}
	t.tellHeld(id, held, "is not known: "+why, at)
}

// skipLost has each range go on behind all that it can have leased in the life that was lost,
// whose end is when this state was rebuilt.
func (t *tx) skipLost(rebuilt *model.Rebuilt, at time.Time) {
	id := fmt.Sprint(t.cluster().Generation)
	switch lost := rebuilt.At.Sub(rebuilt.From); {
	case rebuilt.From.IsZero() || lost < -maxSkew:
		t.holdRanges(id, "it is not known of when the backup is that the control plane was restored from", at)
		return
	case lost > maxLost:
		t.holdRanges(id, fmt.Sprintf("the backup that the control plane was restored from is of %s, more than %d days before", rebuilt.From.UTC().Format(time.RFC3339), maxLost/(24*time.Hour)), at)
		return
	}
	// One hour more for a restore from the same backup that was given up: it passed hours over,
	// too. One from another backup has raised the generation, which agents tell.
	first, last := hourOf(rebuilt.From.Add(-maxSkew)), hourOf(rebuilt.At.Add(maxSkew))+1
	var held, skipped []string
	for _, row := range t.ranges() {
		if row.Range.Hourly == 0 {
			row.Held = "it had no limit of numbers an hour in the life that was lost"
			held = append(held, row.Range.Name)
		} else if row.Held == "" {
			most := serial.Most(row.Range.Span.Form.Digits) + 1
			// Both factors are bounded: no overflow.
			row.Next = min(row.Next+row.Range.Hourly*uint64(last-first+1), max(row.Next, most))
			skipped = append(skipped, fmt.Sprintf("%s at %d", row.Range.Name, row.Next))
		}
		t.storeRange(row)
	}
	t.tellHeld(id, held, "since the backup is not known, as they had no limit of numbers an hour", at)
	if len(skipped) > 0 {
		t.except(&model.Exception{
			ID: fmt.Sprintf("%s/ranges-skipped/%s", block.Control, id), Agent: block.Control, Kind: "ranges-skipped", At: at,
			Text: fmt.Sprintf("The control plane was restored and does not know which numbers it leased since the backup. Number ranges go on behind all that they can have leased "+
				"until then, by their limits (hourly): %s. Nothing is to be done. If numbers are scarce and it is certain that fewer were printed: crossdock ranges release NAME --next N", nameSome(skipped)),
		})
	}
}

// releaseRange has a range go on at a serial, by an operator's word.
func (t *tx) releaseRange(c *model.ReleaseRange) *model.Error {
	if err := t.need(c.By, model.Operator); err != nil {
		return err
	}
	row := get[rangeRow](t.view, tableRanges, []byte(c.Range))
	switch {
	case c.Range == "" || row == nil:
		return model.Errorf(model.NotFound, "there is no number range %q", clip(c.Range, maxName))
	case c.Next < row.Sure || c.Next > row.Range.Span.Last+1:
		return model.Errorf(model.Invalid, "number range %s goes on at %d at the earliest and %d at the latest, not at %d", row.Range.Name, row.Sure, row.Range.Span.Last+1, c.Next)
	}
	if who := t.holdsBeyond(row, c.Next); who != "" {
		return model.Errorf(model.Conflict, "number range %s cannot go on at %d: %s; if that is wrong, revoke the agent first", row.Range.Name, c.Next, who)
	}
	before, held := row.Next, row.Held
	row.Next, row.Held = c.Next, ""
	t.storeRange(row)
	t.audit(c.At, c.By, "numbers.release", row.Range.Name, map[string]any{"next": c.Next, "before": before, "held": held})
	return nil
}

// holdsBeyond names an agent that has reported serials from next on.
func (t *tx) holdsBeyond(row *rangeRow, next uint64) (who string) {
	t.each(tableAgents, nil, nil, func(k, value []byte) bool {
		a := parse[model.Agent](tableAgents, k, value)
		var said model.AgentStatus
		if !a.Revoked.IsZero() || len(a.Status) == 0 || json.Unmarshal(a.Status, &said) != nil || !t.borrows(a, row) {
			return true
		}
		for _, n := range said.Numbers {
			if n.Range == row.Range.Name && n.Highest >= next && n.Highest <= serial.Most(row.Range.Span.Form.Digits) {
				who = fmt.Sprintf("agent %s has reported that it holds serials up to %d", a.Name, n.Highest)
			}
		}
		return who == ""
	})
	return who
}

// MayLease says why a request for numbers would be refused and would change nothing, so that
// it need not be asked for; nil if it may be answered. One that was answered before always may.
func (r *Reader) MayLease(c *model.LeaseNumbers) (why *model.Error) {
	r.read(func(v view) {
		agent := get[model.Agent](v, tableAgents, []byte(c.Agent))
		if agent == nil {
			return
		}
		if lease := get[leaseRow](v, tableLeases, key(c.Range, []byte(c.Agent))); lease != nil && lease.Epoch == agent.Epoch && lease.Request == c.Request {
			return
		}
		row, says, _, err := v.room(v.counters(), agent.Site, c.Range, c.At)
		if err == nil || row != nil && row.Held == "" && c.Highest >= row.Next {
			return
		}
		if row != nil && row.Held == "" && row.Next > says.Span.Last &&
			v.raw(tableExceptions, fmt.Appendf(nil, "%s/range-used-up/%s/%d", block.Control, row.Range.Name, says.Span.Last)) == nil {
			return // people are to be told
		}
		why = err
	})
	return why
}

// Ranges lists the number ranges that are in force or ever were, by name, and who holds what.
func (r *Reader) Ranges() (list []model.RangeStatus) {
	r.read(func(v view) {
		inForce := map[string]bool{}
		n := v.counters()
		for _, number := range []uint64{n.Active, n.Canary} {
			if revision := get[model.Revision](v, tableRevisions, key(number)); number != 0 && revision != nil {
				for _, one := range revision.Ranges {
					inForce[one.Name] = true
				}
			}
		}
		for _, row := range v.ranges() {
			one := model.RangeStatus{NumberRange: row.Range, InForce: inForce[row.Range.Name], Next: row.Next, Sure: row.Sure, Held: row.Held}
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
