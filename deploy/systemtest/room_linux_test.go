package systemtest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/space"
	"github.com/crossdock/crossdock/deploy/systemtest/disk"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/protocol/freespace"
)

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestDiskFilledByOthers: somebody else fills the disk of a site, so that the quota alone
// would say nothing. The site's systems are refused before the disk is full, people see why,
// and it goes on by itself.
func TestDiskFilledByOthers(t *testing.T) {
	d := disk.New(t, 256<<20)
	w := newWorld(t, nil, []string{"eu"}, func(h *history.History) []*system { return []*system{newSystem(t, h, "wms", "eu")} })
	eu := w.sites["eu"]
	eu.moveTo(d.Dir())
	eu.cfg.Journal.Quota, eu.cfg.Tuning.DiskEvery = 16<<20, 50*time.Millisecond
	eu.start()
	eu.awaitLink("quic")
	w.shops["eu"].sellAll(t, "before", 4, 10)
	d.Fill()
	ballast := filepath.Join(d.Dir(), "ballast") // of which the half of the reserve is left again
	if err := os.Truncate(ballast, sizeOf(t, ballast)-4<<20); err != nil {
		t.Fatal(err)
	}
	_, refused, err := w.shops["eu"].post(newOrder("when-full", "k", 1, "x"))
	if err != nil || refused == nil || refused.Status != http.StatusInsufficientStorage || !strings.Contains(refused.Detail, "disk.reserve") {
		t.Errorf("with a full disk: %+v, %v", refused, err)
	}
	eu.awaitStatus("is stopped", func(s agent.Status) string {
		if s.Disk.State == space.Closed && s.Disk.Why != "" && s.Disk.Free < s.Disk.Reserve {
			return ""
		}
		return fmt.Sprintf("%+v", s.Disk)
	})
	d.Empty()
	w.shops["eu"].awaitOpen()
	eu.awaitStatus("is well", func(s agent.Status) string {
		if s.Disk.State == space.OK {
			return ""
		}
		return fmt.Sprintf("%+v", s.Disk)
	})
	if n := scrape(t, eu.cfg.Ops.Listen, "crossdock_disk_stops_total"); n != 2 { // systems, and mail
		t.Errorf("%v stops are counted", n)
	}
	w.settle(0)
}

// TestSpaceComesBack measures the file system: what a backlog of a system that was down took is
// given back while the agent runs.
func TestSpaceComesBack(t *testing.T) {
	d := disk.New(t, 256<<20)
	w := newWorld(t, nil, []string{"eu"}, func(h *history.History) []*system { return []*system{newSystem(t, h, "wms", "eu")} })
	eu, wms := w.sites["eu"], w.systems[0]
	eu.moveTo(d.Dir())
	eu.cfg.Tuning.ParkAfter, eu.cfg.Tuning.TrimEvery = 20*time.Millisecond, 100*time.Millisecond
	wms.set(down)
	eu.start()
	const orders = 400
	deliveries := filepath.Join(d.Dir(), "delivery.db")
	before := eu.free()
	w.shops["eu"].sellBig(orders)
	until(t, "deliveries are parked", func() string {
		if n := sizeOf(t, deliveries); n < 8<<20 {
			return fmt.Sprintf("%d bytes", n)
		}
		return ""
	})
	full := eu.free()
	if taken := before - full; taken < 20<<20 {
		t.Errorf("the backlog takes %d bytes", taken)
	}
	wms.set(nil)
	w.awaitTaken("wms", orders)
	until(t, "the disk has the space back", func() string {
		left, file := before-eu.free(), sizeOf(t, deliveries)
		if left > 8<<20 || file > 4<<20 {
			return fmt.Sprintf("%d bytes are still taken, %d by deliveries", left, file)
		}
		return ""
	})
	eu.stop()
	eu.start() // with the files as they are now
	w.shops["eu"].sellAll(t, "later", 4, 10)
	w.settle(0)
}

// free is what the file system of the site's data has left.
func (s *site) free() int64 {
	s.t.Helper()
	free, err := freespace.Of(s.cfg.Data)
	if err != nil {
		s.t.Fatal(err)
	}
	return free
}

// sellBig sells orders that are large, of keys that come again.
func (s *shop) sellBig(n int) {
	s.site.t.Helper()
	for i := range n {
		if _, refused, err := s.post(newOrder(fmt.Sprint("large-", i), fmt.Sprint("k", i%50), i, strings.Repeat("x", orderSize))); err != nil || refused != nil {
			s.site.t.Fatalf("order %d: %+v, %v", i, refused, err)
		}
	}
}
