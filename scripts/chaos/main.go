// Command chaos lets faults happen to three nodes and their agents by seed, round after
// round, and keeps a ledger of all runs: which commit, which seed, which faults, how many.
//
// It owns the ledger and refuses to know the faults: they and the judgement of the recorded
// history are tests of deploy/systemtest, which it starts. Its invariant: every run leaves
// a line, a failed one too, with what is needed to repeat it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/crossdock/crossdock/scripts/record"
)

const roundLimit = 5 * time.Minute // a round that takes longer hangs

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// plan is what one run does.
type plan struct {
	test    string
	control string
	fault   string
	seed    uint64
	runs    int           // rounds; 0: one that lasts
	lasts   time.Duration // of that one
}

// plans are the tests, and how many rounds they have when nobody says.
var plans = map[string]plan{
	"":          {test: "TestChaos", runs: 10},
	"heartbeat": {test: "TestWithoutHeartbeatGuard", runs: 40},
	"guard":     {test: "TestWithHeartbeatGuard", runs: 5},
}

// run starts the test that does the work and writes the ledger, or sums that up.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	seed := flags.String("seed", "", "of the faults; empty: any")
	runs := flags.String("runs", "", "rounds; empty: 10, with a control as many as it needs")
	lasts := flags.String("for", "", "one long round of this duration, instead of rounds")
	fault := flags.String("fault", "", "only these faults, by name with commas between; empty: all")
	control := flags.String("control", "", "heartbeat: take that guard away and run until the states differ; guard: the same with the guard")
	ledger := flags.String("ledger", filepath.Join("deploy", "systemtest", "ledger.jsonl"), "file that a line is added to")
	sum := flags.Bool("sum", false, "run nothing, sum the ledger up")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *sum {
		return sumUp(*ledger, inHistory, out)
	}
	p, err := planOf(*control, *seed, *runs, *lasts, *fault)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s; repeat with: make chaos %s\n", p.test, p)
	return p.start(ctx, *ledger, out)
}

// planOf reads what a person wants.
func planOf(control, seed, runs, lasts, fault string) (plan, error) {
	p, ok := plans[control]
	if !ok {
		return p, fmt.Errorf("control %q: there are heartbeat and guard", control)
	}
	p.control, p.fault, p.seed = control, fault, rand.Uint64N(1<<32)
	if control != "" && lasts+fault != "" {
		return p, errors.New("a control has its own fault and its own rounds: leave out -fault and -for")
	}
	var err error
	if seed != "" {
		if p.seed, err = strconv.ParseUint(seed, 10, 64); err != nil {
			return p, fmt.Errorf("seed %q is not a number", seed)
		}
	}
	switch {
	case runs != "" && lasts != "":
		return p, errors.New("either -runs or -for")
	case runs != "":
		if p.runs, err = strconv.Atoi(runs); err != nil || p.runs < 1 {
			return p, fmt.Errorf("runs %q is not a number from 1 on", runs)
		}
	case lasts != "":
		p.runs = 0
		if p.lasts, err = time.ParseDuration(lasts); err != nil || p.lasts <= 0 {
			return p, fmt.Errorf("for %q is not a duration such as 10m", lasts)
		}
	}
	return p, nil
}

// String is how make takes it.
func (p plan) String() string {
	words := []string{"SEED=" + strconv.FormatUint(p.seed, 10)}
	if p.lasts > 0 {
		words = append(words, "FOR="+p.lasts.String())
	} else {
		words = append(words, "RUNS="+strconv.Itoa(p.runs))
	}
	if p.fault != "" {
		words = append(words, "FAULT="+p.fault)
	}
	if p.control != "" {
		words = append(words, "CONTROL="+p.control)
	}
	return strings.Join(words, " ")
}

// limit is when the run is known to hang. What a long round leaves to deliver and to judge
// grows with it.
func (p plan) limit() time.Duration { return time.Duration(p.runs+1)*roundLimit + 2*p.lasts }

func (p plan) environment(report string) []string {
	env := []string{"SEED=" + strconv.FormatUint(p.seed, 10), "FAULT=" + p.fault, "CROSSDOCK_CHAOS_REPORT=" + report, "RUNS=", "FOR="}
	if p.lasts > 0 {
		return append(env, "FOR="+p.lasts.String())
	}
	return append(env, "RUNS="+strconv.Itoa(p.runs))
}

// start runs the test to its end.
func (p plan) start(ctx context.Context, ledger string, out io.Writer) error {
	report, err := os.CreateTemp("", "chaos-*.json")
	if err != nil {
		return err
	}
	report.Close()
	defer os.Remove(report.Name())
	tested := record.Commit("deploy/systemtest/ledger.jsonl") // what is changed while it runs is not tested
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", "chaos", "-count=1", "-v", "-timeout", p.limit().String(), "-run", "^"+p.test+"$", "./deploy/systemtest")
	cmd.Env = append(os.Environ(), p.environment(report.Name())...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	failed := cmd.Run()
	return errors.Join(failed, note(ledger, report.Name(), p, tested, failed))
}
