package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/space"
)

// A fact waits while the facts take what they may, and goes on when the control plane has
// taken some; who must not wait for it does not.
func TestTelemetryWaitsForItsPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bytes atomic.Int64
		var held time.Duration
		room := &telemetry{quota: 100, bytes: bytes.Load, held: func(_ time.Time, waited time.Duration) { held = waited }}
		fact := json.RawMessage(`"0123456789"`)
		if err := room.wait(t.Context(), fact); err != nil || held != 0 {
			t.Fatalf("with room it waited %s, %v", held, err)
		}
		bytes.Store(95)
		done := make(chan error, 1)
		go func() { done <- room.wait(t.Context(), fact) }()
		time.Sleep(time.Hour)
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		bytes.Store(10)
		if err := <-done; err != nil || held < time.Hour {
			t.Errorf("it waited %s, %v", held, err)
		}
		bytes.Store(95)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- room.wait(ctx, fact) }()
		synctest.Wait()
		cancel()
		if err := <-done; err == nil {
			t.Error("it goes on after the end")
		}
		if err := (*telemetry)(nil).wait(t.Context(), fact); err != nil {
			t.Error(err)
		}
	})
}

// The oldest of too many exceptions goes, which is told once the rest is.
func TestTooManyExceptions(t *testing.T) {
	a := newAlarms("eu", slog.New(slog.DiscardHandler))
	for i := range maxAlarms + 3 {
		a.raise("kind", fmt.Sprint(i), "text")
		a.raise("kind", fmt.Sprint(i), "text again") // the same one
	}
	var told []string
	a.report = func(_ context.Context, fact json.RawMessage) error {
		told = append(told, string(fact))
		return nil
	}
	for range 2 { // what was dropped is told behind the rest
		if !a.tell(t.Context()) {
			t.Fatal("not all was told")
		}
	}
	all := strings.Join(told, "\n")
	if len(told) != maxAlarms+1 || !strings.Contains(told[maxAlarms], "3 exceptions of agent eu were never told") ||
		strings.Contains(all, `"eu/kind/2"`) || !strings.Contains(all, `"eu/kind/3"`) {
		t.Errorf("%d were told, the last %s", len(told), told[len(told)-1])
	}
}

// What an exception says anew while it is being told is told too.
func TestRaisedAgainWhileItIsTold(t *testing.T) {
	a := newAlarms("eu", slog.New(slog.DiscardHandler))
	var told []string
	a.report = func(_ context.Context, fact json.RawMessage) error {
		if told = append(told, string(fact)); len(told) == 1 { // it waited for room, and meanwhile:
			a.raise("kind", "it", "newer")
			a.raise("kind", "other", "text")
		}
		return nil
	}
	a.raise("kind", "it", "older")
	for range 3 {
		if !a.tell(t.Context()) {
			t.Fatal("not all was told")
		}
	}
	if len(told) != 3 || !strings.Contains(told[0], "older") || !strings.Contains(told[1], "newer") || !strings.Contains(told[2], "text") {
		t.Errorf("told %q", told)
	}
	if len(a.waiting) != 0 {
		t.Errorf("%v still waits", a.waiting)
	}
}

func TestDiskConfig(t *testing.T) {
	read := func(text string) (Config, error) {
		file := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(file, []byte("controlplane: {addresses: ['h:1']}\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadConfig(file)
	}
	cfg, err := read("disk: {stop: 80%, pullStop: 92.5%, resume: '70 %', reserve: 1GB, telemetry: 2MB, watch: [/var/log]}")
	if want := (Disk{Stop: 0.8, PullStop: 0.925, Resume: 0.7, Reserve: 1 << 30, Telemetry: 2 << 20, Watch: []string{"/var/log"}}); err != nil || fmt.Sprint(cfg.Disk) != fmt.Sprint(want) {
		t.Errorf("got %+v, %v", cfg.Disk, err)
	}
	if cfg, err := read(""); err != nil || fmt.Sprint(cfg.Disk) != fmt.Sprint(DefaultDisk()) {
		t.Errorf("got %+v, %v", cfg.Disk, err)
	}
	for text, want := range map[string]string{
		"disk: {stop: 0.9}":        "write it like 90%",
		"disk: {stop: 120%}":       "write it like 90%",
		"disk: {stop: NaN%}":       "write it like 90%",
		"disk: {resume: 95%}":      "resume (at least 50%) < stop < pullStop",
		"disk: {telemetry: 1KB}":   "telemetry is at least 1MB",
		"disk: {reserve: much}":    "is not a size",
		"disk: {telemetrics: 1MB}": "telemetrics",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestExamineDisk(t *testing.T) {
	for _, c := range []struct {
		s    space.Status
		want doctor.Level
		seen string
	}{
		{space.Status{State: space.OK, Outage: space.Outage{State: space.Known, Hours: 30, BytesPerHour: 1 << 20}}, doctor.OK, "30 hours of a cut line"},
		{space.Status{State: space.Near, Level: 0.87, Outage: space.Outage{State: space.Unknown}}, doctor.Warn, "87 % of the journal's quota"},
		{space.Status{State: space.Stopped, Why: "because"}, doctor.Fail, "refused: because"},
		{space.Status{State: space.Closed, Why: "because"}, doctor.Fail, "refused: because"},
	} {
		c.s.Others = map[string]space.Other{"/var/log": {Free: 1 << 20, Scarce: true}, "/srv": {Free: 1 << 40}}
		got := examineDisk(c.s)
		if len(got) != 2 || got[0].Level != c.want || !strings.Contains(got[0].Seen, c.seen) || c.want != doctor.OK && got[0].Todo == "" ||
			got[1].Level != doctor.Warn || !strings.Contains(got[1].Seen, "/var/log has 1 MB") {
			t.Errorf("%+v: %+v", c.s, got)
		}
	}
}
