package mydhl

import (
	"log/slog"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
)

var noon = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

func at12() time.Time { return noon }

func d(text string) decimal.Decimal { return decimal.RequireFromString(text) }

func eur(text string) *sdk.Money { return &sdk.Money{Amount: d(text), Currency: "EUR"} }

// parcels are two of different weights, from Munich to Portland with all that customs want.
func order() *carrier.Shipment {
	return &carrier.Shipment{
		Reference: "SO-1", Service: "P", Date: "2026-05-05", Order: "4711",
		From: sdk.Address{Name: "Ann Adler", Company: "Northwind GmbH", Lines: []string{"Musterstr. 5", "Tor 3"}, City: "München", PostalCode: "80331", Country: "DE",
			Phone: "+49 89 1234", Email: "ann@northwind.example", TaxIDs: []sdk.TaxID{{Country: "DE", Kind: "eori", Number: "DE1234567"}}},
		To: sdk.Address{Name: "Bo Berg", Lines: []string{"89 Chiaroscuro Rd."}, City: "Portland", State: "OR", PostalCode: "97219", Country: "US", Phone: "+1 503 555", Residential: true},
		Parcels: []carrier.Parcel{
			{Reference: "a", Weight: sdk.Measure{Value: d("2.3"), Unit: "kg"}, Dimensions: &carrier.Dimensions{Length: d("300"), Width: d("200"), Height: d("150.5"), Unit: "mm"},
				Items: []carrier.Commodity{{SKU: "C", Description: "Chai", Quantity: d("10"), HSCode: "0902.30", Origin: "IN", Weight: &sdk.Measure{Value: d("0.2"), Unit: "kg"}, Value: eur("18.005")}}},
			{Reference: "b", Weight: sdk.Measure{Value: d("1234.5678"), Unit: "g"},
				Items: []carrier.Commodity{{Description: "Syrup", Quantity: d("1"), HSCode: "170290", Origin: "US", Weight: &sdk.Measure{Value: d("1"), Unit: "kg"}, Value: eur("10")}}},
		},
		Customs: &carrier.Customs{Content: "merchandise", Incoterm: "DDP", InvoiceNumber: "R-17", InvoiceDate: "2026-05-03", Signer: "Ann Adler", DutyPayer: "sender"},
	}
}

func logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func (d *dhl) settings(dir string) sdk.Settings {
	return sdk.Settings{setBase: d.http.URL, setUser: "user", setPassword: "secret", setAccount: "123456789", setState: dir, setZone: "Europe/Berlin"}
}

// opened is a carrier that asks a provider and keeps its record in a directory.
func opened(t testing.TB, p *dhl, dir string, more sdk.Settings) *Carrier {
	t.Helper()
	c := New(logger(t))
	c.now = p.now
	s := p.settings(dir)
	for k, v := range more {
		s[k] = v
	}
	if err := c.Configure(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // some tests close it before
	return c
}

// The carrier keeps what every carrier promises, and says nothing that the published
// specification does not allow.
func TestSuite(t *testing.T) {
	refuses := *order()
	refuses.To.Country = "AQ"
	open := func(t testing.TB) carrier.Carrier {
		c := New(logger(t))
		c.now = at12
		t.Cleanup(func() { _ = c.Close() }) // the suite may have closed it
		return c
	}
	carriertest.Run(t, carriertest.Config{
		New: func(t testing.TB) (carrier.Carrier, sdk.Settings) {
			return open(t), newDHL(t, at12).settings(t.TempDir())
		},
		Reopen: open,
		Takes:  *order(), Refuses: refuses,
	})
}
