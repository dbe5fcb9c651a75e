package table

import (
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxtest"
)

// The table engine keeps what every tax engine promises.
func TestSuite(t *testing.T) {
	open := func(t testing.TB) tax.Engine {
		e, err := New(silent)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		return e
	}
	config := taxtest.Config{
		New:     func(t testing.TB) (tax.Engine, sdk.Settings) { return open(t), sdk.Settings{settingState: t.TempDir()} },
		Reopen:  open,
		Knows:   *sale("DE", "DE", "2026-11-26", "EUR", "100.00 standard", "50.00 books", "7.77 standard included"),
		Unknown: *sale("AQ", "AQ", "2026-11-26", "EUR", "100.00 standard"),
		Valid:   sdk.TaxID{Country: "DE", Kind: "vat", Number: "DE136695976"}, Invalid: sdk.TaxID{Country: "DE", Kind: "vat", Number: "DE136695977"},
	}
	taxtest.Run(t, config)
	t.Run("without state", func(t *testing.T) {
		config.New = func(t testing.TB) (tax.Engine, sdk.Settings) { return open(t), nil }
		taxtest.Run(t, config)
	})
}
