package zone

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

func pounds(text string) sdk.Measure {
	return sdk.Measure{Value: decimal.RequireFromString(text), Unit: sdk.Pound}
}

// reno is a parcel from California; ground and express take it.
func reno() *carrier.Shipment {
	return &carrier.Shipment{Date: "2026-03-12",
		From:    sdk.Address{City: "Oakland", State: "CA", PostalCode: "94607", Country: "US"},
		To:      sdk.Address{City: "Reno", State: "NV", PostalCode: "89501", Country: "US"},
		Parcels: []carrier.Parcel{{Weight: pounds("4.2"), Dimensions: boxOf(10, 8, 6, sdk.Inch)}}}
}

// bills writes rates down: service, total and charges.
func bills(r *carrier.Rates) string {
	var out []string
	for _, rate := range r.Rates {
		text := rate.Service + " " + rate.Total.String() + ":"
		for _, c := range rate.Charges {
			text += " " + c.Code + " " + c.Amount.Amount.String()
		}
		out = append(out, text)
	}
	return strings.Join(out, "\n")
}

func TestRatesOfTheExampleTariffs(t *testing.T) {
	c := start(t, t.TempDir())
	tokyo := func(s *carrier.Shipment) {
		s.From = sdk.Address{City: "東京", PostalCode: "100-0001", Country: "JP"}
		s.To = sdk.Address{City: "那覇", PostalCode: "900-0015", Country: "JP"}
		s.Parcels[0].Weight = kilos("1.9")
		s.Parcels[0].Dimensions = nil
	}
	for name, x := range map[string]struct {
		change func(*carrier.Shipment)
		want   string
	}{
		"near":        {func(*carrier.Shipment) {}, "ground 9.50 USD: freight 8.3 fuel 1.2\nexpress 31.37 USD: freight 27.4 fuel 3.97"},
		"one service": {func(s *carrier.Shipment) { s.Service = "express" }, "express 31.37 USD: freight 27.4 fuel 3.97"},
		"last year":   {func(s *carrier.Shipment) { s.Date = "2025-12-31" }, "ground 8.90 USD: freight 8.9"},
		"new year":    {func(s *carrier.Shipment) { s.Date = "2026-01-01" }, "ground 9.50 USD: freight 8.3 fuel 1.2\nexpress 31.37 USD: freight 27.4 fuel 3.97"},
		"far":         {func(s *carrier.Shipment) { s.To.PostalCode, s.To.City = "10001", "New York" }, "ground 12.82 USD: freight 11.2 fuel 1.62\nexpress 55.19 USD: freight 48.2 fuel 6.99"},
		"volume":      {func(s *carrier.Shipment) { s.Parcels[0].Dimensions = boxOf(20, 12, 12, sdk.Inch) }, "ground 28.40 USD: freight 24.8 fuel 3.6\nexpress 100.76 USD: freight 88 fuel 12.76"},
		"minimum": {func(s *carrier.Shipment) {
			s.Parcels[0].Weight, s.Service = pounds("1"), "ground"
			s.Parcels[0].Dimensions = boxOf(4, 4, 4, sdk.Inch)
		}, "ground 8.02 USD: freight 6.6 minimum 0.4 fuel 1.02"},
		"beyond":       {func(s *carrier.Shipment) { s.Parcels[0].Weight = pounds("70.1") }, "ground 28.83 USD: freight 25.18 fuel 3.65"},
		"residential":  {func(s *carrier.Shipment) { s.To.Residential = true; s.Service = "ground" }, "ground 14.26 USD: freight 8.3 residential 4.15 fuel 1.81"},
		"remote":       {func(s *carrier.Shipment) { s.To.PostalCode, s.To.City, s.Service = "99501", "Anchorage", "ground" }, "ground 27.94 USD: freight 11.2 remote 13.2 fuel 3.54"},
		"saturday":     {func(s *carrier.Shipment) { s.Options = map[string]string{"saturday": "true"} }, "express 47.37 USD: freight 27.4 saturday 16 fuel 3.97"},
		"cash":         {func(s *carrier.Shipment) { s.COD, s.Service = usd("133.33"), "ground" }, "ground 20.50 USD: freight 8.3 cod 11 fuel 1.2"},
		"insured":      {func(s *carrier.Shipment) { s.Insurance, s.Service = usd("1000"), "ground" }, "ground 20.50 USD: freight 8.3 insurance 11 fuel 1.2"},
		"insured less": {func(s *carrier.Shipment) { s.Insurance, s.Service = usd("10"), "ground" }, "ground 12.95 USD: freight 8.3 insurance 3.45 fuel 1.2"},
		"signature":    {func(s *carrier.Shipment) { s.Options, s.Service = map[string]string{"signature": "adult"}, "ground" }, "ground 14.80 USD: freight 8.3 signature 5.3 fuel 1.2"},
		"oversize":     {func(s *carrier.Shipment) { s.Parcels[0].Dimensions, s.Service = boxOf(50, 2, 2, sdk.Inch), "ground" }, "ground 36.98 USD: freight 8.3 oversize 24 fuel 4.68"},
		"two parcels": {func(s *carrier.Shipment) {
			s.Parcels = append(s.Parcels, s.Parcels[0])
			s.To.Residential = true
			s.Service = "ground"
		}, "ground 28.51 USD: freight 16.6 residential 8.3 fuel 3.61"},
		"yen": {tokyo, "takuhai 1842 JPY: freight 1180 remote 550 fuel 112"},
	} {
		s := reno()
		x.change(s)
		if got := bills(must[*carrier.Rates](t)(c.Rate(ctx, s))); got != x.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, x.want)
		}
	}
}

func TestALightParcelIsBilledTheLeast(t *testing.T) {
	c := start(t, t.TempDir())
	s := reno()
	s.Service, s.Parcels[0].Weight, s.Parcels[0].Dimensions = "express", pounds("0.2"), boxOf(2, 2, 2, sdk.Inch)
	for weight, want := range map[string]string{"0.2": "1", "1": "1", "1.001": "1.5", "1.5": "1.5"} {
		s.Parcels[0].Weight = pounds(weight)
		if got := must[*carrier.Rates](t)(c.Rate(ctx, s)).Rates[0].Billed.Value; got.String() != want {
			t.Errorf("%s lb are billed as %s, want %s", weight, got, want)
		}
	}
}

func TestRateSaysWhatItIsWorth(t *testing.T) {
	c := start(t, t.TempDir())
	got := must[*carrier.Rates](t)(c.Rate(ctx, reno())).Rates[0]
	if got.Source != "local" || got.Data != c.tables.version || got.Estimate || got.Days != 1 || got.Delivery != "2026-03-13" ||
		got.Billed.Unit != sdk.Pound || got.Billed.Value.String() != "5" || !got.Expires.Equal(time.Date(2026, 3, 13, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v, billed %v", got, got.Billed)
	}
	s := reno()
	s.Parcels[0].Dimensions, s.Date, s.To.PostalCode, s.To.City = nil, "2026-03-13", "10001", "New York" // a Friday
	loose := must[*carrier.Rates](t)(c.Rate(ctx, s))
	if !loose.Rates[0].Estimate || len(loose.Warnings) != 1 || loose.Rates[0].Delivery != "2026-03-19" {
		t.Errorf("without dimensions: %+v", loose)
	}
	s.Options, s.Service = map[string]string{"saturday": "true"}, "express"
	if got := must[*carrier.Rates](t)(c.Rate(ctx, s)).Rates[0].Delivery; got != "2026-03-14" {
		t.Errorf("with Saturday it arrives on %s", got)
	}
	s.Date = ""
	if got := must[*carrier.Rates](t)(c.Rate(ctx, s)).Rates[0].Delivery; got != "2026-03-13" {
		t.Errorf("of today it arrives on %s", got)
	}
	s.To.Country, s.To.PostalCode, s.Service = "CA", "K1A0A6", "express"
	_, err := c.Rate(ctx, s)
	wantClass(t, err, sdk.NotServiced, "")
	if !strings.Contains(err.Error(), "express does not go to zone north") {
		t.Errorf("the reason is missing: %v", err)
	}
}

// drawShipment makes what some tariff of the examples may take.
func drawShipment(t *rapid.T) *carrier.Shipment {
	s, currency := reno(), "USD"
	if rapid.Bool().Draw(t, "Europe") {
		s, currency = munich("A"), "EUR"
		s.Service, s.Numbers = "", nil
	}
	s.To.PostalCode = rapid.SampledFrom([]string{"89501", "10001", "99501", "80331", "18565", "27498"}).Draw(t, "to")
	s.To.Residential = rapid.Bool().Draw(t, "residential")
	s.Parcels = nil
	for range rapid.IntRange(1, 4).Draw(t, "parcels") {
		p := carrier.Parcel{Weight: sdk.Measure{Value: decimal.New(rapid.Int64Range(1, 90000).Draw(t, "weight"), -3),
			Unit: rapid.SampledFrom([]string{sdk.Kilogram, sdk.Pound, sdk.Ounce, sdk.Gram}).Draw(t, "unit")}}
		if rapid.Bool().Draw(t, "measured") {
			edge := rapid.Int64Range(1, 130)
			p.Dimensions = boxOf(edge.Draw(t, "length"), edge.Draw(t, "width"), edge.Draw(t, "height"), rapid.SampledFrom([]string{sdk.Centimetre, sdk.Inch}).Draw(t, "length unit"))
		}
		s.Parcels = append(s.Parcels, p)
	}
	s.Options = map[string]string{}
	for _, a := range []struct {
		name string
		into **sdk.Money
	}{{"insurance", &s.Insurance}, {"cod", &s.COD}} {
		if rapid.Bool().Draw(t, a.name) {
			*a.into = &sdk.Money{Amount: decimal.New(rapid.Int64Range(1, 1e7).Draw(t, "amount"), -2), Currency: currency}
		}
	}
	for _, name := range []string{"saturday", "oversized"} {
		if rapid.Bool().Draw(t, name) {
			s.Options[name] = "true"
		}
	}
	return s
}

func TestChargesAddUpAndTheCheapestComesFirst(t *testing.T) {
	c := start(t, t.TempDir())
	priced := 0
	rapid.Check(t, func(t *rapid.T) {
		got, err := c.Rate(ctx, drawShipment(t))
		if err != nil {
			if sdk.ClassOf(err) != sdk.NotServiced {
				t.Fatal(err)
			}
			return
		}
		priced++
		if !slices.IsSortedFunc(got.Rates, func(a, b carrier.Rate) int { return a.Total.Amount.Cmp(b.Total.Amount) }) {
			t.Fatalf("not the cheapest first:\n%s", bills(got))
		}
		for _, r := range got.Rates {
			sum := sdk.Money{Currency: r.Total.Currency}
			for _, charge := range r.Charges {
				if sum, err = sum.Plus(charge.Amount); err != nil {
					t.Fatal(err)
				}
				if !charge.Amount.Round().Amount.Equal(charge.Amount.Amount) || charge.Amount.Amount.IsNegative() {
					t.Fatalf("charge %s of %s is no amount to pay", charge.Code, charge.Amount)
				}
			}
			if !sum.Amount.Equal(r.Total.Amount) {
				t.Fatalf("the charges make %s:\n%s", sum, bills(got))
			}
		}
	})
	if priced == 0 {
		t.Error("nothing was ever priced")
	}
}

// byService gives the rates of a shipment, none where nothing takes it.
func byService(t *rapid.T, c *Carrier, s *carrier.Shipment) map[string]carrier.Rate {
	out := map[string]carrier.Rate{}
	got, err := c.Rate(ctx, s)
	if err != nil {
		if sdk.ClassOf(err) != sdk.NotServiced {
			t.Fatal(err)
		}
		return out
	}
	for _, r := range got.Rates {
		out[r.Service] = r
	}
	return out
}

func TestAHeavierParcelNeverCostsLess(t *testing.T) {
	c := start(t, t.TempDir())
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		s := drawShipment(t)
		light := byService(t, c, s)
		p := &s.Parcels[rapid.IntRange(0, len(s.Parcels)-1).Draw(t, "which")]
		p.Weight.Value = p.Weight.Value.Add(decimal.New(rapid.Int64Range(1, 5000).Draw(t, "more"), -3))
		for service, heavy := range byService(t, c, s) {
			before, taken := light[service]
			if !taken {
				t.Fatalf("%s takes %s and not less", service, p.Weight.Value)
			}
			compared++
			if heavy.Total.Amount.LessThan(before.Total.Amount) || heavy.Billed.Value.LessThan(before.Billed.Value) {
				t.Fatalf("%s costs %s with more weight, and %s with less", service, heavy.Total, before.Total)
			}
		}
	})
	if compared == 0 {
		t.Error("nothing was ever compared")
	}
}

func TestVolumeNeverLowersTheBilledWeight(t *testing.T) {
	c := start(t, t.TempDir())
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		s := drawShipment(t)
		measured := byService(t, c, s)
		actual := decimal.Zero
		for i := range s.Parcels {
			s.Parcels[i].Dimensions = nil
			grams, err := s.Parcels[i].Weight.In(sdk.Gram)
			if err != nil {
				t.Fatal(err)
			}
			actual = actual.Add(grams)
		}
		bare := byService(t, c, s)
		for service, r := range measured {
			compared++
			billed, err := r.Billed.In(sdk.Gram)
			if err != nil {
				t.Fatal(err)
			}
			// A unit's conversion goes to 12 decimals.
			if billed.LessThan(actual.Sub(decimal.New(1, -6))) || r.Billed.Value.LessThan(bare[service].Billed.Value) {
				t.Fatalf("%s bills %s %s, less than the weight", service, r.Billed.Value, r.Billed.Unit)
			}
		}
	})
	if compared == 0 {
		t.Error("nothing was ever compared")
	}
}
