package usps

import (
	"log/slog"
	"maps"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
)

func dec(text string) decimal.Decimal { return decimal.RequireFromString(text) }

// parcel is a shipment that the provider takes.
func parcel(reference string) *carrier.Shipment {
	return &carrier.Shipment{Reference: reference, Service: "USPS_GROUND_ADVANTAGE", Date: "2026-11-27", Order: "SO-1001",
		From: sdk.Address{Name: "Sam Wilson", Company: "Crosstown", Lines: []string{"45 L St SW"}, City: "Washington", State: "DC", PostalCode: "20024", Country: "US", Phone: "614-747-6321", Email: "dock@example.com"},
		To:   sdk.Address{Name: "Nick Fury", Lines: []string{"2700 S Jefferson Ave", "STE 150"}, City: "St. Louis", State: "MO", PostalCode: "63104-2351", Country: "US", Phone: "(614) 809-8581", Email: "nick@example.com"},
		Parcels: []carrier.Parcel{{Reference: "box 1", Weight: sdk.Measure{Value: dec("1.5"), Unit: sdk.Pound},
			Dimensions: &carrier.Dimensions{Length: dec("10"), Width: dec("30"), Height: dec("20"), Unit: sdk.Centimetre}}},
	}
}

func settingsFor(t testing.TB, p *provider) sdk.Settings {
	return sdk.Settings{setBase: p.url, setID: "key", setSecret: "s3cret", setCRID: "12345678", setMID: "123456789", setAccount: "1000000001", setState: t.TempDir()}
}

func logTo(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// open gives a carrier that asks a provider, and closes it with the test.
func open(t testing.TB, settings sdk.Settings) *Carrier {
	t.Helper()
	c := New(logTo(t))
	if err := c.Configure(t.Context(), maps.Clone(settings)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // some tests close it themselves
	return c
}

// The carrier keeps what every carrier promises.
func TestSuite(t *testing.T) {
	refuses := *parcel("")
	refuses.To.Country = "AQ"
	fresh := func(t testing.TB) carrier.Carrier {
		c := New(logTo(t))
		t.Cleanup(func() { _ = c.Close() }) // the suite closes some itself
		return c
	}
	carriertest.Run(t, carriertest.Config{
		New:    func(t testing.TB) (carrier.Carrier, sdk.Settings) { return fresh(t), settingsFor(t, newProvider(t)) },
		Reopen: fresh, // the settings name the provider and the book
		Takes:  *parcel(""), Refuses: refuses,
	})
}
