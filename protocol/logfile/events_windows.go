package logfile

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"

	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
)

const eventID = 1 // all are of one kind; the text tells them apart

// eventLog writes the warnings of a service, which has no standard error.
func eventLog(source string) (slog.Handler, io.Closer) {
	if service, err := svc.IsWindowsService(); err != nil || !service {
		return nil, nil
	}
	log, err := eventlog.Open(source)
	if err != nil {
		return nil, nil // the file, if there is one, has them
	}
	e := &events{log: log, text: &strings.Builder{}, mu: &sync.Mutex{}}
	e.format = slog.NewTextHandler(e.text, nil)
	return e, log
}

// events formats a record as text, and writes it as one event.
type events struct {
	log    *eventlog.Log
	mu     *sync.Mutex // guards text; shared by all that were derived
	text   *strings.Builder
	format slog.Handler
}

func (e *events) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (e *events) Handle(ctx context.Context, r slog.Record) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.text.Reset()
	if err := e.format.Handle(ctx, r); err != nil {
		return err
	}
	if r.Level >= slog.LevelError {
		return e.log.Error(eventID, e.text.String())
	}
	return e.log.Warning(eventID, e.text.String())
}

func (e *events) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &events{e.log, e.mu, e.text, e.format.WithAttrs(attrs)}
}

func (e *events) WithGroup(name string) slog.Handler {
	return &events{e.log, e.mu, e.text, e.format.WithGroup(name)}
}
