// Command carrier-zone is the plugin of a carrier that needs no line: tariffs, labels and
// manifests from the site's own tables.
//
// It only serves package zone. Its invariant: nothing but the handshake is written to
// standard output.
package main

import (
	"github.com/crossdock/crossdock/plugins/carrier-zone/zone"
	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

func main() {
	log := sdk.Logger()
	carrier.Serve(zone.New(log), log)
}
