package world

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Child is a process that was started by what is measured.
type Child struct {
	Name string
	PID  int
}

// Usage reads what the process has used.
func (c Child) Usage() (Usage, error) { return usageOf(c.Name, c.PID) }

// Kill ends the process at once, and returns when its parent has noticed.
func (c Child) Kill(ctx context.Context) error {
	p, err := os.FindProcess(c.PID)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	if err := p.Kill(); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	return Await(ctx, c.Name+" is gone", nil, func(context.Context) error {
		if _, err := os.Stat(procDir(c.PID)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("process %d is still there", c.PID)
	})
}
