package journal

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what the journal does.
type Metrics struct {
	accepted, received, repeats, conflicts, full, gaps, commits, bytes prometheus.Counter
	level                                                              prometheus.Gauge
}

// NewMetrics registers the journal's metrics; nil registers nothing.
func NewMetrics(r prometheus.Registerer) *Metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "crossdock", Subsystem: "journal", Name: name, Help: help})
	}
	return &Metrics{
		accepted:  counter("accepted_total", "Events accepted here from systems."),
		received:  counter("received_total", "Events received from other agents."),
		repeats:   counter("repeats_total", "Events that had been accepted before."),
		conflicts: counter("conflicts_total", "Events refused because their id came before with other content."),
		full:      counter("full_total", "Writes refused for lack of space."),
		gaps:      counter("gaps_total", "Gap records of inbound lanes."),
		commits:   counter("commits_total", "Commits, each with one fsync."),
		bytes:     counter("bytes_total", "Bytes of committed records."),
		level: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "crossdock", Subsystem: "journal", Name: "level", Help: "Used part of the quota, 0 to 1.",
		}),
	}
}

// count adds what one commit did to the totals and the metrics.
func (j *Journal) count(d Stats) {
	j.mu.Lock()
	s := &j.stats
	s.Accepted += d.Accepted
	s.Received += d.Received
	s.Repeats += d.Repeats
	s.Conflicts += d.Conflicts
	s.Full += d.Full
	s.Gaps += d.Gaps
	s.Commits += d.Commits
	s.Bytes += d.Bytes
	s.Own += d.Own
	s.Level = d.Level
	j.mu.Unlock()
	m := j.cfg.Metrics
	m.accepted.Add(float64(d.Accepted))
	m.received.Add(float64(d.Received))
	m.repeats.Add(float64(d.Repeats))
	m.conflicts.Add(float64(d.Conflicts))
	m.full.Add(float64(d.Full))
	m.gaps.Add(float64(d.Gaps))
	m.commits.Add(float64(d.Commits))
	m.bytes.Add(float64(d.Bytes))
	m.level.Set(d.Level)
}

// Stats are the totals since the start.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	s := j.stats
	j.mu.Unlock()
	s.Level = j.cfg.Log.Level()
	return s
}
