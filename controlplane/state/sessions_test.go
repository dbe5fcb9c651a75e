package state

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
)

// exceptions counts the exceptions of a kind.
func (f *fixture) exceptions(kind string) (count int) {
	for _, e := range f.Exceptions(model.MaxPage) {
		if e.Kind == kind {
			count++
		}
	}
	return count
}

func (f *fixture) wantExceptions(kind string, want int) {
	f.Helper()
	if got := f.exceptions(kind); got != want {
		f.Fatalf("%d exceptions of kind %s, want %d: %+v", got, kind, want, f.Exceptions(20))
	}
}

func nonce(n byte) [16]byte { return [16]byte{n} }

// rebuild begins another life, that lost the hour before now.
func (f *fixture) rebuild(incarnation string) {
	f.Helper()
	from := f.now
	f.now = f.now.Add(time.Hour)
	f.must(&model.Rebuild{At: f.now, Incarnation: incarnation, Rebuilt: model.Rebuilt{At: f.now, From: from, Cause: model.RebuiltFromBackup, Node: "n1"}})
}

func TestGreet(t *testing.T) {
	type greet struct {
		epoch, session uint64
		nonce          byte
		stale          bool
	}
	tests := []struct {
		name string
		said []greet
	}{
		{"sessions rise", []greet{{1, 1, 1, false}, {1, 2, 2, false}, {1, 9, 3, false}}},
		{"one session on two paths", []greet{{1, 4, 1, false}, {1, 4, 1, false}}},
		{"the number again by another", []greet{{1, 4, 1, false}, {1, 4, 2, true}, {1, 4, 1, false}}},
		{"an earlier number", []greet{{1, 4, 1, false}, {1, 3, 2, true}, {1, 5, 3, false}}},
		{"a fenced epoch is not stale", []greet{{1, 4, 1, false}, {0, 9, 2, false}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := openMachine(t)
			f.begin(model.ApprovalsDual, model.Limits{})
			f.join("eu")
			for i, g := range tt.said {
				got := f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: g.epoch, Session: g.session, Nonce: nonce(g.nonce), Node: fmt.Sprint("n", i)}).(*model.GreetResult)
				if got.Stale != g.stale || got.Epoch != 1 {
					t.Errorf("greeting %d: %+v, want stale %t", i, got, g.stale)
				}
				a, _ := f.Agent("eu")
				if taken := !g.stale && g.epoch == 1; (a.Node == fmt.Sprint("n", i)) != taken || taken && (a.Session != g.session || a.Nonce != nonce(g.nonce)) {
					t.Errorf("greeting %d left %+v", i, a)
				}
			}
		})
	}
}

func TestNewEpochFencesTheOtherCopy(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu")
	f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: 1, Session: 9, Nonce: nonce(1)})
	f.must(&model.Ack{At: f.now, Agent: "eu", Flushed: f.activate("eu").ID})
	ask := func(epoch uint64, n byte) *model.NewEpoch {
		return &model.NewEpoch{At: f.now, Agent: "eu", Epoch: epoch, Nonce: nonce(n), Why: "image of Monday"}
	}
	f.refused(model.Invalid, ask(1, 0))
	f.refused(model.Forbidden, ask(5, 1)) // never granted, never restored
	for range 3 {
		if got := f.must(ask(1, 7)).(*model.NewEpochResult); got.Epoch != 2 {
			t.Fatalf("granted %+v", got)
		}
	}
	a, _ := f.Agent("eu")
	if a.Epoch != 2 || a.Session != 0 || a.Flushed.Number != 0 {
		t.Errorf("agent %+v", a)
	}
	f.wantExceptions("old-copy", 1)
	// The new one counts its sessions on from where its copy was.
	if got := f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: 2, Session: 3, Nonce: nonce(3)}).(*model.GreetResult); got.Stale {
		t.Error("the new epoch is stale at once")
	}
	for i := range byte(3) { // the other copy
		f.refused(model.Forbidden, ask(1, 20+i))
		f.refused(model.Forbidden, &model.Ack{At: f.now, Agent: "eu", Epoch: 1})
		f.refused(model.Forbidden, &model.Behind{At: f.now, Agent: "eu", Epoch: 1})
		if got := f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: 1, Session: 10 + uint64(i), Nonce: nonce(i)}).(*model.GreetResult); got.Stale || got.Epoch != 2 {
			t.Errorf("the fenced one is told %+v", got)
		}
	}
	f.wantExceptions("fenced", 1)
	f.must(&model.ResolveException{Asked: f.by("root"), Exception: "eu/fenced/1"})
	f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: 1, Session: 30})
	for _, e := range f.Exceptions(10) {
		if e.Kind == "fenced" && e.Resolved.IsZero() {
			t.Error("the same copy opened a resolved exception again")
		}
	}

	// An operator lets it in: once, and within a day.
	f.must(&model.AllowAgent{Asked: f.by("root"), Agent: "eu"})
	late := ask(1, 40)
	late.At = f.now.Add(allowedFor)
	f.refused(model.Forbidden, late)
	if got := f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: 1, Session: 31}).(*model.GreetResult); !got.Stale {
		t.Errorf("an allowed copy is told %+v", got)
	}
	if got := f.must(ask(1, 41)).(*model.NewEpochResult); got.Epoch != 3 {
		t.Errorf("granted %+v", got)
	}
	f.refused(model.Forbidden, ask(1, 42))
}

func TestAllowNeedsAnOperatorAndAnAgent(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu")
	f.principal("vera", model.Viewer)
	f.refused(model.Forbidden, &model.AllowAgent{Asked: f.by("vera"), Agent: "eu"})
	f.refused(model.NotFound, &model.AllowAgent{Asked: f.by("root"), Agent: "xx"})
	f.must(&model.AllowAgent{Asked: f.by("root"), Agent: "eu"}) // before the copy is started
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "eu"})
	if err := f.refused(model.Conflict, &model.AllowAgent{Asked: f.by("root"), Agent: "eu"}); !strings.Contains(err.Text, "token create --site eu") {
		t.Errorf("a revoked agent: %v", err)
	}
	f.refused(model.Forbidden, &model.Greet{At: f.now, Agent: "eu", Epoch: 1, Session: 1})
	f.refused(model.Forbidden, &model.NewEpoch{At: f.now, Agent: "eu", Epoch: 1, Nonce: nonce(1)})
}

// An enrolment shuts out all copies of before by their key: no word of an operator helps those.
func TestAllowDoesNotHelpAgainstAnEnrolment(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "eu2")
	fence := func(epoch uint64) {
		t.Helper()
		f.by("") // time goes on
		f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: epoch, Session: 9, Nonce: nonce(9)})
	}
	f.must(&model.NewEpoch{At: f.now, Agent: "eu", Epoch: 1, Nonce: nonce(1)})
	fence(1)
	f.by("")
	f.join("eu") // again, with another key
	if err := f.refused(model.Conflict, &model.AllowAgent{Asked: f.by("root"), Agent: "eu"}); !strings.Contains(err.Text, "token create --site eu") {
		t.Errorf("after another enrolment: %v", err)
	}
	f.must(&model.AllowAgent{Asked: f.by("root"), Agent: "eu2"}) // another agent
	// A copy with the new key is another matter.
	f.must(&model.NewEpoch{At: f.now, Agent: "eu", Epoch: 3, Nonce: nonce(2)})
	fence(3)
	f.must(&model.AllowAgent{Asked: f.by("root"), Agent: "eu"})
}

func TestEpochOfTheLostLife(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "na")
	f.refused(model.Forbidden, &model.Greet{At: f.now, Agent: "eu", Epoch: 4, Session: 2})
	f.rebuild("second")
	f.refused(model.Forbidden, &model.Greet{At: f.now, Agent: "eu", Epoch: maxEpoch + 1, Session: 2})
	for i := range uint64(3) {
		if got := f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: 4, Session: 2 + i, Nonce: nonce(1)}).(*model.GreetResult); got.Stale || got.Epoch != 4 {
			t.Fatalf("answered %+v", got)
		}
	}
	if got := f.must(&model.NewEpoch{At: f.now, Agent: "na", Epoch: 4, Nonce: nonce(1)}).(*model.NewEpochResult); got.Epoch != 5 {
		t.Errorf("granted %+v", got)
	}
	f.wantExceptions("readmitted", 2)
}

func TestRenewal(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu")
	renew := func(expired bool, recoveries uint64, request string) *model.Renew {
		return &model.Renew{At: f.now, Agent: "eu", Key: hashOf("eu"), Serial: "s " + request, Authority: "a1", Expired: expired, Recoveries: recoveries, Request: hashOf(request)}
	}
	want := func(cmd *model.Renew, recoveries uint64) {
		t.Helper()
		if got := f.must(cmd).(*model.RenewResult); got.Recoveries != recoveries {
			t.Errorf("answered %+v, want %d", got, recoveries)
		}
	}
	other := renew(false, 0, "x")
	other.Key = hashOf("other")
	f.refused(model.Forbidden, other)
	want(renew(false, 7, "in time"), 0) // nobody counts these
	want(renew(true, 0, "first"), 1)
	want(renew(true, 0, "first"), 1) // the answer was lost
	want(renew(true, 1, "second"), 2)
	if a, _ := f.Agent("eu"); a.Recoveries != 2 || a.Serial != "s second" || a.Authority != "a1" {
		t.Errorf("agent %+v", a)
	}
	f.wantExceptions("recovered", 2)
	for _, count := range []uint64{0, 1, 3} {
		for i := range 2 { // lower or higher than known, and again
			f.refused(model.Forbidden, renew(true, count, fmt.Sprint("copy", count, i)))
		}
	}
	f.wantExceptions("key-copy", 3)
	if a, _ := f.Agent("eu"); a.Recoveries != 2 || a.Serial != "s second" || a.Epoch != 1 {
		t.Errorf("a refused renewal changed %+v", a)
	}

	f.must(&model.AllowAgent{Asked: f.by("root"), Agent: "eu"})
	want(renew(true, 0, "allowed"), 3)
	want(renew(true, 0, "allowed"), 3)
	if got := f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: 1, Session: 1}).(*model.GreetResult); !got.Stale || got.Epoch != 2 {
		t.Errorf("the copy that was let in is told %+v", got)
	}
	if got := f.must(&model.NewEpoch{At: f.now, Agent: "eu", Epoch: 1, Nonce: nonce(1)}).(*model.NewEpochResult); got.Epoch != 3 {
		t.Errorf("granted %+v", got)
	}
	f.rebuild("second")
	want(renew(true, 8, "lost life"), 9)
	f.refused(model.Forbidden, renew(true, 3, "copy"))
}

func TestReadmit(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "na", "la")
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "la"})
	backup := f.now
	readmit := func(name, key string, epoch uint64, issued time.Time) *model.Readmit {
		return &model.Readmit{At: f.now, Agent: name, Site: name, Key: hashOf(key), Serial: "s", Issued: issued, Epoch: epoch}
	}
	f.refused(model.Forbidden, readmit("new", "k", 1, backup))
	f.rebuild("second")
	lost := backup.Add(time.Minute)
	f.refused(model.Forbidden, readmit("new", "k", 1, backup.Add(-issuedBefore-time.Second)))
	f.refused(model.Forbidden, readmit("new", "k", 1, f.now.Add(time.Second)))
	f.refused(model.Invalid, readmit("New", "k", 1, lost))
	f.refused(model.Invalid, readmit("new", "k", 0, lost))
	f.refused(model.Forbidden, readmit("eu", "other", 1, lost)) // not later than the one known
	for range 2 {
		f.must(readmit("new", "k", 3, lost))
		f.must(readmit("eu", "other", 2, lost))
		f.must(readmit("na", "na", 1, lost)) // known just so
		f.must(readmit("la", "other", 2, lost))
	}
	f.wantExceptions("readmitted", 3)
	for name, want := range map[string]model.Agent{"new": {Epoch: 3, Key: hashOf("k")}, "eu": {Epoch: 2, Key: hashOf("other")}, "na": {Epoch: 1, Key: hashOf("na")}, "la": {Epoch: 2, Key: hashOf("other")}} {
		if a, ok := f.Agent(name); !ok || a.Epoch != want.Epoch || a.Key != want.Key || !a.Revoked.IsZero() {
			t.Errorf("agent %s: %+v", name, a)
		}
	}
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "new"})
	f.refused(model.Forbidden, readmit("new", "k", 3, lost))
	f.refused(model.Forbidden, readmit("new", "k2", 9, lost))
	f.join("na") // on a new disk, in this life
	f.refused(model.Forbidden, readmit("na", "lost", 9, lost))
}

func TestRebuild(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	for _, id := range []string{"n1", "n2", "n3"} {
		f.must(&model.PutNode{At: f.now, Node: model.Node{ID: id, Peer: id + ":1"}})
	}
	f.must(&model.CreateJoinToken{Asked: f.by("root"), Token: model.JoinToken{ID: "open", Hash: hashOf("open"), Site: "la", Expires: f.now.Add(24 * time.Hour)}})
	f.send("eu", "ho", 1, 2)
	b := f.apply(&model.Beacon{At: f.now, Voters: []string{"n1"}})
	f.must(&model.BeaconReport{Node: "n1", Index: b.Beacon, Hash: hashOf("not its own")})
	f.refused(model.Invalid, &model.Rebuild{At: f.now})
	for range 2 {
		f.must(&model.Rebuild{At: f.now, Incarnation: "second", Rebuilt: model.Rebuilt{Node: "n2", Cause: model.RebuiltFromSurvivor, From: start}})
	}
	c, _ := f.Cluster()
	if c.Generation != 2 || c.Incarnation != "second" || c.Rebuilt == nil || !c.Rebuilt.At.Equal(f.now) || c.Rebuilt.Node != "n2" {
		t.Errorf("cluster %+v, rebuilt %+v", c, c.Rebuilt)
	}
	if nodes := f.Nodes(); len(nodes) != 1 || nodes[0].ID != "n2" {
		t.Errorf("nodes %+v", nodes)
	}
	if v := f.Verdict(); v != (model.Verdict{}) || f.rows(tableBeacons) != 0 {
		t.Errorf("verdict %+v of another life", v)
	}
	f.refused(model.Forbidden, &model.Enroll{At: f.now, Token: "open", Secret: hashOf("open"), Key: hashOf("la")})
	f.wantExceptions("restored", 1)

	// What an agent acknowledged in the lost life removes what was there before, and
	// nothing that came after.
	f.send("eu", "ho", 3, 4)
	f.send("eu", "ho", 5, 5)
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: 20})
	mail := f.Mail("ho", 0, 1<<20)
	if len(mail) != 2 || mail[0].Position != 2<<generationShift+1 || f.Mailbox("ho").Events != 3 {
		t.Fatalf("mail %+v, box %+v", mail, f.Mailbox("ho"))
	}
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: mail[1].Position})
	if box := f.Mailbox("ho"); box.Bytes != 0 || f.Relay().Blocks != 0 {
		t.Errorf("box %+v, relay %+v", box, f.Relay())
	}
	if f.send("ho", "eu", 1, 1); f.Mail("eu", 0, 1<<20)[0].Position <= 2<<generationShift {
		t.Error("a mailbox that is new begins below its generation")
	}
}

func TestRaiseGeneration(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	f.send("eu", "ho", 1, 1)
	f.refused(model.Forbidden, &model.RaiseGeneration{At: f.now, Above: 1, Agent: "xx"})
	f.refused(model.Invalid, &model.RaiseGeneration{At: f.now, Above: maxGeneration, Agent: "eu"})
	f.must(&model.RaiseGeneration{At: f.now, Above: 0, Agent: "eu"})
	if c, _ := f.Cluster(); c.Generation != 1 {
		t.Errorf("generation %d", c.Generation)
	}
	f.must(&model.RaiseGeneration{At: f.now, Above: 1, Agent: "eu"})
	if c, _ := f.Cluster(); c.Generation != 2 {
		t.Errorf("the same generation in another life left %d", c.Generation)
	}
	for range 2 {
		f.must(&model.RaiseGeneration{At: f.now, Above: 4, Agent: "eu"})
	}
	if c, _ := f.Cluster(); c.Generation != 5 || f.Mailbox("ho").Next != 5<<generationShift+1 {
		t.Errorf("generation %d, box %+v", c.Generation, f.Mailbox("ho"))
	}
	f.wantExceptions("restored", 2)
}

// An agent that lies about what it has seen takes away half of the generations at most; the
// rest is for restores, which take one each, to the last.
func TestGenerationsLast(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	generation := func() uint64 {
		c, _ := f.Cluster()
		return c.Generation
	}
	for _, above := range []uint64{maxGeneration / 2, maxGeneration - 1, maxGeneration, math.MaxUint64} {
		f.refused(model.Invalid, &model.RaiseGeneration{At: f.now, Above: above, Agent: "eu"})
	}
	f.must(&model.RaiseGeneration{At: f.now, Above: maxGeneration/2 - 1, Agent: "eu"})
	if generation() != maxGeneration/2 {
		t.Fatalf("generation %d", generation())
	}
	f.refused(model.Invalid, &model.RaiseGeneration{At: f.now, Above: maxGeneration / 2, Agent: "eu"})
	rebuild := func() *model.Rebuild {
		return &model.Rebuild{At: f.now, Incarnation: fmt.Sprint("life ", generation()), Rebuilt: model.Rebuilt{Node: "n1", From: f.now}}
	}
	f.must(rebuild())
	if generation() != maxGeneration/2+1 {
		t.Errorf("a restore came to generation %d", generation())
	}
	f.send("eu", "ho", 1, 1)
	if at := f.Mail("ho", 0, 1<<20)[0].Position; at != generation()<<generationShift+1 {
		t.Errorf("mail of generation %d has position %d", generation(), at)
	}

	// The last one there is: its mail still has positions, and nothing goes beyond it.
	last, _ := f.Cluster()
	last.Generation = maxGeneration - 1
	err := f.db.Update(func(b *bolt.Tx) error {
		put(&tx{view: view{b}}, tableMeta, keyCluster, &last)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.must(rebuild())
	f.send("eu", "ho", 2, 2)
	mail := f.Mail("ho", 0, 1<<20)
	if at := mail[len(mail)-1].Position; at != maxGeneration<<generationShift+1 {
		t.Errorf("mail of the last generation has position %d", at)
	}
	f.refused(model.TooLarge, rebuild())
	if generation() != maxGeneration {
		t.Errorf("generation %d", generation())
	}
}
