package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	storeTime  = 3 * time.Second // for all files together
	storeFiles = 64
)

// Store reads files of the agent's stores, the first ones first, as far as a few seconds
// reach. live are those that a running agent writes: their pages change under the reader,
// and they are passed over.
func Store(ctx context.Context, files []string, live int, check func(path string) error) Finding {
	f := Finding{ID: "store", Level: OK}
	until := time.Now().Add(storeTime)
	looked := 0
	for _, file := range files {
		if looked >= storeFiles || time.Now().After(until) || ctx.Err() != nil {
			break
		}
		before, err := os.Stat(file)
		if err == nil {
			err = check(file)
		}
		after, gone := os.Stat(file)
		switch {
		case errors.Is(gone, fs.ErrNotExist), err != nil && gone == nil && before != nil && !before.ModTime().Equal(after.ModTime()):
			continue // let go of, or written to, meanwhile
		case err != nil:
			f.Level, f.Seen = Fail, filepath.Base(file)+": "+Plain(err, 0)
			f.Todo = "look at this disk; crossdock-agent queue verify says which events are lost; a damaged record is set aside, and the rest goes on"
			return f
		}
		looked++
	}
	f.Seen = fmt.Sprintf("read and whole: %d of %s", looked, Count(len(files)+live, "file"))
	if live > 0 {
		f.Seen += fmt.Sprintf("; being written: %d", live)
	}
	return f
}

// Waiting is what has not left the agent yet.
type Waiting struct {
	Level    float64       // how full the journal is, 0 to 1
	Bytes    int64         // of it
	Outgoing uint64        // events that the relay has not taken
	CutOff   time.Duration // since when the control plane is out of reach; 0: it is not
	Systems  []WaitingFor
}

// WaitingFor is what waits for one system of this site.
type WaitingFor struct {
	System      string
	Pending     uint64
	Oldest      time.Duration
	DeadLetters uint64
	Parked      uint64
	Why         string // it last failed
}

// Bounds of what may wait.
const (
	fullLevel  = 0.9 // intake is refused from here on
	highLevel  = 0.7
	longWait   = 15 * time.Minute
	namedWaits = 5 // systems that a finding names
)

// QueueLevel tells how full the journal is.
func QueueLevel(level float64, bytes int64) Finding {
	f := Finding{ID: "queue-level", Level: OK, Seen: fmt.Sprintf("the journal takes %d MB, %.0f percent of its quota", bytes>>20, level*100)}
	switch {
	case level >= fullLevel:
		f.Level, f.Todo = Fail, "events are refused: see what waits, mend that system or the link, or raise journal.quota if the disk has room"
	case level >= highLevel:
		f.Level, f.Todo = Warn, "see what waits, and mend that system or the link before the journal is full"
	}
	return f
}

// QueueAge tells how old the oldest is that waits, and for whom.
func QueueAge(w Waiting) Finding {
	f := Finding{ID: "queue-age", Level: OK, Seen: "nothing has waited long"}
	var late []string
	for _, s := range w.Systems {
		if s.Oldest >= longWait {
			text := fmt.Sprintf("%d for %s, the oldest for %s", s.Pending, s.System, since(s.Oldest))
			if s.Why != "" {
				text += " (" + s.Why + ")"
			}
			late = append(late, text)
		}
	}
	if w.Outgoing > 0 && w.CutOff >= longWait {
		late = append(late, fmt.Sprintf("%d for the relay, cut off for %s", w.Outgoing, since(w.CutOff)))
	}
	if len(late) > 0 {
		f.Level, f.Seen = Warn, "waiting: "+few(late)
		f.Todo = "see the findings on that system or the link; what waits goes by itself once that is well"
	}
	return f
}

// DeadLetters tells what a person has to decide on.
func DeadLetters(w Waiting) Finding {
	f := Finding{ID: "dead-letters", Level: OK, Seen: "none"}
	var dead []string
	for _, s := range w.Systems {
		if s.DeadLetters > 0 {
			dead = append(dead, fmt.Sprintf("%d for %s, %d parked behind", s.DeadLetters, s.System, s.Parked))
		}
	}
	if len(dead) > 0 {
		f.Level, f.Seen = Warn, few(dead)
		f.Todo = "crossdock-agent queue dead says why; mend the cause, then replay them"
	}
	return f
}

func few(texts []string) string {
	out := ""
	for i, text := range texts {
		if i == namedWaits {
			return out + fmt.Sprintf("; and %d more", len(texts)-i)
		}
		if i > 0 {
			out += "; "
		}
		out += text
	}
	return out
}
