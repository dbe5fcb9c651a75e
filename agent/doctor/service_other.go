//go:build !windows

package doctor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Service asks systemd about the agent's unit. run is where systemd shows that it runs.
func Service(ctx context.Context, run, name string, running bool) Finding {
	if _, err := os.Stat(filepath.Join(run, "systemd", "system")); err != nil {
		return Finding{ID: "service", Level: Warn, Seen: "systemd does not run here: not looked at what starts the agent",
			Todo: "see that whatever starts it does so with the machine, and again when it ends"}
	}
	name += ".service"
	out, err := exec.CommandContext(ctx, "systemctl", "show", name, "--property=LoadState,UnitFileState,Restart").Output() // #nosec G204 -- a constant of the caller
	if err != nil {
		return Finding{ID: "service", Level: Warn, Seen: "systemctl show " + name + ": " + Plain(err, 0), Todo: "see systemctl status " + name}
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			said[key] = value
		}
	}
	u := unit{present: said["LoadState"] == "loaded", how: "UnitFileState=" + said["UnitFileState"] + " Restart=" + said["Restart"]}
	u.enabled = strings.HasPrefix(said["UnitFileState"], "enabled")
	u.restarts = said["Restart"] == "always" || said["Restart"] == "on-failure"
	return u.service(name, running)
}
