package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent"
)

// A log file that the running agent does not write to yet is explained, and what it writes
// meanwhile is shown where it can be.
func TestTailOfALogThatIsNotWrittenYet(t *testing.T) {
	data, log := t.TempDir(), filepath.Join(t.TempDir(), "agent.log")
	waits, follows := agent.Status{Agent: "home"}, agent.Status{Agent: "home"}
	waits.Config.Restart = []string{"journal.segment", "log.file"}
	away := t.TempDir()
	files := map[string]string{
		"and the running agent writes there after a restart: crossdock-agent service restart": configFor(t, data, openOps(t, data, waits).Addr()),
		"and the running agent does not write there":                                          configFor(t, away, openOps(t, away, follows).Addr()),
		"and no agent has written there: it does when it is started with this configuration":  configFor(t, t.TempDir(), "127.0.0.1:1"),
	}
	tools := t.TempDir()
	const line = `{"__REALTIME_TIMESTAMP":"1","__CURSOR":"a","MESSAGE":"time=2026-05-04T11:00:00Z level=INFO msg=meanwhile"}`
	if err := os.WriteFile(filepath.Join(tools, "journalctl"), []byte("#!/bin/sh\necho '"+line+"'\n"), 0o700); err != nil { // #nosec G306
		t.Fatal(err)
	}
	for says, file := range files {
		t.Setenv(agent.VariablePrefix+"LOG__FILE", log)
		for _, args := range [][]string{{"tail", "-c", file}, {"tail", "-f", "-c", file}} {
			t.Setenv("PATH", t.TempDir())
			code, out, said := command(t, args...)
			if code != exitConflict || out != "" || !strings.Contains(said, log) || !strings.Contains(said, says) || !strings.Contains(said, "until then look where its standard error goes") {
				t.Errorf("%v, no journald: %d %s %s; want %s", args, code, out, said, says)
			}
		}
		if runtime.GOOS == "windows" { // where no script is a program
			continue
		}
		t.Setenv("PATH", tools)
		code, out, said := command(t, "tail", "-c", file)
		if code != 0 || !strings.Contains(out, "meanwhile") || !strings.Contains(said, log) || !strings.Contains(said, says) || !strings.Contains(said, "until then this is what journald has") {
			t.Errorf("journald: %d %s %s; want %s", code, out, said, says)
		}
	}
}
