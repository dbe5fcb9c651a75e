package journal_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
)

var payload = `{"lines":"` + strings.Repeat("0123456789", 90) + `"}`

// BenchmarkSubmit128 is 128 callers with one event of 1 KB each.
func BenchmarkSubmit128(b *testing.B) {
	s := start(b, options{queue: queue.Config{Dir: b.TempDir()}})
	defer s.stop()
	var n atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 128 {
		wg.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				if _, err := s.Submit(b.Context(), []journal.Admitted{admitted(fmt.Sprint(i), fmt.Sprint(i%1000), payload, "nyc")}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(b.N)/float64(max(s.Stats().Commits, 1)), "events/commit")
}

// BenchmarkCut is one event of 1 KB on its way into a block.
func BenchmarkCut(b *testing.B) {
	s := start(b, options{queue: queue.Config{Dir: b.TempDir()}})
	defer s.stop()
	const events = 10_000
	var batch []journal.Admitted
	for i := range events {
		batch = append(batch, admitted(fmt.Sprint(i), fmt.Sprint(i%1000), payload, "nyc"))
		if len(batch) == 500 {
			submit(b, s, batch...)
			batch = nil
		}
	}
	b.ResetTimer()
	for done := 0; done < b.N; {
		next, want := uint64(0), uint64(1)
		for done < b.N && want <= events {
			cuts, to, err := s.Cut(map[string]uint64{"nyc": want}, next, 4)
			if err != nil {
				b.Fatal(err)
			}
			for _, c := range cuts {
				want, done = want+uint64(c.Count), done+c.Count
			}
			next = to
		}
	}
}
