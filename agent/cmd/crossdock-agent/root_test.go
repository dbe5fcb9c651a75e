package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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

// Where there is no configuration at all, it is said how one comes about; one that is there and
// lacks the addresses is not said to be missing.
func TestNoConfigurationSaysHowToGetOne(t *testing.T) {
	p := &program{out: io.Discard, err: io.Discard}
	p.commands()
	p.root = t.TempDir() // its flag has set it before
	file := p.under(defaultConfigPath())
	hint := "there is no " + file + ": crossdock-agent enroll --control-plane HOST:PORT writes it"
	if _, err := p.loadWhole(); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "at least one host:port is required\n"+hint) {
		t.Errorf("no file: %v", err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("log: {level: debug}\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.loadWhole(); exitCode(err) != exitUsage || strings.Contains(err.Error(), "there is no") {
		t.Errorf("one without addresses: %v", err)
	}
}
