package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/scripts/record"
)

func TestSumCountsWhatHoldsForACommit(t *testing.T) {
	ledger := filepath.Join(t.TempDir(), "ledger.jsonl")
	text := `{"commit":"aaa","seed":1,"rounds":10,"did":{"node-kills":3,"transfers":2,"power-cuts":100},"orders":100,"seconds":1800,"failed":false}
{"commit":"aaa","seed":2,"rounds":4,"did":{"node-kills":4},"orders":50,"seconds":1800,"failed":false}
{"commit":"aaa","seed":3,"rounds":7,"did":{"node-kills":1000},"orders":1000,"seconds":9000,"failed":true}
{"commit":"aaa-dirty","seed":4,"rounds":1,"did":{"node-kills":1000},"orders":1,"seconds":1,"failed":false}
{"commit":"bbb","seed":5,"rounds":1,"did":{"node-kills":1000},"orders":1,"seconds":1,"failed":false}
{"commit":"aaa","control":"heartbeat","seed":6,"rounds":2,"did":{"pauses":21},"orders":0,"seconds":60,"failed":false,"diverged":2}
{"commit":"aaa","killed":1}
torn
`
	if err := os.WriteFile(ledger, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := sumUp(ledger, func(commit string) bool { return commit == "aaa" }, &out); err != nil {
		t.Fatal(err)
	}
	const want = `failed: line 3, commit aaa, seed 3
faults: run 3 times, 1 failed; in those that passed 14 rounds, 1.0 hours, 150 orders
  node-kills                7
  power-cuts              100
  transfers                 2
control heartbeat: run 1 times, 0 failed, the states differed in 1; in those that passed 2 rounds, 0.0 hours, 0 orders
  pauses                   21
goal rounds           14 of  500, to do
goal agent-kills       0 of 1000, to do
goal node-kills        7 of  200, to do
goal power-cuts      100 of  100, reached
not counted: line 4: aaa-dirty is not what was tested
not counted: line 5: bbb is no commit that this tree grew from
not counted: line 7: json: unknown field "killed"
not counted: line 8: invalid character 'o' in literal true (expecting 'r')
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

// Every run leaves a line: with a report, with one of a test that failed afterwards, and
// with none.
func TestEveryRunIsNoted(t *testing.T) {
	dir := t.TempDir()
	ledger, report := filepath.Join(dir, "run", "ledger.jsonl"), filepath.Join(dir, "report")
	p := plan{test: "TestChaos", seed: 7, fault: "transfer"}
	const full = `{"seed":7,"rounds":2,"did":{"transfers":5},"orders":9,"seconds":1,"failed":false}`
	for _, step := range []struct {
		report string
		failed error
	}{{full, nil}, {full, errors.New("exit status 1")}, {"", errors.New("killed")}} {
		if err := os.WriteFile(report, []byte(step.report), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := note(ledger, report, p, "aaa", step.failed); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(ledger)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want 3:\n%s", len(lines), text)
	}
	for i, want := range []line{{Rounds: 2, Orders: 9}, {Rounds: 2, Orders: 9, Failed: true}, {Failed: true}} {
		var got line
		if err := record.Parse([]byte(lines[i]), &got); err != nil {
			t.Fatal(err)
		}
		if got.Commit != "aaa" || got.Seed != 7 || got.Fault != "transfer" || got.Rounds != want.Rounds || got.Orders != want.Orders || got.Failed != want.Failed {
			t.Errorf("line %d: %+v, want %+v", i+1, got, want)
		}
	}
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		control, seed, runs, lasts, fault string
		want                              string // "": refused
		limit                             time.Duration
	}{
		{"", "5", "", "", "", "SEED=5 RUNS=10", 11 * roundLimit},
		{"", "5", "3", "", "transfer,kill-all", "SEED=5 RUNS=3 FAULT=transfer,kill-all", 4 * roundLimit},
		{"", "5", "", "10m", "transfer", "SEED=5 FOR=10m0s FAULT=transfer", roundLimit + 20*time.Minute},
		{"heartbeat", "5", "", "", "", "SEED=5 RUNS=40 CONTROL=heartbeat", 41 * roundLimit},
		{"guard", "5", "2", "", "", "SEED=5 RUNS=2 CONTROL=guard", 3 * roundLimit},
		{"guard", "5", "", "10m", "", "", 0},
		{"guard", "5", "", "", "transfer", "", 0},
		{"other", "5", "", "", "", "", 0},
		{"", "five", "", "", "", "", 0},
		{"", "5", "0", "", "", "", 0},
		{"", "5", "", "ten", "", "", 0},
		{"", "5", "1", "10m", "", "", 0},
	} {
		p, err := planOf(c.control, c.seed, c.runs, c.lasts, c.fault)
		if (err != nil) != (c.want == "") {
			t.Errorf("%+v: %v", c, err)
		} else if err == nil && (p.String() != c.want || p.limit() != c.limit) {
			t.Errorf("%+v: %s, %s", c, p, p.limit())
		}
	}
}
