package pluginhost

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what plugins do.
type Metrics struct {
	Running     *prometheus.GaugeVec     // plugin: 1 while it serves
	Starts      *prometheus.CounterVec   // plugin
	Crashes     *prometheus.CounterVec   // plugin, cause: start, exit, health, memory
	Deactivated *prometheus.CounterVec   // plugin
	Memory      *prometheus.GaugeVec     // plugin: bytes resident, where it can be seen
	Calls       *prometheus.CounterVec   // plugin, code: of gRPC; what the plugin refuses by itself is OK here
	Duration    *prometheus.HistogramVec // plugin: seconds of a call
	Dropped     *prometheus.CounterVec   // plugin: lines it wrote that were not logged
}

// NewMetrics registers the metrics; without a registerer they count for nobody.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "crossdock", Subsystem: "plugins", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "crossdock", Subsystem: "plugins", Name: name, Help: help}, []string{"plugin"})
	}
	m := &Metrics{
		Running:     gauge("running", "Whether a plugin serves."),
		Starts:      counter("starts_total", "Starts of a plugin's program.", "plugin"),
		Crashes:     counter("crashes_total", "Ends of a plugin that nobody asked for.", "plugin", "cause"),
		Deactivated: counter("deactivated_total", "Times that a plugin was given up.", "plugin"),
		Memory:      gauge("memory_bytes", "Resident memory of a plugin."),
		Calls:       counter("calls_total", "Calls to a plugin by the status of gRPC.", "plugin", "code"),
		Duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "crossdock", Subsystem: "plugins", Name: "call_seconds", Help: "Duration of calls to a plugin.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 5, 15, 60},
		}, []string{"plugin"}),
		Dropped: counter("dropped_lines_total", "Lines of a plugin that were too many to be logged.", "plugin"),
	}
	if reg != nil {
		reg.MustRegister(m.Running, m.Starts, m.Crashes, m.Deactivated, m.Memory, m.Calls, m.Duration, m.Dropped)
	}
	return m
}

// forget takes away what is counted of a plugin that is no more.
func (m *Metrics) forget(plugin string) {
	of := prometheus.Labels{"plugin": plugin}
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.Running, m.Starts, m.Crashes, m.Deactivated, m.Memory, m.Calls, m.Duration, m.Dropped} {
		v.DeletePartialMatch(of)
	}
}
