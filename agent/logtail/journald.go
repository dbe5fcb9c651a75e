package logtail

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// Journald gives the wanted lines that journald has of a unit; with follow those to come too,
// until ctx ends.
func Journald(ctx context.Context, unit string, filter Filter, follow bool, each func(Line) error) error {
	args := []string{"-u", unit, "-o", "json", "--no-pager", "--quiet"}
	if !filter.Since.IsZero() {
		args = append(args, "--since", "@"+strconv.FormatInt(filter.Since.Unix(), 10))
	}
	if follow {
		args = append(args, "--follow")
		if filter.Last == 0 {
			args = append(args, "--no-tail")
		}
	}
	if filter.Last > 0 && filter.Level <= lowest {
		args = append(args, "--lines", strconv.Itoa(filter.Last)) // else of those that are wanted, below
	} else if follow {
		args = append(args, "--lines", "all")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", args...) // #nosec G204 -- a constant unit and numbers
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("journalctl: %w", err)
	}
	last := filter.Last
	if follow {
		last = 0 // there is no end to count from
	}
	err = entries(bufio.NewScanner(out), filter, last, each)
	if err != nil {
		cancel()
	}
	if ended := cmd.Wait(); err == nil && ctx.Err() == nil && ended != nil {
		return fmt.Errorf("journalctl: %w", ended)
	}
	return err
}

const lowest = -4 // debug: nothing is below it

func entries(lines *bufio.Scanner, filter Filter, last int, each func(Line) error) error {
	lines.Buffer(make([]byte, 64<<10), maxLine)
	var kept []Line
	for lines.Scan() {
		l, ok := entry(lines.Bytes())
		if !ok || !filter.wants(l) {
			continue
		}
		if last == 0 {
			if err := each(l); err != nil {
				return err
			}
			continue
		}
		if kept = append(kept, l); len(kept) > last {
			kept = kept[1:]
		}
	}
	for _, l := range kept {
		if err := each(l); err != nil {
			return err
		}
	}
	return lines.Err()
}

// entry reads one entry of journald: a line of slog's text or JSON, or another's words.
func entry(raw []byte) (Line, bool) {
	var e struct {
		Message  any    `json:"MESSAGE"`
		At       string `json:"__REALTIME_TIMESTAMP"`
		Priority string `json:"PRIORITY"`
	}
	if json.Unmarshal(raw, &e) != nil {
		return Line{}, false
	}
	text, ok := e.Message.(string)
	if !ok {
		return Line{}, false // bytes that are no text
	}
	if l := Parse([]byte(text)); l.Known {
		return l, true
	}
	l := ParseText(text)
	if !l.Known {
		micro, err := strconv.ParseInt(e.At, 10, 64)
		if err == nil {
			l.Time, l.Known = time.UnixMicro(micro), true
		}
		if p, err := strconv.Atoi(e.Priority); err == nil && p <= 4 { // warning and worse
			l.Level = 4
		}
	}
	return l, true
}
