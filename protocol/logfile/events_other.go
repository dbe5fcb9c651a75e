//go:build !windows

package logfile

import (
	"io"
	"log/slog"
)

// eventLog is nothing here: what a service writes to standard error is kept by journald.
func eventLog(string) (slog.Handler, io.Closer) { return nil, nil }
