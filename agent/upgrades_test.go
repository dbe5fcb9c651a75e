package agent

import (
	"testing"

	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/agent/versions"
)

// TestLineOf: whether a node takes connections decides only where none has answered.
func TestLineOf(t *testing.T) {
	for _, c := range []struct {
		hindrance uplink.Hindrance
		reachable bool
		want      versions.Line
	}{
		{uplink.Unanswered, false, versions.Cut},
		{uplink.Unanswered, true, versions.Silent},
		{uplink.Unavailable, true, versions.Busy},
		{uplink.Barred, true, versions.Barred},
		{uplink.Refused, true, versions.Refused},
		{uplink.Refused, false, versions.Refused}, // through a proxy, where that cannot be seen
	} {
		if got := lineOf(c.hindrance, func() bool { return c.reachable }); got != c.want {
			t.Errorf("hindrance %d, reachable %t: %d, want %d", c.hindrance, c.reachable, got, c.want)
		}
	}
}
