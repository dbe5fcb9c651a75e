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
	for site, want := range map[string]string{"ue": `has no site "ue"; did you mean eu?`, "warehouse": `has no site "warehouse"; its sites are eu, hq`} {
		p := b.refused(b.do(http.MethodPost, "/api/v1/tokens", `{"site":"`+site+`"}`), http.StatusBadRequest, "invalid")
		if !strings.Contains(p.Detail, want) {
			t.Errorf("detail = %q, want %q", p.Detail, want)
		}
	}
	b.want(b.do(http.MethodPost, "/api/v1/tokens", `{"site":"eu"}`), http.StatusCreated, nil)
}
