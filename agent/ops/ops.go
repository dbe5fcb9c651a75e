// Package ops owns the agent's door for the people who operate it, on this machine only:
// metrics, health, status, and what the queue commands ask of a running agent.
//
// It refuses to know how anything it shows comes about. Its invariant: what changes or
// reveals events needs the token in the agent's data directory, so that only who may read
// that directory may do it.
package ops

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/crossdock/crossdock/agent/httpserve"
)

// stopGrace is for what is being answered at the end.
const stopGrace = 5 * time.Second

// ErrNotFound is what a Queue answers for something that is not there.
var ErrNotFound = errors.New("not found")

// ErrConflict is what a Queue answers for something that cannot be done as things are.
var ErrConflict = errors.New("not possible as things are")

// ErrInvalid is what Reload answers for a configuration that cannot be used.
var ErrInvalid = errors.New("refused")

// Queue is what the queue commands need.
type Queue interface {
	Inspect() (any, error)
	Verify() (any, error)
	// Export writes the events from a journal position on as JSON Lines.
	Export(w io.Writer, from uint64) error
	DeadLetters() (any, error)
	// Retry replays a dead letter; ErrNotFound, ErrConflict.
	Retry(ctx context.Context, id string, confirm bool) error
}

// Config is what the door shows.
type Config struct {
	Listen    string
	TokenFile string // made if it is not there
	Gatherer  prometheus.Gatherer
	Logger    *slog.Logger
	Status    func() any
	Ready     func() error
	Queue     Queue
	Calls     func(state string) (any, error) // to carriers and tax engines; of no state those that are open
	Vouch     func() error                    // for the numbers that are held; ErrConflict
	Documents func(ctx context.Context) (any, error)
	Doctor    func(ctx context.Context, fresh bool) (any, error) // examines what the agent leans on; fresh: now
	// Activate starts a plugin that was given up; ErrNotFound, ErrConflict.
	Activate func(plugin string) error
	Reload   func() (any, error) // reads the configuration again; ErrInvalid
	Versions Versions
	Page     http.Handler  // for people with a browser; it has a login of its own; nil: there is none
	Code     func() string // for one login to it
}

// pagePaths are the page's.
var pagePaths = []string{"/{$}", "/doctor", "/login", "/logout", "/style.css"}

// Server is the door. New binds the port; Run serves.
type Server struct {
	cfg      Config
	token    []byte
	listener net.Listener
	http     *http.Server
}

// New binds the port.
func New(cfg Config) (*Server, error) {
	token, err := token(cfg.TokenFile)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("ops.listen: %w", err)
	}
	s := &Server{cfg: cfg, token: token, listener: listener}
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10}
	return s, nil
}

// token reads the token, or makes one that only the agent's user can read.
func token(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(text))) >= 26 {
		return []byte(strings.TrimSpace(string(text))), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	fresh := []byte(rand.Text())
	return fresh, os.WriteFile(file, append(fresh, '\n'), 0o600)
}

// Addr is where the door is.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	err := httpserve.Run(ctx, s.http, s.listener, stopGrace)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // an export that goes on is cut
	}
	return err
}

// Close frees the port.
func (s *Server) Close() error {
	_ = s.listener.Close() // closed already if it was served
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /v1/status", s.meant(func(w http.ResponseWriter, _ *http.Request) { answer(w, s.cfg.Status(), nil) }))
	mux.HandleFunc("GET /v1/queue", s.meant(func(w http.ResponseWriter, _ *http.Request) {
		report, err := s.cfg.Queue.Inspect()
		answer(w, report, err)
	}))
	mux.HandleFunc("GET /v1/deadletters", s.guarded(func(w http.ResponseWriter, _ *http.Request) {
		letters, err := s.cfg.Queue.DeadLetters()
		answer(w, letters, err)
	}))
	mux.HandleFunc("POST /v1/queue/verify", s.guarded(func(w http.ResponseWriter, _ *http.Request) {
		report, err := s.cfg.Queue.Verify()
		answer(w, report, err)
	}))
	mux.HandleFunc("GET /v1/queue/export", s.guarded(s.export))
	mux.HandleFunc("POST /v1/deadletters/retry", s.guarded(func(w http.ResponseWriter, r *http.Request) {
		err := s.cfg.Queue.Retry(r.Context(), r.URL.Query().Get("id"), r.URL.Query().Get("confirm") == "true")
		answer(w, map[string]string{"state": "replaying"}, err)
	}))
	mux.HandleFunc("GET /v1/calls", s.guarded(func(w http.ResponseWriter, r *http.Request) {
		list, err := s.cfg.Calls(r.URL.Query().Get("state"))
		answer(w, list, err)
	}))
	mux.HandleFunc("GET /v1/documents", s.guarded(func(w http.ResponseWriter, r *http.Request) {
		report, err := s.cfg.Documents(r.Context())
		answer(w, report, err)
	}))
	mux.HandleFunc("GET /v1/doctor", s.guarded(func(w http.ResponseWriter, r *http.Request) {
		report, err := s.cfg.Doctor(r.Context(), r.URL.Query().Get("fresh") == "true")
		answer(w, report, err)
	}))
	mux.HandleFunc("GET /v1/goroutines", s.guarded(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_ = pprof.Lookup("goroutine").WriteTo(w, 1) // the client is gone if this fails
	}))
	mux.HandleFunc("POST /v1/numbers/vouch", s.guarded(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]string{"state": "vouched"}, s.cfg.Vouch())
	}))
	mux.HandleFunc("POST /v1/plugins/activate", s.guarded(func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]string{"state": "activated"}, s.cfg.Activate(r.URL.Query().Get("name")))
	}))
	mux.HandleFunc("POST /v1/reload", s.guarded(func(w http.ResponseWriter, _ *http.Request) {
		done, err := s.cfg.Reload()
		answer(w, done, err)
	}))
	s.versions(mux)
	if s.cfg.Page != nil {
		for _, path := range pagePaths {
			mux.Handle(path, s.cfg.Page)
		}
		mux.HandleFunc("POST /v1/page/code", s.guarded(func(w http.ResponseWriter, _ *http.Request) {
			answer(w, map[string]string{"code": s.cfg.Code()}, nil)
		}))
	}
	return here(http.NewCrossOriginProtection().Handler(mux))
}

// here refuses who was led to this machine by another's name: a page of somebody else's whose
// name was made to mean this machine would pass for one of ours.
func here(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if ip := net.ParseIP(strings.Trim(host, "[]")); !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback()) {
			problem(w, http.StatusMisdirectedRequest, "this door is for this machine only: ask it as 127.0.0.1 or localhost")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Holds reports whether this is the token of the data directory.
func (s *Server) Holds(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), s.token) == 1
}

// meant lets everybody through but who shows another token: that one takes this agent for
// another of this machine.
func (s *Server) meant(next http.HandlerFunc) http.HandlerFunc {
	guarded := s.guarded(next)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			next(w, r)
			return
		}
		guarded(w, r)
	}
}

// guarded lets only holders of the token through.
func (s *Server) guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !s.Holds(given) {
			problem(w, http.StatusUnauthorized, "the token in "+s.cfg.TokenFile+" is required")
			return
		}
		next(w, r)
	}
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := s.cfg.Ready(); err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	fmt.Fprintln(w, "ready")
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
	if err != nil && r.URL.Query().Has("from") {
		problem(w, http.StatusBadRequest, "from is a journal position, a whole number")
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	if err := s.cfg.Queue.Export(w, from); err != nil {
		s.cfg.Logger.Warn("export ended early", "err", err)
		panic(http.ErrAbortHandler) // the reader must see that the answer is not whole
	}
}

func answer(w http.ResponseWriter, v any, err error) {
	switch {
	case errors.Is(err, ErrNotFound):
		problem(w, http.StatusNotFound, err.Error())
	case errors.Is(err, ErrConflict):
		problem(w, http.StatusConflict, err.Error())
	case errors.Is(err, ErrInvalid):
		problem(w, http.StatusUnprocessableEntity, err.Error())
	case err != nil:
		problem(w, http.StatusInternalServerError, err.Error())
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the client is gone if this fails
	}
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}
