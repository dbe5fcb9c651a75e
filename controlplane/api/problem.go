package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/crossdock/crossdock/controlplane/model"
)

// problemBase begins the stable URI of every kind of problem.
const problemBase = "https://crossdock.dev/problems/"

// Codes that only this door has, beside those of model.
const (
	codeInternal    = "internal"
	codeMediaType   = "unsupported_media_type"
	codeCrossOrigin = "cross_origin"
)

var problemKinds = map[string]struct {
	status int
	title  string
}{
	string(model.Invalid):      {http.StatusBadRequest, "The request is not valid"},
	string(model.NotFound):     {http.StatusNotFound, "There is no such thing"},
	string(model.Conflict):     {http.StatusConflict, "The request conflicts with what is there"},
	string(model.Forbidden):    {http.StatusForbidden, "This is not allowed to you"},
	string(model.Unauthorized): {http.StatusUnauthorized, "Say who you are"},
	string(model.TooLarge):     {http.StatusRequestEntityTooLarge, "The request is too large"},
	string(model.Unavailable):  {http.StatusServiceUnavailable, "Not done; try again"},
	string(model.Unknown):      {http.StatusGatewayTimeout, "It may or may not have been done"},
	codeInternal:               {http.StatusInternalServerError, "Something failed inside"},
	codeMediaType:              {http.StatusUnsupportedMediaType, "The content type is not taken here"},
	codeCrossOrigin:            {http.StatusForbidden, "Requests from other sites are refused"},
}

// itemError is a refusal that names several places in the request.
type itemError struct {
	cause *model.Error
	items []ProblemItem
}

func (e *itemError) Error() string { return e.cause.Error() }
func (e *itemError) Unwrap() error { return e.cause }

// problemOf translates any error. What has no code is an internal fault, whose text stays
// in the log.
func problemOf(err error) Problem {
	var (
		coded *model.Error
		items *itemError
		large *http.MaxBytesError
		route *echo.HTTPError
	)
	switch {
	case errors.As(err, &items):
		p := problemFor(string(items.cause.Code), items.cause.Text)
		p.Errors = items.items
		return p
	case errors.As(err, &coded):
		return problemFor(string(coded.Code), coded.Text)
	case errors.As(err, &large):
		return problemFor(string(model.TooLarge), "the body is larger than this call takes")
	case errors.As(err, &route):
		return problemOfRoute(route)
	}
	return problemFor(codeInternal, "the node's log has the cause under this traceId")
}

// problemOfRoute translates what the router and the generated code refuse.
func problemOfRoute(err *echo.HTTPError) Problem {
	switch {
	case err.Code == http.StatusNotFound, err.Code == http.StatusMethodNotAllowed:
		return problemFor(string(model.NotFound), "there is no such path, or it does not take this method; the API begins at "+BasePath)
	case err.Code == http.StatusUnsupportedMediaType:
		return problemFor(codeMediaType, "send application/json")
	case err.Code >= 400 && err.Code < 500:
		text, _ := err.Message.(string)
		return problemFor(string(model.Invalid), text)
	}
	return problemFor(codeInternal, "the node's log has the cause under this traceId")
}

func problemFor(code, detail string) Problem {
	kind, known := problemKinds[code]
	if !known {
		code = codeInternal
		kind = problemKinds[code]
	}
	return Problem{Type: problemBase + code, Title: kind.title, Status: kind.status, Code: code, Detail: detail}
}

// writeProblem is where every error of a handler ends.
func (s *Server) writeProblem(err error, c echo.Context) {
	if c.Response().Committed {
		s.log.Warn("an answer was cut off", "route", c.Path(), "error", err)
		return
	}
	p := problemOf(err)
	if p.Code == string(model.Unknown) {
		p.Detail += unknownAdvice(c.Request())
	}
	p.Detail += s.roleAdvice(model.Lacking(err))
	p.Instance = c.Request().URL.Path
	p.TraceID = traceID(c.Request())
	level := slog.LevelDebug
	if p.Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	s.log.Log(c.Request().Context(), level, "request refused", "method", c.Request().Method, "path", p.Instance,
		"code", p.Code, "traceId", p.TraceID, "error", err)
	send(c.Response(), p)
}

// unknownAdvice says how to find out whether a change was made.
func unknownAdvice(r *http.Request) string {
	if r.Header.Get(idempotencyHeader) != "" {
		return "; it may or may not have been done: send the same again with the same Idempotency-Key, then it is done once"
	}
	return "; it may or may not have been done: look before you send it again, and give an Idempotency-Key next time, which makes a repeat harmless"
}

// maxHolders bounds whom a refusal names.
const maxHolders = 5

// roleAdvice says who has one of the roles that somebody lacks, and how to give it.
func (s *Server) roleAdvice(roles []model.Role) string {
	if len(roles) == 0 {
		return ""
	}
	var names []string
	for _, p := range s.store.Principals() {
		if !p.Disabled && slices.ContainsFunc(roles, p.Has) {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	holders := strings.Join(names[:min(len(names), maxHolders)], ", ")
	switch {
	case len(names) == 0:
		holders = "nobody has it"
	case len(names) == 1:
		holders += " has it"
	case len(names) > maxHolders:
		holders += fmt.Sprintf(" and %d more have it", len(names)-maxHolders)
	default:
		holders += " have it"
	}
	if cluster, _ := s.store.Cluster(); cluster.Approvals == model.ApprovalsDual && (slices.Contains(roles, model.Author) || slices.Contains(roles, model.Approver)) {
		holders += ". Approvals are dual: one person proposes and another approves"
	}
	return fmt.Sprintf("; %s. An administrator adds a person who has it: crossdock principals add NAME --role %s", holders, roles[0])
}

func send(w http.ResponseWriter, p Problem) {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(text) // the client is gone if this fails
}

func (s *Server) denyCrossOrigin(w http.ResponseWriter, r *http.Request) {
	setSecurityHeaders(w.Header())
	p := problemFor(codeCrossOrigin, "a page of another origin may not change anything here")
	p.Instance, p.TraceID = r.URL.Path, traceID(r)
	send(w, p)
}

// traceID takes the caller's trace, so that one id leads through both logs, or begins one.
func traceID(r *http.Request) string {
	const version, id = 2, 32 // digits in traceparent: 00-<id>-<span>-<flags>
	parts := strings.Split(r.Header.Get("traceparent"), "-")
	if len(parts) == 4 && len(parts[0]) == version && len(parts[1]) == id && strings.Trim(parts[1], "0123456789abcdef") == "" {
		return parts[1]
	}
	return newTraceID()
}
