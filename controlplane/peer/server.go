package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Headers of a call.
const (
	headerCluster     = "Crossdock-Cluster"
	headerIncarnation = "Crossdock-Incarnation"
	headerDeadline    = "Crossdock-Timeout" // how long the caller waits
)

// The calls.
const (
	callApply     = "/v1/apply"
	callBarrier   = "/v1/barrier"
	callJoin      = "/v1/join"
	callMember    = "/v1/member"
	callAsk       = "/v1/ask"
	callConnected = "/v1/connected"
	callStatus    = "/v1/status"
)

// maxWait bounds a call, whatever its caller wants.
const maxWait = time.Minute

// refusal is an error on its way to another node.
type refusal struct {
	Code model.Code
	Text string
}

func (p *Peers) server() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	mux := http.NewServeMux()
	handle := func(path string, most int64, serve func(ctx context.Context, s Services, body []byte) (any, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { p.answer(w, r, most, serve) })
	}
	handle(callApply, MaxCommand, func(ctx context.Context, s Services, body []byte) (any, error) {
		return s.Apply(ctx, body)
	})
	handle(callBarrier, 0, func(ctx context.Context, s Services, _ []byte) (any, error) { return s.Barrier(ctx) })
	handle(callJoin, maxSmall, func(ctx context.Context, s Services, body []byte) (any, error) {
		return decoded(body, func(r *JoinRequest) (any, error) { return s.Join(ctx, r) })
	})
	handle(callMember, maxSmall, func(ctx context.Context, s Services, body []byte) (any, error) {
		return decoded(body, func(r *MemberRequest) (any, error) { return nil, s.Member(ctx, r) })
	})
	handle(callAsk, MaxAsk, func(ctx context.Context, s Services, body []byte) (any, error) {
		return decoded(body, func(r *AskRequest) (any, error) {
			out, err := s.Ask(ctx, r)
			return []byte(out), err
		})
	})
	handle(callConnected, 0, func(ctx context.Context, s Services, _ []byte) (any, error) { return s.Connected(ctx) })
	handle(callStatus, 0, func(ctx context.Context, s Services, _ []byte) (any, error) {
		status, err := s.Status(ctx)
		if err == nil {
			status.Identity = p.cfg.Identity
		}
		return status, err
	})
	return &http.Server{
		Handler: mux, ConnContext: withCaller, TLSConfig: p.serverTLS(), Protocols: protocols,
		ReadHeaderTimeout: proveTimeout, ReadTimeout: maxWait, WriteTimeout: maxWait + proveTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelDebug),
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 256, SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

func decoded[T any](body []byte, serve func(*T) (any, error)) (any, error) {
	in := new(T)
	if err := decode(body, in); err != nil {
		return nil, model.Errorf(model.Invalid, "the call cannot be read: %v", err)
	}
	return serve(in)
}

// answer serves one call: who asks, whether it may, what it says, and what is said to it.
func (p *Peers) answer(w http.ResponseWriter, r *http.Request, most int64, serve func(context.Context, Services, []byte) (any, error)) {
	out, err := p.serve(w, r, most, serve)
	var text []byte
	if err == nil {
		text, err = encode(out)
	}
	status := http.StatusOK
	if err != nil {
		status = http.StatusConflict
		coded := &model.Error{Code: model.Unknown, Text: err.Error()}
		errors.As(err, &coded)
		if text, err = encode(refusal{coded.Code, clipText(coded.Text)}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a caller that is gone does not know the fate of its call, and says so
}

func (p *Peers) serve(w http.ResponseWriter, r *http.Request, most int64, serve func(context.Context, Services, []byte) (any, error)) (any, error) {
	wait, err := time.ParseDuration(r.Header.Get(headerDeadline))
	if err != nil || wait <= 0 || wait > maxWait {
		wait = maxWait
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	if err := p.mayCall(ctx, r); err != nil {
		return nil, err
	}
	services := p.services.Load()
	if services == nil {
		return nil, model.Errorf(model.Unavailable, "node %s is starting", p.cfg.Identity.Node)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		return nil, model.Errorf(model.Invalid, "the call cannot be read: %v", err)
	}
	return serve(ctx, *services, body)
}

// mayCall lets in nodes of this life of the cluster. A join brings a token instead. Status
// is told to a node that was removed too, or left behind in another life: it is how that one
// learns of it.
func (p *Peers) mayCall(ctx context.Context, r *http.Request) error {
	if r.URL.Path == callJoin {
		return nil
	}
	node, err := p.caller(r)
	if err != nil {
		return err
	}
	if r.URL.Path == callStatus && r.Header.Get(headerCluster) == p.cfg.Identity.Cluster {
		return nil
	}
	if err := p.sameLife(r.Header.Get(headerCluster), r.Header.Get(headerIncarnation)); err != nil {
		return fmt.Errorf("node %s: %w", node, err)
	}
	return p.cfg.Refuse(ctx, node)
}
