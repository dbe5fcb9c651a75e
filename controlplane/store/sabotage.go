//go:build !chaos

package store

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// heartbeatsPastTheLoop takes away the guard that serial is. Only programs built with the
// tag chaos can, to show that the fault tests would notice.
const heartbeatsPastTheLoop = false

// stateUnsynced lets the state file lose its end with the power, likewise.
const stateUnsynced = false

// timeoutOf is the one that was configured.
func timeoutOf(configured time.Duration) time.Duration { return configured }

func openLog(dir string, logger hclog.Logger) (*wal.WAL, error) {
	return wal.Open(dir, wal.WithLogger(logger))
}

// press would load a node that leads.
func (*Store) press(context.Context, *raft.Raft) {}
