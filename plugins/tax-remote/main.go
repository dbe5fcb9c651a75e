// Command tax-remote is the plugin of a tax engine on the far side of a line.
//
// It only serves package remote; as "tax-remote serve" it is the other side itself, over the
// tables of this machine. Its invariant: as a plugin it writes nothing but the handshake to
// standard output.
package main

import (
	"fmt"
	"os"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/tax-remote/remote"
)

func main() {
	if len(os.Args) > 1 {
		if err := serve(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "tax-remote:", err)
			os.Exit(1)
		}
		return
	}
	log := sdk.Logger()
	tax.Serve(remote.New(log), log)
}
