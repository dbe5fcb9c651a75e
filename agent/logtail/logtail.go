// Package logtail owns the reading of a program's log: the file with those that were rotated
// away, or what journald kept of a unit.
//
// It refuses to know who wrote it and what it means. Its invariant: lines come in the order
// in which they were written, once each, over a rotation too; a line that is not understood
// is shown as it is.
package logtail

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	maxLine   = 1 << 20
	lookEvery = 200 * time.Millisecond // for what was written meanwhile; a file says nothing by itself
)

// Line is one line of a log.
type Line struct {
	Time  time.Time
	Level slog.Level
	Text  string         // the message
	Attrs map[string]any // the rest
	Raw   []byte         // as it stands there
	Known bool           // it was understood
}

// Filter says which lines are wanted.
type Filter struct {
	Last  int // of those that are there; 0: all
	Since time.Time
	Level slog.Level // and above
}

func (f Filter) wants(l Line) bool {
	if !l.Known {
		return f.Since.IsZero()
	}
	return l.Level >= f.Level && !l.Time.Before(f.Since)
}

// Parse reads a line of slog's JSON.
func Parse(raw []byte) Line {
	l := Line{Raw: bytes.Clone(raw), Text: string(raw)}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return l
	}
	at, _ := fields[slog.TimeKey].(string)
	level, _ := fields[slog.LevelKey].(string)
	text, ok := fields[slog.MessageKey].(string)
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil || !ok || l.Level.UnmarshalText([]byte(level)) != nil {
		return l
	}
	for _, key := range []string{slog.TimeKey, slog.LevelKey, slog.MessageKey} {
		delete(fields, key)
	}
	l.Time, l.Text, l.Attrs, l.Known = t, text, fields, true
	return l
}

// String is the line as a person reads it.
func (l Line) String() string {
	if !l.Known {
		return shown(l.Text)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-5s %s", l.Time.Local().Format("2006-01-02 15:04:05.000"), l.Level, shown(l.Text))
	for _, key := range slices.Sorted(maps.Keys(l.Attrs)) {
		value, ok := l.Attrs[key].(string)
		if !ok {
			text, err := json.Marshal(l.Attrs[key])
			if err != nil {
				continue
			}
			value = string(text)
		}
		fmt.Fprintf(&b, " %s=%s", shown(key), shown(value))
	}
	return b.String()
}

// shown takes out what could move a terminal's cursor or break the line.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// Files lists a log file and those that were rotated away, the oldest first.
func Files(file string) ([]string, error) {
	ext := filepath.Ext(file)
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	prefix := strings.TrimSuffix(filepath.Base(file), ext) + "-"
	var out []string
	for _, e := range entries { // in the order of names, which is that of times
		stamp, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ext), prefix)
		if _, err := time.Parse("2006-01-02T15-04-05.000", stamp); ok && err == nil && strings.HasSuffix(e.Name(), ext) {
			out = append(out, filepath.Join(filepath.Dir(file), e.Name()))
		}
	}
	if _, err := os.Stat(file); err != nil {
		return out, err
	}
	return append(out, file), nil
}

// Read gives the wanted lines of all files to each.
func Read(file string, filter Filter, each func(Line) error) error {
	t := &tail{file: file}
	defer t.close()
	return t.there(filter, each)
}

// Follow gives the wanted lines that are there, and those that are written until ctx ends.
func Follow(ctx context.Context, file string, filter Filter, each func(Line) error) error {
	t := &tail{file: file}
	defer t.close()
	if err := t.there(filter, each); err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := t.more(filter, each); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tail reads on in the newest file.
type tail struct {
	file string
	open *os.File
	rest []byte // of a line that is not whole yet
}

func (t *tail) close() {
	if t.open != nil {
		t.open.Close()
	}
}

// there gives what is there, and leaves the newest file open at its end.
func (t *tail) there(filter Filter, each func(Line) error) error {
	files, err := Files(t.file)
	if err != nil {
		return err
	}
	var last []Line
	take := func(l Line) error {
		if !filter.wants(l) {
			return nil
		}
		if filter.Last == 0 {
			return each(l)
		}
		if last = append(last, l); len(last) > 2*filter.Last {
			last = slices.Clone(last[len(last)-filter.Last:])
		}
		return nil
	}
	for _, name := range files {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated away meanwhile
		}
		if err != nil {
			return err
		}
		t.close()
		t.open, t.rest = f, nil
		if err := t.lines(take); err != nil {
			return err
		}
	}
	for _, l := range last[max(0, len(last)-filter.Last):] {
		if err := each(l); err != nil {
			return err
		}
	}
	return nil
}

// more gives what was written since. A file that was rotated away is read to its end first.
func (t *tail) more(filter Filter, each func(Line) error) error {
	take := func(l Line) error {
		if filter.wants(l) {
			return each(l)
		}
		return nil
	}
	for {
		if t.open != nil {
			if err := t.lines(take); err != nil {
				return err
			}
		}
		next, err := os.Open(t.file)
		if err != nil {
			return nil // between two files; it comes
		}
		if same(t.open, next) {
			return next.Close()
		}
		if t.open != nil { // what was written between the last look and the rotation
			if err := t.lines(take); err != nil {
				next.Close()
				return err
			}
		}
		t.close()
		t.open, t.rest = next, nil
	}
}

func same(a, b *os.File) bool {
	if a == nil {
		return false
	}
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// lines gives the whole lines from where the file stands, and keeps the rest.
func (t *tail) lines(take func(Line) error) error {
	r := bufio.NewReaderSize(t.open, 64<<10)
	for {
		piece, err := r.ReadSlice('\n')
		if len(t.rest)+len(piece) <= maxLine {
			t.rest = append(t.rest, piece...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		line := bytes.TrimRight(t.rest, "\r\n")
		t.rest = t.rest[:0]
		if len(line) > 0 {
			if err := take(Parse(line)); err != nil {
				return err
			}
		}
	}
}

// MarshalJSON is the line as slog writes JSON; one that was not understood has its words
// alone.
func (l Line) MarshalJSON() ([]byte, error) {
	if json.Valid(l.Raw) && l.Known {
		return l.Raw, nil
	}
	out := map[string]any{slog.MessageKey: l.Text}
	if l.Known {
		out[slog.TimeKey], out[slog.LevelKey] = l.Time, l.Level.String()
	}
	for key, value := range l.Attrs {
		out[key] = value
	}
	return json.Marshal(out)
}
