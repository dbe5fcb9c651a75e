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
	clock := ticking(noon)
	open := func(t testing.TB) carrier.Carrier {
		c := New(silent)
		c.now = clock
		t.Cleanup(func() { c.Close() })
		return c
	}
	carriertest.Run(t, carriertest.Config{
		New: func(t testing.TB) (carrier.Carrier, sdk.Settings) {
			return open(t), sdk.Settings{setTables: tables, setState: t.TempDir(), setName: "Crosstown", setSSCC: "none"}
		},
		Reopen: open,
		Takes:  takes, Refuses: refuses,
		Number: func(string) string { return fmt.Sprintf("Z-%06d", n.Add(1)) },
	})
}
