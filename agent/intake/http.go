package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/crossdock/crossdock/agent/httpserve"
	"github.com/crossdock/crossdock/protocol/contract"
)

const problemType = "application/problem+json"

// accepted is the answer for one event.
type accepted struct {
	ID       string `json:"id"`
	Position uint64 `json:"position"`
	Repeat   bool   `json:"repeat"`
}

// session is what the authentication of one request found.
type session struct {
	view   *view
	caller *caller
}

func (s *Service) routes() http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = echo.ExtractIPDirect() // never from a header that anyone can send
	e.HTTPErrorHandler = s.writeError
	e.Use(middleware.RecoverWithConfig(middleware.RecoverConfig{
		LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
			s.log.Error("a request made intake panic", "path", c.Path(), "error", err, "stack", string(stack))
			return err
		},
	}))
	// Each route is guarded, and not a group of them, where Echo would answer 404 for a wrong method.
	limit := middleware.BodyLimit(strconv.Itoa(MaxBatchBytes) + "B")
	e.POST("/v1/events", s.authenticated(s.postEvents), limit)
	e.GET("/v1/contracts", s.authenticated(s.listContracts), limit)
	e.GET("/v1/contracts/:name/:version", s.authenticated(s.showSchema), limit)
	if s.parts.Numbers != nil {
		e.POST("/v1/numbers/:range", s.authenticated(s.takeNumbers), limit)
	}
	if s.parts.Calls != nil {
		e.POST("/v1/carriers/:name/:operation", s.authenticated(s.callCarrier), limit)
		e.POST("/v1/tax/:operation", s.authenticated(s.callTax), limit)
		e.GET("/v1/calls", s.authenticated(s.listCalls), limit)
		e.GET("/v1/calls/:id", s.authenticated(s.showCall), limit)
	}
	return e
}

// authenticated lets only the systems of this site pass.
func (s *Service) authenticated(next func(c echo.Context, at session) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		v, p := s.current()
		if p != nil {
			return p
		}
		v, who, p := s.authenticate(v, c.Request().Header)
		if p != nil {
			return p
		}
		return next(c, session{v, who})
	}
}

func (s *Service) postEvents(c echo.Context, at session) error {
	started := s.parts.Now()
	r, header := c.Request(), c.Response().Header()

	// One event is paid for before the body is read, so that refused ones count too.
	p := at.caller.limiter.take(started, 1, 0)
	at.caller.limiter.describe(started, header)
	if p != nil {
		return p
	}
	m, p := modeOf(r.Header)
	if p != nil {
		return p
	}
	body, p := readBody(r, m.bodyLimit())
	if p != nil {
		return p
	}
	events, p := parse(m, r.Header, body)
	if p != nil {
		return p
	}
	if len(events) > 1 {
		now := s.parts.Now()
		p = at.caller.limiter.take(now, len(events), 1)
		at.caller.limiter.describe(now, header)
		if p != nil {
			return p
		}
	}
	admitted, p := s.admitAll(r.Context(), at.view, at.caller, events, m == batchMode)
	if p != nil {
		return p
	}
	receipts, p := s.submit(r.Context(), admitted, m == batchMode)
	if p != nil {
		return p
	}
	if l := lapseOf(admitted); l != nil {
		at.view.announce(l, header)
	}
	s.parts.Metrics.seconds.WithLabelValues(string(m)).Observe(s.parts.Now().Sub(started).Seconds())
	answers := make([]accepted, len(receipts))
	for i, one := range receipts {
		answers[i] = accepted{ID: admitted[i].Event.ID, Position: one.Pos, Repeat: one.Repeat}
	}
	if m == batchMode {
		return c.JSON(http.StatusAccepted, answers)
	}
	return c.JSON(http.StatusAccepted, answers[0])
}

// maxAhead bounds the memory that is made ready for a body before it comes.
const maxAhead = 64 << 10

// readBody reads at most limit bytes.
func readBody(r *http.Request, limit int64) ([]byte, *Problem) {
	if r.ContentLength > limit {
		return nil, problem(CodeTooLarge, "%d bytes, the limit is %d", r.ContentLength, limit)
	}
	// Memory for what is announced is made ahead, but not much of it: it may never come.
	var b bytes.Buffer
	b.Grow(int(min(max(r.ContentLength, 0), maxAhead)) + bytes.MinRead)
	_, err := b.ReadFrom(io.LimitReader(r.Body, limit+1))
	body := b.Bytes()
	var refused *echo.HTTPError
	switch {
	case errors.As(err, &refused) && refused.Code == http.StatusRequestEntityTooLarge, int64(len(body)) > limit:
		return nil, problem(CodeTooLarge, "the limit is %d bytes", limit)
	case err != nil:
		return nil, problem(CodeInvalidEvent, "the body did not arrive whole").because(err)
	}
	return body, nil
}

// announce tells a sender that its version goes, by RFC 9745 and RFC 8594. The policy
// does not say since when; what stands here is when this agent first heard of it.
func (v *view) announce(l *lapse, h http.Header) {
	h.Set("Deprecation", "@"+strconv.FormatInt(v.since.Unix(), 10))
	if !l.sunset.IsZero() {
		h.Set("Sunset", l.sunset.UTC().Format(http.TimeFormat))
	}
	if l.newest != nil {
		h.Set("Link", fmt.Sprintf("<%s>; rel=\"successor-version\"", schemaPath(l.newest)))
	}
}

func schemaPath(v *contract.Version) string { return "/v1/contracts/" + v.Contract + "/" + v.Semver }

// writeError is the one place where a refusal becomes an answer.
func (s *Service) writeError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	p := problemOf(err)
	s.parts.Metrics.refused.WithLabelValues(string(p.Code)).Inc()
	level := slog.LevelDebug
	if p.Status >= 500 && p.Code != CodeNotReady && p.Code != CodeTokensUnread { // of these it is told elsewhere
		level = slog.LevelWarn
	}
	s.log.Log(c.Request().Context(), level, "request refused", "code", string(p.Code), "detail", p.Detail, "cause", p.cause, "from", c.RealIP())
	h := c.Response().Header()
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="crossdock"`)
	}
	text, err := json.Marshal(p)
	if err != nil { // strings and numbers always marshal
		panic(err)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	if err := c.Blob(p.Status, problemType, text); err != nil {
		s.log.Debug("the answer could not be written", "error", err)
	}
}

func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var he *echo.HTTPError
	if errors.As(err, &he) {
		p := problem(codeOfStatus(he.Code), "%v", he.Message)
		return p.because(err)
	}
	return problem(CodeInternal, "see the agent's log").because(err)
}

// Listen opens the address and says which it is. Run does so itself if nobody did.
func (s *Service) Listen() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		l, err := net.Listen("tcp", s.cfg.Listen)
		if err != nil {
			return "", fmt.Errorf("intake: %w", err)
		}
		s.listener = l
	}
	return s.listener.Addr().String(), nil
}

// Run serves until ctx ends, then lets requests in flight finish.
func (s *Service) Run(ctx context.Context) error {
	addr, err := s.Listen()
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           s.http,
		TLSConfig:         s.cfg.TLS,
		ReadHeaderTimeout: s.cfg.ReadHeaderTimeout,
		ReadTimeout:       s.cfg.ReadTimeout,
		WriteTimeout:      s.cfg.WriteTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.log.Info("intake is open", "address", addr, "tls", s.cfg.TLS != nil)
	err = httpserve.Run(ctx, server, s.listener, s.cfg.ShutdownTimeout)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("intake: requests were cut off after %s: %w", s.cfg.ShutdownTimeout, err)
	case err != nil:
		return fmt.Errorf("intake: %w", err)
	}
	return nil
}
