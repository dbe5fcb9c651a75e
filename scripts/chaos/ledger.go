package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/scripts/record"
)

// line is one run in the ledger: what the test reports, and what was tested when.
type line struct {
	At       time.Time      `json:"at"`
	Commit   string         `json:"commit"`
	Control  string         `json:"control,omitempty"`
	Fault    string         `json:"fault,omitempty"` // the only ones that there were; empty: all
	Seed     uint64         `json:"seed"`
	Rounds   int            `json:"rounds"`
	Faults   map[string]int `json:"faults,omitempty"`
	Did      map[string]int `json:"did,omitempty"`
	Orders   int            `json:"orders"`
	Broken   map[string]int `json:"broken"` // null: it did not come to be judged
	Seconds  float64        `json:"seconds"`
	Failed   bool           `json:"failed"`
	Diverged int            `json:"diverged,omitempty"`
}

// note adds a line to the ledger. A run that did not come to its report leaves its seed.
func note(ledger, report string, p plan, tested string, failed error) error {
	l := line{Control: p.control, Seed: p.seed, Failed: true}
	if text, err := os.ReadFile(report); err == nil && len(text) > 0 {
		l = line{}
		if err := record.Parse(text, &l); err != nil {
			return fmt.Errorf("the report of %s: %w", p.test, err)
		}
	}
	l.At, l.Commit, l.Fault, l.Failed = time.Now().UTC().Truncate(time.Second), tested, p.fault, l.Failed || failed != nil
	return record.Append(ledger, l)
}

// inHistory reports whether a commit is one that this tree grew from.
func inHistory(commit string) bool {
	return exec.Command("git", "merge-base", "--is-ancestor", commit, "HEAD").Run() == nil
}

// total is what the runs of one kind come to.
type total struct {
	runs, failed, diverged, rounds, orders int
	seconds                                float64
	did                                    map[string]int
}

func (t *total) add(l line) {
	t.runs++
	if l.Diverged > 0 {
		t.diverged++
	}
	if l.Failed {
		t.failed++ // it proves nothing that could be added up
		return
	}
	t.rounds += l.Rounds
	t.orders += l.Orders
	t.seconds += l.Seconds
	for what, n := range l.Did {
		t.did[what] += n
	}
}

// sumUp prints what the lines come to that hold for a commit of this history. Controls
// stand apart: what is survived without a guard was not survived by the product.
func sumUp(ledger string, known func(commit string) bool, out io.Writer) error {
	f, err := os.Open(ledger)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	totals := map[string]*total{}
	var left []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		var l line
		err := record.Parse(lines.Bytes(), &l)
		switch {
		case err != nil:
			left = append(left, fmt.Sprintf("line %d: %v", number, err))
			continue
		case strings.HasSuffix(l.Commit, record.Dirty):
			left = append(left, fmt.Sprintf("line %d: %s is not what was tested", number, l.Commit))
			continue
		case !known(l.Commit):
			left = append(left, fmt.Sprintf("line %d: %s is no commit that this tree grew from", number, l.Commit))
			continue
		}
		if totals[l.Control] == nil {
			totals[l.Control] = &total{did: map[string]int{}}
		}
		totals[l.Control].add(l)
		if l.Failed {
			fmt.Fprintf(out, "failed: line %d, commit %s, seed %d\n", number, l.Commit, l.Seed)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", ledger, err)
	}
	for _, control := range slices.Sorted(maps.Keys(totals)) {
		totals[control].print(control, out)
	}
	if t := totals[""]; t != nil {
		t.printGoals(out)
	}
	for _, why := range left {
		fmt.Fprintln(out, "not counted:", why)
	}
	return nil
}

func (t *total) print(control string, out io.Writer) {
	name := "faults"
	if control != "" {
		name = "control " + control
	}
	fmt.Fprintf(out, "%s: run %d times, %d failed", name, t.runs, t.failed)
	if control != "" {
		fmt.Fprintf(out, ", the states differed in %d", t.diverged)
	}
	fmt.Fprintf(out, "; in those that passed %d rounds, %.1f hours, %d orders\n", t.rounds, t.seconds/3600, t.orders)
	for _, what := range slices.Sorted(maps.Keys(t.did)) {
		fmt.Fprintf(out, "  %-20s %6d\n", what, t.did[what])
	}
}

// goals are what there must be of rounds and of the gravest faults, with nothing lost. A
// round is one run of its own: a fresh pick of faults by seed, up to its verdict.
var goals = []struct {
	what string
	want int
}{{"rounds", 500}, {"agent-kills", 1000}, {"node-kills", 200}, {"power-cuts", 100}}

func (t *total) printGoals(out io.Writer) {
	for _, g := range goals {
		got := t.did[g.what]
		if g.what == "rounds" {
			got = t.rounds
		}
		mark := "to do"
		if got >= g.want {
			mark = "reached"
		}
		fmt.Fprintf(out, "goal %-12s %6d of %4d, %s\n", g.what, got, g.want, mark)
	}
}
