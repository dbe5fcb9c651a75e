package state

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// A lane that goes back has its source send again. The source may hold less than it did, so
// what was whole of the lane's mail stays aside as spare: it stands in where the source
// says that it holds something no longer, and goes when the source has sent it. There is
// spare mail of a lane only while its high-water is below its peak.

func spareKey(destination string, l laneName) []byte { return key(destination, l.source, l.epoch) }

// setAside keeps a piece of mail that was taken out of a mailbox, with its reference.
func (t *tx) setAside(destination string, m *mailRow) {
	k := append(spareKey(destination, laneName{m.Source, m.Epoch}), key(m.First)...)
	if old := get[mailRow](t.view, tableSpare, k); old != nil {
		if old.Last >= m.Last {
			t.release(m.Block)
			return
		}
		t.release(old.Block)
	}
	put(t, tableSpare, k, m)
}

// spares lists what is kept of a lane, in its order.
func (v view) spares(destination string, l laneName) (list []*mailRow) {
	v.each(tableSpare, spareKey(destination, l), nil, func(k, value []byte) bool {
		list = append(list, parse[mailRow](tableSpare, k, value))
		return true
	})
	return list
}

// dropSpares gives up what is kept of a lane up to a number.
func (t *tx) dropSpares(destination string, l laneName, upTo uint64) {
	for _, m := range t.spares(destination, l) {
		if m.Last <= upTo {
			t.remove(tableSpare, append(spareKey(destination, l), key(m.First)...))
			t.release(m.Block)
		}
	}
}

// fill puts into a mailbox what stands for the numbers of a gap: spare mail where there is
// some, the gap where there is none. It gives the last number that came by it, which may be
// one beyond the gap, and names the pieces of the gap that nothing stands for.
func (t *tx) fill(gap model.Gap, at time.Time) (last uint64, missing []model.Gap) {
	l, next, end := laneName{gap.Source, gap.Epoch}, gap.First, gap.Last
	without := func(upTo uint64) {
		if next <= upTo {
			piece := gap
			piece.First, piece.Last = next, upTo
			t.gapMail(&piece, at)
			missing = append(missing, piece)
			next = upTo + 1
		}
	}
	for _, m := range t.spares(gap.Destination, l) {
		if m.Last < next || m.First > end {
			continue // sent again already, or not in question yet
		}
		without(m.First - 1)
		t.remove(tableSpare, append(spareKey(gap.Destination, l), key(m.First)...))
		t.mail(gap.Destination, m)
		next = m.Last + 1
	}
	without(end)
	return next - 1, missing
}

// endLanes is for when a source can no longer send what it did in an epoch: what is spare
// takes its place, and people are told of the rest.
func (t *tx) endLanes(source string, epoch uint64, at time.Time) {
	var open []model.Lane
	t.each(tableLanes, key(source, epoch), nil, func(k, value []byte) bool {
		row := parse[laneRow](tableLanes, k, value)
		if row.Highwater < row.Peak {
			open = append(open, row.lane(source, epoch, string(k[len(key(source, epoch)):])))
		}
		return true
	})
	for _, l := range open {
		k := key(source, epoch, []byte(l.Destination))
		row := get[laneRow](t.view, tableLanes, k)
		_, missing := t.fill(model.Gap{
			Source: source, Epoch: epoch, Destination: l.Destination, First: row.Highwater + 1, Last: row.Peak,
			Cause: "lost after the relay had taken them, and the sender cannot send them again",
		}, at)
		row.Highwater = row.Peak
		put(t, tableLanes, k, row)
		t.dropSpares(l.Destination, laneName{source, epoch}, math.MaxUint64)
		for _, gap := range missing {
			t.exceptOnce(&model.Exception{
				ID: fmt.Sprintf("%s/gap/%d/%s/%d", source, epoch, l.Destination, gap.First), Agent: source, Kind: "gap", At: at,
				Text: fmt.Sprintf("events %d to %d from %s to %s may be missing: the relay had lost them, and %s was revoked or began a new epoch "+
					"before it had sent them again; compare with its systems", gap.First, gap.Last, source, l.Destination, source),
			})
		}
	}
	if len(open) > 0 {
		t.flushMoves(at)
	}
}

// forgetSpares gives up all that is kept for a destination: its sources send it again, and
// then it is counted.
func (t *tx) forgetSpares(destination string) {
	var keys [][]byte
	t.each(tableSpare, key(destination), nil, func(k, value []byte) bool {
		keys = append(keys, slices.Clone(k))
		t.release(parse[mailRow](tableSpare, k, value).Block)
		return true
	})
	for _, k := range keys {
		t.remove(tableSpare, k)
	}
}
