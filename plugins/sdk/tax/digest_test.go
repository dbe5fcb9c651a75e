package tax_test

import (
	"testing"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// Engines keep digests for years, so this must never change: a field that is added to the
// contract takes a new number and may be left out, and then it does not.
func TestADigestNeverChanges(t *testing.T) {
	d := &tax.Document{Reference: "INV-1", Kind: tax.Sale, Date: "2026-11-30", Currency: "EUR", ShipTo: sdk.Address{Country: "DE"},
		Lines: []tax.Line{{ID: "1", Amount: decimal.RequireFromString("12.50"), Included: true}, {ID: "2"}}}
	const want = "0755114366843b31f6ecf489eed9618c7b67d2bdaa8aafdd4dbc819d708591ba"
	for range 2 {
		if got, err := d.Digest(); err != nil || got != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
		d.Lines[0].Amount = decimal.RequireFromString("12.5")
	}
	d.Lines[1].Amount = decimal.NewFromInt(1)
	if got, err := d.Digest(); err != nil || got == want {
		t.Errorf("another amount makes no difference: %v", err)
	}
}
