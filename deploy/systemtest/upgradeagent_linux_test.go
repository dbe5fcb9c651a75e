package systemtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
)

// managed is an agent as a real program with its configuration file, which is started again
// whenever it ends, as a service manager does.
type managed struct {
	s       *site
	program string // that is installed
	config  string

	mu     sync.Mutex // guards what follows
	run    *program
	starts int
}

// serve runs a site's agent as a service.
func (s *site) serve(program, more string) *managed {
	s.t.Helper()
	y := &managed{s: s, program: program, config: filepath.Join(s.t.TempDir(), "agent.yaml")}
	addresses, err := json.Marshal(s.cfg.ControlPlane.Addresses)
	if err != nil {
		s.t.Fatal(err)
	}
	y.write(fmt.Sprintf("data: %q\ncontrolplane: {addresses: %s}\nintake: {listen: %q}\nops: {listen: %q}\n%s",
		s.cfg.Data, addresses, s.cfg.Intake.Listen, s.cfg.Ops.Listen, more))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			y.once(ctx)
		}
	}()
	s.child = &process{stdin: closer(cancel), ended: ended}
	s.t.Cleanup(func() { showTail(s.t, s.log+".service") })
	return y
}

// closer ends a service where a test ends a child.
type closer context.CancelFunc

func (c closer) Close() error { c(); return nil }

func (y *managed) write(text string) {
	y.s.t.Helper()
	if err := os.WriteFile(y.config, []byte(text), 0o600); err != nil {
		y.s.t.Fatal(err)
	}
}

// once is one life of the process.
func (y *managed) once(ctx context.Context) {
	y.mu.Lock()
	y.starts++
	y.run = launch(y.s.t, y.s.log+".service", nil, nil, y.program, "run", "--config", y.config)
	run := y.run
	y.mu.Unlock()
	select {
	case <-run.ended:
		<-time.After(50 * time.Millisecond) // as a service manager waits
	case <-ctx.Done():
		run.signal(syscall.SIGTERM)
		if !comes(run.ended) {
			run.signal(syscall.SIGKILL)
			<-run.ended
		}
	}
}

// kill ends the process as a crash does.
func (y *managed) kill() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.run.signal(syscall.SIGKILL)
}

// lives counts how often the process was started.
func (y *managed) lives() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.starts
}

// command runs one of the program's commands.
func (y *managed) command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, y.program, append(args, "--config", y.config)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("crossdock-agent %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

func (y *managed) must(args ...string) {
	y.s.t.Helper()
	if out, err := y.command(args...); err != nil {
		y.s.t.Fatal(out, err)
	}
}

// awaitRelease waits until a version runs, and its release is in a state.
func (s *site) awaitRelease(running, state string) (seen agent.Status) {
	s.t.Helper()
	s.awaitStatus(fmt.Sprintf("runs %s, %s", running, state), func(st agent.Status) string {
		if seen = st; st.Version != running || st.Release.State != state || !st.Link.Connected {
			return fmt.Sprintf("runs %s, %+v, connected %t", st.Version, st.Release, st.Link.Connected)
		}
		return ""
	})
	return seen
}

// agents are the versions of the agent that were built so far.
var agents = struct {
	sync.Mutex
	built map[string][]byte
}{built: map[string][]byte{}}

// buildAgent builds the agent as a version, once for all tests: from this tree, with one file
// replaced where a name is given.
func buildAgent(t *testing.T, version, file, text string) []byte {
	t.Helper()
	agents.Lock()
	defer agents.Unlock()
	if program := agents.built[version+file]; program != nil {
		return program
	}
	dir := t.TempDir()
	args := []string{"build", "-trimpath", "-ldflags", "-s -w -X main.version=" + version, "-o", filepath.Join(dir, "crossdock-agent")}
	if file != "" {
		at, err := filepath.Abs(filepath.Join("..", "..", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		overlay, err := json.Marshal(map[string]map[string]string{"Replace": {at: filepath.Join(dir, "replaced.go")}})
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "replaced.go"), []byte(text), 0o600),
			os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600)); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-overlay", filepath.Join(dir, "overlay.json"))
	}
	build := exec.CommandContext(t.Context(), "go", append(args, "./agent/cmd/crossdock-agent")...)
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	agents.built[version+file] = []byte(read(t, filepath.Join(dir, "crossdock-agent")))
	return agents.built[version+file]
}

// install writes a program as a package does.
func install(t *testing.T, program []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "crossdock-agent")
	if err := os.WriteFile(file, program, 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	return file
}
