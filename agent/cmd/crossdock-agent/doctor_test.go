package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/ops"
)

// A running agent's own report is what is shown, and its worst level is the exit code.
func TestDoctorAsksTheRunningAgent(t *testing.T) {
	data := t.TempDir()
	var findings []doctor.Finding
	cfg := agent.Config{Data: data}
	s, err := ops.New(ops.Config{Listen: "127.0.0.1:0", TokenFile: filepath.Join(data, "ops.token"), Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		Status: func() any { return agent.Status{Agent: "eu", Data: cfg.Place()} },
		Doctor: func(_ context.Context, fresh bool) (any, error) {
			if !fresh {
				return nil, errors.New("who has just mended something is told what was")
			}
			return doctor.NewReport("1.2", time.Now(), findings), nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	file := configFor(t, data, s.Addr())
	well := doctor.Finding{ID: "clock", Level: doctor.OK, Seen: "right"}
	warn := doctor.Finding{ID: "link-quic", Level: doctor.Warn, Seen: "no answer", Todo: "let UDP out"}
	fail := doctor.Finding{ID: "proxy", Level: doctor.Fail, Seen: "407", Todo: "set user and password"}
	for _, tt := range []struct {
		findings []doctor.Finding
		strict   bool
		want     int
		says     []string
	}{
		{[]doctor.Finding{well}, true, 0, []string{"ok  clock  right", "Not tested here:", "0 failed, 0 warnings"}},
		{[]doctor.Finding{well, warn}, false, 0, []string{"warn  link-quic", "to do: let UDP out", "crossdock-agent help udp-blocked"}},
		{[]doctor.Finding{well, warn}, true, exitWarnings, []string{"warn  link-quic"}},
		{[]doctor.Finding{warn, fail}, false, exitFailed, []string{"crossdock-agent help proxy"}},
	} {
		findings = tt.findings
		args := []string{"doctor", "-c", file}
		if tt.strict {
			args = append(args, "--strict")
		}
		code, out, said := command(t, args...)
		if code != tt.want {
			t.Errorf("%v: exit %d, want %d: %s", tt.findings, code, tt.want, said)
		}
		for _, word := range tt.says {
			if !strings.Contains(out, word) {
				t.Errorf("%q is missing in\n%s", word, out)
			}
		}
		code, out, _ = command(t, append(args, "--json")...)
		var r doctor.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != tt.want || r.Version != 1 || r.Program != "1.2" || len(r.Findings) != len(tt.findings) || len(r.NotTested) == 0 {
			t.Errorf("exit %d, %v: %s", code, err, out)
		}
	}
}

func TestHelpGivesRunbooks(t *testing.T) {
	for _, args := range [][]string{{"help", "clock"}, {"help", "help"}, {"help", "queue", "export"}, {"help"}} {
		if code, out, said := command(t, args...); code != 0 || len(out) < 100 {
			t.Errorf("%v: %d %s %s", args, code, out, said)
		}
	}
	if code, _, said := command(t, "help", "nothing"); code != exitUsage || !strings.Contains(said, `topic "nothing"`) {
		t.Errorf("%d %s", code, said)
	}
}
