// Package carrier is the contract of a carrier plugin: what can be asked of one that moves
// parcels, in the words of shippers rather than of any carrier.
//
// It owns the interface, its types and how they travel between host and plugin, and refuses
// to know any carrier. Its invariant: nothing that costs money is done without a reference
// under which it can be found again.
package carrier

import (
	"context"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Carrier is one account at one carrier. Calls may come at the same time. Errors are
// *sdk.Error; a carrier that lacks an operation answers class NotSupported.
//
// What ends with UnknownOutcome has to be settled, and the host sees to that: a shipment or a
// return is looked for with GetByReference and bought again if it is not found; all else (a
// void, a pickup, a manifest) is never looked for but repeated, under the same reference and
// with the same contents, which is the same thing and not a second one. That holds for as long
// as the carrier knows of it, and after the plugin was started anew.
type Carrier interface {
	// Describe can be asked before Configure, for the name and the settings; what depends on
	// those, such as tables, is described afterwards.
	Describe(ctx context.Context) (*Description, error)
	// Configure comes first, once. An error names the setting.
	Configure(ctx context.Context, s sdk.Settings) error

	ValidateAddress(ctx context.Context, a *sdk.Address) (*AddressAdvice, error)
	// Rate prices a shipment with every service that takes it, the cheapest first. None that
	// takes it is an error of class NotServiced.
	Rate(ctx context.Context, s *Shipment) (*Rates, error)

	// Ship buys a shipment; it needs a date. A reference that was bought before is answered with what was
	// bought then; with other contents it is an error of class Duplicate.
	Ship(ctx context.Context, s *Shipment) (*Shipped, error)
	// GetByReference finds what was bought under a reference. Class NotFound means that it was
	// surely not bought.
	GetByReference(ctx context.Context, reference string) (*Shipped, error)
	// ShipReturn buys the way back of a shipment, which Original names where it is known: From
	// is who sends the goods back. It has references as Ship has.
	ShipReturn(ctx context.Context, s *Shipment) (*Shipped, error)
	// Void gives back what was bought. Twice is once; what the carrier has already taken up is
	// an error of class Conflict.
	Void(ctx context.Context, r *VoidRequest) (*Voided, error)

	// Pickup books, changes or cancels a collection. What was booked under the reference is
	// answered again, or is Duplicate with other contents; cancelling twice is once.
	Pickup(ctx context.Context, r *PickupRequest) (*PickedUp, error)
	// Manifest closes a day: what is named is handed over and can no longer be voided. What was
	// closed under the reference is answered again, or is Duplicate with other contents.
	Manifest(ctx context.Context, r *ManifestRequest) (*Manifested, error)
	// Track gives what happened to parcels, the oldest first.
	Track(ctx context.Context, r *TrackRequest) (*Tracked, error)
}

// The operations, as Description.Operations and the site's API name them.
const (
	OpValidateAddress = "validate-address"
	OpRate            = "rate"
	OpShip            = "ship"
	OpGetByReference  = "get-by-reference"
	OpShipReturn      = "ship-return"
	OpVoid            = "void"
	OpPickup          = "pickup"
	OpManifest        = "manifest"
	OpTrack           = "track"
)
