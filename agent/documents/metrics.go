package documents

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what the store does.
type Metrics struct {
	put, refused, received, damaged, chunksSent, chunksReceived prometheus.Counter
	held, bytes, quota, wanted                                  prometheus.Gauge
}

// NewMetrics registers the store's metrics; nil registers nothing.
func NewMetrics(r prometheus.Registerer) *Metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "crossdock", Subsystem: "documents", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Namespace: "crossdock", Subsystem: "documents", Name: name, Help: help})
	}
	return &Metrics{
		put:            counter("put_total", "Documents put at this site."),
		refused:        counter("refused_total", "Documents refused for lack of room."),
		received:       counter("received_total", "Documents received from other agents."),
		damaged:        counter("damaged_total", "Documents found damaged."),
		chunksSent:     counter("chunks_sent_total", "Pieces of documents put into the lanes."),
		chunksReceived: counter("chunks_received_total", "Pieces of documents received."),
		held:           gauge("held", "Documents that are here."),
		bytes:          gauge("bytes", "Bytes of documents and of pieces."),
		quota:          gauge("quota_bytes", "Bytes that they may have."),
		wanted:         gauge("missing", "Documents that events wait for."),
	}
}
