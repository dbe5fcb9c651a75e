package space

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The states of a disk.
const (
	OK      = "ok"
	Near    = "near"    // a threshold is not far
	Stopped = "stopped" // systems are refused, mail is not
	Closed  = "closed"  // mail is refused too
)

// Status is how the disk is.
type Status struct {
	State   string           `json:"state"`
	Why     string           `json:"why,omitempty"`
	Since   time.Time        `json:"since,omitzero"` // of the stop
	Level   float64          `json:"level"`          // of the journal's quota
	Free    int64            `json:"free"`
	Reserve int64            `json:"reserve"` // in force
	Stop    float64          `json:"stop"`
	Resume  float64          `json:"resume"`
	Outage  Outage           `json:"outage"`
	Others  map[string]Other `json:"others,omitempty"`
}

// Other is a file system that is only looked at.
type Other struct {
	Dir    string `json:"dir"`
	Free   int64  `json:"free"`
	Scarce bool   `json:"scarce,omitempty"`
}

// Status tells how the disk is now; the estimate is as old as the last look.
func (w *Watch) Status() Status {
	u := w.cfg.Usage()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Status{State: OK, Level: u.level(), Free: u.Free, Reserve: w.reserve, Stop: w.cfg.Stop, Resume: w.cfg.Resume, Outage: w.outage}
	switch {
	case w.gone.on:
		s.State, s.Why, s.Since = Closed, w.gone.why, w.gone.since
	case w.stopped[Received].on:
		s.State, s.Why, s.Since = Closed, w.stopped[Received].why, w.stopped[Received].since
	case w.stopped[Business].on:
		s.State, s.Why, s.Since = Stopped, w.stopped[Business].why, w.stopped[Business].since
	case s.Level >= w.cfg.Resume || float64(u.Free) < nearFree*float64(w.reserve):
		s.State = Near
	}
	for what, system := range w.others {
		if s.Others == nil {
			s.Others = map[string]Other{}
		}
		s.Others[what] = Other{Dir: w.cfg.Others[what], Free: system.Free, Scarce: system.Free < min(w.cfg.Reserve, system.Total/reserveParts)}
	}
	return s
}

// Metrics shows the disk to Prometheus.
type Metrics struct {
	free, reserve, hours, rate, room prometheus.Gauge
	stopped                          *prometheus.GaugeVec
	stops                            *prometheus.CounterVec
}

// NewMetrics registers the metrics; nil registers nothing.
func NewMetrics(r prometheus.Registerer) *Metrics {
	f := promauto.With(r)
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Namespace: "crossdock", Subsystem: "disk", Name: name, Help: help})
	}
	m := &Metrics{
		free:    gauge("free_bytes", "Free bytes of the file system of the data directory."),
		reserve: gauge("reserve_bytes", "Free bytes below which the site's systems are refused."),
		hours:   gauge("outage_hours", "Hours of a cut line that the disk holds at the present rate; -1 while that is not known."),
		rate:    gauge("growth_bytes_per_hour", "Bytes that the site's own events take in an hour, a mean over the last hours."),
		room:    gauge("room_bytes", "Bytes that the journal can still grow by before the site's systems are refused."),
		stopped: f.NewGaugeVec(prometheus.GaugeOpts{Namespace: "crossdock", Subsystem: "disk", Name: "stopped", Help: "1 while something is refused for want of room."}, []string{"what"}),
		stops:   f.NewCounterVec(prometheus.CounterOpts{Namespace: "crossdock", Subsystem: "disk", Name: "stops_total", Help: "How often something began to be refused for want of room."}, []string{"what"}),
	}
	m.hours.Set(-1)
	return m
}

func (m *Metrics) show(u Usage, reserve int64, o Outage) {
	m.free.Set(float64(u.Free))
	m.reserve.Set(float64(reserve))
	m.rate.Set(float64(o.BytesPerHour))
	m.room.Set(float64(o.Room))
	m.hours.Set(-1)
	if o.State == Known {
		m.hours.Set(o.Hours)
	}
}
