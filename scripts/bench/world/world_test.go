package world

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/crossdock/crossdock/scripts/bench/material"
)

func TestCPUIsFoundBehindAnyName(t *testing.T) {
	got, err := cpuOf("4711 (a) b (c d) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0 20 0 9 0 100")
	if err != nil || got != 1540*time.Millisecond {
		t.Errorf("%s, %v; want 1.54s", got, err)
	}
	if _, err := cpuOf("4711 (short) S 1"); err == nil {
		t.Error("a line cut short has a CPU time")
	}
}

func TestUsageOfAProcess(t *testing.T) {
	p, err := Start("sleeper", Edge, filepath.Join(t.TempDir(), "log"), "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	u, err := p.Usage()
	if err != nil || u.RSS == 0 || u.Peak < u.RSS {
		t.Errorf("%+v, %v", u, err)
	}
	ended := make(chan error, 1)
	defer p.OnEnd(func(err error) { ended <- err })()
	p.Kill()
	if err := <-ended; err == nil {
		t.Error("it ended without saying so")
	}
	if _, err := p.Usage(); err == nil {
		t.Error("a process that is gone has a usage")
	}
}

func TestOwnCPUGrowsWithWork(t *testing.T) {
	before := OwnCPU()
	for n := 0; OwnCPU() == before; n++ {
		runtime.KeepAlive(n)
	}
}

func TestAddressesAreNeverGivenTwice(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		a, err := FreeAddress()
		if err != nil || seen[a] {
			t.Fatalf("%s again, or %v", a, err)
		}
		seen[a] = true
	}
}

func TestSinkCountsEachEventOnce(t *testing.T) {
	s, err := OpenSink()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	orders := material.NewOrders(1)
	post := func(body []byte) int {
		answer, err := http.Post("http://"+s.Address+"/events", "application/cloudevents+json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	began := time.Now()
	for _, serial := range []int{5, 7, 5} {
		if got := post(orders.Append(nil, serial)); got != http.StatusNoContent {
			t.Fatalf("event %d: status %d", serial, got)
		}
	}
	if n, last := s.Count(); n != 2 || s.Repeats() != 1 || last.Before(began) {
		t.Errorf("%d events and %d repeats, the last at %s; want 2 and 1", n, s.Repeats(), last)
	}
	if at, ok := s.Arrived(7); !ok || at.Before(began.Truncate(time.Microsecond)) {
		t.Errorf("event 7 came at %s, %v", at, ok)
	}
	if _, ok := s.Arrived(6); ok {
		t.Error("event 6 never came")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Await(ctx, 3); err == nil {
		t.Error("a third event was seen")
	}
	if got := post([]byte("{}")); got != http.StatusBadRequest {
		t.Errorf("what is no event got status %d", got)
	}
	if _, err := s.Await(t.Context(), 2); err == nil {
		t.Error("a foreign request went unnoticed")
	}
}

func TestCountersOfNFT(t *testing.T) {
	got, err := countersOf([]byte(`{"nftables": [{"metainfo": {"version": "1.0.6"}},
		{"counter": {"family": "inet", "name": "site", "table": "x", "handle": 1, "packets": 3, "bytes": 180}},
		{"counter": {"family": "inet", "name": "center", "table": "x", "handle": 2, "packets": 0, "bytes": 0}}]}`))
	if err != nil || len(got) != 2 || got["site"] != 180 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestWireCountsWhatPasses needs the kernel's packet filter.
func TestWireCountsWhatPasses(t *testing.T) {
	s, err := OpenSink()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w, err := OpenWire(map[string][]string{"sink": {s.Address}, "other": {"127.0.0.1:9"}})
	if err != nil {
		t.Skip("bytes on the wire cannot be counted here: ", err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	body := material.NewOrders(1).Append(nil, 1)
	answer, err := http.Post("http://"+s.Address+"/events", "application/cloudevents+json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	got, err := w.Bytes()
	if err != nil || got["sink"] < int64(len(body)) || got["sink"] > 10*int64(len(body)) || got["other"] != 0 {
		t.Errorf("%v, %v; the event has %d bytes", got, err, len(body))
	}
}

func TestSinkThatIsAwayTakesNothing(t *testing.T) {
	s, err := OpenSink()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Leave()
	answer, err := http.Post("http://"+s.Address+"/events", "application/cloudevents+json", bytes.NewReader(material.NewOrders(1).Append(nil, 1)))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if n, _ := s.Count(); answer.StatusCode != http.StatusServiceUnavailable || n != 0 {
		t.Errorf("status %d and %d events; want 503 and none", answer.StatusCode, n)
	}
}

func TestDataGoesWithTheProcesses(t *testing.T) {
	c := &Crossdock{CrossdockConfig: CrossdockConfig{Dir: filepath.Join(t.TempDir(), "data")}}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Dir); err == nil {
		t.Error("the data is still there")
	}
}

func TestChildIsGoneWhenItIsKilled(t *testing.T) {
	p, err := Start("sleeper", Edge, filepath.Join(t.TempDir(), "log"), "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	c := Child{Name: "sleeper", PID: p.cmd.Process.Pid}
	if u, err := c.Usage(); err != nil || u.RSS == 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if err := c.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	if u, err := c.Usage(); err == nil {
		t.Errorf("a process that is gone has used %+v", u)
	}
}
