package agent

import (
	"flag"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/agent/calls"
	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/documents"
	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/pluginhost"
	"github.com/crossdock/crossdock/agent/space"
	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/deploy/handbook/reference"
)

//go:generate go test -run ^TestMetricsReferenceIsCurrent . -update
var update = flag.Bool("update", false, "write the reference instead of comparing it")

// What is written about the metrics is what the registry says of them.
func TestMetricsReferenceIsCurrent(t *testing.T) {
	r := reference.NewRecorder()
	sets := []func(prometheus.Registerer){
		func(r prometheus.Registerer) { intake.NewMetrics(r) },
		func(r prometheus.Registerer) { journal.NewMetrics(r) },
		func(r prometheus.Registerer) { delivery.NewMetrics(r) },
		func(r prometheus.Registerer) { systems.NewMetrics(r) },
		func(r prometheus.Registerer) { uplink.NewMetrics(r) },
		func(r prometheus.Registerer) { pluginhost.NewMetrics(r) },
		func(r prometheus.Registerer) { calls.NewMetrics(r) },
		func(r prometheus.Registerer) { documents.NewMetrics(r) },
		func(r prometheus.Registerer) { space.NewMetrics(r) },
	}
	for _, register := range sets {
		register(r)
	}
	if have := reference.Sets(t, "."); have != len(sets) {
		t.Errorf("%d parts of the agent have metrics, and %d are in the reference", have, len(sets))
	}
	reference.Compare(t, "METRICS.md", reference.Metrics(t, "Metrics of crossdock-agent", r), *update)
}
