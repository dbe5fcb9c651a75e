// Package logfile owns the file that a program keeps of its log beside standard error: JSON
// lines, rotated by size, the newest few kept.
//
// Both programs write it in one form, so that one reader reads either; that is why it stands
// here and not twice. It refuses to know what is logged and which lines are let through:
// that is the logger's own. Its invariant: what goes to standard error goes to the file, and
// a file that cannot be written takes nothing from standard error.
//
// It promises less than a store: lumberjack does not sync, so that a power cut takes the last
// lines, and counts the limit in whole megabytes.
package logfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/crossdock/crossdock/protocol/logline"
)

// Defaults and limits.
const (
	DefaultSize = 50 << 20
	DefaultKeep = 5
	MinSize     = 1 << 20
	MaxKeep     = 1000
)

// Config says where the file is and how much of it is kept. An empty File is none.
type Config struct {
	File    string
	MaxSize int64 // bytes, of one file
	Keep    int   // files beside the one that is written
}

// Validate reports what is wrong.
func (c Config) Validate() error {
	if c.File == "" {
		return nil
	}
	if c.MaxSize < MinSize || c.Keep < 1 || c.Keep > MaxKeep {
		return fmt.Errorf("maxSize is at least 1MB, keep from 1 to %d", MaxKeep)
	}
	return nil
}

// Also has a logger write into the file too, and on Windows, in a service, its warnings into
// the event log under the name of source. The caller closes what it gets when the program ends.
func Also(logger *slog.Logger, cfg Config, source string) (*slog.Logger, io.Closer, error) {
	first := logger.Handler()
	both := &tee{first: first}
	var open closers
	if events, closer := eventLog(source); events != nil {
		both.others, open = append(both.others, events), append(open, closer)
	}
	if cfg.File != "" {
		file, err := create(cfg)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("log.file: %w", err), open.Close())
		}
		// Its own level lets all through: the first handler decides.
		both.others = append(both.others, logline.JSON(file, slog.Level(-1<<30)))
		open = append(open, file)
	}
	if len(both.others) == 0 {
		return logger, open, nil
	}
	return slog.New(both), open, nil
}

// create finds out now whether the file can be written, and gives it a mode that lumberjack
// then keeps.
func create(cfg Config) (io.WriteCloser, error) {
	if err := os.MkdirAll(filepath.Dir(cfg.File), 0o750); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(cfg.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640) // #nosec G302 -- who reads logs is in the group
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return &lumberjack.Logger{Filename: cfg.File, MaxSize: int(max(cfg.MaxSize, MinSize) >> 20), MaxBackups: cfg.Keep}, nil
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// tee gives each record to several handlers. The first decides which, so that a level that
// is changed while the program runs holds for all.
type tee struct {
	first  slog.Handler
	others []slog.Handler
}

var _ slog.Handler = (*tee)(nil)

func (t *tee) Enabled(ctx context.Context, level slog.Level) bool { return t.first.Enabled(ctx, level) }

func (t *tee) Handle(ctx context.Context, r slog.Record) error {
	err := t.first.Handle(ctx, r.Clone())
	for _, h := range t.others {
		if h.Enabled(ctx, r.Level) {
			err = errors.Join(err, h.Handle(ctx, r.Clone()))
		}
	}
	return err
}

func (t *tee) with(change func(slog.Handler) slog.Handler) slog.Handler {
	out := &tee{first: change(t.first)}
	for _, h := range t.others {
		out.others = append(out.others, change(h))
	}
	return out
}

func (t *tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return t.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (t *tee) WithGroup(name string) slog.Handler {
	return t.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}
