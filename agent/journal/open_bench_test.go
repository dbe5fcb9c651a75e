package journal_test

import (
	"fmt"
	"testing"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
)

// BenchmarkOpen is the start of an agent with a backlog of events of 1 KB.
func BenchmarkOpen(b *testing.B) {
	const events = 200_000
	dir := b.TempDir()
	s := start(b, options{queue: queue.Config{Dir: dir}})
	var batch []journal.Admitted
	for i := range events {
		batch = append(batch, admitted(fmt.Sprint(i), fmt.Sprint(i%1000), payload, "nyc"))
		if len(batch) == 500 {
			submit(b, s, batch...)
			batch = nil
		}
	}
	s.stop()
	for b.Loop() {
		s := start(b, options{queue: queue.Config{Dir: dir}})
		b.StopTimer()
		s.stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
