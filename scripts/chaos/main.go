// Command chaos lets faults happen to three nodes and their agents by seed, round after
// round, and keeps a ledger of all runs: which commit, which seed, which faults, how many.
//
// It owns the ledger and refuses to know the faults: they and the judgement of the recorded
// history are tests of deploy/systemtest, which it starts. Its invariant: every run leaves
// a line, a failed one too, with what is needed to repeat it.
package main

import (
	"context"
	"encoding/json"
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
	"time"
)

const roundLimit = 5 * time.Minute // a round that takes longer hangs

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// run starts the test that does the work, and writes the ledger.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	seed := flags.String("seed", "", "of the faults; empty: any")
	runs := flags.String("runs", "", "rounds; empty: 10, with a control 40 at most")
	control := flags.String("control", "", "heartbeat: take that guard away and run until the states differ")
	ledger := flags.String("ledger", filepath.Join("run", "chaos.jsonl"), "file that a line is added to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	test, rounds := "TestChaos", 10
	switch *control {
	case "":
	case "heartbeat":
		test, rounds = "TestWithoutHeartbeatGuard", 40
	default:
		return fmt.Errorf("control %q: there is heartbeat", *control)
	}
	if *runs != "" {
		var err error
		if rounds, err = strconv.Atoi(*runs); err != nil || rounds < 1 {
			return fmt.Errorf("runs %q is not a number from 1 on", *runs)
		}
	}
	if *seed == "" {
		*seed = strconv.FormatUint(rand.Uint64N(1<<32), 10)
	}
	fmt.Fprintf(out, "%s: seed %s, %d rounds; repeat with: make chaos SEED=%s RUNS=%d CONTROL=%s\n", test, *seed, rounds, *seed, rounds, *control)
	report, err := os.CreateTemp("", "chaos-*.json")
	if err != nil {
		return err
	}
	report.Close()
	defer os.Remove(report.Name())
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", "chaos", "-count=1", "-v", "-timeout", (time.Duration(rounds+1) * roundLimit).String(),
		"-run", "^"+test+"$", "./deploy/systemtest")
	cmd.Env = append(os.Environ(), "SEED="+*seed, "RUNS="+strconv.Itoa(rounds), "CROSSDOCK_CHAOS_REPORT="+report.Name())
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	failed := cmd.Run()
	return errors.Join(failed, note(*ledger, report.Name(), *control, *seed, failed))
}

// note adds a line to the ledger. A run that did not come to its report leaves its seed.
func note(ledger, report, control, seed string, failed error) error {
	line := map[string]any{"control": control, "seed": seed, "failed": true}
	if text, err := os.ReadFile(report); err == nil && len(text) > 0 {
		line = map[string]any{}
		if err := json.Unmarshal(text, &line); err != nil {
			return err
		}
	}
	if failed != nil {
		line["failed"] = true
	}
	line["at"], line["commit"] = time.Now().UTC().Format(time.RFC3339), commit()
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(ledger), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(ledger, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}

// commit names what was tested.
func commit() string {
	text, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}
