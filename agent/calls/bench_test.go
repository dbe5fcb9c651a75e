package calls

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// BenchmarkShip is what a label costs here, with a carrier that syncs a book of its own and
// with an event for each label, for one caller and for many at once.
func BenchmarkShip(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			cfg := DefaultConfig()
			cfg.Path, cfg.Site, cfg.Epoch = filepath.Join(b.TempDir(), "calls.db"), "eu", 1
			cfg.Plugins = &host{carriers: map[string]carrier.Carrier{"shop": newShop(b)}, engines: map[string]tax.Engine{}, down: map[string]bool{}}
			cfg.Events = diary{filepath.Join(b.TempDir(), "events")}
			service, err := Open(cfg)
			if err != nil {
				b.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- service.Run(b.Context()) }()
			var serial atomic.Int64
			var asking sync.WaitGroup
			b.ResetTimer()
			for range callers {
				asking.Go(func() {
					for n := serial.Add(1); n <= int64(b.N); n = serial.Add(1) {
						key := fmt.Sprint("R", n)
						if _, err := service.Do(b.Context(), Request{System: "wms", Kind: carrier.Kind, Plugin: "shop", Operation: carrier.OpShip, Key: key, Body: []byte(shipment(key))}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			asking.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "labels/s")
			if err := service.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
