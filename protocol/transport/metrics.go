package transport

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what a server refuses.
type Metrics struct {
	Connections *prometheus.CounterVec // with a certificate, by result: ok, or the cause of the refusal
	Refused     *prometheus.CounterVec // calls, by cause
	Panics      prometheus.Counter
}

// NewMetrics makes the metrics and registers them where reg is not nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		Connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_transport_connections_total", Help: "Connections with a client certificate by what came of it.",
		}, []string{"result"}),
		Refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_transport_refused_calls_total", Help: "Calls refused before they reached the service, by cause.",
		}, []string{"cause"}),
		Panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crossdock_transport_panics_total", Help: "Calls that ended in a panic of the service.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.Connections, m.Refused, m.Panics)
	}
	return m
}
