package calls

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// What an agent that does not run still has to do is counted in its file alone: the calls that
// are open, and the events of those that are done.
func TestLeftIn(t *testing.T) {
	if left, err := LeftIn(filepath.Join(t.TempDir(), "calls.db"), nil); err != nil || left != 0 {
		t.Errorf("without a file: %d, %v", left, err)
	}
	r := newRig(t, nil)
	r.out.fail = errors.New("the journal is full")
	r.must(carrier.OpShip, "k", shipment("R"))
	r.shop.failing(carrier.OpVoid, down)
	r.must(carrier.OpVoid, "k1", void("R1"))
	r.must(carrier.OpVoid, "k2", void("R2"))
	status := r.Status()
	if status.Queued != 2 || status.Leaving != 1 {
		t.Fatalf("got %+v", status)
	}
	if left, err := LeftIn(r.cfg.Path, nil); err == nil {
		t.Errorf("of a running agent: %d", left)
	}
	r.close()
	if left, err := LeftIn(r.cfg.Path, nil); err != nil || left != 3 {
		t.Errorf("got %d, %v; want 3", left, err)
	}
	broken := errors.New("broken")
	if _, err := LeftIn(r.cfg.Path, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	r.open()
	if again := r.Status(); again.Queued != 2 || again.Leaving != 1 {
		t.Errorf("counting has changed it to %+v", again)
	}
	other := filepath.Join(t.TempDir(), "calls.db")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if left, err := LeftIn(other, nil); err == nil {
		t.Errorf("of a file that was never begun: %d", left)
	}
}
