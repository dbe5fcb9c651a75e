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
	for name, driver := range map[string]string{
		"oauth": `intake: {token: "secret:mine"}, http: {url: "https://api.example.com", auth: {oauth2: {tokenUrl: "https://login.example.com/t", clientId: me, clientSecret: "secret:mine"}}, deliver: {path: /e}}`,
		"hook":  `webhook: {url: "https://hook.example.com", secret: "secret:key"}`,
	} {
		b[name+".yaml"] = fmt.Appendf(nil, "apiVersion: crossdock/v1\nkind: System\nmetadata: {name: %s}\nspec: {owner: it, site: porto, %s}\n", name, driver)
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
	porto := []string{"porto"}
	want := []SecretUse{
		{"hook", "key", "secret", porto, []string{"https://hook.example.com"}},
		{"oauth", "mine", "token", porto, nil}, // it is shown to the agent
		{"oauth", "mine", "clientSecret", porto, []string{"https://api.example.com", "https://login.example.com/t"}},
		{"one", "ca", "ca", porto, []string{"https://one.example.com"}}, {"one", "token", "bearer", porto, []string{"https://one.example.com"}},
		{"plugin:zone", "api-key", "password", []string{"porto", "hq"}, nil},
		{"zone", "ca", "ca", porto, []string{"https://zone.example.com"}}, {"zone", "token", "bearer", porto, []string{"https://zone.example.com"}},
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
