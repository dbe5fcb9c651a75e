package doctor

import (
	"fmt"
	"os"
	"slices"
	"time"
)

// Bounds beyond which a disk is no longer well.
const (
	slowSync    = 20 * time.Millisecond // an fsync; every accepted event waits for one
	verySlow    = 250 * time.Millisecond
	syncSamples = 16
)

// Disk measures how long a durable write takes where the journal is.
func Disk(dir string, free int64, quota int64) []Finding {
	space := Finding{ID: "disk-space", Level: OK, Seen: fmt.Sprintf("%d MB free, the journal may take %d MB", free>>20, quota>>20)}
	if free < quota/10 {
		space.Level, space.Todo = Warn, "free space below "+dir+" or lower journal.quota: intake stops at 90 percent of what there is"
	}
	took, err := syncTime(dir)
	if err != nil {
		return []Finding{space, {ID: "disk-sync", Level: Fail, Seen: err.Error(), Todo: "make " + dir + " writable for the agent's user"}}
	}
	sync := Finding{ID: "disk-sync", Level: OK, Seen: fmt.Sprintf("a durable write takes %.1f ms (median of %d)", float64(took.Microseconds())/1000, syncSamples)}
	switch {
	case took > verySlow:
		sync.Level, sync.Todo = Fail, "this disk is too slow for a journal: use a local disk, not a network share"
	case took > slowSync:
		sync.Level, sync.Todo = Warn, "every accepted event waits for such a write; a faster disk makes intake faster"
	}
	return []Finding{space, sync}
}

func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []time.Duration
	block := make([]byte, 4096)
	for range syncSamples {
		begun := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}
