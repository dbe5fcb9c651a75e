package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/scripts/bench/report"
)

// TestMain lets the test's program be what the benchmark starts of itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		if err := roles[os.Args[1]](context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestEverySectionMeasuresEveryArm runs all of it with numbers that are too small to mean
// anything.
func TestEverySectionMeasuresEveryArm(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	var out bytes.Buffer
	file := filepath.Join(t.TempDir(), "bench.txt")
	err := start(ctx, []string{"-rounds", "1", "-lasts", "500ms", "-events", "2000", "-slow-events", "500", "-drain-events", "2000",
		"-idle", "200ms", "-backlog", "2000", "-agents", "4", "-burst", "2s",
		"-dir", t.TempDir(), "-out", file}, &out)
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	tables, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(tables, out.Bytes()) {
		t.Errorf("the file is not what was printed: %v\n%s", err, tables)
	}
	lines, err := os.ReadFile(strings.TrimSuffix(file, ".txt") + ".jsonl")
	if err != nil {
		t.Fatal(err)
	}
	measured := map[string]bool{}
	for line := range bytes.Lines(lines) {
		var l report.Line
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if l.Value > 0 {
			measured[l.Section+", "+l.Arm] = true
		}
	}
	for _, s := range sections() {
		for _, arm := range s.Arms {
			if !measured[s.Name+", "+arm] {
				t.Errorf("%s, %s: nothing was measured", s.Name, arm)
			}
		}
		for _, target := range s.Targets {
			if line := "target: " + target.Cell; !strings.Contains(out.String(), line) || strings.Contains(out.String(), "not measured\n") {
				t.Errorf("%s: the target for %s has no value", s.Name, target.Cell)
			}
		}
	}
}

func TestFlagsThatCannotBeAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-only", "intake,other"}, {"-arms", "other"}, {"-rounds", "0"}, {"-agents", "1"}, {"-backlog", "0"}, {"-burst", "0s"}, {"-lasts", "-1s"}, {"surplus"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	o, err := parse([]string{"-only", "intake,drain", "-arms", ours + "," + natsDefault})
	if err != nil || len(o.only) != 2 || len(o.arms) != 2 || !strings.HasPrefix(filepath.Base(o.out), "bench-") {
		t.Errorf("%+v, %v", o, err)
	}
}
