// Command carrier-usps is the plugin of the United States Postal Service: domestic prices,
// labels, returns, pickups, SCAN forms, tracking and addresses through its version 3 APIs.
//
// It only serves package usps. Its invariant: nothing but the handshake is written to
// standard output.
package main

import (
	"github.com/crossdock/crossdock/plugins/carrier-usps/usps"
	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

func main() {
	log := sdk.Logger()
	carrier.Serve(usps.New(log), log)
}
