package calls

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// View is a call as it is shown.
type View struct {
	ID          string          `json:"id"`
	System      string          `json:"system"`
	Kind        string          `json:"kind"`
	Plugin      string          `json:"plugin"`
	Operation   string          `json:"operation"`
	Reference   string          `json:"reference"`
	State       State           `json:"state"`
	Attempts    int             `json:"attempts"`
	Began       time.Time       `json:"began"`
	Ended       time.Time       `json:"ended,omitzero"`
	Deadline    time.Time       `json:"deadline,omitzero"`
	Late        bool            `json:"late,omitempty"`
	AgeMs       int64           `json:"ageMs"` // since it was asked for
	Failure     *sdk.Error      `json:"failure,omitempty"`
	Answer      json.RawMessage `json:"answer,omitempty"`
	Provisional json.RawMessage `json:"provisional,omitempty"`
	Engine      string          `json:"engine,omitempty"` // that stood in
	Difference  *Difference     `json:"difference,omitempty"`
}

func (s *Service) view(r *record) View {
	now := s.cfg.Now()
	return View{ID: r.ID, System: r.System, Kind: r.Kind, Plugin: r.Plugin, Operation: r.Operation, Reference: r.Reference, State: r.State,
		Attempts: r.Attempts, Began: r.Began, Ended: r.Ended, Deadline: r.Deadline, Late: r.State == Queued && !now.Before(r.Deadline),
		AgeMs: now.Sub(r.Began).Milliseconds(), Failure: r.Failure, Answer: r.Answer, Provisional: r.Provisional, Engine: r.Engine, Difference: r.Difference}
}

// Call shows a call; system is who asks, and sees its own only; empty: all.
func (s *Service) Call(system, id string) (*View, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.left()
	r, err := s.store.read(id)
	if errors.Is(err, errDamaged) {
		s.tellDamaged([]string{id})
		return nil, refuse(NoSuch, "call %q cannot be read any more", id)
	} else if err != nil {
		return nil, s.unkept(err)
	}
	if r == nil || system != "" && r.System != system {
		return nil, refuse(NoSuch, "there is no call %q", id)
	}
	v := s.view(r)
	return &v, nil
}

// Page is the part of a list that is wanted.
type Page struct {
	Limit  int    // of calls; 0: as many as a list may have of what is open, PageSize of what is finished
	Cursor string // what the page before gave; empty: from the start
}

// Calls lists the calls in a state, what is open with the oldest first, what is finished with
// the newest; of no state those that are open. next is the cursor of the next page; empty:
// this is the last.
func (s *Service) Calls(system string, state State, page Page) (out []View, next string, err error) {
	if err := s.enter(); err != nil {
		return nil, "", err
	}
	defer s.left()
	switch {
	case state != "" && !state.Known():
		return nil, "", refuse(Invalid, "a call is begun, unknown, queued, done, failed or retry")
	case page.Limit < 0 || page.Limit > MaxList:
		return nil, "", refuse(Invalid, "a list has 1 to %d calls", MaxList)
	}
	wanted := func(r *record) bool {
		return (system == "" || r.System == system) && (state == "" || r.State == state)
	}
	out = []View{}
	if state == "" || state.open() {
		most := cmp.Or(page.Limit, MaxList)
		for _, r := range s.store.waiting() {
			if wanted(&r) && len(out) < most {
				out = append(out, s.view(&r))
			}
		}
		return out, "", nil
	}
	ended, next, err := s.store.finished(page.Cursor, cmp.Or(page.Limit, PageSize), wanted)
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return nil, "", refusal
	} else if err != nil {
		return nil, "", s.unkept(err)
	}
	for i := range ended {
		out = append(out, s.view(&ended[i]))
	}
	return out, next, nil
}

// Status is how the calls of a site stand.
type Status struct {
	Queued      int               `json:"queued"`
	Late        int               `json:"late"` // of them, past their deadline
	Unknown     int               `json:"unknown"`
	Begun       int               `json:"begun"`
	OldestMs    int64             `json:"oldestMs"` // of these
	Kept        int               `json:"kept"`     // finished ones
	KeptBytes   int64             `json:"keptBytes"`
	KeptQuota   int64             `json:"keptQuota"`
	Leaving     int               `json:"leaving"`               // events that wait
	Unpublished map[string]uint64 `json:"unpublished,omitempty"` // events without a contract in the policy, by type, since the start
	Unkept      uint64            `json:"unkept,omitempty"`      // papers that could not be kept, since the start
	Doubt       bool              `json:"doubt,omitempty"`       // calls may have been made that are not known here
}

// Status tells how the calls stand.
func (s *Service) Status() Status {
	if s.enter() != nil {
		return Status{}
	}
	defer s.left()
	now := s.cfg.Now()
	out := Status{KeptQuota: s.quota.Load(), Leaving: s.store.leavings(), Doubt: s.store.doubts(now)}
	_, out.Kept, out.KeptBytes = s.store.count()
	for _, r := range s.store.waiting() {
		out.OldestMs = max(out.OldestMs, now.Sub(r.Began).Milliseconds())
		switch r.State {
		case Queued:
			out.Queued++
			if !now.Before(r.Deadline) {
				out.Late++
			}
		case Unknown:
			out.Unknown++
		default:
			out.Begun++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Unkept = s.undocuments
	if len(s.unpublished) > 0 {
		out.Unpublished = maps.Clone(s.unpublished)
	}
	return out
}

// Metrics counts calls.
type Metrics struct {
	made    *prometheus.CounterVec   // calls to plugins, by plugin, operation and class of their end
	seconds *prometheus.HistogramVec // of a call to a plugin
	results *prometheus.CounterVec   // calls that ended, by plugin, operation and state
	open    *prometheus.GaugeVec     // by state
	kept    prometheus.Gauge         // bytes
}

// NewMetrics makes the metrics and registers them; nil registers nowhere.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		made: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "crossdock_calls_made_total",
			Help: "Calls to plugins by the class of their failure; ok if they did not fail."}, []string{"plugin", "operation", "class"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "crossdock_calls_seconds", Help: "Time that a plugin took for a call.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"plugin", "operation"}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "crossdock_calls_ended_total",
			Help: "Journalled calls that ended, by what came of them."}, []string{"plugin", "operation", "state"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "crossdock_calls_open",
			Help: "Journalled calls that are being made, wait or are in doubt."}, []string{"state"}),
		kept: prometheus.NewGauge(prometheus.GaugeOpts{Name: "crossdock_calls_kept_bytes", Help: "Size of the finished calls that are kept."}),
	}
	if r != nil {
		r.MustRegister(m.made, m.seconds, m.results, m.open, m.kept)
	}
	return m
}

// classes are the labels of made: a plugin may answer with any class, and each would be one more.
var classes = []sdk.Class{sdk.Validation, sdk.Auth, sdk.NotServiced, sdk.NotSupported, sdk.Expired, sdk.Duplicate, sdk.Conflict, sdk.NotFound,
	sdk.Throttled, sdk.Unavailable, sdk.UnknownOutcome}

func (m *Metrics) called(plugin, operation string, err error, took time.Duration) {
	class := "ok"
	if err != nil {
		class = string(sdk.Internal)
		if c := classOf(err); slices.Contains(classes, c) {
			class = string(c)
		}
	}
	m.made.WithLabelValues(plugin, operation, class).Inc()
	m.seconds.WithLabelValues(plugin, operation).Observe(took.Seconds())
}

func (m *Metrics) ended(call *record) {
	m.results.WithLabelValues(call.Plugin, call.Operation, string(call.State)).Inc()
}

// measure brings the gauges up to date.
func (s *Service) measure() {
	st := s.Status()
	s.cfg.Metrics.open.WithLabelValues(string(Queued)).Set(float64(st.Queued))
	s.cfg.Metrics.open.WithLabelValues(string(Unknown)).Set(float64(st.Unknown))
	s.cfg.Metrics.open.WithLabelValues(string(Begun)).Set(float64(st.Begun))
	s.cfg.Metrics.kept.Set(float64(st.KeptBytes))
}
