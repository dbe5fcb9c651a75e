package history

import (
	"fmt"
	"time"
)

// What a process and the whole keep over a time of faults.
const (
	Bounded Property = "bounded"  // what a process takes stays below its limits, and goes back when all is at rest
	Alive   Property = "liveness" // after the last fault there is a leader, agents are connected, and nothing is left to do
)

// Usage is what a process took at a moment.
type Usage struct {
	At       time.Duration // since the beginning of the record
	Who      string
	Rest     bool // nothing was under way: what it takes now it keeps
	Memory   int64
	Disk     int64
	Files    int
	Routines int
	Queue    int64 // bytes in its journal, of an agent
	Quota    int64 // for those; 0: not an agent
}

// Limits are what a process may take at any moment, and how much more at rest than at its
// first rest.
type Limits struct {
	Memory, Disk       int64
	Files, Routines    int
	MoreMemory         int64
	MoreFiles, MoreRun int
}

// over names what is above a limit at any moment.
func (l Limits) over(u Usage) string {
	switch {
	case u.Memory > l.Memory:
		return fmt.Sprintf("%d bytes of memory, the limit is %d", u.Memory, l.Memory)
	case u.Disk > l.Disk:
		return fmt.Sprintf("%d bytes on disk, the limit is %d", u.Disk, l.Disk)
	case u.Files > l.Files:
		return fmt.Sprintf("%d open files, the limit is %d", u.Files, l.Files)
	case u.Routines > l.Routines:
		return fmt.Sprintf("%d goroutines, the limit is %d", u.Routines, l.Routines)
	case u.Quota > 0 && u.Queue > u.Quota:
		return fmt.Sprintf("%d bytes in its queue, the quota is %d", u.Queue, u.Quota)
	}
	return ""
}

// Grown names what a process at rest takes more than it may, compared with its first rest.
// Disk is left out: logs and journals keep what was, up to their limits.
func (l Limits) Grown(base, u Usage) string {
	switch {
	case u.Memory > base.Memory+l.MoreMemory:
		return fmt.Sprintf("%d bytes of memory at rest, at first %d", u.Memory, base.Memory)
	case u.Files > base.Files+l.MoreFiles:
		return fmt.Sprintf("%d open files at rest, at first %d", u.Files, base.Files)
	case u.Routines > base.Routines+l.MoreRun:
		return fmt.Sprintf("%d goroutines at rest, at first %d", u.Routines, base.Routines)
	}
	return ""
}

// CheckBounds judges samples. A process that was never seen at rest has no baseline, and is
// a fault of the history.
func CheckBounds(usage []Usage, limits func(who string) Limits) (faults []Fault) {
	base := map[string]Usage{}
	for _, u := range usage {
		l := limits(u.Who)
		if over := l.over(u); over != "" {
			faults = append(faults, Fault{Bounded, fmt.Sprintf("%s at %s: %s", u.Who, u.At.Round(time.Millisecond), over)})
		}
		if !u.Rest {
			continue
		}
		first, seen := base[u.Who]
		if !seen {
			base[u.Who] = u
			continue
		}
		if grown := l.Grown(first, u); grown != "" {
			faults = append(faults, Fault{Bounded, fmt.Sprintf("%s at %s: %s", u.Who, u.At.Round(time.Millisecond), grown)})
		}
	}
	for _, u := range usage {
		if _, seen := base[u.Who]; !seen {
			return append(faults, Fault{Wellformed, u.Who + " was never seen at rest"})
		}
	}
	return faults
}

// Recovery is how long the whole took to come back after the last fault of a round. A
// negative time says that it did not come to that.
type Recovery struct {
	Leader    time.Duration // until a node led, from the last fault on
	Connected time.Duration // until all agents were connected, from the last fault on
	Empty     time.Duration // until nothing was left to send or deliver, from the last order on
}

// CheckRecovery judges that it came to all, within a deadline that only a hang reaches.
func CheckRecovery(r Recovery, deadline time.Duration) (faults []Fault) {
	for _, one := range []struct {
		what string
		took time.Duration
	}{{"no node led", r.Leader}, {"not all agents were connected", r.Connected}, {"there was work left", r.Empty}} {
		if one.took < 0 || one.took > deadline {
			faults = append(faults, Fault{Alive, fmt.Sprintf("%s within %s (%s)", one.what, deadline, one.took.Round(time.Millisecond))})
		}
	}
	return faults
}
