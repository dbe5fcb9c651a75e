package agent

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxWarnings    = 50
	maxWarningText = 500 // characters
)

// warning is a line of the log that a person may have to know of.
type warning struct {
	at    time.Time
	level slog.Level
	text  string
}

// warnings keeps the last of them, for who looks without the log at hand.
type warnings struct {
	mu   sync.Mutex
	last []warning // guarded by mu; the oldest first
}

func (w *warnings) add(one warning) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.last) == maxWarnings {
		w.last = slices.Delete(w.last, 0, 1)
	}
	w.last = append(w.last, one)
}

// list gives them, the newest first.
func (w *warnings) list() []warning {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Clone(w.last)
	slices.Reverse(out)
	return out
}

// keeping is a handler that keeps warnings beside what another one writes.
type keeping struct {
	slog.Handler
	warnings *warnings
	with     string // attributes so far, as text
}

var _ slog.Handler = (*keeping)(nil)

func (k *keeping) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || k.Handler.Enabled(ctx, level)
}

func (k *keeping) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var b strings.Builder
		b.WriteString(r.Message + k.with)
		r.Attrs(func(a slog.Attr) bool {
			b.WriteString(" " + a.String())
			return b.Len() < maxWarningText
		})
		k.warnings.add(warning{at: r.Time, level: r.Level, text: strings.ToValidUTF8(b.String()[:min(b.Len(), maxWarningText)], "")})
		if !k.Handler.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return k.Handler.Handle(ctx, r)
}

func (k *keeping) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := k.with
	for _, a := range attrs {
		with += " " + a.String()
	}
	return &keeping{k.Handler.WithAttrs(attrs), k.warnings, with}
}

func (k *keeping) WithGroup(name string) slog.Handler {
	return &keeping{k.Handler.WithGroup(name), k.warnings, k.with}
}
