// Package examples_test keeps the shipped examples true: they are what a newcomer copies.
package examples_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/settings"
)

//go:generate go test -run ^TestMadeOfTheStructs . -update
var update = flag.Bool("update", false, "write the configuration files and their reference anew")

// The one commented file for each program, and the table of all keys, are made of what the
// programs' structs say of their keys.
func TestMadeOfTheStructs(t *testing.T) {
	for file, want := range map[string]string{
		"agent.yaml": agent.Example(), "controlplane.yaml": controlplane.Example(), "CONFIGURATION.md": reference(),
	} {
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s is not what the structs say (%v): run `make generate`", file, err)
		}
	}
}

func reference() string {
	return `# Configuration

Made of the programs' structs by ` + "`make generate`" + `; do not edit. A value comes from the last of these that
names it:

1. the default;
2. the file: ` + "`-c FILE`, `CROSSDOCK_AGENT_CONFIG`, else `/etc/crossdock-agent/agent.yaml`; `--config FILE`, else `/etc/crossdock/controlplane.yaml`" + `
   (on Windows ` + "`agent.yaml` and `controlplane.yaml` in `%ProgramData%\\Crossdock`" + `);
3. the ` + "`*.yaml` files in the directory `conf.d`" + ` beside it, in the order of their names;
4. the environment, as named below: a double underscore is a level, a list has commas, an empty variable says nothing;
5. a flag.

A list is replaced as a whole. A key or a variable that is not known is an error, with the place and what may be meant.
` + "`config check` lists all that is wrong and exits 2, `config show`" + ` prints what is in force and where each value comes from,
` + "`config example`" + ` prints the file with every key.

Types: a duration is written ` + "`90s`, `15m`, `12h`; bytes `512MB`, `10GB`" + `, in powers of 1024.

After a change of a key that needs a reload, ` + "`crossdock-agent reload`, `systemctl reload`" + ` or the signal HUP has the running
program read everything again. It takes all of it or nothing: a configuration that is wrong is refused, the one before stays
in force, and the log says so, the agent's ` + "`status` and `doctor`, and the control plane's metric `crossdock_configuration_refused`" + `.
Changed keys that need a restart are named, and wait for it.

Secrets are named, never written: ` + "`file:NAME` in the directory `secrets` (or an absolute path), `env:NAME`, `cred:NAME`" + `,
a credential of the service: with systemd one of ` + "`LoadCredential=`" + `, on Windows the file ` + "`NAME.dpapi`" + ` in the directory
` + "`secrets`" + `, sealed by the system for this machine or the service's user.

## crossdock-agent: agent.yaml

` + settings.Table(agent.DefaultConfig(), agent.VariablePrefix) + `
## crossdock server: controlplane.yaml

` + settings.Table(controlplane.NewConfig(), controlplane.VariablePrefix)
}

func TestEveryKeyIsExplained(t *testing.T) {
	for name, keys := range map[string][]settings.Key{"agent": settings.Keys(agent.Config{}), "control plane": settings.Keys(controlplane.Config{})} {
		if len(keys) < 10 {
			t.Errorf("%s: only %d keys: the walk is broken", name, len(keys))
		}
		for _, k := range keys {
			if k.Doc == "" {
				t.Errorf("%s: %s has no doc: tag", name, k.Name)
			}
		}
	}
}

// What is not a default in the files is an example by its key's tag; all can be used as it is.
func TestConfigurations(t *testing.T) {
	a, err := agent.ReadConfig("agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := agent.DefaultConfig()
	want.ControlPlane.Addresses = a.ControlPlane.Addresses
	if err := want.Validate(); err != nil { // fills what follows from other fields
		t.Fatal(err)
	}
	for _, k := range settings.Changed(&a, &want) {
		if k.Example == "" {
			t.Errorf("agent.yaml: %s is not the default", k.Name)
		}
	}
	c, err := controlplane.LoadConfig("controlplane.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	defaults := controlplane.NewConfig()
	for _, k := range settings.Changed(&c, &defaults) {
		if k.Example == "" {
			t.Errorf("controlplane.yaml: %s is not the default", k.Name)
		}
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
		if err := c.Validate(); err != nil || c.Node != name || c.Data == controlplane.DefaultData() {
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
	for _, dir := range []string{"hello", "calls", "plugins", "reference"} {
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
