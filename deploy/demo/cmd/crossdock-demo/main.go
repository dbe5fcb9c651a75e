// Command crossdock-demo puts the demo on, and lets a person disturb it from a second
// terminal: cut and restore lines, stop and start systems, kill agents.
//
// It only reads flags and prints; package stage does the work.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		os.Exit(1)
	}
}
