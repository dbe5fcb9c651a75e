// Package examples_test keeps the shipped examples true: they are what a newcomer copies.
package examples_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/protocol/policy"
)

func TestConfigurations(t *testing.T) {
	a, err := agent.ReadConfig("agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// Every value in the file but these two is the default that it claims to be.
	want := agent.DefaultConfig()
	want.Secrets, want.ControlPlane.Addresses = a.Secrets, a.ControlPlane.Addresses
	if err := want.Validate(); err != nil { // fills what follows from other fields
		t.Fatal(err)
	}
	if a.Data != want.Data || a.Plugins != want.Plugins || a.Intake != want.Intake || a.Ops != want.Ops || a.Journal != want.Journal || a.Calls != want.Calls || a.Documents != want.Documents || a.Log != want.Log || a.Doctor != want.Doctor ||
		a.ControlPlane.Transport != want.ControlPlane.Transport {
		t.Errorf("agent.yaml says %+v, the defaults are %+v", a, want)
	}
	c, err := controlplane.LoadConfig("controlplane.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	defaults := controlplane.NewConfig()
	if c.Node != defaults.Node || c.Sync.Listen != defaults.Sync.Listen || c.API != defaults.API || c.Ops != defaults.Ops || c.Cluster != defaults.Cluster || len(c.Sync.Advertise) != 0 || c.Limits != defaults.Limits || c.Log != defaults.Log {
		t.Errorf("controlplane.yaml says %+v, the defaults are %+v", c, defaults)
	}
}

// Three nodes on one machine share nothing.
func TestThreeNodes(t *testing.T) {
	taken := map[string]string{}
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		file := filepath.Join("three-nodes", name+".yaml")
		c, err := controlplane.LoadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil || c.Node != name || !c.DataSaid() {
			t.Errorf("%s: node %s, %v", file, c.Node, err)
		}
		for _, one := range []string{c.Data, c.Sync.Listen, c.API.Listen, c.Ops.Listen, c.Cluster.Listen} {
			if other := taken[one]; other != "" || one == "" {
				t.Errorf("%s: %q is that of %s", file, one, other)
			}
			taken[one] = file
		}
	}
}

func TestPoliciesAreClean(t *testing.T) {
	for _, dir := range []string{"hello", "calls", "plugins"} {
		bundle, err := policy.ReadBundle(os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		set, problems := policy.Compile(bundle)
		if set == nil || len(problems) > 0 {
			t.Errorf("%s: problems: %v", dir, problems)
		}
	}
}
