package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/queue"
)

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{errors.New("anything"), exitFailed}, {identity.ErrNotEnrolled, exitDenied}, {queue.ErrInUse, exitConflict},
		{agent.ErrPortInUse, exitConflict}, {agent.ErrOtherAgent, exitConflict}, {withCode(exitNotRunning, queue.ErrInUse), exitNotRunning},
	} {
		if got := exitCode(fmt.Errorf("run: %w", tt.err)); got != tt.want {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.want)
		}
	}
}
