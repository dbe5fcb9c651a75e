package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/uplink"
)

func findingOf(t *testing.T, findings []doctor.Finding, id string) doctor.Finding {
	t.Helper()
	for _, f := range findings {
		if f.ID == id {
			return f
		}
	}
	t.Fatalf("%s is not in %+v", id, findings)
	return doctor.Finding{}
}

func TestStatusSaysWhatWaits(t *testing.T) {
	s := Status{Link: uplink.State{Since: time.Now().Add(-time.Hour)}, Queue: QueueStatus{Outgoing: 5, Level: 0.95, Bytes: 95 << 20},
		Systems: []SystemStatus{{SystemStatus: delivery.SystemStatus{System: "erp", Pending: 9, OldestAgeMs: 7200000, DeadLetters: 2, Parked: 3, LastError: "answered 503"}}}}
	s.Documents.Missing = 4
	got := ExamineStatus(s)
	for id, want := range map[string]struct {
		level doctor.Level
		says  string
	}{
		"queue-level":  {doctor.Fail, "95 percent"},
		"queue-age":    {doctor.Warn, "9 for erp, the oldest for 2 hours (answered 503); 5 for the relay, cut off for 60 minutes"},
		"dead-letters": {doctor.Warn, "2 for erp, 3 parked"},
		"documents":    {doctor.Warn, "4 documents"},
	} {
		if f := findingOf(t, got, id); f.Level != want.level || !strings.Contains(f.Seen, want.says) {
			t.Errorf("%+v, want %v", f, want)
		}
	}
}

// A proxy that cannot be read is told without its password.
func TestProxyFaultsKeepThePassword(t *testing.T) {
	cfg := DefaultConfig()
	for _, text := range []string{"http://bob:hush@[::1", "bob:hush@proxy:3128", "socks5://bob:hush@proxy:1080"} {
		cfg.ControlPlane.Proxy = text
		if _, err := ProxyOf(cfg); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", text, err)
		}
	}
	cfg.ControlPlane.Proxy = ""
	t.Setenv("HTTPS_PROXY", "http://bob:hush@proxy.example:3128")
	if got, err := through(cfg, "hub.example:7443"); err != nil || got.Proxy == nil || !strings.Contains(got.From, "HTTPS_PROXY") {
		t.Errorf("%+v, %v", got, err)
	}
	t.Setenv("NO_PROXY", "hub.example")
	if got, err := through(cfg, "hub.example:7443"); err != nil || got.Proxy != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// Files that a running agent writes are passed over, all others are looked at.
func TestStoreFiles(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Data = t.TempDir()
	if err := os.Mkdir(cfg.JournalDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"journal/00000000000000000001.log", "journal/00000000000000000900.log", deliveryFile, callsFile} {
		if err := os.WriteFile(filepath.Join(cfg.Data, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if quiet, live := cfg.storeFiles(false); len(quiet) != 4 || live != 0 {
		t.Errorf("stopped: %v, %d", quiet, live)
	}
	if quiet, live := cfg.storeFiles(true); len(quiet) != 1 || filepath.Base(quiet[0]) != "00000000000000000001.log" || live != 3 {
		t.Errorf("running: %v, %d", quiet, live)
	}
	if f := findingOf(t, examineData(t.Context(), cfg, Found{}), "store"); f.Level != doctor.Fail || !strings.Contains(f.Seen, deliveryFile) {
		t.Errorf("%+v", f)
	}
}

// Who only looks leaves everything as it is: what root made the agent could not write into.
func TestLookingMakesNothing(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	cfg.Secrets = filepath.Join(cfg.Data, "secrets")
	if f := findingOf(t, examineData(t.Context(), cfg, Found{}), "data-permissions"); f.Level != doctor.Warn || !strings.Contains(f.Todo, "enroll") {
		t.Errorf("%+v", f)
	}
	if _, err := os.Stat(cfg.Data); !os.IsNotExist(err) {
		t.Errorf("the data directory: %v", err)
	}
	if err := os.Mkdir(cfg.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	examineData(t.Context(), cfg, Found{})
	if f := findingOf(t, examinePolicy(t.Context(), cfg, nil, Found{}, slog.New(slog.DiscardHandler)), "policy"); f.Level != doctor.Warn {
		t.Errorf("%+v", f)
	}
	if left, err := os.ReadDir(cfg.Data); err != nil || len(left) > 0 {
		t.Errorf("%v is there now, %v", left, err)
	}
}
