package gateway

import (
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/model"
)

// refuse makes the answer to a call that this node does not take, and counts it.
func (g *Gateway) refuse(cause string, code connect.Code, format string, args ...any) error {
	g.cfg.Metrics.Refused.WithLabelValues(cause).Inc()
	err := fmt.Errorf(format, args...)
	g.cfg.Logger.Warn("call refused", "cause", cause, "error", err)
	return connect.NewError(code, err)
}

// toWire gives an error of the state the code under which it crosses the wire.
func toWire(err error) error {
	code := connect.CodeUnknown
	switch model.CodeOf(err) {
	case model.Invalid:
		code = connect.CodeInvalidArgument
	case model.NotFound:
		code = connect.CodeNotFound
	case model.Conflict:
		code = connect.CodeFailedPrecondition
	case model.Forbidden:
		code = connect.CodePermissionDenied
	case model.Unauthorized:
		code = connect.CodeUnauthenticated
	case model.TooLarge:
		code = connect.CodeResourceExhausted
	case model.Unavailable:
		code = connect.CodeUnavailable
	case model.Unknown:
		// It may have been done. Nothing breaks when the agent simply does it again.
	}
	if coded, ok := errors.AsType[*connect.Error](err); ok {
		return coded
	}
	return connect.NewError(code, err)
}

// clip bounds a text that comes from outside and is to be shown or kept.
func clip(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return strings.ToValidUTF8(text, "?")
}
