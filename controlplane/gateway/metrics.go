package gateway

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what goes through a gateway.
type Metrics struct {
	Streams  prometheus.Gauge       // agents connected
	Blocks   prometheus.Counter     // taken from agents to the state
	Mail     prometheus.Counter     // pieces sent to agents
	Enrolled *prometheus.CounterVec // by result: ok, or the cause of the refusal
	Refused  *prometheus.CounterVec // calls, by cause
	Epochs   prometheus.Counter     // hellos in another epoch than the one granted

	ReleaseBytes prometheus.Counter // of files of releases, given to agents

	Recoveries *prometheus.CounterVec // what a copy, a restore or damage made necessary, by kind
}

// NewMetrics makes the metrics and registers them where reg is not nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "crossdock_gateway_" + name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "crossdock_gateway_" + name, Help: help}, []string{label})
	}
	m := &Metrics{
		Streams:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "crossdock_gateway_agents_connected", Help: "Agents with an open stream."}),
		Blocks:   counter("blocks_total", "Blocks taken from agents."),
		Mail:     counter("mail_total", "Pieces of mail sent to agents."),
		Enrolled: vector("enrolments_total", "Attempts to enrol by result.", "result"),
		Refused:  vector("refused_calls_total", "Calls of agents that were refused, by cause.", "cause"),
		Epochs:   counter("epoch_mismatches_total", "Hellos of agents in another epoch than the one granted."),

		ReleaseBytes: counter("release_bytes_total", "Bytes of files of releases given to agents."),

		Recoveries: vector("recoveries_total", "Recoveries after a copy, a restore or damage, by kind.", "kind"),
	}
	if reg != nil {
		reg.MustRegister(m.Streams, m.Blocks, m.Mail, m.Enrolled, m.Refused, m.Epochs, m.ReleaseBytes, m.Recoveries)
	}
	return m
}
