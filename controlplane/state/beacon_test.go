package state

import (
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
)

// apply applies one command as one entry and gives the whole outcome.
func (f *fixture) apply(cmds ...model.Command) Outcome {
	f.Helper()
	e := Entry{Index: uint64(len(f.log) + 1), Term: 1, Data: encode(f, cmds...)}
	f.log = append(f.log, e)
	out, err := f.Apply([]Entry{e})
	if err != nil {
		f.Fatal(err)
	}
	return out
}

// nodes of a cluster: machines that are fed with one log.
func cluster(t *testing.T, count int) []*fixture {
	t.Helper()
	all := make([]*fixture, count)
	for i := range all {
		all[i] = openMachine(t)
		all[i].begin(model.ApprovalsDual, model.Limits{})
		all[i].join("eu")
	}
	return all
}

// tamper changes a row on one machine, as a fault would that no checksum sees.
func tamper(f *fixture, name string) {
	f.Helper()
	err := f.db.Update(func(b *bolt.Tx) error {
		w := &tx{view: view{b}}
		a := get[model.Agent](w.view, tableAgents, []byte(name))
		a.Serial = "changed by hand"
		put(w, tableAgents, []byte(name), a)
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
}

func TestHashSeesAChangedRowOnceItIsWritten(t *testing.T) {
	nodes := cluster(t, 2)
	tamper(nodes[1], "eu")
	step := func(cmd model.Command) (same bool) {
		for _, f := range nodes {
			f.do(cmd)
		}
		return nodes[0].StateHash() == nodes[1].StateHash()
	}
	// An entry that does not touch the row does not show it: the hash does not read rows.
	if !step(&model.LoseMail{At: start, Agent: "eu", Position: 9}) {
		t.Error("the hashes differ before anything was written")
	}
	if step(&model.Ack{At: start, Agent: "eu"}) {
		t.Error("the row was written anew, and the hashes are equal")
	}
	if step(&model.LoseMail{At: start, Agent: "eu", Position: 9}) {
		t.Error("the hashes became equal again")
	}
}

func TestHashCountsRemovals(t *testing.T) {
	nodes := cluster(t, 2)
	for i, f := range nodes {
		err := f.db.Update(func(b *bolt.Tx) error {
			w := &tx{view: view{b}}
			if i == 1 {
				w.remove(tableCommands, key("eu", uint64(1)))
				return nil
			}
			put(w, tableCommands, key("eu", uint64(1)), &model.AgentCommand{ID: "c1", Agent: "eu", Kind: model.CommandRelease})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		f.do(&model.Ack{At: start, Agent: "eu", Answers: []model.CommandAnswer{{ID: "c1"}}})
	}
	if nodes[0].StateHash() == nodes[1].StateHash() {
		t.Error("one machine removed a row, the other did not, and the hashes are equal")
	}
}

// The counters are written once per batch, but count with each entry.
func TestHashCountsTheCounters(t *testing.T) {
	nodes := cluster(t, 2)
	err := nodes[1].db.Update(func(b *bolt.Tx) error {
		w := &tx{view: view{b}}
		n := w.counters()
		n.Dropped++
		put(w, tableMeta, keyCounters, &n)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range nodes {
		f.must(&model.PutNode{At: start, Node: model.Node{ID: "n1"}})
	}
	if nodes[0].StateHash() == nodes[1].StateHash() {
		t.Error("a counter differs, and the hashes are equal")
	}
}

// report gives a node's answer to a beacon to all.
func reportAll(nodes []*fixture, voter string, index uint64, hash [32]byte) (diverged []string) {
	for _, f := range nodes {
		diverged = append(diverged, f.apply(&model.BeaconReport{Node: voter, Index: index, Hash: hash}).Diverged)
	}
	return diverged
}

func TestBeaconFindsTheOneThatDiffers(t *testing.T) {
	nodes := cluster(t, 3)
	tamper(nodes[2], "eu")
	voters := []string{"n1", "n2", "n3"}
	var own [3]Outcome
	for i, f := range nodes {
		f.do(&model.Ack{At: start, Agent: "eu"})
		own[i] = f.apply(&model.Beacon{At: start, Voters: voters}, &model.Ack{At: start, Agent: "eu"})
		if own[i].Beacon != uint64(len(f.log)) || own[i].Index != own[i].Beacon || own[i].Hash != f.StateHash() {
			t.Fatalf("outcome %+v, log of %d", own[i], len(f.log))
		}
	}
	if own[0].Hash != own[1].Hash || own[0].Hash == own[2].Hash {
		t.Fatal("the test did not make them differ")
	}
	index := own[0].Beacon
	for i, order := range []int{2, 0} {
		for _, d := range reportAll(nodes, voters[order], index, own[order].Hash) {
			if d != "" {
				t.Fatalf("verdict after %d reports: %s", i+1, d)
			}
		}
	}
	reportAll(nodes, "n1", index, own[2].Hash) // a second word of the same node counts for nothing
	if v := nodes[0].Verdict(); v.Agreed || v.Index != 0 {
		t.Fatalf("verdict too early: %+v", v)
	}
	diverged := reportAll(nodes, "n2", index, own[1].Hash)
	if diverged[0] != "" || diverged[1] != "" || diverged[2] == "" {
		t.Errorf("diverged %q", diverged)
	}
	nodes[2].reopen()
	for i, f := range nodes {
		if v := f.Verdict(); !v.Agreed || v.Index != index || v.Halted != "" || (v.Diverged != "") != (i == 2) {
			t.Errorf("node %d: %+v", i+1, v)
		}
	}
	// Beacons are not part of what they compare, so the equal ones stay equal.
	if nodes[0].StateHash() != nodes[1].StateHash() {
		t.Error("the two that agreed no longer do")
	}
}

func TestNoMajorityHalts(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu")
	f.must(&model.PutNode{At: f.now, Node: model.Node{ID: "n1"}})
	f.must(&model.PutNode{At: f.now, Node: model.Node{ID: "n2"}})
	f.refused(model.Invalid, &model.Beacon{})
	f.refused(model.NotFound, &model.BeaconReport{Node: "n1", Index: 3})
	b := f.apply(&model.Beacon{At: start, Voters: []string{"n1", "n2"}})
	f.refused(model.Forbidden, &model.BeaconReport{Node: "n3", Index: b.Beacon})
	f.must(&model.BeaconReport{Node: "n1", Index: b.Beacon, Hash: hashOf("1")})
	f.must(&model.Ack{At: start, Agent: "eu"})
	f.must(&model.BeaconReport{Node: "n2", Index: b.Beacon, Hash: hashOf("2")})
	if v := f.Verdict(); v.Halted == "" || v.Agreed {
		t.Fatalf("verdict %+v", v)
	}
	f.reopen()
	if err := f.refused(model.Unavailable, &model.Ack{At: start, Agent: "eu"}); err.Text != f.Verdict().Halted {
		t.Errorf("refused without the reason: %v", err)
	}
	f.refused(model.Unavailable, &model.Revoke{Asked: f.by("root"), Agent: "eu"})
	f.must(&model.RemoveNode{Asked: f.by("root"), Node: "n2"})
	f.must(&model.ForgetNode{At: f.now, Node: "n2", By: "n1"})
	b = f.apply(&model.Beacon{At: start, Voters: []string{"n1"}})
	f.must(&model.BeaconReport{Node: "n1", Index: b.Beacon, Hash: b.Hash})
	if v := f.Verdict(); v.Halted != "" || !v.Agreed || v.Index != b.Beacon {
		t.Errorf("the halt did not end: %+v", v)
	}
	f.must(&model.Ack{At: start, Agent: "eu"})
	for range beaconsKept + 3 {
		f.apply(&model.Beacon{At: start, Voters: []string{"n1"}})
	}
	if n := f.rows(tableBeacons); n != beaconsKept {
		t.Errorf("%d beacons are kept", n)
	}
}

// A late report on an older beacon takes nothing back.
func TestOlderBeaconChangesNoVerdict(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	voters := []string{"n1", "n2"}
	older := f.apply(&model.Beacon{At: start, Voters: voters})
	newer := f.apply(&model.Beacon{At: start, Voters: voters})
	f.must(&model.BeaconReport{Node: "n1", Index: older.Beacon, Hash: hashOf("1")})
	for _, v := range voters {
		f.must(&model.BeaconReport{Node: v, Index: newer.Beacon, Hash: newer.Hash})
	}
	f.must(&model.BeaconReport{Node: "n2", Index: older.Beacon, Hash: hashOf("2")})
	if v := f.Verdict(); v.Halted != "" || !v.Agreed || v.Index != newer.Beacon {
		t.Errorf("verdict %+v", v)
	}
}

// A batch says which beacon in it is the newest; the hash does not depend on the batch.
func TestBeaconsInOneBatch(t *testing.T) {
	one, other := openMachine(t), openMachine(t)
	one.begin(model.ApprovalsDual, model.Limits{})
	one.apply(&model.Beacon{At: start, Voters: []string{"n1"}})
	last := one.apply(&model.Beacon{At: start, Voters: []string{"n1"}})
	one.apply(&model.PutNode{At: start, Node: model.Node{ID: "n1"}})
	out, err := other.Apply(one.log)
	if err != nil {
		t.Fatal(err)
	}
	if out.Beacon != last.Beacon || out.Hash != last.Hash || out.Index != uint64(len(one.log)) {
		t.Errorf("outcome %+v, one by one %+v", out, last)
	}
}
