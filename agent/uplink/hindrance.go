package uplink

import (
	"strings"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/transport"
)

// Hindrance is what the absence of a session says about this program. Of several nodes that
// which says most counts: one that has understood a hello and refused it has shown more than
// one that cannot be reached.
type Hindrance int

// The hindrances, by how much they say.
const (
	Unanswered  Hindrance = iota // no node has answered in words that this program understands
	Unavailable                  // one answers, and cannot serve now
	Barred                       // one refuses this agent, and would whatever program it runs
	Refused                      // one refuses this program, or what it says
)

// hindrance finds it in what ended an attempt.
func hindrance(err error) (most Hindrance) {
	if err == errFenced { //nolint:errorlint // its place in the tree is where this has come to
		return Barred
	}
	switch e := err.(type) { //nolint:errorlint // it walks the tree: each of several failures counts
	case *connect.Error:
		return answered(e)
	case interface{ Unwrap() error }:
		return hindrance(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			most = max(most, hindrance(one))
		}
	}
	return most
}

// answered is what the answer of a node says. A call that was not answered has such an error
// too; it is none that came over the wire.
func answered(err *connect.Error) Hindrance {
	if !connect.IsWireError(err) {
		if outOfOrder(err.Message()) {
			return Unavailable
		}
		return Unanswered
	}
	switch transport.BlameOf(err) {
	case transport.NoBlame:
	case transport.BlameCertificate:
		return Barred
	case transport.BlameUnclear:
		return Unanswered
	case transport.BlameCaller:
		return Refused
	}
	switch err.Code() {
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeOutOfRange, connect.CodeUnimplemented, connect.CodeUnauthenticated:
		return Refused
	case connect.CodePermissionDenied: // revoked, enrolled again elsewhere, an epoch that is over: it is of the agent
		return Barred
	case connect.CodeUnavailable, connect.CodeAborted, connect.CodeResourceExhausted, connect.CodeDeadlineExceeded, connect.CodeCanceled,
		connect.CodeUnknown, connect.CodeInternal, connect.CodeDataLoss, connect.CodeNotFound, connect.CodeAlreadyExists:
	}
	return Unavailable
}

// outOfOrder says that an answer is not the service's, but that of something before it that
// does not reach it, or is asked too much: an HTTP status of 5xx or 429.
func outOfOrder(status string) bool {
	number, _, _ := strings.Cut(status, " ")
	return len(number) == 3 && (number[0] == '5' || number == "429") && strings.Trim(number, "0123456789") == ""
}
