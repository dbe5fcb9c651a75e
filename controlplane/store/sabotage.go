//go:build !chaos

package store

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// heartbeatsPastTheLoop takes away the guard that serial is. Only programs built with the
// tag chaos can, to show that the fault tests would notice.
const heartbeatsPastTheLoop = false

// stateUnsynced lets the state file lose its end with the power, likewise.
const stateUnsynced = false

// timeoutOf is the one that was configured.
func timeoutOf(configured time.Duration) time.Duration { return configured }

// hasten would have snapshots taken sooner.
func (*Config) hasten() {}

// press would load a node that leads.
func (*Store) press(context.Context, *raft.Raft) {}

// logFiles are those beneath the log.
func logFiles() types.VFS { return fs.New() }
