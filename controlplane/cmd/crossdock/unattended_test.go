package main

import (
	"strings"
	"testing"
)

// Who looks at the agents sees the sites where one is missing, with what waits there and what
// to do.
func TestSitesWithoutAnAgentAreListed(t *testing.T) {
	c := newCanned(t, map[string][]string{
		"GET /agents":  {`{"items":[{"name":"eu"}],"unattended":[{"site":"br","events":3,"bytes":900,"since":"2026-05-04T10:00:00Z"}]}`},
		"GET /cluster": {`{}`}, "GET /health": {`{}`},
	})
	for _, command := range []string{"agents", "status"} {
		out, _ := c.run(0, "", command)
		sees(t, out, "SITE WITHOUT AGENT", "br ", " 3 ", " 900 ", " ago ", "crossdock token create --site br")
	}
	c.answers["GET /agents"] = []string{`{"items":[],"unattended":[{"site":"br","events":3,"bytes":900,"since":"2026-05-04T10:00:00Z","next":"put it back"}]}`}
	if out, _ := c.run(0, "", "agents"); !strings.Contains(out, "put it back") || strings.Contains(out, "token create") {
		t.Errorf("what the control plane advises is not shown: %q", out)
	}
	c.answers["GET /agents"] = []string{`{"items":[{"name":"eu"}],"unattended":[]}`}
	out, _ := c.run(0, "", "agents")
	if strings.Contains(out, "SITE WITHOUT AGENT") {
		t.Errorf("none is without an agent, and shown is %q", out)
	}
}
