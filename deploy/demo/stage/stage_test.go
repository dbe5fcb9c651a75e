package stage

import (
	"bytes"
	"context"
	"fmt"
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
// business, an agent and the leading node killed, and at the end nothing missing, doubled
// or out of order.
func TestDemoReconciles(t *testing.T) {
	bin := build(t)
	for _, nodes := range []int{1, MaxNodes} {
		t.Run(fmt.Sprint("nodes-", nodes), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			s, err := New(Config{Bin: bin, Dir: t.TempDir(), Nodes: nodes, Orders: 60, Lasts: 3 * time.Second, Day: 5 * time.Millisecond,
				Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.TearDown()
			if err := s.SetUp(ctx); err != nil {
				t.Fatal(err)
			}
			trade(ctx, t, s)
		})
	}
}

// trade runs the business to its end, with its accidents.
func trade(ctx context.Context, t *testing.T, s *Stage) {
	t.Helper()
	sold, traded := make(chan struct{}), make(chan error, 1)
	tradeCtx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { traded <- s.Trade(tradeCtx, sold) }()
	if err := s.Cut("eu", "cut"); err != nil {
		t.Fatal(err)
	}
	killed := ""
	if len(s.Nodes) > 1 {
		var err error
		if killed, err = s.KillNode(ctx, Leader); err != nil {
			t.Fatal(err)
		}
	}
	<-sold
	if err := s.Kill("hq"); err != nil { // with deliveries under way
		t.Fatal(err)
	}
	if s.Settled() {
		t.Error("settled while Europe's line is cut")
	}
	if killed != "" {
		if err := s.Switch(killed, "start"); err != nil {
			t.Fatal(err)
		}
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
	if len(s.Nodes) > 1 {
		if err := s.AwaitEqual(ctx); err != nil {
			t.Errorf("the nodes do not come to the same state: %v", err)
		}
	}
	stop()
	if err := <-traded; err != nil {
		t.Error(err)
	}
}
