package api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what the API counts.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	denied   prometheus.Counter
}

// NewMetrics registers the API's metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crossdock_api_requests_total", Help: "API requests by route and status.",
		}, []string{"method", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "crossdock_api_request_duration_seconds", Help: "Time to answer an API request.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10},
		}, []string{"method", "route"}),
		denied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crossdock_api_auth_failures_total", Help: "API requests without a known token.",
		}),
	}
	registry.MustRegister(m.requests, m.seconds, m.denied)
	return m
}

func (m *Metrics) authFailed() {
	if m != nil {
		m.denied.Inc()
	}
}

func (m *Metrics) answered(method, route string, status int, took time.Duration) {
	if m == nil {
		return
	}
	if route == "" {
		route = "none" // what nobody routes must not become labels
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(method, route).Observe(took.Seconds())
}

// observe counts every request, and writes the problem itself so that it sees the status.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		begin := time.Now()
		if err := next(c); err != nil {
			c.Error(err)
		}
		route := c.Path()
		method := c.Request().Method
		if c.Response().Status == http.StatusNotFound && c.Get(routed) == nil {
			route = ""
		}
		if !knownMethod(method) {
			method = "other"
		}
		s.metrics.answered(method, route, c.Response().Status, time.Since(begin))
		return nil
	}
}

func knownMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions:
		return true
	}
	return false
}

// recover turns a panic of a handler into a logged internal problem.
func (s *Server) recover(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if r := recover(); r != nil {
				if r == any(http.ErrAbortHandler) { //nolint:errorlint // a panic value is compared as it is
					panic(r)
				}
				s.log.Error("a handler panicked", "route", c.Path(), "panic", r, "stack", string(debug.Stack()))
				err = fmt.Errorf("panic: %v", r)
			}
		}()
		return next(c)
	}
}

func (s *Server) security(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		setSecurityHeaders(c.Response().Header())
		return next(c)
	}
}

// setSecurityHeaders: an answer is data, never a page, and holds what must not be cached.
func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

func newTraceID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails: the process ends when the system has no randomness
	return hex.EncodeToString(id[:])
}
