// Command tax-table is the plugin of a tax engine that needs no line: rates and rules from
// tables with their sources.
//
// It only serves package table. Its invariant: nothing but the handshake is written to
// standard output.
package main

import (
	"fmt"
	"os"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/tax-table/table"
)

func main() {
	log := sdk.Logger()
	engine, err := table.New(log)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tax-table:", err)
		os.Exit(1)
	}
	tax.Serve(engine, log)
}
