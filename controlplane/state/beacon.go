package state

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Limits on beacons.
const (
	maxVoters   = 16
	beaconsKept = 8 // a late report on an older one says nothing that the newer does not
)

type (
	// beaconRow is one beacon and what the nodes have answered. Own differs from node to
	// node when they have diverged; a snapshot brings that of the node that made it, and
	// so does its state.
	beaconRow struct {
		Voters  []string
		Own     [32]byte
		Reports []beaconReport
	}
	beaconReport struct {
		Node string
		Hash [32]byte
	}
	verdictRow struct {
		Index  uint64 // newest beacon that came to a verdict
		Agreed bool
		Hash   [32]byte // of the majority
		Own    [32]byte // of this node, at that entry
		Halted string
	}
)

func (v view) verdict() verdictRow {
	if row := get[verdictRow](v, tableMeta, keyVerdict); row != nil {
		return *row
	}
	return verdictRow{}
}

// whyHalted says why nothing may be written, as this batch has left it.
func (t *tx) whyHalted() string {
	if t.halted == nil {
		why := t.verdict().Halted
		t.halted = &why
	}
	return *t.halted
}

// passesHalt lets through what can end a halt.
func passesHalt(cmd model.Command) bool {
	switch cmd.(type) {
	case *model.Beacon, *model.BeaconReport, *model.RemoveNode, *model.ForgetNode, *model.Rebuild:
		return true
	}
	return false
}

// beacon opens a question to the voters. The node's own answer is known at the end of the
// entry only.
func (t *tx) beacon(c *model.Beacon) *model.Error {
	voters := slices.Compact(slices.Sorted(slices.Values(c.Voters)))
	if len(voters) == 0 || len(voters) > maxVoters || slices.ContainsFunc(voters, func(v string) bool { return !validName(v) }) {
		return model.Errorf(model.Invalid, "a beacon asks 1 to %d voters by their names, not %d", maxVoters, len(voters))
	}
	put(t, tableBeacons, key(t.entryAt), &beaconRow{Voters: voters})
	t.beacons = true
	var held [][]byte
	t.each(tableBeacons, nil, nil, func(k, _ []byte) bool { held = append(held, bytes.Clone(k)); return true })
	for _, k := range held[:max(len(held)-beaconsKept, 0)] {
		t.remove(tableBeacons, k)
	}
	return nil
}

// beaconHash notes this node's own hash at an entry with a beacon.
func (t *tx) beaconHash(index uint64, own [32]byte) {
	row := get[beaconRow](t.view, tableBeacons, key(index))
	row.Own = own
	put(t, tableBeacons, key(index), row)
}

func (t *tx) beaconReport(c *model.BeaconReport) *model.Error {
	row := get[beaconRow](t.view, tableBeacons, key(c.Index))
	switch {
	case c.Index >= t.entryAt || row == nil:
		return model.Errorf(model.NotFound, "there is no beacon at entry %d, or it is older than the last %d", c.Index, beaconsKept)
	case !slices.Contains(row.Voters, c.Node):
		return model.Errorf(model.Forbidden, "node %q was not asked at entry %d", clip(c.Node, maxName), c.Index)
	case slices.ContainsFunc(row.Reports, func(r beaconReport) bool { return r.Node == c.Node }):
		return nil // a node's first word stands
	}
	row.Reports = append(row.Reports, beaconReport{Node: c.Node, Hash: c.Hash})
	put(t, tableBeacons, key(c.Index), row)
	t.judge(c.Index, row)
	return nil
}

// judge looks whether a majority is of one mind. All nodes come to the same verdict; what
// it means for one of them depends on its own hash.
func (t *tx) judge(index uint64, row *beaconRow) {
	before := t.verdict()
	if before.Index > index {
		return
	}
	var next verdictRow
	hash, count := row.most()
	switch {
	case 2*count > len(row.Voters):
		next = verdictRow{Index: index, Agreed: true, Hash: hash, Own: row.Own}
	case len(row.Reports) == len(row.Voters):
		next = verdictRow{Index: index, Halted: fmt.Sprintf(
			"the nodes have different states at entry %d and no majority agrees, so nothing is written any more: find the node with the right data and recover the cluster from it", index)}
	default:
		return
	}
	if next == before {
		return
	}
	put(t, tableMeta, keyVerdict, &next)
	t.halted = &next.Halted
	if next.Halted != before.Halted {
		t.changed("verdict")
	}
}

// most gives the hash that most nodes have reported.
func (r *beaconRow) most() (hash [32]byte, count int) {
	for _, a := range r.Reports {
		same := 0
		for _, b := range r.Reports {
			if a.Hash == b.Hash {
				same++
			}
		}
		if same > count {
			hash, count = a.Hash, same
		}
	}
	return hash, count
}

// diverged says why this node must stop; empty if it may go on.
func (v view) diverged() string {
	row := v.verdict()
	if !row.Agreed || row.Own == row.Hash {
		return ""
	}
	return fmt.Sprintf("this node's state is not that of the majority at entry %d (its hash is %x, theirs is %x): remove it from the cluster, "+
		"empty its data directory and let it join again", row.Index, row.Own[:8], row.Hash[:8])
}

// Verdict says what the nodes' hashes of state have shown.
func (r *Reader) Verdict() (verdict model.Verdict) {
	r.read(func(v view) {
		row := v.verdict()
		verdict = model.Verdict{Index: row.Index, Agreed: row.Agreed, Halted: row.Halted, Diverged: v.diverged()}
	})
	return verdict
}
