package carriertest

import (
	"context"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// altered is a carrier with a hook in it.
type altered struct {
	inner carrier.Carrier
	do    hook
}

var _ carrier.Carrier = altered{}

// theFake is the key under which a hook finds the carrier below it.
type theFake struct{}

func via[In, Out any](ctx context.Context, a altered, op string, in *In, call func(context.Context, *In) (*Out, error)) (*Out, error) {
	own := *in // what a hook changes stays here
	ctx = context.WithValue(ctx, theFake{}, a.inner)
	out, err := a.do(ctx, op, &own, func() (any, error) {
		out, err := call(ctx, &own)
		if err != nil {
			return nil, err
		}
		return out, nil
	})
	answer, _ := out.(*Out)
	return answer, err
}

func (a altered) Describe(ctx context.Context) (*carrier.Description, error) {
	return via(ctx, a, opDescribe, &struct{}{}, func(ctx context.Context, _ *struct{}) (*carrier.Description, error) { return a.inner.Describe(ctx) })
}

func (a altered) Configure(ctx context.Context, s sdk.Settings) error {
	_, err := via(ctx, a, opConfigure, &s, func(ctx context.Context, s *sdk.Settings) (*struct{}, error) { return nil, a.inner.Configure(ctx, *s) })
	return err
}

func (a altered) ValidateAddress(ctx context.Context, p *sdk.Address) (*carrier.AddressAdvice, error) {
	return via(ctx, a, carrier.OpValidateAddress, p, a.inner.ValidateAddress)
}

func (a altered) Rate(ctx context.Context, s *carrier.Shipment) (*carrier.Rates, error) {
	return via(ctx, a, carrier.OpRate, s, a.inner.Rate)
}

func (a altered) Ship(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return via(ctx, a, carrier.OpShip, s, a.inner.Ship)
}

func (a altered) GetByReference(ctx context.Context, reference string) (*carrier.Shipped, error) {
	return via(ctx, a, carrier.OpGetByReference, &reference, func(ctx context.Context, r *string) (*carrier.Shipped, error) {
		return a.inner.GetByReference(ctx, *r)
	})
}

func (a altered) ShipReturn(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return via(ctx, a, carrier.OpShipReturn, s, a.inner.ShipReturn)
}

func (a altered) Void(ctx context.Context, r *carrier.VoidRequest) (*carrier.Voided, error) {
	return via(ctx, a, carrier.OpVoid, r, a.inner.Void)
}

func (a altered) Pickup(ctx context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	return via(ctx, a, carrier.OpPickup, r, a.inner.Pickup)
}

func (a altered) Manifest(ctx context.Context, r *carrier.ManifestRequest) (*carrier.Manifested, error) {
	return via(ctx, a, carrier.OpManifest, r, a.inner.Manifest)
}

func (a altered) Track(ctx context.Context, r *carrier.TrackRequest) (*carrier.Tracked, error) {
	return via(ctx, a, carrier.OpTrack, r, a.inner.Track)
}
