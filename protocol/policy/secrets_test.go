package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSealedSecretsAreOfTheirDocument(t *testing.T) {
	b := plugged(t, map[string]string{"zone": `kind: carrier, sites: [porto, hq], secrets: {password: "secret:api-key"}`})
	for _, name := range []string{"one", "zone"} { // a system may be called like a plugin
		b[name+".yaml"] = fmt.Appendf(nil, `apiVersion: crossdock/v1
kind: System
metadata: {name: %s}
spec:
  owner: it
  site: porto
  http:
    url: https://%s.example.com
    ca: secret:ca
    auth: {bearer: "secret:token"}
    deliver: {path: /events}
`, name, name)
	}
	set, problems := Compile(b)
	if set == nil {
		t.Fatal(problems)
	}
	if got := set.Systems["one"].HTTP; got.CA != "secret:one/ca" || got.Auth.Bearer != "secret:one/token" {
		t.Errorf("got %+v", got)
	}
	if got := set.Systems["zone"].HTTP.Auth.Bearer; got != "secret:zone/token" {
		t.Errorf("got %s", got)
	}
	if got := set.Plugins["zone"].Secrets["password"]; got != "secret:plugin:zone/api-key" {
		t.Errorf("got %s", got)
	}
	want := []SecretUse{
		{"one", "ca", "ca", []string{"porto"}}, {"one", "token", "bearer", []string{"porto"}}, {"plugin:zone", "api-key", "password", []string{"porto", "hq"}},
		{"zone", "ca", "ca", []string{"porto"}}, {"zone", "token", "bearer", []string{"porto"}},
	}
	if got := set.Secrets(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for owner, want := range map[string][]string{"one": {"porto"}, "plugin:zone": {"porto", "hq"}, "nobody": nil, "plugin:one": nil} {
		if got, known := set.SecretSites(owner); !slices.Equal(got, want) || known != (want != nil) {
			t.Errorf("%s: got %v, %t", owner, got, known)
		}
	}
}

// A query that looks like a secret is refused where it is proposed, and warned of where it was
// approved before.
func TestQueryOfAnApprovedRevision(t *testing.T) {
	b := plugged(t, map[string]string{})
	b["one.yaml"] = []byte("apiVersion: crossdock/v1\nkind: System\nmetadata: {name: one}\nspec:\n  owner: it\n  site: porto\n" +
		"  http:\n    url: https://one.example.com/?apiKey=abc\n    deliver: {path: /events}\n")
	looks := func(p Problem) bool { return strings.Contains(p.Message, "query parameter \"apiKey\"") }
	set, problems := Compile(b)
	if i := slices.IndexFunc(problems, looks); set != nil || i < 0 || problems[i].Severity != SeverityError {
		t.Errorf("proposed: %v", problems)
	}
	set, problems = Load(b)
	if i := slices.IndexFunc(problems, looks); set == nil || i < 0 || problems[i].Severity != SeverityWarning {
		t.Errorf("approved: %v", problems)
	}
}
