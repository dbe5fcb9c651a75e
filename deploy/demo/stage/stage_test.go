package stage

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/deploy/demo/audit"
	"github.com/crossdock/crossdock/deploy/demo/ledger"
	"github.com/crossdock/crossdock/deploy/demo/systems"
)

// build makes the real programs in a directory.
func build(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("skipped: the demo stops its programs by a signal that Windows does not have")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "./controlplane/cmd/crossdock", "./agent/cmd/crossdock-agent",
		"./plugins/"+carrierProgram, "./plugins/"+taxProgram)
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return dir
}

// The demo as a person sees it, in small: real programs, a line cut in the middle of the
// business, an agent and the leading node killed, and at the end nothing missing, doubled
// or out of order, and every tax, label and manifest as recomputed. The region that is cut off
// taxes, labels and hands over all the same.
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

// await waits for what all programs have to run for.
func await(ctx context.Context, t *testing.T, s *Stage, what string, holds func() bool) {
	t.Helper()
	for !holds() {
		if err := s.Health(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			var table bytes.Buffer
			ledger.Print(&table, s.Reconcile())
			t.Fatalf("waited in vain: %s\n%s", what, table.String())
		case <-time.After(50 * time.Millisecond): // between looks
		}
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
	await(ctx, t, s, "Europe hands its parcels over without a line", func() bool {
		return slices.ContainsFunc(s.Records()["wms-eu"], func(e ledger.Entry) bool { return e.Act == ledger.Sent && e.Type == systems.Manifested })
	})
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
	await(ctx, t, s, "settled", s.Settled)
	var table bytes.Buffer
	if !ledger.Print(&table, s.Reconcile()) {
		t.Errorf("the reconciliation is not clean:\n%s", table.String())
	}
	report, err := audit.Compare(s.company, s.Records())
	if err != nil {
		t.Fatal(err)
	}
	if !report.Print(&table) || report.Taxes.Of == 0 || report.Estimates.Of == 0 || report.NotCalculated["BR"] == 0 || report.Freight.Of != len(s.company.Orders) {
		t.Errorf("the audit is not clean:\n%s", table.String())
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
