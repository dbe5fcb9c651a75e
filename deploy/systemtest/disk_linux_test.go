package systemtest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// smallDisk mounts a file system in memory that is soon full. Where that is not possible
// the test is skipped, but not where everything is required.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		const hint = "a tmpfs of its own needs root: %v"
		if os.Getenv("REQUIRE") == "all" {
			t.Fatalf(hint, err)
		}
		t.Skipf("SKIPPED: "+hint, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFullDiskRefusesAndComesBack fills the disk of a site whose line is cut.
func TestFullDiskRefusesAndComesBack(t *testing.T) {
	const size = 16 << 20
	data := smallDisk(t, size)
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	eu := w.sites["eu"]
	from := eu.cfg.Data
	eu.cfg.Data = data
	eu.secret("shop-eu", shopToken)
	if err := os.CopyFS(eu.cfg.IdentityDir(), os.DirFS(from+"/identity")); err != nil {
		t.Fatal(err)
	}
	eu.cfg.Journal.Segment, eu.cfg.Journal.Retain = 1<<20, 0
	w.sites["hq"].start()
	eu.start()
	eu.awaitLink("quic")

	eu.line.Cut()
	refused, filled := w.fill("eu")
	if refused.Status != http.StatusInsufficientStorage || refused.Code != "queue-full" ||
		!strings.Contains(refused.Detail, "nothing was taken") || !strings.Contains(refused.Detail, "disk") {
		t.Errorf("refused with %+v", refused)
	}
	if filled < 50 {
		t.Errorf("only %d orders fit", filled)
	}
	w.awaitTaken("wms", filled) // what is here is delivered here
	if n := scrape(t, eu.cfg.Ops.Listen, "crossdock_intake_refused_requests_total", `"queue-full"`); n == 0 {
		t.Error("the refusal is not counted")
	}
	// A full disk outlives a restart, and the agent with it.
	eu.stop()
	eu.start()
	if _, again, err := w.shops["eu"].post(newOrder("after-restart", "k", 1, strings.Repeat("x", orderSize))); err != nil || again == nil || again.Status != http.StatusInsufficientStorage {
		t.Errorf("after the restart: %+v, %v; want a refusal", again, err)
	}

	eu.line.Restore()
	w.awaitTaken("erp", filled)
	// Nobody touches the agent: it takes orders again when it has let go of what is delivered.
	deadline := time.Now().Add(patience)
	for i := 0; ; i++ {
		_, again, err := w.shops["eu"].post(newOrder(fmt.Sprint("again-", i), "k", i, strings.Repeat("x", orderSize)))
		if err == nil && again == nil {
			break
		}
		if time.Now().After(deadline) {
			status, _ := eu.status()
			t.Fatalf("the agent does not take orders again: %+v, %v; %+v", again, err, status.Queue)
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.shops["eu"].sellAll(t, "later", 4, 10)
	eu.awaitStatus("has room", func(s agent.Status) string {
		if s.Queue.Level > 0.9 {
			return fmt.Sprintf("%.2f used", s.Queue.Level)
		}
		return ""
	})
	w.settle(0)
}

const orderSize = 48 << 10

// fill sells orders until one is refused, and gives the refusal and how many were taken.
func (w *world) fill(name string) (problem, int) {
	w.t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 10_000 {
		_, refused, err := w.shops[name].post(newOrder(fmt.Sprint("fill-", i), fmt.Sprint("k", i%5), i, noise(r, orderSize)))
		if err != nil {
			w.t.Fatal(err)
		}
		if refused != nil {
			return *refused, i
		}
	}
	w.t.Fatal("the disk does not get full")
	return problem{}, 0
}
