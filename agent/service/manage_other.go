//go:build !linux && !windows

package service

import (
	"context"
	"fmt"
	"runtime"
)

const recordPath = "/etc/crossdock-agent/installed.json"

func unknown() error {
	return fmt.Errorf("%w on %s; have whatever supervises programs here run \"crossdock-agent run\", start it again whenever it ends, and stop it with SIGTERM", ErrNoManager, runtime.GOOS)
}

// Install is for Linux and Windows.
func (m *Machine) Install(context.Context, Setup) error { return unknown() }

// Start is for Linux and Windows.
func (m *Machine) Start(context.Context) error { return unknown() }

// Stop is for Linux and Windows.
func (m *Machine) Stop(context.Context) error { return unknown() }

// Restart is for Linux and Windows.
func (m *Machine) Restart(context.Context) error { return unknown() }

// Status is for Linux and Windows.
func (m *Machine) Status(context.Context) (State, error) { return State{}, unknown() }

// PlanRemoval is for Linux and Windows.
func (m *Machine) PlanRemoval(string, bool) (Removal, error) { return Removal{}, unknown() }

// Remove is for Linux and Windows.
func (m *Machine) Remove(context.Context, Removal) error { return unknown() }
