package state

import (
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

func (f *fixture) propose(text string, sites ...string) model.Revision {
	f.Helper()
	return *f.must(&model.Propose{Asked: f.by("root"), Bundle: []byte(text), Digest: hashOf(text), Sites: sites}).(*model.Revision)
}

func (f *fixture) approval(r model.Revision, canary ...string) *model.Approve {
	return &model.Approve{Asked: f.by("second"), Number: r.ID.Number, Digest: r.Digest, Canary: canary}
}

// runs checks which revision each site has.
func (f *fixture) runs(want map[string]uint64) {
	f.Helper()
	for site, number := range want {
		r, _, ok := f.RevisionFor(site)
		if ok != (number != 0) || r.ID.Number != number {
			f.Fatalf("site %s has revision %d (%t), want %d", site, r.ID.Number, ok, number)
		}
	}
}

func canaryFixture(t *testing.T) *fixture {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.principal("second", model.Approver)
	f.principal("vera", model.Viewer)
	f.runs(map[string]uint64{"eu": 0})
	first := f.propose("one", "eu", "na")
	f.refused(model.Conflict, f.approval(first, "eu")) // the others would have none
	f.must(f.approval(first))
	return f
}

func TestCanary(t *testing.T) {
	f := canaryFixture(t)
	f.join("eu")
	second, third := f.propose("two", "eu", "na", "new"), f.propose("three", "eu")
	f.refused(model.Invalid, f.approval(second, "eu", "elsewhere"))
	f.refused(model.Conflict, &model.Promote{Asked: f.by("second"), Number: second.ID.Number})
	out := f.apply(f.approval(second, "new", "eu", "eu"))
	if r := out.Results[0][0]; r.Err != nil || !slices.Contains(out.Topics, "policy") {
		t.Fatalf("%+v", out)
	}
	f.runs(map[string]uint64{"eu": 2, "new": 2, "na": 1, "elsewhere": 1})
	if r, _, _ := f.ActiveRevision(); r.ID.Number != 1 || r.State != model.RevisionActive {
		t.Errorf("active %+v", r)
	}
	if r, _ := f.Revision(2); r.State != model.RevisionCanary || !slices.Equal(r.Canary, []string{"eu", "new"}) || r.Approver != "second" {
		t.Errorf("canary %+v", r)
	}
	for dest, taken := range map[string]bool{"na": true, "new": true, "elsewhere": false} {
		text := cut(t, "eu", 1, []block.Lane{{Agent: dest, First: 1}}, plain(1, 9)...)
		a := answerFor(t, f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{text}}), dest)
		if (a.Refused == "") != taken {
			t.Errorf("destination %s: %+v", dest, a)
		}
	}
	if err := f.refused(model.Conflict, f.approval(third)); !strings.Contains(err.Text, second.ID.String()) {
		t.Errorf("it does not name the canary: %v", err)
	}
	f.refused(model.Conflict, f.approval(third, "eu"))
	f.refused(model.Forbidden, &model.Promote{Asked: f.by("root"), Number: 2}) // its author
	f.refused(model.Forbidden, &model.Promote{Asked: f.by("vera"), Number: 2})
	f.refused(model.NotFound, &model.Promote{Asked: f.by("second"), Number: 9})
	got := f.must(&model.Promote{Asked: f.by("second"), Number: 2}).(*model.Revision)
	if got.State != model.RevisionActive || got.Promoted.IsZero() {
		t.Errorf("promoted %+v", got)
	}
	if r, _ := f.Revision(1); r.State != model.RevisionSuperseded {
		t.Errorf("the one before is %s", r.State)
	}
	f.runs(map[string]uint64{"eu": 2, "na": 2})
	f.refused(model.Conflict, f.approval(third)) // made from another base
	f.refused(model.Conflict, &model.Withdraw{Asked: f.by("second"), Number: 2})
	f.must(f.approval(f.propose("four", "eu"))) // the way is free for the next
	f.runs(map[string]uint64{"eu": 4, "na": 4})
}

func TestWithdraw(t *testing.T) {
	f := canaryFixture(t)
	second := f.propose("two", "eu")
	f.must(f.approval(second, "eu"))
	f.refused(model.Forbidden, &model.Withdraw{Asked: f.by("vera"), Number: 2})
	f.refused(model.NotFound, &model.Withdraw{Asked: f.by("second"), Number: 7})
	got := f.must(&model.Withdraw{Asked: f.by("second"), Number: 2, Reason: "prints twice"}).(*model.Revision)
	if got.ID.Number != 3 || got.State != model.RevisionActive || got.Digest != hashOf("one") || !strings.Contains(got.Note, "prints twice") || got.Author == got.Approver {
		t.Errorf("withdrawn to %+v", got)
	}
	f.runs(map[string]uint64{"eu": 3, "na": 3})
	if r, bundle, _ := f.ActiveRevision(); r.ID != got.ID || string(bundle) != "one" || !slices.Equal(r.Sites, []string{"eu", "na"}) {
		t.Errorf("active %+v with %q", r, bundle)
	}
	for number, want := range map[uint64]model.RevisionState{1: model.RevisionSuperseded, 2: model.RevisionWithdrawn} {
		if r, _ := f.Revision(number); r.State != want {
			t.Errorf("revision %d is %s, want %s", number, r.State, want)
		}
	}
	// It can be tried again, mended or as it was.
	f.must(f.approval(f.propose("two", "eu"), "eu"))
	if got := f.must(&model.Withdraw{Asked: f.by("second"), Number: 4}).(*model.Revision); !strings.HasSuffix(got.Note, "was withdrawn") {
		t.Errorf("without a reason the note is %q", got.Note)
	}
	f.must(f.approval(f.propose("two", "eu"), "eu"))
	f.runs(map[string]uint64{"eu": 6, "na": 5})
}

func TestSameContentIsNotProposedTwice(t *testing.T) {
	f := canaryFixture(t)
	same := func(text, of string) {
		t.Helper()
		err := f.refused(model.Conflict, &model.Propose{Asked: f.by("root"), Bundle: []byte(text), Digest: hashOf(text), Sites: []string{"eu"}})
		if !strings.Contains(err.Text, of) {
			t.Errorf("it does not name %s: %v", of, err)
		}
	}
	same("one", "1.1")
	second := f.propose("two", "eu")
	same("two", "1.2")
	f.propose("three", "eu")
	f.must(f.approval(second, "eu"))
	same("two", "1.2")
	f.must(&model.Promote{Asked: f.by("second"), Number: 2})
	f.propose("three", "eu") // the first of it was made from another base and is dead
	f.propose("one", "eu")   // a rollback
	same("two", "1.2")
	f.rebuild("second")
	f.propose("two", "eu") // so that sites with a revision of the lost life come to this one
	same("two", "2.6")
}
