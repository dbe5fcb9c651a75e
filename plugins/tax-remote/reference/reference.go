// Package reference is the remote side of the protocol in openapi.yaml, over any tax engine of
// this machine: for demos, for tests, and for whoever writes an adapter to compare with.
//
// It owns the way from HTTP to an engine and back, and refuses to know any tax or any account.
// Its invariant: each answer that is no result is an error whose class says what was done.
package reference

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// maxRequest is how many bytes of a request are read, as many as a plugin can be asked with.
const maxRequest = sdk.MaxMessageSize

// statuses are those of the classes.
var statuses = map[sdk.Class]int{
	sdk.Validation: http.StatusBadRequest, sdk.Auth: http.StatusUnauthorized, sdk.NotFound: http.StatusNotFound,
	sdk.Duplicate: http.StatusConflict, sdk.Conflict: http.StatusConflict, sdk.Expired: http.StatusGone,
	sdk.NotServiced: http.StatusUnprocessableEntity, sdk.Throttled: http.StatusTooManyRequests, sdk.Internal: http.StatusInternalServerError,
	sdk.NotSupported: http.StatusNotImplemented, sdk.Unavailable: http.StatusServiceUnavailable, sdk.UnknownOutcome: http.StatusGatewayTimeout,
}

// server serves an engine.
type server struct {
	engine  tax.Engine
	allowed func(token string) bool
	log     *slog.Logger
}

// Handler serves a configured engine to whoever has a token that is allowed.
func Handler(engine tax.Engine, allowed func(token string) bool, log *slog.Logger) http.Handler {
	s := &server{engine, allowed, log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/description", func(w http.ResponseWriter, r *http.Request) { s.describe(w, r) })
	serve(mux, s, tax.OpEstimate, false, engine.Estimate)
	serve(mux, s, tax.OpFinalise, true, engine.Finalise)
	serve(mux, s, tax.OpAdjust, true, engine.Adjust)
	serve(mux, s, tax.OpVoid, true, engine.Void)
	serve(mux, s, tax.OpGetByReference, false, func(ctx context.Context, r *byReference) (*tax.Result, error) {
		return engine.GetByReference(ctx, r.Reference)
	})
	serve(mux, s, tax.OpValidateTaxID, false, engine.ValidateTaxID)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, sdk.Errorf(sdk.NotSupported, "there is no %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// byReference is what get-by-reference is asked with.
type byReference struct {
	Reference string `json:"reference"`
}

// authorised answers a caller who is not let in.
func (s *server) authorised(w http.ResponseWriter, r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || !s.allowed(token) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="tax"`)
		s.refuse(w, sdk.Errorf(sdk.Auth, "the token is missing or not taken"))
		return false
	}
	return true
}

func (s *server) describe(w http.ResponseWriter, r *http.Request) {
	if !s.authorised(w, r) {
		return
	}
	d, err := s.engine.Describe(r.Context())
	if err != nil {
		s.refuse(w, sdk.AsError(err))
		return
	}
	out := *d
	out.Config = nil // how the engine is set up is nobody's business here
	s.answer(w, http.StatusOK, &out)
}

// serve serves one operation. What leaves a mark and fails without saying what it did may have
// done it.
func serve[In, Out any](mux *http.ServeMux, s *server, name string, marks bool, do func(context.Context, *In) (*Out, error)) {
	mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		if !s.authorised(w, r) {
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		var large *http.MaxBytesError
		switch {
		case errors.As(err, &large):
			s.refuse(w, sdk.Errorf(sdk.Validation, "the request has more than %d bytes", maxRequest).At("lines"))
			return
		case err != nil:
			return // there is nobody left to answer
		}
		in := new(In)
		if err := sdk.ReadJSON(body, in); err != nil {
			s.refuse(w, sdk.AsError(err))
			return
		}
		out, err := do(r.Context(), in)
		if err != nil {
			e := sdk.AsError(err)
			if marks && e.Class == sdk.Internal {
				e.Class = sdk.UnknownOutcome
			}
			s.refuse(w, e)
			return
		}
		s.answer(w, http.StatusOK, out)
	})
}

func (s *server) refuse(w http.ResponseWriter, e *sdk.Error) {
	e = e.Bounded()
	if e.RetryAfter > 0 {
		seconds := math.Ceil(time.Duration(e.RetryAfter).Seconds())
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	s.answer(w, statuses[e.Class], e)
}

func (s *server) answer(w http.ResponseWriter, status int, what any) {
	text, err := json.Marshal(what)
	if err != nil {
		s.log.Error("an answer cannot be written", "err", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(text); err != nil {
		s.log.Info("an answer did not arrive", "err", err)
	}
}
