// Command crossdock-agent is the agent at a site: run, enroll, status, doctor and queue.
//
// It holds no logic of its own: it reads flags and configuration and calls package agent.
// Its one promise is its exit codes, which scripts may rely on (see exitCodes).
package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // Windows has no zone files, and a small machine none either

	"github.com/crossdock/crossdock/protocol/release"
)

// Set by the linker: the version; the version as it can be found in the program's file too, which
// then is what counts; and the minisign public keys of who may sign releases, with commas between
// them.
var (
	version     = "dev"
	stamp       string
	releaseKeys string
)

func main() {
	version = cmp.Or(release.Stamped(stamp), version)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
