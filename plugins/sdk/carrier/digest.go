package carrier

import (
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carrierpb"
	"github.com/crossdock/crossdock/plugins/sdk/internal/wire"
)

// Digest tells shipments apart by what they say. It is the same in later versions of this
// package, so that a carrier may keep it; empty fields do not count, nor does how a number is
// written. A carrier for which some fields make no difference empties them first, in a copy.
func (s *Shipment) Digest() (string, error) { return wire.Digest(&carrierpb.Shipment{}, s) }

// Digest tells collections apart, as that of a shipment.
func (r *PickupRequest) Digest() (string, error) { return wire.Digest(&carrierpb.PickupRequest{}, r) }

// Digest tells manifests apart, as that of a shipment.
func (r *ManifestRequest) Digest() (string, error) {
	return wire.Digest(&carrierpb.ManifestRequest{}, r)
}
