// Command carrier-mydhl is the plugin of DHL Express through the MyDHL API.
//
// It only serves package mydhl. Its invariant: nothing but the handshake is written to
// standard output.
package main

import (
	_ "time/tzdata" // a site's server may have no zone database, such as Windows

	"github.com/crossdock/crossdock/plugins/carrier-mydhl/mydhl"
	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

func main() {
	log := sdk.Logger()
	carrier.Serve(mydhl.New(log), log)
}
