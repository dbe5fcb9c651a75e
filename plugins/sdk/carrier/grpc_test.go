package carrier_test

import (
	"context"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// echo is a carrier that says what it is told to.
type echo struct{ sdktest.Echo }

var _ carrier.Carrier = (*echo)(nil)

func (e *echo) Describe(context.Context) (*carrier.Description, error) {
	return sdktest.Hear[carrier.Description](&e.Echo, nil)
}

func (e *echo) Configure(_ context.Context, s sdk.Settings) error {
	_, err := sdktest.Hear[struct{}](&e.Echo, s)
	return err
}

func (e *echo) ValidateAddress(_ context.Context, a *sdk.Address) (*carrier.AddressAdvice, error) {
	return sdktest.Hear[carrier.AddressAdvice](&e.Echo, a)
}

func (e *echo) Rate(_ context.Context, s *carrier.Shipment) (*carrier.Rates, error) {
	return sdktest.Hear[carrier.Rates](&e.Echo, s)
}

func (e *echo) Ship(_ context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return sdktest.Hear[carrier.Shipped](&e.Echo, s)
}

func (e *echo) GetByReference(_ context.Context, r string) (*carrier.Shipped, error) {
	return sdktest.Hear[carrier.Shipped](&e.Echo, r)
}

func (e *echo) ShipReturn(_ context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return sdktest.Hear[carrier.Shipped](&e.Echo, s)
}

func (e *echo) Void(_ context.Context, r *carrier.VoidRequest) (*carrier.Voided, error) {
	return sdktest.Hear[carrier.Voided](&e.Echo, r)
}

func (e *echo) Pickup(_ context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	return sdktest.Hear[carrier.PickedUp](&e.Echo, r)
}

func (e *echo) Manifest(_ context.Context, r *carrier.ManifestRequest) (*carrier.Manifested, error) {
	return sdktest.Hear[carrier.Manifested](&e.Echo, r)
}

func (e *echo) Track(_ context.Context, r *carrier.TrackRequest) (*carrier.Tracked, error) {
	return sdktest.Hear[carrier.Tracked](&e.Echo, r)
}

func TestEveryFieldTravels(t *testing.T) {
	e := &echo{}
	sdktest.Travels(t, reflect.TypeFor[carrier.Carrier](), carriertest.Pipe(t, e), &e.Echo, sdktest.Full)
}

func TestWhatIsEmptyTravels(t *testing.T) {
	e := &echo{}
	c := carriertest.Pipe(t, e)
	rapid.Check(t, func(r *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(r, "choice") }
		sdktest.Travels(t, reflect.TypeFor[carrier.Carrier](), c, &e.Echo, pick)
	})
}

func TestEveryTypeHasAJSONForm(t *testing.T) { sdktest.HasJSON(t, reflect.TypeFor[carrier.Carrier]()) }
