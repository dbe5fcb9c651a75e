package service

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	kardianos "github.com/kardianos/service"
	"golang.org/x/sys/windows/svc"
)

// Run does the work until ctx ends or, where the service manager has started this process,
// until that stops it. The manager is answered before the work begins: it gives up on a
// program that opens large stores first.
func Run(ctx context.Context, work func(context.Context) error) error {
	managed, err := svc.IsWindowsService()
	if err != nil || !managed {
		return work(ctx)
	}
	// The manager starts its services in the system's directory. Paths are absolute by now, or
	// belong beside the program.
	if program, err := os.Executable(); err == nil {
		if err := os.Chdir(filepath.Dir(program)); err != nil {
			return fmt.Errorf("the directory of the program cannot be entered: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &started{ctx: ctx, cancel: cancel, work: work, ended: make(chan error, 1)}
	managedService, err := kardianos.New(s, &kardianos.Config{Name: Name})
	if err != nil {
		return err
	}
	return managedService.Run()
}

// started is the work between the manager's start and stop.
type started struct {
	ctx    context.Context
	cancel context.CancelFunc
	work   func(context.Context) error
	ended  chan error
}

// Start must return at once. Work that ends by itself ends the process without a word to the
// manager, which takes that for a failure and starts it again.
func (s *started) Start(kardianos.Service) error {
	go func() {
		err := s.work(s.ctx)
		if s.ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", Name, err)
			os.Exit(1)
		}
		s.ended <- err
	}()
	return nil
}

// Stop returns when the work has ended in order.
func (s *started) Stop(kardianos.Service) error {
	s.cancel()
	return <-s.ended
}
