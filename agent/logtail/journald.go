package logtail

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"time"
)

// Journald gives the wanted lines that journald has of a unit; with follow those to come too,
// until ctx ends.
func Journald(ctx context.Context, unit string, filter Filter, follow bool, each func(Line) error) error {
	args := []string{"-u", unit, "-o", "json", "--no-pager", "--quiet"}
	from := args
	if !filter.Since.IsZero() {
		from = append(slices.Clone(args), "--since", "@"+strconv.FormatInt(filter.Since.Unix(), 10))
	}
	if filter.Last > 0 || !follow {
		// What is there has an end to count from; what is to come has none.
		there := from
		if filter.Last > 0 && filter.Level <= lowest {
			there = append(slices.Clone(from), "--lines", strconv.Itoa(filter.Last)) // else of those that are wanted, below
		}
		cursor, err := journalctl(ctx, there, filter, filter.Last, each)
		if err != nil || !follow || ctx.Err() != nil {
			return err
		}
		if cursor != "" {
			from = append(slices.Clone(args), "--after-cursor="+cursor) // which goes with no --since
		}
	}
	_, err := journalctl(ctx, append(slices.Clone(from), "--follow", "--no-tail", "--lines", "all"), filter, 0, each)
	return err
}

// journalctl gives the wanted lines of one call, the last of them only if last is not 0, and
// says where in the journal it came to.
func journalctl(ctx context.Context, args []string, filter Filter, last int, each func(Line) error) (cursor string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", args...) // #nosec G204 -- a constant unit, numbers, and journald's own cursor
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("journalctl: %w", err)
	}
	cursor, err = entries(bufio.NewScanner(out), filter, last, each)
	if err != nil {
		cancel()
	}
	if ended := cmd.Wait(); err == nil && ctx.Err() == nil && ended != nil {
		return cursor, fmt.Errorf("journalctl: %w", ended)
	}
	return cursor, err
}

const lowest = -4 // debug: nothing is below it

func entries(lines *bufio.Scanner, filter Filter, last int, each func(Line) error) (cursor string, err error) {
	lines.Buffer(make([]byte, 64<<10), maxLine)
	var kept []Line
	for lines.Scan() {
		l, at, ok := entry(lines.Bytes())
		if at != "" {
			cursor = at
		}
		if !ok || !filter.wants(l) {
			continue
		}
		if last == 0 {
			if err := each(l); err != nil {
				return cursor, err
			}
			continue
		}
		if kept = append(kept, l); len(kept) > last {
			kept = kept[1:]
		}
	}
	for _, l := range kept {
		if err := each(l); err != nil {
			return cursor, err
		}
	}
	return cursor, lines.Err()
}

// entry reads one entry of journald and where it stands: a line of slog's text or JSON, or
// another's words.
func entry(raw []byte) (l Line, cursor string, ok bool) {
	var e struct {
		Message  any    `json:"MESSAGE"`
		At       string `json:"__REALTIME_TIMESTAMP"`
		Priority string `json:"PRIORITY"`
		Cursor   string `json:"__CURSOR"`
	}
	if json.Unmarshal(raw, &e) != nil {
		return Line{}, "", false
	}
	text, ok := e.Message.(string)
	if !ok {
		return Line{}, e.Cursor, false // bytes that are no text
	}
	if l := Parse([]byte(text)); l.Known {
		return l, e.Cursor, true
	}
	l = ParseText(text)
	if !l.Known {
		micro, err := strconv.ParseInt(e.At, 10, 64)
		if err == nil {
			l.Time, l.Known = time.UnixMicro(micro), true
		}
		if p, err := strconv.Atoi(e.Priority); err == nil && p <= 4 { // warning and worse
			l.Level = 4
		}
	}
	return l, e.Cursor, true
}
