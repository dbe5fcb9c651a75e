package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Metrics of a store.
type Metrics struct {
	commands       *prometheus.CounterVec
	seconds        prometheus.Histogram
	entries        prometheus.Counter
	leads          prometheus.Gauge
	logBytes       prometheus.Gauge
	snapshots      prometheus.Counter
	snapshotErrors prometheus.Counter
	restores       prometheus.Counter
	diskFree       prometheus.Gauge
	diskFull       prometheus.Gauge
}

// NewMetrics makes and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_store_commands_total", Help: "Commands by kind and outcome.",
		}, []string{"command", "outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "crossdock_store_command_seconds", Help: "From being asked to being answered.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
		entries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crossdock_store_entries_total", Help: "Entries of the log applied.",
		}),
		leads: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "crossdock_store_leader", Help: "1 while this node leads.",
		}),
		logBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "crossdock_store_log_bytes", Help: "Bytes of the log since the newest snapshot.",
		}),
		snapshots: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crossdock_store_snapshots_total", Help: "Snapshots taken.",
		}),
		snapshotErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crossdock_store_snapshot_errors_total", Help: "Snapshots that failed.",
		}),
		restores: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crossdock_store_restores_total", Help: "Snapshots received from a leader because this node was too far behind.",
		}),
		diskFree: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "crossdock_store_disk_free_bytes", Help: "Bytes free on the disk of the store.",
		}),
		diskFull: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "crossdock_store_full", Help: "1 while pushes and uploads are refused for want of room on the disks.",
		}),
	}
	r.MustRegister(m.commands, m.seconds, m.entries, m.leads, m.logBytes, m.snapshots, m.snapshotErrors, m.restores,
		m.diskFree, m.diskFull)
	return m
}

func (m *Metrics) applied(cmd model.Command, err *model.Error, took time.Duration) {
	outcome := "ok"
	if err != nil {
		outcome = string(err.Code)
	}
	name := strings.TrimPrefix(fmt.Sprintf("%T", cmd), "*model.")
	m.commands.WithLabelValues(name, outcome).Inc()
	m.seconds.Observe(took.Seconds())
}

func (m *Metrics) leader(leads bool) { m.leads.Set(oneIf(leads)) }

func (m *Metrics) disk(free int64, full bool) {
	m.diskFree.Set(float64(free))
	m.diskFull.Set(oneIf(full))
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
