package main

import (
	"fmt"
	"strings"
	"testing"
)

// What an agent says of itself cannot move a terminal's cursor, and its worst finding is the
// exit code.
func TestAgentsDoctor(t *testing.T) {
	const path = "GET /agents/eu/doctor"
	report := func(worst, findings string) string {
		return fmt.Sprintf(`{"version":1,"agent":"eu","program":"1.2","at":"2026-05-04T10:00:00Z","worst":%q,"summary":"1 failed, 0 warnings","findings":[%s],"notTested":["capacity"]}`, worst, findings)
	}
	well := `{"id":"clock","level":"ok","seen":"right"}`
	c := newCanned(t, map[string][]string{path: {
		report("ok", well),
		report("fail", well+`,{"id":"proxy","level":"fail","seen":"407\u001b[2J","todo":"set\u001b[2J it","doc":"proxy"}`),
	}})
	out, said := c.run(0, "", "agents", "doctor", "eu")
	sees(t, out, "ok", "clock", "right")
	sees(t, said, "not tested: capacity")
	out, said = c.run(exitFailed, "", "agents", "doctor", "eu")
	sees(t, out, "proxy", "407", "to do: set", "crossdock-agent help proxy")
	sees(t, said, "eu: 1 failed")
	if strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
}
