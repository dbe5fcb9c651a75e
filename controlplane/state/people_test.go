package state

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// Who may put a revision in force that anna has proposed.
func TestApproverIsNotTheAuthor(t *testing.T) {
	all := []model.Role{model.Author, model.Approver, model.Admin}
	tests := []struct {
		name      string
		approvals model.Approvals
		author    []model.Role
		by        string
		roles     []model.Role
		code      model.Code // empty: allowed
	}{
		{"another approver", model.ApprovalsDual, all, "bert", []model.Role{model.Approver}, ""},
		{"another without the role", model.ApprovalsDual, all, "bert", []model.Role{model.Author, model.Admin, model.Operator}, model.Forbidden},
		{"the author", model.ApprovalsDual, all, "anna", nil, model.Forbidden},
		{"nobody", model.ApprovalsDual, all, "ghost", nil, model.Forbidden},
		{"single: the author, as approver", model.ApprovalsSingle, []model.Role{model.Author, model.Approver}, "anna", nil, ""},
		{"single: the author, as admin", model.ApprovalsSingle, []model.Role{model.Author, model.Admin}, "anna", nil, ""},
		{"single: the author alone", model.ApprovalsSingle, []model.Role{model.Author}, "anna", nil, model.Forbidden},
		{"single: another approver", model.ApprovalsSingle, all, "bert", []model.Role{model.Approver}, ""},
		{"single: another admin", model.ApprovalsSingle, all, "bert", []model.Role{model.Admin}, model.Forbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := openMachine(t)
			f.begin(tt.approvals, model.Limits{})
			f.principal("anna", tt.author...)
			if tt.roles != nil {
				f.principal(tt.by, tt.roles...)
			}
			r := f.must(&model.Propose{Asked: f.by("anna"), Bundle: []byte("x"), Digest: hashOf("x")}).(*model.Revision)
			got := f.do(&model.Approve{Asked: f.by(tt.by), Number: r.ID.Number, Digest: r.Digest})
			active, ok := f.Active()
			if tt.code == "" && (got.Err != nil || !ok || active.Approver != tt.by || active.Author != "anna") {
				t.Errorf("got %v, active %+v", got.Err, active)
			}
			if tt.code != "" && (got.Err == nil || got.Err.Code != tt.code || ok) {
				t.Errorf("got %v, in force %t, want %s", got.Err, ok, tt.code)
			}
		})
	}
}

func TestRevisionsInTheirOrder(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.principal("bert", model.Approver)
	propose := func(s string) *model.Revision {
		return f.must(&model.Propose{Asked: f.by("root"), Bundle: []byte(s), Digest: hashOf(s)}).(*model.Revision)
	}
	one, two := propose("one"), propose("two")
	f.refused(model.NotFound, &model.Approve{Asked: f.by("bert"), Number: 9, Digest: one.Digest})
	f.refused(model.Conflict, &model.Approve{Asked: f.by("bert"), Number: one.ID.Number, Digest: two.Digest})
	f.must(&model.Approve{Asked: f.by("bert"), Number: one.ID.Number, Digest: one.Digest})
	f.refused(model.Conflict, &model.Approve{Asked: f.by("bert"), Number: one.ID.Number, Digest: one.Digest})
	f.refused(model.Conflict, &model.Approve{Asked: f.by("bert"), Number: two.ID.Number, Digest: two.Digest}) // made from another base
	three := propose("three")
	if three.Base != one.ID {
		t.Errorf("base %v, want %v", three.Base, one.ID)
	}
	f.must(&model.Approve{Asked: f.by("bert"), Number: three.ID.Number, Digest: three.Digest})
	active, bundle, ok := f.ActiveRevision()
	if !ok || active.ID != three.ID || string(bundle) != "three" {
		t.Errorf("active %+v %q", active, bundle)
	}
	var states []model.RevisionState
	for _, r := range f.Revisions(0, 0) {
		states = append(states, r.State)
	}
	if want := []model.RevisionState{model.RevisionActive, model.RevisionProposed, model.RevisionSuperseded}; !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
	if text, ok := f.RevisionBundle(one.ID.Number); !ok || string(text) != "one" {
		t.Errorf("former bundle %q", text)
	}
}

func TestEveryCommandNeedsItsRole(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu")
	f.report("eu", factBody(t, model.Fact{DeadLetter: &model.DeadLetter{ID: "eu/1/erp"}}), factBody(t, model.Fact{Exception: &model.Exception{ID: "x", Kind: "k"}}))
	commands := map[model.Role]func(a model.Asked) []model.Command{
		model.Operator: func(a model.Asked) []model.Command {
			return []model.Command{
				&model.CreateJoinToken{Asked: a, Token: model.JoinToken{ID: "new", Site: "na", Hash: hashOf("n"), Expires: f.now.Add(time.Hour)}},
				&model.Resolve{Asked: a, DeadLetter: "eu/1/erp", Replay: true},
				&model.ResolveException{Asked: a, Exception: "eu/x"},
				&model.Revoke{Asked: a, Agent: "eu"},
			}
		},
		model.Author: func(a model.Asked) []model.Command {
			return []model.Command{&model.Propose{Asked: a, Bundle: []byte("x"), Digest: hashOf("x")}}
		},
		model.Admin: func(a model.Asked) []model.Command {
			return []model.Command{&model.PutPrincipal{Asked: a, Principal: model.Principal{Name: "new", TokenHash: hashOf("new")}}}
		},
	}
	for _, need := range []model.Role{model.Operator, model.Author, model.Admin} {
		holder, others := "only-"+string(need), "all-but-"+string(need)
		f.principal(holder, need)
		f.principal(others, slices.DeleteFunc(slices.Clone(everyRole), func(r model.Role) bool { return r == need })...)
		for _, by := range []string{"ghost", "", others} {
			for _, cmd := range commands[need](f.by(by)) {
				f.refused(model.Forbidden, cmd)
			}
		}
		f.must(&model.PutPrincipal{Asked: f.by("root"), Principal: model.Principal{Name: "off", Roles: everyRole, TokenHash: hashOf("off"), Disabled: true}})
		for _, cmd := range commands[need](f.by("off")) {
			f.refused(model.Forbidden, cmd)
		}
		for _, cmd := range commands[need](f.by(holder)) {
			f.must(cmd)
		}
	}
}

func TestLastAdminStays(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.refused(model.Conflict, &model.PutPrincipal{Asked: f.by("root"), Principal: model.Principal{Name: "root", Roles: everyRole, Disabled: true}})
	f.refused(model.Conflict, &model.PutPrincipal{Asked: f.by("root"), Principal: model.Principal{Name: "root", Roles: []model.Role{model.Viewer}}})
	f.refused(model.Conflict, &model.PutPrincipal{Asked: f.by("root"), Principal: model.Principal{Name: "thief", TokenHash: hashOf("root")}})
	f.refused(model.Invalid, &model.PutPrincipal{Asked: f.by("root"), Principal: model.Principal{Name: "x", Roles: []model.Role{"king"}, TokenHash: hashOf("x")}})
	f.refused(model.Invalid, &model.PutPrincipal{Asked: f.by("root"), Principal: model.Principal{Name: "x"}})
	f.principal("anna@example.org", model.Admin)
	f.must(&model.PutPrincipal{Asked: f.by("root"), Principal: model.Principal{Name: "root", Roles: everyRole, Disabled: true}})
	f.must(&model.PutPrincipal{Asked: f.by("anna@example.org"), Principal: model.Principal{Name: "root", Roles: everyRole, TokenHash: hashOf("new")}})
	if _, ok := f.Principal(hashOf("root")); ok {
		t.Error("the former token still opens")
	}
	if p, ok := f.Principal(hashOf("new")); !ok || p.Name != "root" || p.Disabled {
		t.Errorf("principal %+v", p)
	}
}

func TestNewPrincipalReplacesNobody(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	add := func(role model.Role, token string) *model.PutPrincipal {
		return &model.PutPrincipal{Asked: f.by("root"), New: true, Principal: model.Principal{Name: "anna", Roles: []model.Role{role}, TokenHash: hashOf(token)}}
	}
	f.must(add(model.Author, "first"))
	f.refused(model.Conflict, add(model.Approver, "second")) // two who add the same name at once
	f.must(&model.PutPrincipal{Asked: f.by("root"), Principal: model.Principal{Name: "anna", Disabled: true}})
	f.refused(model.Conflict, add(model.Approver, "third"))
	if p, ok := f.Principal(hashOf("first")); !ok || !p.Disabled {
		t.Errorf("principal %+v", p)
	}
}

func TestRepeatedRequest(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	ask := func(id string) model.Asked { a := f.by("root"); a.RequestID = id; return a }
	propose := func(id, text string) *model.Propose {
		return &model.Propose{Asked: ask(id), Bundle: []byte(text), Digest: hashOf(text)}
	}
	first := f.must(propose("a", "one")).(*model.Revision)
	again := f.must(propose("a", "one")).(*model.Revision)
	if again.ID != first.ID || again.Digest != first.Digest || !again.Proposed.Equal(first.Proposed) || len(f.Revisions(0, 0)) != 1 {
		t.Errorf("the repeat made %+v, want %+v", again, first)
	}
	f.refused(model.Conflict, propose("a", "two"))
	f.refused(model.Conflict, &model.Revoke{Asked: ask("a"), Agent: "eu"})
	f.must(propose("b", "two"))

	// A refusal is an answer too, even when the command would be allowed by now.
	token := model.JoinToken{ID: "t", Site: "eu", Hash: hashOf("t"), Expires: f.now.Add(time.Hour)}
	f.refused(model.NotFound, &model.Revoke{Asked: ask("c"), Agent: "eu"})
	f.must(&model.CreateJoinToken{Asked: ask("d"), Token: token})
	f.must(&model.CreateJoinToken{Asked: ask("d"), Token: token})
	f.must(&model.Enroll{At: f.now, Token: "t", Secret: hashOf("t")})
	f.refused(model.NotFound, &model.Revoke{Asked: ask("c"), Agent: "eu"})

	long := propose(strings.Repeat("n", maxName)+"/"+strings.Repeat("k", 128), "long")
	if one, again := f.must(long).(*model.Revision), f.must(long).(*model.Revision); one.ID != again.ID {
		t.Error("the longest request id is not known again")
	}
	f.principal("anna", model.Author) // ids are each principal's own
	other := propose("a", "three")
	other.By = "anna"
	f.must(other)

	f.now = f.now.Add(answersKept + time.Hour)
	if late := f.must(propose("a", "four")).(*model.Revision); late.ID == first.ID {
		t.Error("the answer was kept for longer than a day")
	}
	if n := f.rows(tableAnswers); n != 1 || f.rows(tableAnswerTimes) != 1 {
		t.Errorf("%d answers and %d times are kept", n, f.rows(tableAnswerTimes))
	}
}

func (f *fixture) token(id, site string) {
	f.must(&model.CreateJoinToken{Asked: f.by("root"), Token: model.JoinToken{ID: id, Hash: hashOf(id), Site: site, Expires: f.now.Add(time.Hour)}})
}

func (f *fixture) enrolment(id string) *model.Enroll {
	f.now = f.now.Add(time.Second)
	return &model.Enroll{At: f.now, Token: id, Secret: hashOf(id), Key: hashOf("key " + id), Serial: "s-" + id}
}

func TestEnrolment(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	enroll := f.enrolment
	f.token("one", "eu")
	f.refused(model.Unauthorized, enroll("none"))
	wrong := enroll("one")
	wrong.Secret = hashOf("guess")
	f.refused(model.Unauthorized, wrong)
	elsewhere := enroll("one")
	elsewhere.Agent = "na"
	f.refused(model.Forbidden, elsewhere)
	late := enroll("one")
	late.At = f.now.Add(2 * time.Hour)
	f.refused(model.Forbidden, late)

	got := f.must(enroll("one")).(*model.EnrollResult)
	if got.Agent.Name != "eu" || got.Agent.Site != "eu" || got.Agent.Epoch != 1 || got.Agent.Key != hashOf("key one") {
		t.Errorf("enrolled %+v", got.Agent)
	}
	// The answer may be lost: the same key gets another certificate as long as the token lives.
	repeat := enroll("one")
	repeat.Serial = "s-repeat"
	if r := f.must(repeat).(*model.EnrollResult).Agent; r.Epoch != 1 || r.Serial != "s-repeat" || !r.Enrolled.Equal(got.Agent.Enrolled) {
		t.Errorf("repeated: %+v", r)
	}
	repeat = enroll("one")
	repeat.At = f.now.Add(2 * time.Hour)
	f.refused(model.Forbidden, repeat)
	stolen := func() *model.Enroll { c := enroll("one"); c.Key = hashOf("another key"); return c }
	guess := stolen()
	guess.Secret = hashOf("guess")
	if told := f.refused(model.Unauthorized, guess).Text; told != "the join token is not known" {
		t.Errorf("who has not the secret is told %q", told)
	}
	audited := len(f.Audit(0, 1000))
	told := f.refused(model.Forbidden, stolen()).Text
	for _, want := range []string{"was used at " + got.Agent.Enrolled.UTC().Format(time.RFC3339) + " by agent eu", "token create --site eu", "agents revoke eu"} {
		if !strings.Contains(told, want) {
			t.Errorf("who has a used token is told %q, without %q", told, want)
		}
	}
	entries := f.Audit(0, 1000)
	if len(entries) != audited+1 || entries[audited].Action != "agent.enroll.refused" || entries[audited].Object != "one" {
		t.Errorf("the second use was not audited: %+v", entries[audited:])
	}
	// Nodes of the version before write this text, so it stays.
	if detail := string(entries[audited].Detail); !strings.Contains(detail, got.Agent.Enrolled.Format(time.RFC3339)+"; ask for a new one\"") {
		t.Errorf("audited: %s", detail)
	}
	if a, _ := f.Agent("eu"); a.Epoch != 1 || a.Key != hashOf("key one") {
		t.Errorf("the second use changed the agent: %+v", a)
	}
	for range 2 * maxAuditedRefusals {
		f.refused(model.Forbidden, stolen())
	}
	if n := len(f.Audit(0, 1000)); n > audited+maxAuditedRefusals {
		t.Errorf("a spent token wrote %d entries", n-audited)
	}
	if err := f.VerifyAudit(); err != nil {
		t.Error(err)
	}
}

func TestEnrolledAgain(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	enroll := f.enrolment
	f.token("one", "eu")
	f.must(enroll("one"))
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "eu"})
	f.refused(model.Forbidden, &model.Ack{At: f.now, Agent: "eu"})
	f.refused(model.Forbidden, &model.Renew{At: f.now, Agent: "eu"})
	f.refused(model.Forbidden, enroll("one")) // revoked: the token does not bring it back
	f.token("two", "eu")
	again := f.must(enroll("two")).(*model.EnrollResult).Agent
	if again.Epoch != 2 || !again.Revoked.IsZero() || again.Key != hashOf("key two") {
		t.Errorf("enrolled again: %+v", again)
	}
	// The old store's epoch is fenced.
	text := cut(t, "eu", 1, []block.Lane{{Agent: block.Control, First: 1}}, []byte("x"))
	f.refused(model.Forbidden, &model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{text}})
	// A renewal of the former copy that was under way meanwhile does not bring its key back.
	f.refused(model.Forbidden, &model.Renew{At: f.now, Agent: "eu", Key: hashOf("key one"), Serial: "s-old"})
	f.refused(model.Forbidden, enroll("one"))
	f.must(&model.Renew{At: f.now, Agent: "eu", Key: again.Key, Serial: "s3"})
	// A later token with the same key is another enrolment; the one before has had its day.
	f.token("three", "eu")
	three := enroll("three")
	three.Key = again.Key
	if r := f.must(three).(*model.EnrollResult).Agent; r.Epoch != 3 {
		t.Errorf("enrolled with the key of before: %+v", r)
	}
	f.refused(model.Forbidden, enroll("two"))
	f.must(&model.Renew{At: f.now, Agent: "eu", Key: again.Key, Serial: "s3"})
	if a, _ := f.Agent("eu"); a.Serial != "s3" {
		t.Errorf("renewed: %+v", a)
	}
	if err := f.VerifyAudit(); err != nil {
		t.Error(err)
	}
}

func TestEveryChangeIsAudited(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsSingle, model.Limits{})
	f.join("eu")
	f.activate("eu")
	f.report("eu", factBody(t, model.Fact{DeadLetter: &model.DeadLetter{ID: "eu/1/erp"}}), factBody(t, model.Fact{Exception: &model.Exception{ID: "x"}}))
	f.must(&model.Resolve{Asked: f.by("root"), DeadLetter: "eu/1/erp"})
	f.must(&model.ResolveException{Asked: f.by("root"), Exception: "eu/x"})
	f.must(&model.Renew{At: f.now, Agent: "eu", Key: hashOf("eu")})
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "eu"})
	var got []string
	for i, e := range f.Audit(0, 100) {
		got = append(got, e.Action)
		if e.Number != uint64(i+1) || e.By == "" || e.At.IsZero() {
			t.Errorf("entry %+v", e)
		}
	}
	back := f.AuditBefore(0, 100)
	if back = append(back, f.AuditBefore(1, 100)...); len(back) != len(got) {
		t.Errorf("backwards there are %d entries, want %d", len(back), len(got))
	}
	for i, e := range back {
		if e.Number != uint64(len(back)-i) {
			t.Errorf("backwards, entry %d comes as number %d", e.Number, i+1)
		}
	}
	want := []string{"cluster.bootstrap", "token.create", "agent.enroll", "policy.propose", "principal.put", "policy.approve",
		"deadletter.discard", "exception.resolve", "agent.renew", "agent.revoke"}
	if !slices.Equal(got, want) {
		t.Errorf("audited %v\nwant    %v", got, want)
	}
}

func TestOldBundlesGo(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsSingle, model.Limits{})
	for i := range bundlesKept + 3 {
		text := fmt.Sprint(i)
		r := f.must(&model.Propose{Asked: f.by("root"), Bundle: []byte(text), Digest: hashOf(text)}).(*model.Revision)
		if i == 1 {
			f.must(&model.Approve{Asked: f.by("root"), Number: r.ID.Number, Digest: r.Digest})
		}
	}
	var numbers []uint64
	for before := uint64(0); ; {
		list := f.Revisions(before, 100)
		if len(list) == 0 {
			break
		}
		for _, r := range list {
			numbers = append(numbers, r.ID.Number)
		}
		before = numbers[len(numbers)-1]
	}
	if len(numbers) != bundlesKept+3 || numbers[0] != bundlesKept+3 || !slices.IsSortedFunc(numbers, func(a, b uint64) int { return cmp.Compare(b, a) }) {
		t.Errorf("%d revisions in pages, from %d", len(numbers), numbers[0])
	}
	for number, want := range map[uint64]bool{1: false, 2: true, 3: false, 4: true} {
		if _, ok := f.RevisionBundle(number); ok != want {
			t.Errorf("bundle %d is kept: %t, want %t", number, ok, want)
		}
	}
}
