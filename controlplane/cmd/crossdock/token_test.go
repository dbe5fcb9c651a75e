package main

import (
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
)

// The token stands alone on standard output, for pipes; the line for the site goes to the person.
func TestTokenComesWithTheLineForTheSite(t *testing.T) {
	config := testConfig(t, model.ApprovalsSingle)
	config.Sync.Advertise = []string{"hub2.example:7443", "hub1.example:7443"}
	n := startNode(t, config)
	const line = "crossdock-agent enroll --control-plane hub1.example:7443,hub2.example:7443 --token-file token && crossdock-agent service install"
	out, said := n.run(0, "token", "create", "--site", "eu")
	if strings.Count(out, "\n") != 1 || strings.Contains(out, " ") {
		t.Errorf("standard output is %q", out)
	}
	if !strings.Contains(said, line) || strings.Contains(said, strings.TrimSpace(out)) || strings.Contains(said, "this machine only") || strings.Contains(said, "example configuration") {
		t.Errorf("a person is told %q", said)
	}
	var shown struct {
		Token        string
		Line         string
		ControlPlane []string
	}
	n.json(&shown, "token", "create", "--site", "eu")
	if shown.Token == "" || shown.Line != line || len(shown.ControlPlane) != 2 {
		t.Errorf("%+v", shown)
	}
}

// A node that only its own machine reaches is told of before somebody types it elsewhere.
func TestTokenForANodeOfThisMachineOnly(t *testing.T) {
	n := startNode(t, testConfig(t, model.ApprovalsSingle))
	if _, said := n.run(0, "token", "create", "--site", "eu"); !strings.Contains(said, "of this machine only") || !strings.Contains(said, "sync.advertise") {
		t.Errorf("a person is told %q", said)
	}
}

// A name that was left as the example has it is told of, for no site finds it.
func TestTokenForANodeWithTheNameOfTheExample(t *testing.T) {
	config := testConfig(t, model.ApprovalsSingle)
	config.Sync.Names = []string{"crossdock.example.com"}
	n := startNode(t, config)
	out, said := n.run(0, "token", "create", "--site", "eu")
	sees(t, said, "crossdock.example.com:", "is a name of the example configuration", "sync.names", "controlplane.yaml")
	if strings.Count(out, "\n") != 1 {
		t.Errorf("standard output is %q", out)
	}
}
