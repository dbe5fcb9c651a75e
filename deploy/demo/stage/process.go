package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// process is a program of ours that runs for the whole demo, with its log in a file.
type process struct {
	name string
	args []string
	env  []string
	log  string

	mu   sync.Mutex // guards what follows
	cmd  *exec.Cmd
	done chan struct{} // closed when the present cmd has ended
	want bool          // it is meant to run
	err  error
}

// start runs the program. What it says goes to the end of its log.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), p.env...)
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", p.name, err), log.Close())
	}
	done := make(chan struct{})
	p.cmd, p.done, p.want, p.err = cmd, done, true, nil
	go func() {
		err := cmd.Wait()
		log.Close()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(done)
	}()
	return nil
}

// running says whether the program runs, and if it should and does not, why.
func (p *process) running() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.want {
		return nil
	}
	select {
	case <-p.done:
		return fmt.Errorf("%s ended (%s): %s", p.name, p.cmd.ProcessState, tail(p.log))
	default:
		return nil
	}
}

// up says whether the program runs.
func (p *process) up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.want {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop ends the program in its own order, or after the grace by force.
func (p *process) stop(grace time.Duration) {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.want = false
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	if err := interrupt(cmd.Process); err != nil {
		_ = cmd.Process.Kill() // it has ended, or this ends it
	}
	select {
	case <-done:
	case <-time.After(grace):
		_ = cmd.Process.Kill()
		<-done
	}
}

// kill ends the program at once, as a crash does.
func (p *process) kill() {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.want = false
	p.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill() // it has ended, or this ends it
		<-done
	}
}

func tail(path string) string {
	const most = 2 << 10
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return "…" + string(text[max(0, len(text)-most):])
}

// call runs a program to its end and gives its standard output.
func call(ctx context.Context, env []string, in io.Reader, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = in
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}
