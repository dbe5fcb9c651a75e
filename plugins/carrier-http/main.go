// Command carrier-http makes the plugin of a carrier that a file describes: it checks the file,
// and packs it with itself into one program, which an agent starts as any other plugin.
//
// It only serves package described. Its invariant: as a plugin, nothing but the handshake is
// written to standard output.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/crossdock/crossdock/plugins/carrier-http/described"
	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

const usage = `carrier-http check FILE     tries a description: its form, its jq, its examples
carrier-http pack FILE OUT  checks it, and writes the plugin's program to OUT`

func main() {
	self, err := os.Executable()
	if err == nil {
		err = run(context.Background(), self, os.Args[1:], os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, self string, args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "check":
		_, err := check(ctx, args[1], out)
		return err
	case len(args) == 3 && args[0] == "pack":
		text, err := check(ctx, args[1], out)
		if err != nil {
			return err
		}
		return pack(self, text, args[2])
	case len(args) > 0:
		return errors.New(usage)
	}
	text, err := own(self)
	if err != nil {
		return err
	}
	if text == nil {
		return errors.New("this program has no description: pack it with one\n" + usage)
	}
	d, err := described.Parse("description", text)
	if err != nil {
		return err
	}
	log := sdk.Logger()
	carrier.Serve(described.New(d, log), log)
	return nil
}

// check reads a description and tries its examples.
func check(ctx context.Context, file string, out io.Writer) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d, err := described.Parse(file, text)
	if err != nil {
		return nil, err
	}
	tried, err := d.Check(ctx)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(out, "%s: in order, %d examples tried\n", file, tried)
	return text, err
}
