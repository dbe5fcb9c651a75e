package transport

import (
	"context"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
)

// guard stands before the service: it puts the caller's identity into the context, and
// lets nobody further than the certificate allows.
type guard struct {
	server *Server
	next   http.Handler
	errors *connect.ErrorWriter
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cfg := &g.server.cfg
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p != any(http.ErrAbortHandler) { //nolint:errorlint // a panic value is compared as it is
			cfg.Metrics.Panics.Inc()
			cfg.Logger.Error("call panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		}
		panic(http.ErrAbortHandler) // ends this stream and nothing else
	}()
	ctx, limit, refused := g.admit(r)
	if refused != nil {
		cfg.Metrics.Refused.WithLabelValues(refused.cause).Inc()
		cfg.Logger.Debug("call refused", "cause", refused.cause, "error", refused.text, "path", r.URL.Path, "from", r.RemoteAddr)
		if err := g.errors.Write(w, r, refused.wire()); err != nil {
			cfg.Logger.Debug("answer not sent", "error", err)
		}
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	if limit == maxStranger {
		// Anybody can begin such a call; nobody may hold it open by sending no end of it.
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Duration(g.server.strangerTime.Load()))); err != nil {
			cfg.Logger.Debug("no deadline for the body of a call", "error", err)
		}
	}
	if isStream(r) {
		// A stream has no end of its own: it ends when the server stops.
		stopping, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(g.server.stopping, cancel)()
		ctx = stopping
	}
	g.next.ServeHTTP(w, r.WithContext(ctx))
}

func isStream(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/connect+")
}

// admit says with which context and how long a body a call may go on.
func (g *guard) admit(r *http.Request) (context.Context, int64, *refusal) {
	if r.ProtoMajor < 2 || r.TLS == nil || !r.TLS.HandshakeComplete {
		return nil, 0, refuse(connect.CodeFailedPrecondition, causeProtocol, "the sync protocol is spoken over HTTP/3 or HTTP/2 only")
	}
	peer := Peer{Transport: string(TCP), Address: r.RemoteAddr}
	if r.ProtoMajor == 3 {
		peer.Transport = string(QUIC)
	}
	ctx := WithPeer(r.Context(), peer)
	if len(r.TLS.PeerCertificates) == 0 {
		if r.URL.Path != syncpbconnect.SyncEnrollProcedure {
			return nil, 0, refuse(connect.CodeUnauthenticated, causeStranger, "no client certificate: enrol first")
		}
		return ctx, maxStranger, nil
	}
	id, refused := g.server.judge(ctx, r.TLS)
	if refused != nil && (refused.cause != causeExpired || r.URL.Path != syncpbconnect.SyncRenewProcedure) {
		return nil, 0, refused
	}
	id.Expired = refused != nil
	return WithIdentity(ctx, id), MaxMessage + maxHeader, nil
}
