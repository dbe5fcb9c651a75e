package systems

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what drivers do on their own, without anybody asking: publishing. What is
// asked of them is counted by those who ask.
type Metrics struct {
	Polls     *prometheus.CounterVec // system, result: ok or error
	Published *prometheus.CounterVec // system: events that the journal took
	Refused   *prometheus.CounterVec // system: events or files refused for good
}

// NewMetrics registers the metrics; without a registerer they count for nobody.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "crossdock", Subsystem: "systems", Name: name, Help: help,
		}, labels)
	}
	m := &Metrics{
		Polls:     counter("polls_total", "Looks for new events at a system.", "system", "result"),
		Published: counter("published_total", "Events taken from a system by its driver.", "system"),
		Refused:   counter("refused_total", "Events or files of a system refused for good.", "system"),
	}
	if reg != nil {
		reg.MustRegister(m.Polls, m.Published, m.Refused)
	}
	return m
}
