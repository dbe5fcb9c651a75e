package remote

import (
	"net/http"
	"strconv"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// unsure is the class of a failure that does not say what was done.
func (k *call) unsure() sdk.Class {
	if k.marks {
		return sdk.UnknownOutcome
	}
	return sdk.Unavailable
}

// noAnswer says what it means that there was none.
func (k *call) noAnswer(connected bool, err error) *sdk.Error {
	if !connected {
		return sdk.Errorf(sdk.Unavailable, "%s: the remote engine was not reached, and nothing was sent: %v", k.op, err)
	}
	return sdk.Errorf(k.unsure(), "%s: it was sent, and no answer came: %v", k.op, err)
}

// unreadable is an answer that came and is none of the protocol: what it tells of was done.
func (k *call) unreadable(err error, text []byte) *sdk.Error {
	e := sdk.Errorf(k.unsure(), "%s: the remote engine's answer cannot be taken: %v", k.op, err).Suggest("show the operator of the remote engine its openapi.yaml")
	e.Fault = sdk.FaultProvider
	e.Provider = sdk.Provider{Code: "HTTP 200", Text: string(text[:min(len(text), sdk.MaxProviderText)])}
	return e.Bounded()
}

// refused reads an answer that is no result.
func (k *call) refused(status int, text []byte, after sdk.Span) *sdk.Error {
	e := new(sdk.Error)
	if sdk.ReadJSON(text, e) == nil && e.Class.Known() && e.Message != "" {
		return k.said(e, after)
	}
	return k.unsaid(status, text, after)
}

// said is an error in the other side's own words.
func (k *call) said(e *sdk.Error, after sdk.Span) *sdk.Error {
	switch {
	case e.Class == sdk.Internal, e.Class == sdk.UnknownOutcome: // a fault there proves nothing about what was done before it
		e.Class = k.unsure()
	case e.Class == sdk.Validation && e.Field == "":
		e.Field = k.field
	}
	if e.Fault != sdk.FaultCaller && e.Fault != sdk.FaultNetwork {
		e.Fault = sdk.FaultProvider // who is behind it over there
	}
	e.Retryable = e.Retryable || sdk.Errorf(e.Class, "").Retryable
	e.RetryAfter = max(e.RetryAfter, after)
	return e.Bounded()
}

// unsaid is an answer that is no error of the protocol: of a proxy, of a gateway, or of a server
// that is something else.
func (k *call) unsaid(status int, text []byte, after sdk.Span) *sdk.Error {
	class, what := k.unsure(), "an answer that is none of the protocol"
	suggestion := ""
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		class, what, suggestion = sdk.Auth, "not let in", "look at the token or the client credentials"
	case status == http.StatusTooManyRequests:
		class, what = sdk.Throttled, "too many calls"
	case status == http.StatusRequestEntityTooLarge:
		class, what, suggestion = sdk.Validation, "the request is too large", "split the document"
	case status >= 300 && status < 400, status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		suggestion = "look at url: it may name something else than a remote engine"
	}
	e := sdk.Errorf(class, "%s: %s", k.op, what).Suggest(suggestion)
	if class == sdk.Validation {
		e.Field = k.field
	}
	if e.Fault == sdk.FaultNetwork && !gateway(status) {
		e.Fault = sdk.FaultProvider
	}
	e.RetryAfter = after
	e.Provider = sdk.Provider{Code: "HTTP " + strconv.Itoa(status), Text: string(text[:min(len(text), sdk.MaxProviderText)])}
	return e.Bounded()
}

// gateway tells whether it is the way to the engine that is at fault, not the engine.
func gateway(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}
