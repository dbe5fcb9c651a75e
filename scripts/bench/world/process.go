// Package world puts up what is measured: the real programs as processes of their own, the
// sink that they deliver to, the line that can be cut; and it reads from the kernel what
// they cost.
//
// It refuses to know what is compared with what. Its invariant: everything that it starts
// is gone with the benchmark, however that ends, and nothing of what is measured runs in the
// process that measures.
package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// patience is how long a program may take to become ready.
const patience = time.Minute

// Place says on which side of the line a process runs; what it costs is told by place.
type Place string

// The places.
const (
	Center Place = "center" // nodes of the control plane, or of the hub
	Edge   Place = "edge"   // everything at a site
)

// Process is a running program with its log in a file.
type Process struct {
	Name  string
	Place Place
	cmd   *exec.Cmd
	log   string
	done  chan struct{} // closed when it has ended
}

// Start runs a program.
func Start(name string, place Place, log string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the process has its own
	p := &Process{Name: name, Place: place, cmd: exec.Command(args[0], args[1:]...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended stands in ProcessState
		close(p.done)
	}()
	return p, nil
}

// Err says that the program has ended, with the end of its log; nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended (%s): %s", p.Name, p.cmd.ProcessState, tail(p.log))
	default:
		return nil
	}
}

// OnEnd calls told with Err when the program ends, until stop.
func (p *Process) OnEnd(told func(error)) (stop func()) {
	stopped := make(chan struct{})
	go func() {
		select {
		case <-p.done:
			told(p.Err())
		case <-stopped:
		}
	}()
	return func() { close(stopped) }
}

// Kill ends the program at once: its data is thrown away with it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

func tail(path string) string {
	const most = 2 << 10
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return "…" + string(text[max(0, len(text)-most):])
}

// Await asks again and again until look gives no error, a process has ended that should
// not, or patience is over. The pauses are a twentieth of what was waited so far: how long it
// took is told that exactly, and who waits long does not take the processor away.
func Await(ctx context.Context, what string, processes []*Process, look func(context.Context) error) error {
	const shortest, longest = time.Millisecond, 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begun := time.Now()
	for {
		err := look(ctx)
		if err == nil {
			return nil
		}
		for _, p := range processes {
			if ended := p.Err(); ended != nil {
				return ended
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: waited in vain: %w", what, errors.Join(err, context.Cause(ctx)))
		case <-time.After(min(shortest+time.Since(begun)/20, longest)):
		}
	}
}

// call runs a program to its end and gives its standard output.
func call(ctx context.Context, env []string, in, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(in)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}
