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
	t     *testing.T
	began time.Time

	Control  string         `json:"control,omitempty"`
	Seed     uint64         `json:"seed"`
	Rounds   int            `json:"rounds"`           // that were begun
	Faults   map[string]int `json:"faults,omitempty"` // how often each was picked
	Did      map[string]int `json:"did"`              // how often what was done: a fault may do several things, or one of them in vain
	Orders   int            `json:"orders"`
	Broken   map[string]int `json:"broken"` // findings in the history, by the property that they break
	Seconds  float64        `json:"seconds"`
	Failed   bool           `json:"failed"`
	Diverged int            `json:"diverged,omitempty"` // the round, from 1, in which the states differed
}

func newReport(t *testing.T, control string) *chaosReport {
	t.Helper()
	return &chaosReport{t: t, began: time.Now(), Control: control, Seed: chaosSeed(t), Faults: map[string]int{}, Did: map[string]int{}, Broken: map[string]int{}}
}

// save writes the report where whoever started the run wants it.
func (c *chaosReport) save() {
	c.Seconds, c.Failed = time.Since(c.began).Seconds(), c.t.Failed()
	file := os.Getenv("CROSSDOCK_CHAOS_REPORT")
	if file == "" {
		return
	}
	text, err := json.Marshal(c)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		c.t.Error(err)
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

// chosen are the faults that FAULT names, all of them if it names none, without those that
// this machine cannot do.
func (x *trouble) chosen() (out []fault) {
	x.t.Helper()
	var known []string
	named := strings.FieldsFunc(os.Getenv("FAULT"), func(r rune) bool { return r == ',' || r == ' ' })
	want := map[string]bool{}
	for _, name := range named {
		want[name] = true
	}
	for _, f := range faults {
		known = append(known, f.name)
		if len(named) > 0 && !want[f.name] {
			continue
		}
		delete(want, f.name)
		if x.disks != nil || !strings.Contains(f.name, "power") && !strings.Contains(f.name, "disk") {
			out = append(out, f)
		}
	}
	if len(want) > 0 || len(out) == 0 {
		x.t.Fatalf("FAULT=%s: there are %s; those of power and disks need root", os.Getenv("FAULT"), strings.Join(known, ", "))
	}
	return out
}

// chaosFor is how long one long round is to last; 0: there are short ones.
func chaosFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("FOR")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("FOR=%s is not a duration such as 10m", text)
	}
	return d
}

// TestChaos lets faults happen by seed, round after round, and judges each round. The same
// seed gives the same faults in the same order; the moments are those of the machine. With
// FOR there is one round, which goes on for so long.
func TestChaos(t *testing.T) {
	const (
		most    = 3                // faults of a short round
		about   = 20 * time.Second // it lasts
		changes = 4000             // of the clerks together: a control plane has room for 10,000 principals, and looks at all of them
	)
	report := newReport(t, "")
	defer report.save()
	pick := rand.New(rand.NewPCG(report.Seed, 2))
	lasts := chaosFor(t)
	x := newTrouble(t, report.Seed, clusterOptions{})
	among := x.chosen()
	rounds := count(t, "RUNS", 1)
	if lasts > 0 {
		rounds = 1
	}
	x.unhurried = max(lasts, time.Duration(rounds)*about) / changes
	for range rounds {
		report.Rounds++
		began := time.Now()
		few := 1 + pick.IntN(most)
		x.round(func(yield func(fault) bool) {
			for i := 0; lasts > 0 && time.Since(began) < lasts || lasts == 0 && i < few; i++ {
				f := among[pick.IntN(len(among))]
				report.Faults[f.name]++
				t.Logf("seed %d round %d: %s", report.Seed, report.Rounds, f.name)
				if !yield(f) {
					return
				}
			}
		})
		report.Orders, report.Did, report.Broken = accepted(x.h), x.c.did, x.broken
		t.Logf("seed %d round %d: %.1fs; %d orders so far, done %v, broken %v", report.Seed, report.Rounds, time.Since(began).Seconds(),
			report.Orders, report.Did, report.Broken)
		if t.Failed() {
			t.Logf("repeat with: make chaos SEED=%d RUNS=%d FOR=%s FAULT=%q", report.Seed, report.Rounds, os.Getenv("FOR"), os.Getenv("FAULT"))
			return
		}
	}
}
