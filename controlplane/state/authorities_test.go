package state

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
)

func authority(n int) model.Authority {
	return model.Authority{ID: strings.Repeat(fmt.Sprintf("%02x", n), 32), Certificate: []byte{byte(n)}, Cross: []byte{byte(n), 2}, SealedKey: []byte{byte(n), 3}}
}

func TestAuthorities(t *testing.T) {
	f := openMachine(t)
	bootstrap := &model.Bootstrap{Asked: f.by(""), Cluster: model.Cluster{ID: "test"}, Admin: model.Principal{Name: "root", Roles: everyRole, TokenHash: hashOf("root")},
		Node: model.Node{ID: "n1"}}
	bootstrap.Authority = model.Authority{ID: "short", Certificate: []byte{1}, SealedKey: []byte{1}}
	f.refused(model.Invalid, bootstrap)
	bootstrap.Authority = authority(1)
	f.must(bootstrap)
	f.principal("olga", model.Operator)
	states := func(want ...model.AuthorityState) {
		t.Helper()
		var got []model.AuthorityState
		for _, a := range f.Authorities() {
			got = append(got, a.State)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("states %v, want %v", got, want)
		}
	}
	states(model.AuthorityActive)
	if len(f.Nodes()) != 1 {
		t.Errorf("nodes %+v", f.Nodes())
	}
	add := func(by string, a model.Authority) *model.AddAuthority {
		return &model.AddAuthority{Asked: f.by(by), Authority: a}
	}
	f.refused(model.Forbidden, add("olga", authority(2)))
	f.refused(model.Conflict, add("root", authority(1)))
	unsigned := authority(2)
	unsigned.Cross = nil
	f.refused(model.Invalid, add("root", unsigned))
	f.must(add("root", authority(2)))
	states(model.AuthorityActive, model.AuthorityNext)
	f.refused(model.Conflict, add("root", authority(3)))

	activate := func(by string, n int) *model.ActivateAuthority {
		return &model.ActivateAuthority{Asked: f.by(by), ID: authority(n).ID}
	}
	f.refused(model.Forbidden, activate("olga", 2))
	f.refused(model.NotFound, activate("root", 9))
	f.refused(model.Conflict, activate("root", 1))
	f.must(activate("root", 2))
	states(model.AuthorityRetired, model.AuthorityActive)
	f.refused(model.Conflict, activate("root", 1)) // retired ones do not come back

	remove := func(by string, n int) *model.RemoveAuthority {
		return &model.RemoveAuthority{Asked: f.by(by), ID: authority(n).ID}
	}
	f.token("eu", "eu")
	enroll := f.enrolment("eu")
	enroll.Authority = authority(1).ID
	for range 2 {
		f.must(enroll)
		if a, _ := f.Agent("eu"); a.Authority != authority(1).ID {
			t.Errorf("enrolled by %q", a.Authority)
		}
	}
	f.refused(model.Forbidden, remove("olga", 1))
	f.refused(model.NotFound, remove("root", 9))
	f.refused(model.Conflict, remove("root", 2))
	if err := f.refused(model.Conflict, remove("root", 1)); !strings.Contains(err.Text, " eu ") {
		t.Errorf("it does not name the agent: %v", err)
	}
	f.must(&model.Renew{At: f.now, Agent: "eu", Key: enroll.Key, Serial: "2", Authority: authority(2).ID})
	f.must(remove("root", 1))
	states(model.AuthorityActive)
	f.must(add("root", authority(3)))
	f.must(remove("root", 3)) // one that never signed
	states(model.AuthorityActive)
}

// The node that is asked makes the authority, so a repeat brings another one.
func TestRepeatedAddAuthority(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.principal("anna", model.Admin)
	add := func(by string, n int) *model.AddAuthority {
		cmd := &model.AddAuthority{Asked: f.by(by), Authority: authority(n)}
		cmd.RequestID = "r"
		return cmd
	}
	for n := 1; n <= 2; n++ {
		made := f.must(add("root", n)).(*model.Authority)
		if made.ID != authority(1).ID || made.State != model.AuthorityNext || made.SealedKey != nil {
			t.Errorf("time %d: answered %+v", n, made)
		}
	}
	if got := f.Authorities(); len(got) != 1 || got[0].SealedKey == nil {
		t.Errorf("authorities %+v", got)
	}
	again := add("root", 1)
	if !f.Answered(again.Request()) {
		t.Error("the answer is not known")
	}
	other := add("root", 3)
	other.RequestID = "s"
	if f.Answered(other.Request()) || f.Answered(&model.Asked{By: "root"}) {
		t.Error("there is an answer to what was never asked")
	}
	f.refused(model.Conflict, other)
	f.refused(model.Conflict, &model.Revoke{Asked: again.Asked, Agent: "eu"}) // an id is for one request
	f.refused(model.Conflict, add("anna", 4))                                 // ids are each principal's own
}

func TestAuthorityInUseIsNotRemoved(t *testing.T) {
	f := openMachine(t)
	f.must(&model.Bootstrap{Asked: f.by(""), Cluster: model.Cluster{ID: "test"}, Authority: authority(1),
		Admin: model.Principal{Name: "root", Roles: everyRole, TokenHash: hashOf("root")}})
	f.join(strings.Split("a b c d e f g h i j k l", " ")...) // nobody noted by which authority
	f.must(&model.AddAuthority{Asked: f.by("root"), Authority: authority(2)})
	f.must(&model.ActivateAuthority{Asked: f.by("root"), ID: authority(2).ID})
	remove := &model.RemoveAuthority{Asked: f.by("root"), ID: authority(1).ID}
	err := f.refused(model.Conflict, remove)
	if strings.Count(err.Text, ", ") != maxNamed || !strings.Contains(err.Text, "and others") { // one is in the sentence
		t.Errorf("it says %v", err)
	}
	for _, a := range f.Agents() {
		f.must(&model.Revoke{Asked: f.by("root"), Agent: a.Name})
	}
	f.must(remove)
}
