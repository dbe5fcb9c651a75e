// Command crossdock is the control plane's server and its operator's tool.
//
// It owns flags, output and exit codes. It refuses to know how the control plane works:
// the server is package controlplane, and every other command is a client of the API, but
// for policy lint, which needs no server at all. Its invariant: data goes to stdout,
// everything said to a person goes to stderr, and the exit code is one of the documented.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
