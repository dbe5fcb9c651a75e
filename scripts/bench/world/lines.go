package world

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/deploy/demo/line"
)

// LinesRole is the word by which this program is told to be Lines.
const LinesRole = "lines"

// LineKind is by what a site's way to the nodes can be cut.
type LineKind int

// The kinds.
const (
	NoLines  LineKind = iota
	Filtered          // see Filter
	Relayed           // see Lines
)

// Lines stand between a site and the nodes and can be cut all at once. They are a process
// of their own, so that what they carry costs neither the load nor what is measured; but on
// few processors it takes away from both, and for datagrams more than for streams.
type Lines struct {
	Addresses []string // one for each target
	process   *Process
	words     io.WriteCloser
	answers   *bufio.Reader
}

// StartLines opens a line to each target. Without addresses they listen anywhere.
func StartLines(dir string, listen, targets []string) (*Lines, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if listen == nil {
		if listen, err = addresses(len(targets)); err != nil {
			return nil, err
		}
	}
	l := &Lines{Addresses: listen}
	args := []string{LinesRole}
	for i, target := range targets {
		args = append(args, listen[i], target)
	}
	log, err := os.Create(filepath.Join(dir, "lines.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(self, args...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	l.process = &Process{Name: "lines", cmd: cmd, log: log.Name(), done: make(chan struct{})}
	l.words, l.answers = in, bufio.NewReader(out)
	if err := l.heard("open\n"); err != nil { // before Wait, which closes the pipe
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // how it ended stands in ProcessState
		close(l.process.done)
	}()
	return l, nil
}

func (l *Lines) heard(want string) error {
	got, err := l.answers.ReadString('\n')
	if err != nil || got != want {
		return fmt.Errorf("lines: %q instead of %q: %w", got, want, err)
	}
	return nil
}

func (l *Lines) say(word string) error {
	if _, err := io.WriteString(l.words, word); err != nil {
		return fmt.Errorf("lines: %w", err)
	}
	return l.heard(word)
}

// Cut lets nothing pass any more.
func (l *Lines) Cut() error { return l.say("cut\n") }

// Restore lets all lines carry again.
func (l *Lines) Restore() error { return l.say("restore\n") }

// Close ends the lines.
func (l *Lines) Close() error {
	l.process.Kill()
	return nil
}

// RunLines is the process behind Lines: pairs of a listening address and a target, and
// commands on in, each repeated on out when it is done.
func RunLines(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	var lines []*line.Line
	group, ctx := errgroup.WithContext(ctx)
	for i := 0; i+1 < len(args); i += 2 {
		l, err := line.Listen(args[i], args[i+1])
		if err != nil {
			return err
		}
		lines = append(lines, l)
		group.Go(func() error { return l.Run(ctx) })
	}
	if _, err := io.WriteString(out, "open\n"); err != nil {
		return err
	}
	for words := bufio.NewScanner(in); words.Scan(); {
		for _, l := range lines {
			switch words.Text() {
			case "cut":
				l.Cut()
			case "restore":
				l.Restore()
			}
		}
		if _, err := fmt.Fprintln(out, words.Text()); err != nil {
			return err
		}
	}
	return nil // whoever commanded is gone; the process ends with its lines
}
