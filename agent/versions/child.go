package versions

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
)

// child runs a program until it ends, and gives its exit code. When ctx ends the child is told
// to, by the end of its standard input; that ends it too when this process is killed. An error
// says that it was not started.
func child(ctx context.Context, program string, args, env []string) (code int, err error) {
	cmd := exec.Command(program, args...) //nolint:gosec // it was verified
	cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdout, os.Stderr, env
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = stdin.Close() })() // Wait closes it as well
	err = cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		code = -1
	}
	if code < 0 {
		code = 1 // a signal has ended it, or it is not known how it has ended
	}
	return code, nil
}

// UntilTold gives a context that ends with ctx, and for a child when its launcher says so or
// is gone.
func (s Start) UntilTold(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if s.way == wayChild {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	return ctx, cancel
}
