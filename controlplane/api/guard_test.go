package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
)

func TestOnlyWhoWorksOnThePolicyMakesTheNodeCompile(t *testing.T) {
	b := newBench(t)
	b.store.people[0].Roles = []model.Role{model.Viewer, model.Operator}
	b.refused(b.do(http.MethodPost, "/api/v1/policy/lint", `{"bundle":{"policy.yaml":""}}`), http.StatusForbidden, "forbidden")
	b.refused(b.do(http.MethodPost, "/api/v1/revisions", `{"note":"n","bundle":{"policy.yaml":""}}`), http.StatusForbidden, "forbidden")
}

func TestATokenIsForASiteOfThePolicy(t *testing.T) {
	b := newBench(t)
	active := testRevision(3, model.RevisionActive)
	active.Sites = []string{"eu", "hq"}
	b.store.revisions = append(b.store.revisions, active)
	p := b.refused(b.do(http.MethodPost, "/api/v1/tokens", `{"site":"ue"}`), http.StatusBadRequest, "invalid")
	if !strings.Contains(p.Detail, "eu, hq") {
		t.Errorf("detail = %q", p.Detail)
	}
	b.want(b.do(http.MethodPost, "/api/v1/tokens", `{"site":"eu"}`), http.StatusCreated, nil)
}
