package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/time/rate"
)

const (
	// maxHandshake is the length of the line that a plugin begins with, and which has a
	// certificate in it.
	maxHandshake = 8 << 10
	// pipeDelay is how long the outputs of a process that ended are read from: another that it
	// started may hold them open.
	pipeDelay = time.Second
)

// process is one run of a program. It is only ever killed through the handle that its start
// gave, never by its number, which may be another's by then.
type process struct {
	file  *os.File // the program
	name  string   // that it is called by
	env   []string
	words *words
	born  func(pid int)

	memory int64 // bytes, where the system can hold it to that

	socketDir string
	cmd       *exec.Cmd
	out, err  *stream
	synced    [2]*stream     // the same, as a plugin made with go-plugin sends them once it serves
	hand      *io.PipeReader // the first line of the output
	handTo    *io.PipeWriter
	ended     context.CancelFunc // ends the flow of out and err

	done chan struct{} // closed when it has ended, or was never started
	exit error         // how; after done

	mu      sync.Mutex
	started bool
	killed  error // why
}

var _ runner.Runner = (*process)(nil)

func newProcess(file *os.File, name string, env []string, w *words) *process {
	ctx, ended := context.WithCancel(context.Background())
	flow := rate.NewLimiter(outputRate, outputPart)
	p := &process{file: file, name: name, env: env, words: w, ended: ended, done: make(chan struct{})}
	p.out, p.err = p.stream(ctx, flow, "stdout"), p.stream(ctx, flow, "stderr")
	p.synced = [2]*stream{p.stream(ctx, flow, "stdout"), p.stream(ctx, flow, "stderr")}
	p.hand, p.handTo = io.Pipe()
	return p
}

func (p *process) stream(ctx context.Context, flow *rate.Limiter, name string) *stream {
	return &stream{words: p.words, name: name, ctx: ctx, flow: flow}
}

// fit completes the command that go-plugin has begun.
func (p *process) fit(_ hclog.Logger, begun *exec.Cmd, socketDir string) (runner.Runner, error) {
	p.socketDir = socketDir
	p.cmd = command(p.file)
	p.cmd.Args = []string{p.name}
	p.cmd.Dir = socketDir
	p.cmd.Env = slices.Concat(p.env, []string{"TMPDIR=" + socketDir, "TMP=" + socketDir, "TEMP=" + socketDir}, lifeline, begun.Env)
	p.cmd.Stdout = &handshake{to: p.handTo, rest: p.out}
	p.cmd.Stderr = p.err
	p.cmd.WaitDelay = pipeDelay
	return p, nil
}

// Start starts the process, unless it was killed before.
func (p *process) Start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed != nil {
		p.end(p.killed)
		return p.killed
	}
	line, err := p.cmd.StdinPipe() // which nothing is written to: it ends when the agent does
	if err != nil {
		p.end(err)
		return err
	}
	started := make(chan error)
	go p.live(line, started)
	err = <-started
	if p.started = err == nil; p.started {
		p.born(p.cmd.Process.Pid)
	}
	return err
}

// live starts the process and waits for its end. It keeps its thread until then, since the
// kernel takes the end of the thread for that of the parent.
func (p *process) live(line io.Closer, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer line.Close()
	release, err := start(p.cmd, p.memory)
	started <- err
	if err != nil {
		p.end(err)
		return
	}
	err = p.cmd.Wait()
	release()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well; another holds its outputs
	}
	p.end(err)
}

// end says that the process has ended.
func (p *process) end(how error) {
	p.exit = how
	p.ended()
	p.out.close()
	p.err.close()
	close(p.done)
	_ = p.handTo.Close() // never fails; it comes last, so that who sees it can know why
}

// kill ends the process, now or as soon as it starts. The first reason stays.
func (p *process) kill(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done: // it ended by itself
		return
	default:
	}
	if p.killed == nil {
		p.killed = why
	}
	if p.started {
		_ = p.cmd.Process.Kill() // that it has ended is no fault
	}
}

// sentence is why the host has it killed, nil if it has not.
func (p *process) sentence() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(p.killed, errGivenUp) {
		return nil
	}
	return p.killed
}

// why says how it came to its end. It is called when it has.
func (p *process) why() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.killed != nil:
		return p.killed
	case p.exit == nil:
		return errors.New("it ended by itself, with exit status 0")
	}
	return fmt.Errorf("it ended by itself: %w", p.exit)
}

// pid is the number of the process, for people to read; 0 before it has started.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started {
		return 0
	}
	return p.cmd.Process.Pid
}

// What go-plugin asks of a runner follows.

var errGivenUp = errors.New("the handshake with it failed")

// Kill ends the process.
func (p *process) Kill(context.Context) error { p.kill(errGivenUp); return nil }

// Wait waits for the end.
func (p *process) Wait(context.Context) error { <-p.done; return p.exit }

// Stdout has the handshake, and nothing else that the plugin writes.
func (p *process) Stdout() io.ReadCloser { return p.hand }

// Stderr has nothing: go-plugin would take what is there apart and believe it.
func (p *process) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name is what the process is called.
func (p *process) Name() string { return p.name }

// ID is never empty, so that go-plugin cleans up after any start.
func (p *process) ID() string { return p.name }

// Diagnose has nothing to add.
func (p *process) Diagnose(context.Context) string { return "" }

// PluginToHost refuses addresses where no plugin of ours can listen: it could name those of
// others.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	ok := network == "unix" && filepath.Dir(address) == p.socketDir
	if runtime.GOOS == "windows" {
		ok = network == "tcp" && strings.HasPrefix(address, "127.0.0.1:")
	}
	if !ok {
		return "", "", fmt.Errorf("the plugin says that it listens at %.80q of network %.20q: this is not a place of its own", address, network)
	}
	return network, address, nil
}

// HostToPlugin changes nothing.
func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// handshake passes the first line on to one who waits for it, and what follows to another.
type handshake struct {
	to   *io.PipeWriter // nil when it was passed
	rest *stream
	line []byte
}

func (h *handshake) Write(b []byte) (int, error) {
	all := len(b)
	if h.to != nil {
		end := bytes.IndexByte(b, '\n') + 1
		if end == 0 {
			end = len(b)
		}
		h.line, b = append(h.line, b[:end]...), b[end:]
		if !bytes.HasSuffix(h.line, []byte{'\n'}) && len(h.line) <= maxHandshake {
			return all, nil
		}
		if len(h.line) > maxHandshake {
			h.line = append(h.line[:maxHandshake], '\n')
		}
		_, _ = h.to.Write(h.line) // it is read until it is closed
		_ = h.to.Close()          // never fails
		h.to, h.line = nil, nil
	}
	if len(b) > 0 {
		_, _ = h.rest.Write(b) // never fails
	}
	return all, nil
}
