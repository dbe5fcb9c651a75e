package uplink

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what goes over the line.
type Metrics struct {
	up          *prometheus.GaugeVec
	sessions    *prometheus.CounterVec
	blocks      *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	held        *prometheus.CounterVec
	waitingDisk prometheus.Counter
}

// NewMetrics makes the metrics and registers them; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crossdock_agent_link_up", Help: "1 while a session with the control plane is open, by transport."}, []string{"transport"}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_agent_sessions_total", Help: "Sessions opened, by transport."}, []string{"transport"}),
		blocks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_agent_blocks_total", Help: "Blocks pushed and received."}, []string{"direction"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_agent_block_bytes_total", Help: "Bytes of blocks pushed and received."}, []string{"direction"}),
		held: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_agent_lane_held_back_total", Help: "Answers that a destination's mailbox is full or refused."}, []string{"destination"}),
		waitingDisk: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crossdock_agent_pull_no_room_total", Help: "Times that mail had to wait because the journal was full."}),
	}
	if reg != nil {
		reg.MustRegister(m.up, m.sessions, m.blocks, m.bytes, m.held, m.waitingDisk)
	}
	return m
}

func (m *Metrics) connected(transport string) {
	m.up.Reset()
	m.up.WithLabelValues(transport).Set(1)
	m.sessions.WithLabelValues(transport).Inc()
}

func (m *Metrics) disconnected() { m.up.Reset() }

func (m *Metrics) pushed(blocks, bytes int) {
	m.blocks.WithLabelValues("push").Add(float64(blocks))
	m.bytes.WithLabelValues("push").Add(float64(bytes))
}

func (m *Metrics) received(bytes int) {
	m.blocks.WithLabelValues("pull").Inc()
	m.bytes.WithLabelValues("pull").Add(float64(bytes))
}

func (m *Metrics) heldBack(destination string) { m.held.WithLabelValues(destination).Inc() }

func (m *Metrics) stopped() { m.waitingDisk.Inc() }
