package controlplane

import (
	"flag"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/gateway"
	"github.com/crossdock/crossdock/controlplane/store"
	"github.com/crossdock/crossdock/deploy/handbook/reference"
	"github.com/crossdock/crossdock/protocol/transport"
)

//go:generate go test -run ^TestMetricsReferenceIsCurrent . -update
var update = flag.Bool("update", false, "write the reference instead of comparing it")

// What is written about the metrics is what the registry says of them.
func TestMetricsReferenceIsCurrent(t *testing.T) {
	r := reference.NewRecorder()
	sets := []func(prometheus.Registerer){
		func(r prometheus.Registerer) { store.NewMetrics(r) },
		func(r prometheus.Registerer) { gateway.NewMetrics(r) },
		func(r prometheus.Registerer) { api.NewMetrics(r) },
	}
	for _, register := range sets {
		register(r)
	}
	if have := reference.Sets(t, "."); have != len(sets) {
		t.Errorf("%d parts of the control plane have metrics, and %d are in the reference", have, len(sets))
	}
	transport.NewMetrics(r) // of the protocol, used here
	reference.Compare(t, "METRICS.md", reference.Metrics(t, "Metrics of crossdock, the control plane", r), *update)
}
