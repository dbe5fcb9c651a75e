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

// eachFault, as FAULT, has every fault happen in turn, one in each round, the slow ones too.
const eachFault = "each"

// chosen are the faults that FAULT names, or all but the slow ones, without those that this
// machine cannot do.
func (x *trouble) chosen(long bool) (out []fault) {
	x.t.Helper()
	named := strings.FieldsFunc(strings.TrimPrefix(os.Getenv("FAULT"), eachFault), func(r rune) bool { return r == ',' || r == ' ' })
	for _, name := range named {
		f, known := faultNamed(name)
		if !known {
			var all []string
			for _, f := range faults {
				all = append(all, f.name)
			}
			x.t.Fatalf("FAULT=%s: there are %s", name, strings.Join(all, ", "))
		}
		if why := x.missing(f); why != "" {
			x.t.Fatalf("FAULT=%s: this machine has no %s", name, why)
		}
		out = append(out, f)
	}
	if len(named) > 0 {
		return out
	}
	for _, f := range faults {
		if x.missing(f) == "" && (long || !f.slow) {
			out = append(out, f)
		}
	}
	return out
}

// missing says what a fault needs that this machine does not have.
func (x *trouble) missing(f fault) need {
	for _, n := range f.needs {
		if x.lacks[n] != nil {
			return n
		}
	}
	return ""
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
	x := newTrouble(t, report.Seed)
	inTurn := os.Getenv("FAULT") == eachFault
	among := x.chosen(lasts > 0 || inTurn)
	rounds := count(t, "RUNS", 1)
	if lasts > 0 {
		rounds = 1
	}
	x.unhurried = max(lasts, time.Duration(rounds)*about) / changes
	for range rounds {
		report.Rounds++
		began := time.Now()
		few := 1 + pick.IntN(most)
		if inTurn {
			few = 1
		}
		x.round(func(yield func(fault) bool) {
			for i := 0; lasts > 0 && time.Since(began) < lasts || lasts == 0 && i < few; i++ {
				f := among[pick.IntN(len(among))]
				if inTurn {
					f = among[(report.Rounds-1)%len(among)]
				}
				report.Faults[f.name]++
				t.Logf("seed %d round %d: %s", report.Seed, report.Rounds, f.name)
				if !yield(f) {
					return
				}
			}
		})
		x.c.did[didRenew] = x.renewals()
		report.Orders, report.Did, report.Broken = accepted(x.h), x.c.did, x.broken
		t.Logf("seed %d round %d: %.1fs; %d orders so far, done %v, broken %v", report.Seed, report.Rounds, time.Since(began).Seconds(),
			report.Orders, report.Did, report.Broken)
		if t.Failed() {
			t.Logf("repeat with: make chaos SEED=%d RUNS=%d FOR=%s FAULT=%q", report.Seed, report.Rounds, os.Getenv("FOR"), os.Getenv("FAULT"))
			return
		}
	}
}
