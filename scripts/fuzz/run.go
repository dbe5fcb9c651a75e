package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// start is how long a target may take to run its corpus before it is fuzzed.
const start = 10 * time.Minute

// result is what one run did.
type result struct {
	seconds    float64
	executions int64
}

// fuzz runs a target in one worker, so that it leaves the rest of the machine to others.
func (t target) fuzz(ctx context.Context, lasts time.Duration, out io.Writer) (result, error) {
	fmt.Fprintln(out, t)
	seen := &progress{out: out}
	cmd := exec.CommandContext(ctx, "go", "test", "./"+t.dir, "-run", "^$", "-fuzz", "^"+t.name+"$", "-parallel", "1",
		"-fuzztime", lasts.String(), "-fuzzminimizetime", "1x", "-timeout", start.String())
	cmd.Stdout, cmd.Stderr = seen, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w", t, err)
	}
	return seen.result, err
}

// progress passes on what the go command says of a run and remembers the last figures.
type progress struct {
	out  io.Writer
	rest string
	result
}

var figures = regexp.MustCompile(`^fuzz: elapsed: (\S+), execs: (\d+) `)

func (p *progress) Write(text []byte) (int, error) {
	lines := strings.Split(p.rest+string(text), "\n")
	p.rest = lines[len(lines)-1]
	for _, l := range lines[:len(lines)-1] {
		if said := figures.FindStringSubmatch(l); said != nil {
			elapsed, err := time.ParseDuration(said[1])
			if err != nil {
				return 0, err
			}
			if p.executions, err = strconv.ParseInt(said[2], 10, 64); err != nil {
				return 0, err
			}
			p.seconds = elapsed.Seconds()
		}
	}
	return p.out.Write(text)
}

// cache is where the go command keeps the inputs that it found interesting.
func (t target) cache(ctx context.Context) (string, error) {
	said, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Module.Path}}", "./"+t.dir).Output()
	if err != nil {
		return "", fmt.Errorf("the module of %s: %w", t, err)
	}
	top, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOCACHE: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(top)), "fuzz", strings.TrimSpace(string(said)), filepath.FromSlash(t.dir), t.name), nil
}
