package state

import (
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
)

// A node's administrator is one more: who was there stays, and a repeat changes nothing.
func TestANodesAdministratorIsOneMore(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	before := f.Principals()
	rescue := &model.RescueAdmin{At: f.by("").At, Node: "n2", Roles: []model.Role{model.Viewer, model.Admin, model.Viewer}, TokenHash: hashOf("first")}
	f.must(rescue)
	p, known := f.Principal(hashOf("first"))
	if !known || p.Name != "admin@n2" || !p.Has(model.Admin) || len(p.Roles) != 2 || len(f.Principals()) != len(before)+1 {
		t.Errorf("rescued as %+v, %v", p, known)
	}
	entries := len(f.Audit(0, 100))
	last := f.Audit(0, 100)[entries-1]
	if last.Action != "principal.rescue" || last.By != "node:n2" || last.Object != "admin@n2" {
		t.Errorf("audit %+v", last)
	}
	rescue.At = f.by("").At
	f.must(rescue)
	if got := len(f.Audit(0, 100)); got != entries {
		t.Errorf("a repeat is audited: %d entries, want %d", got, entries)
	}

	// Another token takes the place of the first, of a disabled one too.
	p.Disabled = true
	f.must(&model.PutPrincipal{Asked: f.by(before[0].Name), Principal: p})
	f.must(&model.RescueAdmin{At: f.by("").At, Node: "n2", Roles: p.Roles, TokenHash: hashOf("second")})
	if _, known := f.Principal(hashOf("first")); known {
		t.Error("the first token is still good")
	}
	if p, known := f.Principal(hashOf("second")); !known || p.Disabled || p.Name != "admin@n2" {
		t.Errorf("after another rescue: %+v, %v", p, known)
	}
}

func TestARescueMakesAdministratorsOnly(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.principal("anna", model.Viewer)
	anna := principal(t, f, "anna")
	for _, test := range []struct {
		cmd  model.RescueAdmin
		code model.Code
	}{
		{model.RescueAdmin{Node: "n2", Roles: []model.Role{model.Viewer}, TokenHash: hashOf("x")}, model.Invalid},
		{model.RescueAdmin{Node: "n2", Roles: []model.Role{model.Admin}}, model.Invalid},
		{model.RescueAdmin{Node: "", Roles: []model.Role{model.Admin}, TokenHash: hashOf("x")}, model.Invalid},
		{model.RescueAdmin{Node: "n2", Roles: []model.Role{model.Admin, "king"}, TokenHash: hashOf("x")}, model.Invalid},
		{model.RescueAdmin{Node: "n2", Roles: []model.Role{model.Admin}, TokenHash: anna.TokenHash}, model.Conflict},
	} {
		test.cmd.At = f.by("").At
		f.refused(test.code, &test.cmd)
	}
}

func principal(t *testing.T, f *fixture, name string) model.Principal {
	t.Helper()
	for _, p := range f.Principals() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("there is no principal %s", name)
	return model.Principal{}
}
