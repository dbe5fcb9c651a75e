package uplink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// refuser answers every hello with an error.
type refuser struct {
	syncpbconnect.UnimplementedSyncHandler
	err error
}

func (r refuser) Hello(context.Context, *connect.Request[syncpb.HelloRequest]) (*connect.Response[syncpb.HelloResponse], error) {
	return nil, r.err
}

// ended is the failure of an attempt that a handler has answered.
func ended(t *testing.T, handler http.Handler) error {
	t.Helper()
	u := New(config(newSite()))
	s, err := transport.NewMemory(handler, transport.Identity{Agent: "here"}, transport.Faults{}).Session(t.Context(), u.look)
	if err == nil {
		s.Close()
		t.Fatal("the hello is accepted")
	}
	return err
}

func saying(err error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(syncpbconnect.NewSyncHandler(refuser{err: err}, transport.HandlerOptions()...))
	return mux
}

func status(code int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "a page", code) })
}

// TestHindrance: only what a node says of this program counts against it, and of several
// nodes that which says most.
func TestHindrance(t *testing.T) {
	say := func(code connect.Code) error { return ended(t, saying(connect.NewError(code, errors.New("why")))) }
	guard := func(code connect.Code, cause string) error {
		err := connect.NewError(code, errors.New("why"))
		err.Meta().Set("Crossdock-Refused", cause)
		return ended(t, saying(err))
	}
	for _, c := range []struct {
		name string
		err  error
		want Hindrance
	}{
		{"no error", nil, Unanswered},
		{"a cut line", transport.ErrCut, Unanswered},
		{"protocol version", say(connect.CodeFailedPrecondition), Refused},
		{"bad request", say(connect.CodeInvalidArgument), Refused},
		{"unknown call", say(connect.CodeUnimplemented), Refused},
		{"no certificate", guard(connect.CodeUnauthenticated, "no_certificate"), Refused},
		{"not an agent's certificate", guard(connect.CodeUnauthenticated, "no_identity"), Refused},
		{"revoked, as the guard says", guard(connect.CodePermissionDenied, "revoked"), Barred},
		{"revoked, as the service says", say(connect.CodePermissionDenied), Barred},
		{"expired", guard(connect.CodeUnauthenticated, "expired"), Barred},
		{"expired for too long", guard(connect.CodeUnauthenticated, "untrusted"), Barred},
		{"another epoch is in force", fmt.Errorf("here: %w", errFenced), Barred},
		{"of another authority", guard(connect.CodeUnauthenticated, "foreign_authority"), Unanswered},
		{"no leader", say(connect.CodeUnavailable), Unavailable},
		{"overloaded", say(connect.CodeResourceExhausted), Unavailable},
		{"a fault of the node", say(connect.CodeInternal), Unavailable},
		{"it may have been done", say(connect.CodeUnknown), Unavailable},
		{"500 of a proxy", ended(t, status(http.StatusInternalServerError)), Unavailable},
		{"503 of a proxy", ended(t, status(http.StatusServiceUnavailable)), Unavailable},
		{"429 of a proxy", ended(t, status(http.StatusTooManyRequests)), Unavailable},
		{"404 of nobody knows whom", ended(t, status(http.StatusNotFound)), Unanswered},
		{"no answer to a call", connect.NewError(connect.CodeUnavailable, errors.New("unexpected EOF")), Unanswered},
		{"what this side does not send", connect.NewError(connect.CodeInvalidArgument, errors.New("too large")), Unanswered},
		{"one refuses, another has no leader", errors.Join(say(connect.CodeUnavailable), fmt.Errorf("b: %w", say(connect.CodeInvalidArgument))), Refused},
		{"one has no leader, another is gone", errors.Join(transport.ErrCut, say(connect.CodeUnavailable)), Unavailable},
	} {
		if got := hindrance(c.err); got != c.want {
			t.Errorf("%s: %d, want %d: %v", c.name, got, c.want, c.err)
		}
	}
}

// TestHindranceIsShown: the state of a link has that of the last attempt.
func TestHindranceIsShown(t *testing.T) {
	u, _ := newUplink(newSite(), newRelay(), transport.Faults{}, func(c *Config) {
		c.Dialer = transport.NewMemory(saying(connect.NewError(connect.CodeFailedPrecondition, errors.New("upgrade the agent"))), transport.Identity{Agent: "here"}, transport.Faults{})
	})
	run(t, u)
	newRelay().await(t, "the refusal to be shown", func() bool { return u.State().Hindrance == Refused })
}
