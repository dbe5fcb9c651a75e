package intake

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// Fields of a call's request and answer.
const (
	keyField      = "Idempotency-Key"    // the caller's own, the same again for a repeat
	deadlineField = "Crossdock-Deadline" // RFC 3339: until when what has to wait is to be done
	callField     = "Crossdock-Call"     // id of the call
)

// The kinds of plugins that can be called.
const (
	kindCarrier = "carrier"
	kindTax     = "tax"
)

// Call is what a system wants of a carrier or a tax engine.
type Call struct {
	System    string
	Kind      string // carrier or tax
	Plugin    string // name of a carrier
	Operation string
	Key       string
	Deadline  time.Time // zero: not said
	Body      []byte
}

// CallAnswer is what came of it.
type CallAnswer struct {
	ID       string // empty: nothing is kept of it
	State    string
	Deadline time.Time
	Body     json.RawMessage // empty: it waits for the line, until the deadline
}

// CallError is why there is no answer.
type CallError struct {
	Code       Code
	Detail     string
	Field      string // path in the request, such as parcels[1].weight
	RetryAfter time.Duration
	ID         string
	Failure    any // as the carrier or tax engine said it, if it did
}

func (e *CallError) Error() string { return string(e.Code) + ": " + e.Detail }

// Calls makes calls to carriers and tax engines. Errors are *CallError.
type Calls interface {
	Do(ctx context.Context, c Call) (*CallAnswer, error)
	// Call shows a call of a system.
	Call(system, id string) (any, error)
	// Calls lists a system's calls in a state, an array of at most limit, 0: as many as it likes;
	// of no state those that are open. next is the cursor of the next page; empty: there is none.
	Calls(system, state string, limit int, cursor string) (list any, next string, err error)
}

func (s *Service) callCarrier(c echo.Context, at session) error {
	return s.makeCall(c, at, Call{Kind: kindCarrier, Plugin: c.Param("name"), Operation: c.Param("operation")})
}

func (s *Service) callTax(c echo.Context, at session) error {
	return s.makeCall(c, at, Call{Kind: kindTax, Operation: c.Param("operation")})
}

// makeCall has a call made. It counts as one event of the system's rate.
func (s *Service) makeCall(c echo.Context, at session, call Call) error {
	if p := s.paid(c, at); p != nil {
		return p
	}
	header := c.Request().Header
	var p *Problem
	if call.Key, p = keyOf(header); p != nil {
		return p
	}
	if text := header.Get(deadlineField); text != "" {
		deadline, err := time.Parse(time.RFC3339, text)
		call.Deadline = deadline.UTC()
		if year := call.Deadline.Year(); err != nil || year < 1970 || year > 9999 { // JSON has no other years
			return problem(CodeInvalidRequest, "%s %q is no time such as 2026-05-04T17:00:00+02:00", deadlineField, text)
		}
	}
	if call.Body, p = readBody(c.Request(), MaxBatchBytes); p != nil {
		return p
	}
	call.System = at.caller.system.Name
	answer, err := s.parts.Calls.Do(c.Request().Context(), call)
	if err != nil {
		return s.callProblem(c, err)
	}
	if answer.ID != "" {
		c.Response().Header().Set(callField, answer.ID)
	}
	if len(answer.Body) > 0 {
		return c.JSONBlob(http.StatusOK, answer.Body)
	}
	c.Response().Header().Set("Location", "/v1/calls/"+answer.ID)
	return c.JSON(http.StatusAccepted, map[string]any{"id": answer.ID, "state": answer.State, "deadline": answer.Deadline})
}

// paid takes one event from the system's rate.
func (s *Service) paid(c echo.Context, at session) *Problem {
	now := s.parts.Now()
	p := at.caller.limiter.take(now, 1, 0)
	at.caller.limiter.describe(now, c.Response().Header())
	return p
}

// keyOf reads the key. The draft of the IETF writes it as a string in quotes, many clients
// without; both are the same key.
func keyOf(h http.Header) (string, *Problem) {
	values := h.Values(keyField)
	if len(values) > 1 {
		return "", problem(CodeInvalidRequest, "there is more than one %s", keyField)
	}
	key := h.Get(keyField)
	if n := len(key); n > 1 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	for _, c := range []byte(key) {
		if c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return "", problem(CodeInvalidRequest, "an %s has visible ASCII characters, and neither quotes nor backslashes", keyField)
		}
	}
	return key, nil
}

// fieldStep is one step of a path such as parcels[1].weight.
var fieldStep = regexp.MustCompile(`[^.\[\]]+`)

// callProblem is a call's error as it is answered.
func (s *Service) callProblem(c echo.Context, err error) error {
	var e *CallError
	if !errors.As(err, &e) {
		return problem(CodeInternal, "see the agent's log").because(err)
	}
	p := problem(e.Code, "%s", e.Detail).because(err)
	p.Call, p.Failure = e.ID, e.Failure
	if e.Field != "" {
		pointer := ""
		for _, step := range fieldStep.FindAllString(e.Field, -1) {
			pointer += "/" + step
		}
		p = p.at(pointer, "", e.Detail)
	}
	if e.RetryAfter > 0 {
		p.retryAfter = max(1, int((e.RetryAfter+time.Second-1)/time.Second))
	}
	if e.ID != "" {
		c.Response().Header().Set(callField, e.ID)
	}
	return p
}

func (s *Service) showCall(c echo.Context, at session) error {
	if p := s.paid(c, at); p != nil {
		return p
	}
	call, err := s.parts.Calls.Call(at.caller.system.Name, c.Param("id"))
	if err != nil {
		return s.callProblem(c, err)
	}
	return c.JSON(http.StatusOK, call)
}

func (s *Service) listCalls(c echo.Context, at session) error {
	if p := s.paid(c, at); p != nil {
		return p
	}
	limit := 0
	if text := c.QueryParam("limit"); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil || n == 0 {
			return problem(CodeInvalidRequest, "limit %q is no number of calls", text)
		}
		limit = int(n)
	}
	calls, next, err := s.parts.Calls.Calls(at.caller.system.Name, c.QueryParam("state"), limit, c.QueryParam("cursor"))
	if err != nil {
		return s.callProblem(c, err)
	}
	answer := map[string]any{"calls": calls}
	if next != "" {
		answer["next"] = next
	}
	return c.JSON(http.StatusOK, answer)
}

// ErrNoContract says that the policy has no live contract of the agent's own for an event.
var ErrNoContract = errors.New("the policy has no contract with authority " + strconv.Quote(policy.AgentRole) + " for this event")

// Publish takes an event of the agent's own, under the rules for every other: a contract, its
// schema, its key and its routes. An error with a method Permanent() that says true is final.
func (s *Service) Publish(ctx context.Context, e *event.Event) error {
	v, p := s.current()
	if p != nil {
		return p
	}
	contract, _, err := v.set.Resolve(e.Type, e.DataSchema)
	if err != nil || contract.Authority != policy.AgentRole {
		return ErrNoContract
	}
	own := &policy.System{Meta: policy.Meta{Name: policy.AgentRole}, Site: s.cfg.Site, Role: policy.AgentRole, Publishes: []string{contract.Name}}
	admitted, p := s.admitAll(ctx, v, &caller{system: own}, undecoded([]*event.Event{e}), false)
	if p == nil {
		_, p = s.submit(ctx, admitted, false)
	}
	if p != nil {
		s.parts.Metrics.refused.WithLabelValues(string(p.Code)).Inc()
		return p
	}
	return nil
}
