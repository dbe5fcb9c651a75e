package systemtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/crossdock/crossdock/agent"
)

// specVariable names the file that makes this binary an agent.
const specVariable = "CROSSDOCK_SYSTEMTEST_AGENT"

// spec is an agent as a process of its own, and when it shall kill itself.
type spec struct {
	Data      string
	Addresses []string
	Intake    string
	Ops       string
	Plugins   string // directory of programs; empty: where the agent looks by itself
	Tuning    agent.Tuning
	Step      string // of agent.Config.Hook; empty: it lives
	At        int64  // at which call of this step
	Log       string
}

func TestMain(m *testing.M) {
	if file := os.Getenv(specVariable); file != "" {
		os.Exit(runAgent(file))
	}
	os.Exit(m.Run())
}

// runAgent is the main function of an agent process.
func runAgent(file string) int {
	text, err := os.ReadFile(file)
	var s spec
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil {
		err = s.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (s *spec) run() error {
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cfg := agent.DefaultConfig()
	cfg.Data, cfg.ControlPlane.Addresses, cfg.Intake.Listen, cfg.Ops.Listen = s.Data, s.Addresses, s.Intake, s.Ops
	cfg.Plugins.Dir = s.Plugins
	cfg.Tuning, cfg.Logger, cfg.Version = s.Tuning, slog.New(slog.NewTextHandler(log, nil)), "test"
	var calls atomic.Int64
	cfg.Hook = func(step string) {
		if step == s.Step && calls.Add(1) == s.At {
			die()
		}
	}
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // the parent holds the other end: when it is gone, so is this
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return a.Run(ctx)
}

// die ends this process as a crash does: nothing is flushed, closed or answered.
func die() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill() // it does not return where it works
	}
	select {}
}

// process is an agent process.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}
}

func startProcess(t *testing.T, s spec) *process {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "spec.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(self), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), specVariable+"="+file)
	p.cmd.Stderr = os.Stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended stands in ProcessState
		close(p.ended)
	}()
	return p
}

// kill ends it as a crash does. One that has ended by itself before is a fault.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if !p.running() {
		t.Errorf("an agent process ended by itself: %v", p.cmd.ProcessState)
	}
	p.crash()
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// crash ends whatever runs of it.
func (p *process) crash() {
	_ = p.cmd.Process.Kill() // it has ended, or this ends it
	<-p.ended
}

// stop ends it in order, or by force if it takes too long.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.stdin.Close()
	if !comes(p.ended) {
		t.Error("an agent process does not end")
		p.kill(t)
	}
}

// count reads how often something is to be done; CI does it less often than a night can.
func count(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is not a number from 1 on", variable, text)
	}
	return n
}
