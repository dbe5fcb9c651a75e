package zone

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
)

// The carrier keeps what every carrier promises.
func TestSuite(t *testing.T) {
	var n atomic.Int64
	tables, err := filepath.Abs("testdata/tables")
	if err != nil {
		t.Fatal(err)
	}
	takes, refuses := *munich(""), *munich("")
	refuses.To.Country = "AQ"
	carriertest.Run(t, carriertest.Config{
		New: func(t testing.TB) (carrier.Carrier, sdk.Settings) {
			c := New(silent)
			c.now = ticking(noon)
			t.Cleanup(func() { c.Close() })
			return c, sdk.Settings{setTables: tables, setState: t.TempDir(), setName: "Crosstown", setSSCC: "none"}
		},
		Takes: takes, Refuses: refuses,
		Number: func(string) string { return fmt.Sprintf("Z-%06d", n.Add(1)) },
	})
}
