package carriertest

import (
	"context"
	"slices"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

var operationNames = []string{carrier.OpValidateAddress, carrier.OpRate, carrier.OpShip, carrier.OpGetByReference, carrier.OpShipReturn,
	carrier.OpVoid, carrier.OpPickup, carrier.OpManifest, carrier.OpTrack}

// describe: a host can go by what is described. Before the plugin is configured that is at
// least its name and how it is configured.
func describe(t testing.TB, s *suite) {
	sdktest.CheckDescription(t, &s.d.Description, operationNames)
	if s.bare.Name != s.d.Name || s.bare.Version != s.d.Version {
		t.Errorf("describe: before configure it is %s %s, and then %s %s", s.bare.Name, s.bare.Version, s.d.Name, s.d.Version)
	}
	same(t, "describe, the settings before and after configure", s.bare.Config, s.d.Config)
	again, err := s.c.Describe(t.Context())
	if err != nil {
		t.Fatalf("describe, a second time: %v", err)
	}
	same(t, "describe, a second time", again, s.d)
	codes := map[string]bool{}
	for _, d := range s.d.Services {
		if d.Code == "" || d.Name == "" || codes[d.Code] {
			t.Errorf("describe: service %q has no code or no name, or is there twice", d.Code)
		}
		codes[d.Code] = true
	}
	for _, f := range s.d.Labels {
		if magic[f] == "" {
			t.Errorf("describe: nobody knows labels of format %q", f)
		}
	}
	for _, r := range s.d.Ranges {
		if r.Name == "" || r.Per != "parcel" && r.Per != "shipment" {
			t.Errorf("describe: range %q is per %q, want parcel or shipment", r.Name, r.Per)
		}
	}
	if (s.can(carrier.OpRate) || s.can(carrier.OpShip)) && len(s.d.Services) == 0 {
		t.Error("describe: there is no service")
	}
	if s.can(carrier.OpShip) && len(s.d.Labels) == 0 {
		t.Error("describe: it ships, and makes no labels")
	}
	for _, name := range []string{carrier.OpShip, carrier.OpShipReturn} {
		if _, buys := sdktest.Can(&s.d.Description, name); buys && !s.remembers() {
			t.Errorf("describe: %s buys what cannot be looked up by its reference", name)
		}
	}
}

func configure(t testing.TB, s *suite) {
	sdktest.CheckConfigure(t, &s.d.Description, s.settings, func(ctx context.Context, settings sdk.Settings) error {
		c, _ := s.New(t)
		return Pipe(t, c).Configure(ctx, settings)
	})
}

func operations(t testing.TB, s *suite) {
	sdktest.CheckOperations(t, &s.d.Description, map[string]func(context.Context) error{
		carrier.OpValidateAddress: func(ctx context.Context) error { _, err := s.c.ValidateAddress(ctx, &s.Takes.To); return err },
		carrier.OpRate:            func(ctx context.Context) error { _, err := s.c.Rate(ctx, s.shipment(t, s.Takes)); return err },
		carrier.OpShip:            func(ctx context.Context) error { _, err := s.c.Ship(ctx, s.shipment(t, s.Takes)); return err },
		carrier.OpShipReturn:      func(ctx context.Context) error { _, err := s.c.ShipReturn(ctx, s.shipment(t, s.Takes)); return err },
		carrier.OpGetByReference:  func(ctx context.Context) error { _, err := s.c.GetByReference(ctx, reference()); return err },
		carrier.OpVoid: func(ctx context.Context) error {
			_, err := s.c.Void(ctx, &carrier.VoidRequest{Reference: reference()})
			return err
		},
		carrier.OpPickup: func(ctx context.Context) error { _, err := s.c.Pickup(ctx, s.collection()); return err },
		carrier.OpManifest: func(ctx context.Context) error {
			_, err := s.c.Manifest(ctx, s.day(reference()))
			return err
		},
		carrier.OpTrack: func(ctx context.Context) error {
			_, err := s.c.Track(ctx, &carrier.TrackRequest{Tracking: []string{reference()}})
			return err
		},
	})
}

// address: the advice says how deep the look was.
func address(t testing.TB, s *suite) {
	if !s.can(carrier.OpValidateAddress) {
		return
	}
	got, err := s.c.ValidateAddress(t.Context(), &s.Takes.To)
	if err != nil {
		t.Fatalf("address: %v", err)
	}
	if !got.Valid {
		t.Errorf("address: one that shipments go to is not valid: %+v", got)
	}
	if !slices.Contains([]string{"exact", "corrected", "format"}, got.Confidence) {
		t.Errorf("address: nobody knows the confidence %q", got.Confidence)
	}
	switch got, err := s.c.ValidateAddress(t.Context(), &sdk.Address{}); {
	case err != nil:
		sdktest.Fails(t, "an empty address", err, sdk.Validation, sdk.NotServiced)
	case got.Valid:
		t.Error("address: an empty one is valid")
	}
}

// rate: every service that takes it, the cheapest first, with prices that add up.
func rate(t testing.TB, s *suite) {
	if !s.can(carrier.OpRate) {
		return
	}
	asked := s.shipment(t, s.Takes)
	asked.Service = ""
	got, err := s.c.Rate(t.Context(), asked)
	if err != nil {
		t.Fatalf("rate: %v", err)
	}
	if len(got.Rates) == 0 {
		t.Fatal("rate: no price and no error")
	}
	services := map[string]bool{}
	for i := range got.Rates {
		r := &got.Rates[i]
		priced(t, s, "rate", r)
		if i > 0 && r.Total.Amount.LessThan(got.Rates[i-1].Total.Amount) {
			t.Errorf("rate: %s of %s comes after %s of %s", r.Total, r.Service, got.Rates[i-1].Total, got.Rates[i-1].Service)
		}
		services[r.Service] = true
	}
	if s.Takes.Service == "" {
		return
	}
	if !services[s.Takes.Service] {
		t.Errorf("rate: no price of service %q, which takes it", s.Takes.Service)
	}
	one, err := s.c.Rate(t.Context(), s.shipment(t, s.Takes))
	if err != nil {
		t.Fatalf("rate of one service: %v", err)
	}
	if len(one.Rates) != 1 || one.Rates[0].Service != s.Takes.Service {
		t.Errorf("rate of service %q: %+v", s.Takes.Service, one.Rates)
	}
}

// priced wants a price that is one.
func priced(t testing.TB, s *suite, what string, r *carrier.Rate) {
	t.Helper()
	if !slices.ContainsFunc(s.d.Services, func(d carrier.Service) bool { return d.Code == r.Service }) {
		t.Errorf("%s: service %q is not described", what, r.Service)
	}
	currency(t, what, r.Total)
	if r.Total.Amount.IsNegative() {
		t.Errorf("%s: the price of %s is %s", what, r.Service, r.Total)
	}
	if len(r.Charges) == 0 {
		t.Errorf("%s: %s has no charges", what, r.Service)
	}
	sum := sdk.Money{Currency: r.Total.Currency}
	for _, c := range r.Charges {
		if !slices.Contains([]string{"base", "surcharge", "addon", "tax", "discount"}, c.Kind) {
			t.Errorf("%s: nobody knows charges of kind %q", what, c.Kind)
		}
		var err error
		if sum, err = sum.Plus(c.Amount); err != nil {
			t.Fatalf("%s: the charges of %s: %v", what, r.Service, err)
		}
	}
	if !sum.Amount.Equal(r.Total.Amount) {
		t.Errorf("%s: the charges of %s add up to %s, not to %s", what, r.Service, sum, r.Total)
	}
	if !slices.Contains([]string{"live", "cached", "local"}, r.Source) || r.Source == "local" && r.Data == "" {
		t.Errorf("%s: the price of %s is from %q, data %q", what, r.Service, r.Source, r.Data)
	}
}

// rateRefuses: what cannot be sent has no price, and the error says why.
func rateRefuses(t testing.TB, s *suite) {
	if !s.can(carrier.OpRate) {
		return
	}
	_, err := s.c.Rate(t.Context(), s.shipment(t, s.Refuses))
	sdktest.Fails(t, "rate what is not served", err, sdk.NotServiced)
	empty := s.shipment(t, s.Takes)
	empty.Parcels = nil
	_, err = s.c.Rate(t.Context(), empty)
	sdktest.FailsAt(t, "rate without a parcel", err, "parcels")
}
