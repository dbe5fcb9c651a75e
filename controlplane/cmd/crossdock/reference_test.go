package main

import (
	"flag"
	"io"
	"os"
	"testing"

	"github.com/crossdock/crossdock/deploy/handbook/reference"
)

//go:generate go test -run ^TestReferenceIsCurrent . -update
var update = flag.Bool("update", false, "write the reference instead of comparing it")

// What is written about the commands is what the commands say of themselves.
func TestReferenceIsCurrent(t *testing.T) {
	root := (&app{stdout: io.Discard, stderr: io.Discard}).root()
	markdown, man := reference.Commands(root)
	reference.Compare(t, "COMMANDS.md", markdown, *update)
	if err := os.MkdirAll("../../../deploy/packages/man/crossdock", 0o755); err != nil {
		t.Fatal(err)
	}
	reference.Compare(t, "../../../deploy/packages/man/crossdock/crossdock.1", man, *update)
}
