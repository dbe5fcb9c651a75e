package systemtest

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// chaosReport is what a run leaves for the ledger.
type chaosReport struct {
	Control  string         `json:"control,omitempty"`
	Seed     uint64         `json:"seed"`
	Rounds   int            `json:"rounds"` // that were begun
	Faults   map[string]int `json:"faults"`
	Orders   int            `json:"orders"`
	Seconds  float64        `json:"seconds"`
	Failed   bool           `json:"failed"`
	Diverged int            `json:"diverged,omitempty"` // the round, from 1, in which the states differed
}

// save writes the report where whoever started the run wants it.
func (c *chaosReport) save(t *testing.T, began time.Time) {
	c.Seconds, c.Failed = time.Since(began).Seconds(), t.Failed()
	file := os.Getenv("CROSSDOCK_CHAOS_REPORT")
	if file == "" {
		return
	}
	text, err := json.Marshal(c)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Error(err)
	}
}

func chaosSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("SEED")
	if text == "" {
		return rand.Uint64N(1 << 32)
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("SEED=%s is not a number", text)
	}
	return seed
}

// TestChaos lets faults happen by seed, round after round, and judges each round. The same
// seed gives the same faults in the same order; the moments are those of the machine.
func TestChaos(t *testing.T) {
	const most = 3 // faults of a round
	report := &chaosReport{Seed: chaosSeed(t), Faults: map[string]int{}}
	began := time.Now()
	defer func() { report.save(t, began) }()
	pick := rand.New(rand.NewPCG(report.Seed, 2))
	x := newTrouble(t, report.Seed, clusterOptions{})
	for round := range count(t, "RUNS", 1) {
		var names []string
		for range 1 + pick.IntN(most) {
			f := faults[pick.IntN(len(faults))]
			if x.disks != nil || !strings.Contains(f.name, "power") && !strings.Contains(f.name, "disk") {
				names = append(names, f.name)
				report.Faults[f.name]++
			}
		}
		start := time.Now()
		t.Logf("seed %d round %d: %s", report.Seed, round+1, strings.Join(names, ", "))
		report.Rounds++
		x.round(names...)
		report.Orders = accepted(x.h)
		t.Logf("seed %d round %d: %d orders so far, %.1fs", report.Seed, round+1, report.Orders, time.Since(start).Seconds())
		if t.Failed() {
			t.Logf("repeat with: make chaos SEED=%d RUNS=%d", report.Seed, round+1)
			return
		}
	}
}
