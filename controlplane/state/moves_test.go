package state

import (
	"slices"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// moving has a revision in force that moves erp from ho to eu; na is a third site.
func moving(t *testing.T) (*fixture, model.Revision) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "na", "ho", "gone")
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "gone"})
	f.principal("second", model.Approver)
	return f, f.move("with move")
}

func (f *fixture) move(text string, moves ...model.Move) model.Revision {
	f.Helper()
	if len(moves) == 0 {
		moves = []model.Move{{System: "erp2", Site: "eu", Old: "erp", OldSite: "ho"}}
	}
	r := f.must(&model.Propose{Asked: f.by("root"), Bundle: []byte(text), Digest: hashOf(text), Sites: []string{"eu", "na", "ho", "gone", "empty"}, Moves: moves}).(*model.Revision)
	return *f.must(f.approval(*r)).(*model.Revision)
}

func (f *fixture) wantMove(state model.MoveState, waiting ...string) model.MoveStatus {
	f.Helper()
	list := f.Moves()
	if len(list) != 1 || list[0].State != state || !slices.Equal(list[0].Waiting, waiting) {
		f.Fatalf("moves %+v, want one that is %s and waits for %v", list, state, waiting)
	}
	return list[0]
}

// says sends an Ack; flushed up to a revision, mail up to a position, and a report on erp2.
func (f *fixture) says(agent string, flushed block.Revision, mailbox uint64, report ...model.MoveReport) {
	f.Helper()
	f.must(&model.Ack{At: f.now, Agent: agent, Mailbox: mailbox, Flushed: flushed, Moves: report})
}

func pending(n uint64) model.MoveReport { return model.MoveReport{System: "erp2", Pending: n} }

var holding = model.MoveReport{System: "erp2", Holding: true}

func TestMove(t *testing.T) {
	f, r := moving(t)
	none := block.Revision{}
	f.wantMove(model.MoveFlushing, "eu", "ho", "na")
	f.says("ho", none, 0, pending(0)) // too early to count
	f.says("eu", r.ID, 0, holding)
	f.says("ho", r.ID, 0)
	f.send("na", "ho", 1, 2)
	f.wantMove(model.MoveFlushing, "na")
	f.says("na", block.Revision{Generation: 0, Number: 9}, 0) // an earlier one
	f.wantMove(model.MoveFlushing, "na")
	f.says("na", r.ID, 0)
	if m := f.wantMove(model.MoveDraining, "ho"); m.Mark != 1 || m.Revision != r.ID || m.Since.IsZero() {
		t.Fatalf("draining %+v", m)
	}
	f.says("ho", r.ID, 0, pending(0)) // what it has not acknowledged it cannot have counted
	f.says("ho", r.ID, 1, pending(0)) // counted perhaps before it came
	f.says("na", r.ID, 0, pending(0)) // not its to say
	f.says("ho", r.ID, 1, pending(1))
	f.wantMove(model.MoveDraining, "ho")
	if len(f.Commands("eu")) != 0 {
		t.Fatal("released too early")
	}
	f.says("ho", r.ID, 1, pending(0))
	if m := f.wantMove(model.MoveReleased); m.By != "" || m.Released.IsZero() {
		t.Errorf("released %+v", m)
	}
	cmds := f.Commands("eu")
	want := `{"system":"erp2","revision":{"Generation":1,"Number":1}}`
	if len(cmds) != 1 || cmds[0].Kind != model.CommandRelease || string(cmds[0].Arguments) != want {
		t.Fatalf("commands %+v", cmds)
	}
	f.says("eu", r.ID, 0, holding)
	if len(f.Commands("eu")) != 1 {
		t.Error("the command stands twice")
	}
	f.must(&model.Ack{At: f.now, Agent: "eu", Answers: []model.CommandAnswer{{ID: cmds[0].ID}}})
	if len(f.Commands("eu")) != 0 {
		t.Error("the answered command is still there")
	}
	f.says("na", r.ID, 0, holding)
	f.says("eu", r.ID, 0, pending(0))
	if len(f.Commands("eu"))+len(f.Commands("na")) != 0 {
		t.Error("released again without need")
	}
	f.says("eu", r.ID, 0, holding) // it was restored from an image
	if len(f.Commands("eu")) != 1 {
		t.Error("it holds, and nobody tells it")
	}
}

// A move keeps where it began over later revisions; one that comes again has begun anew.
func TestWhereAMoveBegan(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.principal("second", model.Approver)
	plain := func(text string) model.Revision {
		r := f.propose(text, "eu", "ho")
		f.must(f.approval(r))
		return r
	}
	want := func(site string, began, before block.Revision, system string) {
		t.Helper()
		_, moves, ok := f.RevisionFor(site)
		if !ok || len(moves) != 1 || moves[0].System != system || moves[0].Revision != began || moves[0].Before != before {
			t.Fatalf("%s: moves %+v, want %s since %s, and %s before", site, moves, system, began, before)
		}
	}
	first := plain("one")
	if _, moves, ok := f.RevisionFor("eu"); !ok || len(moves) != 0 {
		t.Fatalf("moves %+v", moves)
	}
	f.propose("of no account", "eu", "ho")
	moved := f.move("moved")
	want("eu", moved.ID, first.ID, "erp2")
	f.move("moved still")
	want("eu", moved.ID, first.ID, "erp2")
	back := plain("moved back")
	again := f.move("moved again")
	want("eu", again.ID, back.ID, "erp2")

	// At a canary site another move has begun; the others go on.
	next := f.must(&model.Propose{Asked: f.by("root"), Bundle: []byte("next"), Digest: hashOf("next"), Sites: []string{"eu", "ho"},
		Moves: []model.Move{{System: "erp3", Site: "ho", Old: "erp2", OldSite: "eu"}}}).(*model.Revision)
	f.must(f.approval(*next, "eu"))
	want("eu", next.ID, again.ID, "erp3")
	want("ho", again.ID, back.ID, "erp2")
	f.must(&model.Promote{Asked: f.by("second"), Number: next.ID.Number})
	want("ho", next.ID, again.ID, "erp3")
}

// An old copy of an agent may still send to the old system under a former revision: a move
// that waited for the old system only waits for that agent again.
func TestMoveWaitsForAnOldCopy(t *testing.T) {
	f, r := moving(t)
	for _, agent := range []string{"eu", "ho", "na"} {
		f.says(agent, r.ID, 0)
	}
	f.wantMove(model.MoveDraining, "ho")
	f.must(&model.NewEpoch{At: f.now, Agent: "na", Epoch: 1, Nonce: [16]byte{1}, Why: "an image"})
	f.wantMove(model.MoveFlushing, "na")
	f.says("ho", r.ID, 0, pending(0))
	f.says("ho", r.ID, 0, pending(0))
	f.wantMove(model.MoveFlushing, "na")
	f.says("na", r.ID, 0)
	f.wantMove(model.MoveDraining, "ho")
}

func TestMoveWithinASite(t *testing.T) {
	f, _ := moving(t)
	r := f.move("same site", model.Move{System: "erp2", Site: "ho", Old: "erp", OldSite: "ho"})
	for _, agent := range []string{"eu", "na", "ho"} {
		f.says(agent, r.ID, 0)
	}
	f.says("ho", r.ID, 0, model.MoveReport{System: "erp2", Pending: 0, Holding: true})
	f.wantMove(model.MoveReleased)
	if cmds := f.Commands("ho"); len(cmds) != 1 {
		t.Errorf("commands %+v", cmds)
	}
}

func TestMoveOfAPolicyThatChanges(t *testing.T) {
	f, first := moving(t)
	for _, agent := range []string{"eu", "na", "ho"} {
		f.says(agent, first.ID, 0)
	}
	f.wantMove(model.MoveDraining, "ho")
	f.move("another text, the same move")
	if m := f.wantMove(model.MoveDraining, "ho"); m.Revision != first.ID {
		t.Errorf("it began again: %+v", m)
	}
	other := f.move("from another", model.Move{System: "erp2", Site: "eu", Old: "sap", OldSite: "ho"})
	if m := f.wantMove(model.MoveFlushing, "eu", "ho", "na"); m.Revision != other.ID || m.Old != "sap" {
		t.Errorf("move %+v", m)
	}
	f.must(f.approval(f.propose("no move", "eu", "ho")))
	if list := f.Moves(); len(list) != 0 {
		t.Errorf("moves %+v", list)
	}
}

func TestMoveBeginsWhenTheCanaryIsPromoted(t *testing.T) {
	f, _ := moving(t)
	f.must(f.approval(f.propose("none", "eu", "na", "ho")))
	r := f.must(&model.Propose{Asked: f.by("root"), Bundle: []byte("m"), Digest: hashOf("m"), Sites: []string{"eu", "ho"},
		Moves: []model.Move{{System: "erp2", Site: "eu", Old: "erp", OldSite: "ho"}}}).(*model.Revision)
	f.must(f.approval(*r, "eu"))
	if len(f.Moves()) != 0 {
		t.Errorf("moves %+v", f.Moves())
	}
	f.must(&model.Promote{Asked: f.by("second"), Number: r.ID.Number})
	f.wantMove(model.MoveFlushing, "eu", "ho") // na is no longer in it
}

func TestReleaseByAnOperator(t *testing.T) {
	f, _ := moving(t)
	f.principal("vera", model.Viewer)
	f.refused(model.Forbidden, &model.ReleaseSystem{Asked: f.by("vera"), System: "erp2"})
	f.refused(model.NotFound, &model.ReleaseSystem{Asked: f.by("root"), System: "erp"})
	f.must(&model.ReleaseSystem{Asked: f.by("root"), System: "erp2"})
	if m := f.wantMove(model.MoveReleased); m.By != "root" || len(f.Commands("eu")) != 1 {
		t.Errorf("move %+v, commands %v", m, f.Commands("eu"))
	}
	f.refused(model.Conflict, &model.ReleaseSystem{Asked: f.by("root"), System: "erp2"})
}

func TestRevokedAgentIsNotWaitedFor(t *testing.T) {
	f, r := moving(t)
	f.says("eu", r.ID, 0)
	f.says("ho", r.ID, 0)
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "na"})
	f.wantMove(model.MoveDraining, "ho")
}

// When the old system's agent is set back, what is sent again to it comes beyond the mark.
func TestMoveWaitsForWhatIsSentAgain(t *testing.T) {
	f, r := moving(t)
	f.send("na", "ho", 1, 4)
	for _, agent := range []string{"eu", "na", "ho"} {
		f.says(agent, r.ID, 1)
	}
	f.wantMove(model.MoveDraining, "ho")
	f.must(&model.Behind{At: f.now, Agent: "ho", Inbound: []model.Lane{{Source: "na", Epoch: 1, Highwater: 1}}})
	f.wantMove(model.MoveFlushing, "na")
	f.says("ho", r.ID, 1, pending(0))
	f.says("na", r.ID, 0)
	f.send("na", "ho", 2, 3)
	f.wantMove(model.MoveFlushing, "na")
	f.send("na", "ho", 4, 5)
	if m := f.wantMove(model.MoveDraining, "ho"); m.Mark != 3 {
		t.Errorf("mark %d", m.Mark)
	}
	f.says("ho", r.ID, 3, pending(0))
	f.says("ho", r.ID, 3, pending(0))
	f.wantMove(model.MoveReleased)
}

func TestMoveAfterARestore(t *testing.T) {
	f, r := moving(t)
	for _, agent := range []string{"eu", "na", "ho"} {
		f.says(agent, r.ID, 0)
	}
	f.wantMove(model.MoveDraining, "ho")
	f.rebuild("second")
	f.wantMove(model.MoveFlushing, "eu", "ho", "na")
}

func TestMovesAreChecked(t *testing.T) {
	f, _ := moving(t)
	for name, moves := range map[string][]model.Move{
		"itself":       {{System: "a", Old: "a", Site: "eu", OldSite: "ho"}},
		"no old":       {{System: "a", Site: "eu", OldSite: "ho"}},
		"two of one":   {{System: "a", Old: "b", Site: "eu", OldSite: "ho"}, {System: "a", Old: "c", Site: "eu", OldSite: "ho"}},
		"no such site": {{System: "a", Old: "b", Site: "xx", OldSite: "ho"}},
		"no old site":  {{System: "a", Old: "b", Site: "eu", OldSite: "xx"}},
	} {
		t.Run(name, func(t *testing.T) {
			f.refused(model.Invalid, &model.Propose{Asked: f.by("root"), Bundle: []byte("x"), Digest: hashOf("x"), Sites: []string{"eu", "ho"}, Moves: moves})
		})
	}
}
