package delivery

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

// The states of a system.
const (
	SystemOK            = "ok"
	SystemDeadLetters   = "dead letters" // it takes events, and some deliveries failed for good: somebody must look
	SystemRetrying      = "retrying"     // some deliveries failed and are tried again, or wait for those
	SystemThrottled     = "throttled"    // it asked everybody to wait
	SystemOpen          = "open"         // the breaker is open: not read for, probed
	SystemMisconfigured = "misconfigured"
	SystemNoDriver      = "no driver"
	SystemUnknown       = "unknown" // not in the policy of this site
	SystemHeld          = "held"    // it takes the place of another that is not done yet
	SystemFull          = "full"    // what is parked or dead takes as much room as it may: it is not read for
)

// SystemStatus is what one system looks like from here.
type SystemStatus struct {
	System      string    `json:"system"`
	State       string    `json:"state"`
	Held        string    `json:"held,omitempty"`      // why, when it is
	LastError   string    `json:"lastError,omitempty"` // none once all is well again
	LastErrorAt time.Time `json:"lastErrorAt,omitzero"`
	LastSuccess time.Time `json:"lastSuccess,omitzero"`
	NextTry     time.Time `json:"nextTry,omitzero"` // of a system that is in trouble
	Cursor      uint64    `json:"cursor"`
	Pending     uint64    `json:"pending"` // not yet delivered: in the journal or in memory; parked ones apart; an estimate
	Parked      int       `json:"parked"`
	DeadLetters int       `json:"deadLetters"` // open
	Delivered   uint64    `json:"delivered"`
	Shadow      uint64    `json:"shadow"`
	InFlight    int       `json:"inFlight"`
	Window      int       `json:"window"` // events read and not yet passed by the cursor
	OldestAgeMs int64     `json:"oldestAgeMs"`
}

// Status lists the systems, sorted by name.
func (e *Engine) Status() []SystemStatus {
	e.mu.Lock()
	couriers := make([]*courier, 0, len(e.couriers))
	for _, c := range e.couriers {
		couriers = append(couriers, c)
	}
	e.mu.Unlock()
	out := make([]SystemStatus, 0, len(couriers))
	for _, c := range couriers {
		c.mu.Lock()
		s := c.status
		c.mu.Unlock()
		s.System = c.name
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b SystemStatus) int { return strings.Compare(a.System, b.System) })
	return out
}

// publish shows the courier's state to Status and to the metrics.
func (c *courier) publish(now time.Time) {
	s := SystemStatus{
		State: c.state(), LastSuccess: c.row.LastSuccess, Cursor: c.row.Cursor,
		Parked: c.parked, DeadLetters: c.dead, Delivered: c.row.Delivered, Shadow: c.row.Shadow,
		InFlight: c.inflight, Window: c.window.count,
	}
	if s.State != SystemOK || c.errAt.After(s.LastSuccess) {
		s.LastError, s.LastErrorAt = c.lastErr, c.errAt
	}
	if h, ok := c.held(); ok {
		s.Held = h.Why()
	}
	if troubled[s.State] {
		s.NextTry = c.nextTry(now)
	}
	s.Pending, s.OldestAgeMs = uint64(c.window.undone), c.oldestAge(now).Milliseconds()
	if seen := c.seen.Load(); seen > c.admitted {
		s.Pending += seen - c.admitted
	}
	c.mu.Lock()
	c.status = s
	c.mu.Unlock()
	m := c.e.cfg.Metrics
	m.pending.WithLabelValues(c.name).Set(float64(s.Pending))
	m.parked.WithLabelValues(c.name).Set(float64(s.Parked))
	m.openDead.WithLabelValues(c.name).Set(float64(s.DeadLetters))
	m.window.WithLabelValues(c.name).Set(float64(s.Window))
	open := 0.0
	if s.State == SystemOpen {
		open = 1
	}
	m.open.WithLabelValues(c.name).Set(open)
}

// oldestAge is how long the event has been here that waits longest, dead letters apart.
func (c *courier) oldestAge(now time.Time) time.Duration {
	oldest := c.oldest
	if len(c.window.open) > 0 && (oldest.IsZero() || c.window.open[0].since.Before(oldest)) {
		oldest = c.window.open[0].since
	}
	if oldest.IsZero() {
		return 0
	}
	return max(now.Sub(oldest), 0)
}

func (c *courier) state() string {
	if _, held := c.held(); held {
		return SystemHeld
	}
	switch {
	case c.e.system(c.name) == nil:
		return SystemUnknown
	case c.gate.wrong == NoDriver:
		return SystemNoDriver
	case c.gate.wrong == Misconfigured:
		return SystemMisconfigured
	case c.gate.breaker.State() != gobreaker.StateClosed:
		return SystemOpen
	case c.gate.throttling():
		return SystemThrottled
	case c.overfull(time.Now()):
		return SystemFull
	case c.dead > 0:
		return SystemDeadLetters
	case c.timed.Len() > 0, c.parked > 0:
		return SystemRetrying
	}
	return SystemOK
}

// Metrics of this package.
type Metrics struct {
	attempts    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	shadows     *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	pending     *prometheus.GaugeVec
	parked      *prometheus.GaugeVec
	openDead    *prometheus.GaugeVec
	window      *prometheus.GaugeVec
	open        *prometheus.GaugeVec
	commits     prometheus.Histogram
}

// NewMetrics makes the metrics and registers them; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	const space, sub = "crossdock", "delivery"
	bySystem := []string{"system"}
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: space, Subsystem: sub, Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: space, Subsystem: sub, Name: name, Help: help}, bySystem)
	}
	m := &Metrics{
		attempts: counter("attempts_total", "Attempts to deliver, by outcome.", []string{"system", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: space, Subsystem: sub,
			Name: "attempt_duration_seconds", Help: "How long attempts took.", Buckets: prometheus.DefBuckets}, bySystem),
		shadows:     counter("shadow_total", "Shadow deliveries, by outcome.", []string{"system", "outcome"}),
		deadLetters: counter("dead_letters_total", "Deliveries that became dead letters.", bySystem),
		pending:     gauge("pending", "Events not yet delivered, parked ones apart; an estimate."),
		parked:      gauge("parked", "Events that wait in copies of their own."),
		openDead:    gauge("dead_letters_open", "Dead letters that nobody has resolved."),
		window:      gauge("window", "Events read and not yet passed by the cursor."),
		open:        gauge("breaker_open", "1 while the system's breaker is open."),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: space, Subsystem: sub,
			Name: "commit_changes", Help: "Changes stored with one sync.", Buckets: prometheus.ExponentialBuckets(1, 2, 10)}),
	}
	if reg != nil {
		reg.MustRegister(m.attempts, m.duration, m.shadows, m.deadLetters, m.pending, m.parked, m.openDead, m.window, m.open, m.commits)
	}
	return m
}

func (m *Metrics) attempt(system string, res *result) {
	outcome := "delivered"
	switch {
	case res.fault != "":
		outcome = "fault"
	case res.failure != nil:
		outcome = string(res.failure.Class)
	}
	m.attempts.WithLabelValues(system, outcome).Inc()
	m.duration.WithLabelValues(system).Observe(res.took.Seconds())
}

func (m *Metrics) shadow(system string, ok bool) {
	outcome := "delivered"
	if !ok {
		outcome = "failed"
	}
	m.shadows.WithLabelValues(system, outcome).Inc()
}
