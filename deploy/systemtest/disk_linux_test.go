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
	eu.moveTo(data)
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
	w.shops["eu"].awaitOpen()
	w.shops["eu"].sellAll(t, "later", 4, 10)
	eu.awaitStatus("has room", func(s agent.Status) string {
		if s.Queue.Level > 0.9 {
			return fmt.Sprintf("%.2f used", s.Queue.Level)
		}
		return ""
	})
	w.settle(0)
}

// TestDiskFullOfWhatWaitsForASystem: what is parked may not fill the disk, or nothing that
// would give room back could be stored. The other system of the site is served all the time.
func TestDiskFullOfWhatWaitsForASystem(t *testing.T) {
	data := smallDisk(t, 16<<20)
	w := newWorld(t, nil, []string{"eu"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "wms", "eu"), newSystem(t, h, "crm", "eu")}
	})
	eu, wms := w.sites["eu"], w.systems[0]
	eu.moveTo(data)
	eu.cfg.Tuning.ParkAfter = 20 * time.Millisecond
	wms.set(down)
	eu.start()
	refused, filled := w.fill("eu")
	if refused.Status != http.StatusInsufficientStorage || filled < 100 {
		t.Errorf("refused after %d orders with %+v", filled, refused)
	}
	w.awaitTaken("crm", filled)
	eu.awaitStatus("reads no more for the system that is down", func(s agent.Status) string {
		for _, y := range s.Systems {
			if y.System == "wms" && y.Parked > 0 && y.Parked < filled && (y.State == "full" || y.State == "open") {
				return ""
			}
		}
		return fmt.Sprintf("%+v", s.Systems)
	})
	eu.stop()
	eu.start() // with a full disk
	wms.set(nil)
	w.awaitTaken("wms", filled)
	w.shops["eu"].awaitOpen()
	w.shops["eu"].sellAll(t, "later", 4, 10)
	w.settle(0)
}

// moveTo has the agent keep its data elsewhere, in files that fit on a small disk.
func (s *site) moveTo(data string) {
	s.t.Helper()
	from := s.cfg.Data
	s.cfg.Data = data
	s.secret("shop-"+s.name, shopToken)
	if err := os.CopyFS(s.cfg.IdentityDir(), os.DirFS(from+"/identity")); err != nil {
		s.t.Fatal(err)
	}
	s.cfg.Journal.Segment, s.cfg.Journal.Retain = 1<<20, 0
}

// awaitOpen sells until an order is taken. Nobody touches the agent: it takes orders again
// when it has let go of what is delivered.
func (s *shop) awaitOpen() {
	s.site.t.Helper()
	i := 0
	until(s.site.t, s.site.name+" takes orders again", func() string {
		i++
		_, refused, err := s.post(newOrder(fmt.Sprint("again-", i), "k", i, strings.Repeat("x", orderSize)))
		if err != nil || refused != nil {
			return fmt.Sprintf("%+v, %v", refused, err)
		}
		return ""
	})
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
