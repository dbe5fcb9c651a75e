package store

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
)

type logger = hclog.InterceptLogger

// newLogger gives raft a logger that ends in ours.
func newLogger(to *slog.Logger) logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, Output: io.Discard})
	l.RegisterSink(sink{to})
	return l
}

// elections begin the lines that every healthy start brings, the first of them as a warning.
var elections = []string{
	"initial configuration", "entering follower state", "entering candidate state", "entering leader state",
	"heartbeat timeout reached, starting election", "pre-vote successful", "pre-vote is disabled", "election won",
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
	if slices.ContainsFunc(elections, func(begin string) bool { return strings.HasPrefix(msg, begin) }) {
		to = slog.LevelDebug
	}
	pairs := []any{"from", name}
	for _, arg := range args {
		if format, is := arg.(hclog.Format); is && len(format) > 0 {
			arg = fmt.Sprintf(fmt.Sprint(format[0]), format[1:]...)
		}
		pairs = append(pairs, arg)
	}
	s.to.Log(context.Background(), to, msg, pairs...)
}
