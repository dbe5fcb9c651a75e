//go:build chaos

package store

import (
	"os"
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
