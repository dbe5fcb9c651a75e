package intake

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what passes the door and what does not.
type Metrics struct {
	accepted *prometheus.CounterVec   // events, by system and contract
	repeats  *prometheus.CounterVec   // of them, those that the journal held already, by system
	refused  *prometheus.CounterVec   // requests, by code
	seconds  *prometheus.HistogramVec // of a request, by mode
}

// NewMetrics makes the metrics and registers them; nil registers nowhere.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_intake_accepted_events_total", Help: "Events that the journal confirmed.",
		}, []string{"system", "contract"}),
		repeats: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_intake_repeated_events_total", Help: "Accepted events that the journal held already.",
		}, []string{"system"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_intake_refused_requests_total", Help: "Refused requests and driver submissions by problem code.",
		}, []string{"code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "crossdock_intake_seconds", Help: "Time from the request's head to its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"mode"}),
	}
	if r != nil {
		r.MustRegister(m.accepted, m.repeats, m.refused, m.seconds)
	}
	return m
}
