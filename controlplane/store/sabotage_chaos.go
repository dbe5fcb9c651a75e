//go:build chaos

package store

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// sabotaged reports whether a guard is to be taken away in this process.
func sabotaged(guard string) bool {
	return strings.Contains(os.Getenv("CROSSDOCK_SABOTAGE"), guard)
}

var (
	heartbeatsPastTheLoop = sabotaged("heartbeat")
	stateUnsynced         = sabotaged("fsync")
)

// timeoutOf lets fault tests shorten the time-outs, so that a pause passes several of them.
func timeoutOf(configured time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv("CROSSDOCK_TIMEOUT")); err == nil && d > 0 {
		return d
	}
	return configured
}

// hasten lets fault tests see snapshots: after CROSSDOCK_SNAPSHOT bytes of the log, of which
// none is kept then, so that a node that was away needs the snapshot itself.
func (c *Config) hasten() {
	if n, err := strconv.ParseInt(os.Getenv("CROSSDOCK_SNAPSHOT"), 10, 64); err == nil && n > 0 {
		c.SnapshotBytes, c.TrailingBytes, c.SnapshotCheck = n, 1, 200*time.Millisecond
	}
}

// logFiles are those beneath the log. It loses its end with the power, when that is asked for.
func logFiles() types.VFS {
	if !sabotaged("fsync") {
		return fs.New()
	}
	return unsyncedFiles{fs.New()}
}

// unsyncedFiles are files of which nothing is made to last.
type unsyncedFiles struct{ *fs.FS }

func (u unsyncedFiles) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := u.FS.Create(dir, name, size)
	return unsynced{f}, err
}

func (u unsyncedFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := u.FS.OpenWriter(dir, name)
	return unsynced{f}, err
}

type unsynced struct{ types.WritableFile }

func (unsynced) Sync() error { return nil }
