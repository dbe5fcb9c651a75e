package main

import (
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
)

// How long an agent's disk holds without the line is shown where it is known, and an older
// agent says nothing of it.
func TestDiskOfAnAgent(t *testing.T) {
	for _, c := range []struct {
		disk *model.AgentDisk
		want string
	}{
		{&model.AgentDisk{State: "ok", Free: 100 << 20, Outage: "known", Hours: 30.25}, "ok, 100 MB free, room for 30.2 hours without the line"},
		{&model.AgentDisk{State: "near", Free: 1 << 20, Outage: "unknown"}, "near, 1 MB free, for how long it lasts without the line is not known yet"},
		{&model.AgentDisk{State: "stopped", Outage: "idle"}, "stopped, 0 MB free"},
	} {
		if got := diskText(c.disk); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	var out strings.Builder
	writeAgent(&out, &api.Agent{Name: "eu"})
	if strings.Contains(out.String(), "disk") {
		t.Errorf("nothing was said of the disk, and it shows %s", out.String())
	}
}
