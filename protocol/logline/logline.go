// Package logline owns the form of the lines that a program logs: text or JSON, and from
// which level on.
//
// Both programs have the same two settings, and one reader reads what either writes; that is
// why it stands here and not twice. It refuses to know where lines go: whoever makes a logger
// says that. Its invariant: every Form gives a logger, a wrong one too, since what is wrong has
// to be logged.
package logline

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Form says how lines are written.
type Form struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// Validate reports what is wrong, in the words of the settings.
func (f Form) Validate() error {
	var level, format error
	if _, err := f.level(); err != nil {
		level = fmt.Errorf("log.level: %q is none of debug, info, warn, error", f.Level)
	}
	if f.Format != "text" && f.Format != "json" {
		format = fmt.Errorf("log.format: %q is neither text nor json", f.Format)
	}
	return errors.Join(level, format)
}

func (f Form) level() (level slog.Level, err error) {
	return level, level.UnmarshalText([]byte(f.Level))
}

// SetLevel changes a level, which may be nil, to that of the form. A wrong one changes nothing.
func (f Form) SetLevel(changing *slog.LevelVar) {
	if level, err := f.level(); err == nil && changing != nil {
		changing.Set(level)
	}
}

// Logger writes lines of this form. The level in changing, which may be nil, is set, and is
// what changes the logger's later.
func (f Form) Logger(w io.Writer, changing *slog.LevelVar) *slog.Logger {
	if changing == nil {
		changing = new(slog.LevelVar)
	}
	f.SetLevel(changing)
	if f.Format == "json" {
		return slog.New(JSON(w, changing))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: changing}))
}

// JSON writes lines of JSON, with durations as people write them: 10.005s says more than a
// number of nanoseconds that nobody calls so.
func JSON(w io.Writer, level slog.Leveler) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}})
}
