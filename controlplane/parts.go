package controlplane

import (
	"context"
	"errors"
	"fmt"
)

// parts runs the node's services. They stop in the reverse of the order in which they
// began, each wholly before the next, so that no part loses something that it stands on.
type parts struct {
	running []*part
	ended   chan *part
}

type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid when done is closed
}

const maxParts = 8

func newParts() *parts { return &parts{ended: make(chan *part, maxParts)} }

// start runs a service until stop, or until it ends by itself, which ends all.
func (p *parts) start(name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	one := &part{name: name, cancel: cancel, done: make(chan struct{})}
	p.running = append(p.running, one)
	go func() {
		one.err = run(ctx)
		close(one.done)
		p.ended <- one
	}()
}

// wait blocks until ctx ends, or gives the cause with which the first service ended.
func (p *parts) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case one := <-p.ended:
		return one.cause()
	}
}

func (one *part) cause() error {
	if one.err == nil {
		return fmt.Errorf("%s: ended by itself", one.name)
	}
	return fmt.Errorf("%s: %w", one.name, one.err)
}

// stop ends all services, last started first, and gives what went wrong on the way.
func (p *parts) stop() error {
	var failed []error
	for i := len(p.running) - 1; i >= 0; i-- {
		one := p.running[i]
		one.cancel()
		<-one.done
		if one.err != nil && !errors.Is(one.err, context.Canceled) {
			failed = append(failed, fmt.Errorf("%s: %w", one.name, one.err))
		}
	}
	p.running = nil
	return errors.Join(failed...)
}
