package agent

import (
	"context"
	"fmt"
)

// part is something that runs for the life of the agent.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// runParts runs all parts until ctx ends or the first of them does, which ends the rest.
// The parts are given in the order of their shutdown, and each has ended before the next
// is told to; they are started the other way round, so that nothing runs without what it
// leans on.
func runParts(ctx context.Context, parts []part) error {
	type running struct {
		cancel context.CancelFunc
		done   chan struct{}
	}
	all := make([]running, len(parts))
	ended := make(chan error, len(parts))
	for i := len(parts) - 1; i >= 0; i-- {
		// Not derived from ctx: the order of the shutdown is ours.
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		all[i] = running{cancel: cancel, done: make(chan struct{})}
		go func() {
			defer close(all[i].done)
			err := parts[i].run(partCtx)
			if partCtx.Err() == nil && err == nil {
				err = fmt.Errorf("ended by itself")
			}
			if err != nil && partCtx.Err() == nil {
				err = fmt.Errorf("%s: %w", parts[i].name, err)
			} else if partCtx.Err() != nil {
				err = nil
			}
			ended <- err
		}()
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-ended:
	}
	for i := range all {
		all[i].cancel()
		<-all[i].done
	}
	return first
}
