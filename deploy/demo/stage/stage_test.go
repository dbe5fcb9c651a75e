package stage

import (
	"bytes"
	"context"
	"log/slog"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/crossdock/crossdock/deploy/demo/ledger"
)

// build makes the real programs in a directory.
func build(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("skipped: the demo stops its programs by a signal that Windows does not have")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "./controlplane/cmd/crossdock", "./agent/cmd/crossdock-agent")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return dir
}

// The demo as a person sees it, in small: real programs, a line cut in the middle of the
// business and an agent killed, and at the end nothing missing, doubled or out of order.
func TestDemoReconciles(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := New(Config{Bin: build(t), Dir: t.TempDir(), Orders: 60, Lasts: 3 * time.Second, Day: 5 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.TearDown()
	if err := s.SetUp(ctx); err != nil {
		t.Fatal(err)
	}
	sold, traded := make(chan struct{}), make(chan error, 1)
	tradeCtx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { traded <- s.Trade(tradeCtx, sold) }()
	if err := s.Cut("eu", "cut"); err != nil {
		t.Fatal(err)
	}
	<-sold
	if err := s.Kill("hq"); err != nil { // with deliveries under way
		t.Fatal(err)
	}
	if s.Settled() {
		t.Error("settled while Europe's line is cut")
	}
	if err := s.Cut("eu", "restore"); err != nil {
		t.Fatal(err)
	}
	for !s.Settled() {
		if err := s.Health(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			var table bytes.Buffer
			ledger.Print(&table, s.Reconcile())
			t.Fatalf("not settled:\n%s", table.String())
		case <-time.After(50 * time.Millisecond): // between looks
		}
	}
	var table bytes.Buffer
	if !ledger.Print(&table, s.Reconcile()) {
		t.Errorf("the reconciliation is not clean:\n%s", table.String())
	}
	stop()
	if err := <-traded; err != nil {
		t.Error(err)
	}
}
