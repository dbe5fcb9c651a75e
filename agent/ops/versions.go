package ops

import (
	"io"
	"net/http"
	"time"
)

const (
	maxRelease     = 300 << 20 // bytes of a release that is brought here
	releaseTimeout = 10 * time.Minute
)

// Versions is what the commands about versions need.
type Versions interface {
	Report() (any, error)
	// Upgrade takes a release and has it take over. It gives the version; ErrConflict.
	Upgrade(in io.Reader) (string, error)
	// Rollback has the version before take over; ErrConflict.
	Rollback(why string) error
}

func (s *Server) versions(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/versions", s.guarded(func(w http.ResponseWriter, _ *http.Request) {
		report, err := s.cfg.Versions.Report()
		answer(w, report, err)
	}))
	mux.HandleFunc("POST /v1/versions/upgrade", s.guarded(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(releaseTimeout)) // else the server's holds
		version, err := s.cfg.Versions.Upgrade(http.MaxBytesReader(w, r.Body, maxRelease))
		answer(w, map[string]string{"version": version, "state": "trial"}, err)
	}))
	mux.HandleFunc("POST /v1/versions/rollback", s.guarded(func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]string{"state": "rolled-back"}, s.cfg.Versions.Rollback(r.URL.Query().Get("why")))
	}))
}
