package carrier_test

import (
	"testing"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

func digest(t *testing.T, of interface{ Digest() (string, error) }) string {
	t.Helper()
	out, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// small is a shipment with a map, a list, numbers and places.
func small() *carrier.Shipment {
	return &carrier.Shipment{Reference: "SO-1", Service: "slow", Date: "2026-11-30",
		From: sdk.Address{Country: "DE"}, To: sdk.Address{Name: "Ada", Lines: []string{"Weg 2"}, Country: "DE", Residential: true},
		Parcels: []carrier.Parcel{{Weight: sdk.Measure{Value: decimal.RequireFromString("1.50"), Unit: sdk.Kilogram}}, {}},
		Options: map[string]string{"saturday": "true", "signature": "adult", "hold": "7"}}
}

// Carriers keep digests for years, so these must never change: a field that is added to the
// contract takes a new number and may be left out, and then they do not.
func TestADigestNeverChanges(t *testing.T) {
	place := sdk.Address{Country: "DE"}
	for name, c := range map[string]struct {
		of   interface{ Digest() (string, error) }
		want string
	}{
		"nothing":  {&carrier.Shipment{}, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		"shipment": {small(), "4590b4fdf7e184ae6ef0e8a05b37bbf4c076099da817fa7f4ba0f1cae9109bfd"},
		"pickup": {&carrier.PickupRequest{Action: "book", Reference: "P-1", Place: place, Date: "2026-11-30", Ready: "10:00", Close: "16:00", Parcels: 2},
			"6795a531fdd536affca97108063471f00f9e672b0c708c439f0ecad2d42c419e"},
		"manifest": {&carrier.ManifestRequest{Reference: "M-1", Date: "2026-11-30", From: place, Shipments: []string{"SO-1", "SO-2"}}, "ba6e76adeb3015b7d5505d291ca17c6dd993f7214d02a1a11ad0d02ea10ed1b1"},
	} {
		for range 8 { // maps have another order each time
			if got := digest(t, c.of); got != c.want {
				t.Fatalf("%s: %s, want %s", name, got, c.want)
			}
		}
	}
}

func TestADigestIsOfWhatIsSaid(t *testing.T) {
	want := digest(t, small())
	same, different := small(), small()
	same.Parcels[0].Weight.Value = decimal.RequireFromString("1.5000")
	same.Numbers, same.To.TaxIDs = map[string][]string{}, []sdk.TaxID{}
	if got := digest(t, same); got != want {
		t.Errorf("what says the same has digest %s, want %s", got, want)
	}
	different.COD = &sdk.Money{}
	if got := digest(t, different); got == want {
		t.Error("an amount to collect makes no difference")
	}
	for name, change := range map[string]func(*carrier.Shipment){
		"weight":  func(s *carrier.Shipment) { s.Parcels[0].Weight.Value = decimal.NewFromInt(15) },
		"option":  func(s *carrier.Shipment) { s.Options["hold"] = "8" },
		"parcels": func(s *carrier.Shipment) { s.Parcels = s.Parcels[:1] },
		"place":   func(s *carrier.Shipment) { s.From, s.To = s.To, s.From },
	} {
		s := small()
		if change(s); digest(t, s) == want {
			t.Errorf("another %s makes no difference", name)
		}
	}
	different.COD.Amount = decimal.New(1, 30)
	_, err := different.Digest()
	sdktest.FailsAt(t, "a digest of a number that is too large", err, "cod.amount")
}
