package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// hostsOf gives what the agent finds sealed in.
func hostsOf(t *testing.T, of sealer, one api.NewSecret) []string {
	t.Helper()
	got, err := sealing.Open(of.key, sealing.Binding{Cluster: "c1", Agent: "eu", Name: one.Owner + "/" + one.Name}, one.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	return got.Only
}

func TestSecretSetOnlyTo(t *testing.T) {
	eu := newSealer(t, "eu")
	eu.target.TakesOnly = true
	said := api.SecretTargets{Names: []string{"mine", "token"}, Hosts: map[string][]string{"token": {"https://erp.example:8443", "https://login.example"}}, Items: []api.SecretTarget{eu.target}}
	canned := func(change func(*api.SecretTargets)) *canned {
		now := said
		now.Items = slices.Clone(said.Items)
		if change != nil {
			change(&now)
		}
		text, err := json.Marshal(now)
		if err != nil {
			t.Fatal(err)
		}
		return newCanned(t, map[string][]string{"GET /secrets/targets": {string(text)}, "POST /secrets": {`{"agent":"eu","owner":"erp","name":"token","version":5,"state":"waiting"}`}})
	}
	c := canned(nil)
	out, warned := c.run(0, canarySecret, "secret", "set", "erp/token", "--only-to", "ERP.example.:8443", "--only-to", "login.example", "--only-to", "login.example")
	sees(t, out, "no host but erp.example:8443, login.example")
	if got := hostsOf(t, eu, posted(t, c)); !slices.Equal(got, []string{"erp.example:8443", "login.example"}) || warned != "" {
		t.Errorf("sealed for %q, said %q", got, warned)
	}
	if strings.Contains(strings.Join(c.asked, ""), `"onlyTo"`) {
		t.Error("the hosts were sent beside what is sealed")
	}
	_, warned = c.run(0, canarySecret, "secret", "set", "erp/token", "--only-to", "erp.example:8443")
	sees(t, warned, "login.example as well")
	_, warned = c.run(0, canarySecret, "secret", "set", "erp/token")
	sees(t, warned, "--only-to erp.example:8443 --only-to login.example")
	if got := hostsOf(t, eu, posted(t, c)); got != nil {
		t.Errorf("sealed for %q", got)
	}
	bound := func(s *api.SecretTargets) { s.Items[0].Only = map[string][]string{"token": {"erp.example:8443"}} }
	c = canned(bound)
	_, warned = c.run(0, canarySecret, "secret", "set", "erp/token", "--anywhere")
	if got := hostsOf(t, eu, posted(t, c)); got != nil || warned != "" {
		t.Errorf("sealed for %q, said %q", got, warned)
	}
	c.run(0, canarySecret, "secret", "set", "erp/token", "--only-to", "new.example")
	// What was set since the agent was last connected may be for certain hosts only.
	unfetched := func(s *api.SecretTargets) { s.Items[0].Versions = map[string]uint64{"token": 5} }
	for _, args := range []string{"erp/token --anywhere", "erp/token --only-to erp.example:8443", "erp/never", "plugin:zone/token"} {
		canned(unfetched).run(0, canarySecret, append([]string{"secret", "set"}, strings.Fields(args)...)...)
	}

	for _, tt := range []struct {
		what   string
		code   int
		change func(*api.SecretTargets)
		args   []string
		why    string
	}{
		{"an older agent", exitConflict, func(s *api.SecretTargets) { s.Items[0].TakesOnly = false }, []string{"erp/token", "--only-to", "erp.example"}, "does not know --only-to"},
		{"what is shown to the agent", exitUsage, nil, []string{"erp/mine", "--only-to", "erp.example"}, "shown to the agent"},
		{"of a plugin", exitUsage, nil, []string{"plugin:zone/key", "--only-to", "erp.example"}, "only the plugin knows"},
		{"a pattern", exitUsage, nil, []string{"erp/token", "--only-to", "*.example"}, "without a pattern"},
		{"a URL", exitUsage, nil, []string{"erp/token", "--only-to", "https://erp.example"}, "scheme"},
		{"nothing", exitUsage, nil, []string{"erp/token", "--only-to", ""}, "no host"},
		{"both", exitUsage, nil, []string{"erp/token", "--only-to", "erp.example", "--anywhere"}, "not both"},
		{"one that would lift it unseen", exitUsage, bound, []string{"erp/token"}, "for erp.example:8443 only"},
		{"one that the agent has not fetched", exitUsage, unfetched, []string{"erp/token"}, "has not said that it holds version 5 of erp/token"},
		{"one that an agent enrolled anew never held", exitUsage, func(s *api.SecretTargets) { s.Items[0].Held = nil }, []string{"erp/token"}, "holds version 4 of erp/token"},
	} {
		c := canned(tt.change)
		_, why := c.run(tt.code, canarySecret, append([]string{"secret", "set"}, tt.args...)...)
		if !strings.Contains(why, tt.why) || strings.Contains(strings.Join(c.asked, " "), "POST") {
			t.Errorf("%s: said %q, asked %q", tt.what, why, c.asked)
		}
	}
}

func TestSecretListShowsHosts(t *testing.T) {
	c := newCanned(t, map[string][]string{"GET /secrets": {`{"items":[{"agent":"eu","owner":"erp","name":"token","version":5,"state":"in use","by":"ann","at":"2026-05-04T10:00:00Z","only":["erp.example","10.0.0.7:8443"]}]}`}})
	out, _ := c.run(0, "", "secret", "list")
	sees(t, out, "only to erp.example, 10.0.0.7:8443")
}
