package store

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

type logger = hclog.InterceptLogger

// newLogger gives raft a logger that ends in ours.
func newLogger(to *slog.Logger) logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, Output: io.Discard})
	l.RegisterSink(sink{to})
	return l
}

type sink struct{ to *slog.Logger }

var _ hclog.SinkAdapter = sink{}

// Accept takes one line.
func (s sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	levels := map[hclog.Level]slog.Level{hclog.Info: slog.LevelInfo, hclog.Warn: slog.LevelWarn, hclog.Error: slog.LevelError}
	to, known := levels[level]
	if !known {
		to = slog.LevelDebug
	}
	s.to.Log(context.Background(), to, msg, append([]any{"from", name}, args...)...)
}
