package systemtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

var linearBuilt struct {
	sync.Once
	program string
	err     error
}

// linearProgram builds scripts/linear, which is a module of its own.
func linearProgram(t *testing.T) string {
	t.Helper()
	linearBuilt.Do(func() {
		dir, err := os.MkdirTemp("", "crossdock-linear-")
		if err != nil {
			linearBuilt.err = err
			return
		}
		linearBuilt.program = filepath.Join(dir, "linear")
		build := exec.Command("go", "build", "-o", linearBuilt.program, ".")
		build.Dir = "../../scripts/linear"
		if text, err := build.CombinedOutput(); err != nil {
			linearBuilt.err = fmt.Errorf("build scripts/linear: %w: %s", err, text)
		}
	})
	if linearBuilt.err != nil {
		t.Fatal(linearBuilt.err)
	}
	return linearBuilt.program
}

// linear has the operations judged that were noted since it was called last; they begin with
// one of the verb Begin, and nothing is under way any more. Those that break it are kept.
func (w *world) linear() (faults []history.Fault) {
	t := w.t
	t.Helper()
	w.awaitPolicy(history.Read) // what was answered last is to be seen once more
	operations := w.ops.From(w.judged)
	w.judged += len(operations)
	dir, err := os.MkdirTemp("", "crossdock-operations-")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "operations.jsonl")
	if err := history.SaveOperations(file, operations); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(linearProgram(t), "-pictures", dir, file)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		t.Fatalf("%s: %v: %s", file, err, errOut.String())
	}
	for line := range bytes.Lines(out) {
		var f history.Fault
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatal(err)
		}
		faults = append(faults, f)
	}
	if len(faults) > 0 {
		t.Logf("the operations are in %s", file)
		return faults
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
	return nil
}
