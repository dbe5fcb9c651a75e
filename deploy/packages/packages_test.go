// Package packages_test keeps what is installed true: units are as strict as they claim and start
// commands that the programs have, and the containers' files fit each other.
package packages_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/crossdock/crossdock/controlplane"
)

// mostExposed is what systemd-analyze may say of a unit at most, in tenths; 0 is a unit that can
// do nothing. It is what a program that must reach the network and its own files comes to.
const mostExposed = 14

func tool(t *testing.T, name, from string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("REQUIRE") == "all":
		t.Fatalf("%s is missing: apt-get install %s", name, from)
	default:
		t.Skipf("%s is missing: apt-get install %s", name, from)
	}
	return path
}

func units(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("*.service")
	if err != nil || len(found) != 2 {
		t.Fatalf("units: %v, %v", found, err)
	}
	return found
}

func TestUnitsAreStrict(t *testing.T) {
	analyze := tool(t, "systemd-analyze", "systemd")
	for _, unit := range units(t) {
		path, err := filepath.Abs(unit)
		if err != nil {
			t.Fatal(err)
		}
		text, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold="+strconv.Itoa(mostExposed), path).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", unit, err, text)
		}
		if !bytes.Contains(text, []byte("Overall exposure level for "+unit)) {
			t.Errorf("%s was not judged:\n%s", unit, text)
		}
	}
}

// systemd finds nothing to say about the units, on a machine that has the programs.
func TestUnitsAreUnderstood(t *testing.T) {
	analyze := tool(t, "systemd-analyze", "systemd")
	root := t.TempDir()
	put := func(path, text string, mode os.FileMode) {
		file := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"/usr/bin/crossdock", "/usr/bin/crossdock-agent", "/bin/kill"} {
		put(program, "#!/bin/sh\n", 0o755)
	}
	const system = "/usr/lib/systemd/system/"
	for _, target := range []string{"sysinit", "basic", "network", "network-online", "shutdown", "multi-user", "umount"} {
		put(system+target+".target", "[Unit]\nDescription="+target+"\n", 0o644)
	}
	for _, unit := range units(t) {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		put(system+unit, string(text), 0o644)
	}
	args := append([]string{"verify", "--man=no", "--root=" + root}, units(t)...)
	if text, err := exec.Command(analyze, args...).CombinedOutput(); err != nil || len(bytes.TrimSpace(text)) > 0 {
		t.Errorf("%v\n%s", err, text)
	}
}

// programs builds both and gives where they are.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "../../controlplane/cmd/crossdock", "../../agent/cmd/crossdock-agent").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return dir
}

// known asks a program for help with a command line: one that it does not know is refused first.
func known(t *testing.T, dir, where, program string, args []string) {
	t.Helper()
	text, err := exec.Command(filepath.Join(dir, program), append(slices.Clone(args), "--help")...).CombinedOutput()
	words := strings.Join(args, " ")
	if err != nil {
		t.Errorf("%s: %s %s: %v\n%s", where, program, words, err, text)
		return
	}
	// The help is that of the very command, so that a command that is none is seen, too.
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			break
		}
		if !regexp.MustCompile(`(?m)^\s+` + program + ` .*\b` + regexp.QuoteMeta(arg) + `\b`).Match(text) {
			t.Errorf("%s: %s has no command %s:\n%s", where, program, words, text)
		}
		if arg == "join" {
			break // what follows is an address
		}
	}
}

func TestCommandsAreKnown(t *testing.T) {
	dir := programs(t)
	for _, unit := range units(t) {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^ExecStart=(\S+)(.*)$`).FindAllStringSubmatch(string(text), -1)
		if len(found) != 1 {
			t.Fatalf("%s starts %v", unit, found)
		}
		known(t, dir, unit, filepath.Base(found[0][1]), strings.Fields(found[0][2]))
	}
	text, err := os.ReadFile("container/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	var command []string
	start := regexp.MustCompile(`(?m)^CMD (\[.*\])$`).FindSubmatch(text)
	if start == nil {
		t.Fatal("the image starts nothing")
	}
	if err := yaml.Unmarshal(start[1], &command); err != nil {
		t.Fatal(err)
	}
	known(t, dir, "Containerfile", "crossdock", command)
	for name, one := range compose(t).Services {
		known(t, dir, "compose.yaml, "+name, "crossdock", one.Command)
	}
	text, err = os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`(?m)\b(token create|cluster join|cluster status) [^|#\n]*`).FindAllString(string(text), -1)
	if len(said) < 3 {
		t.Errorf("the README says %q: how is a cluster made?", said)
	}
	for _, line := range said {
		known(t, dir, "README.md", "crossdock", strings.Fields(strings.Trim(line, "`")))
	}
}

// composed is what of the compose file is used; another key is an error.
type composed struct {
	Name     string             `yaml:"name"`
	Node     any                `yaml:"x-node"`
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
}

type service struct {
	Image       string         `yaml:"image"`
	Hostname    string         `yaml:"hostname"`
	Restart     string         `yaml:"restart"`
	Command     []string       `yaml:"command"`
	ReadOnly    bool           `yaml:"read_only"`
	Tmpfs       []string       `yaml:"tmpfs"`
	CapDrop     []string       `yaml:"cap_drop"`
	SecurityOpt []string       `yaml:"security_opt"`
	Grace       string         `yaml:"stop_grace_period"`
	Ulimits     map[string]int `yaml:"ulimits"`
	Ports       []string       `yaml:"ports"`
	Volumes     []string       `yaml:"volumes"`
}

func compose(t *testing.T) (c composed) {
	t.Helper()
	text, err := os.ReadFile("container/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(text, &c, yaml.Strict()); err != nil {
		t.Fatal(yaml.FormatError(err, false, true))
	}
	if len(c.Services) != 3 {
		t.Fatalf("%d nodes", len(c.Services))
	}
	return c
}

// Each node has its own data, name and ports, and its configuration says the same as the compose file.
func TestComposeFitsTheNodes(t *testing.T) {
	c := compose(t)
	outside := map[string]string{}
	for name, one := range c.Services {
		config, err := controlplane.LoadConfig(filepath.Join("container", name+".yaml"))
		if err == nil {
			err = config.Validate()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if config.Node != name || one.Hostname != name || config.Cluster.Address != name+":7460" || !slices.Contains(config.Sync.Names, name) {
			t.Errorf("%s is called %s, %s, %s and %v", name, config.Node, one.Hostname, config.Cluster.Address, config.Sync.Names)
		}
		if _, ok := c.Volumes[name]; !ok {
			t.Errorf("%s has no volume of its own", name)
		}
		want := []string{name + ":" + config.Data, "./" + name + ".yaml:" + one.Command[len(one.Command)-1] + ":ro"}
		if !slices.Equal(one.Volumes, want) {
			t.Errorf("%s has volumes %q, want %q", name, one.Volumes, want)
		}
		if !one.ReadOnly || !slices.Equal(one.CapDrop, []string{"ALL"}) {
			t.Errorf("%s may do more than it needs: %+v", name, one)
		}
		inside := []string{}
		for _, port := range one.Ports {
			at := strings.LastIndex(port, ":")
			inside = append(inside, port[at+1:])
			key := port[:at] + strings.TrimLeft(port[at+1:], "0123456789")
			if other := outside[key]; other != "" {
				t.Errorf("%s and %s both have %s", name, other, key)
			}
			outside[key] = name
		}
		if want := []string{"7443/tcp", "7443/udp", "7480"}; !slices.Equal(inside, want) || config.Sync.Listen != ":7443" || config.API.Listen != "0.0.0.0:7480" {
			t.Errorf("%s publishes %q and listens on %s and %s", name, inside, config.Sync.Listen, config.API.Listen)
		}
	}
}
