package transport

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
)

// What ends a session, and what a dial may find.
var (
	// ErrBetterPath ends a session on TCP when QUIC works again: open another one.
	ErrBetterPath = errors.New("QUIC works again")
	// ErrClosed ends a session that was closed here.
	ErrClosed = errors.New("session closed")
	// ErrRefused marks a certificate of this agent that the control plane does not accept
	// any more, or never did: only a new enrolment helps.
	ErrRefused = errors.New("the control plane refused this agent's certificate")
	// ErrExpired marks a certificate that has expired and can still be renewed: call Renew
	// in the hello.
	ErrExpired = errors.New("this agent's certificate has expired")
	// ErrForeignIssuer marks a server certificate of another authority: a TLS-inspecting
	// proxy, or another cluster.
	ErrForeignIssuer = errors.New("the certificate seen is not of this cluster's authority")
)

// Session is one connection to the control plane over which a hello has succeeded.
type Session struct {
	Client    syncpbconnect.SyncClient
	Transport string // quic, tcp, memory
	Address   string
	Reason    string // why it is not QUIC

	path  *path
	ended func(*Session, error) // told once, with what ended it
	work  sync.WaitGroup
	ctx   context.Context
	stop  context.CancelFunc
	once  sync.Once
	err   error // written once before ctx ends
}

// path is one connection, of whatever kind.
type path struct {
	client http.RoundTripper
	base   string
	done   <-chan struct{}
	err    func() error
	close  func()
}

func (p *path) service() syncpbconnect.SyncClient {
	return syncpbconnect.NewSyncClient(&http.Client{Transport: p.client}, p.base, ClientOptions()...)
}

func newSession(p *path, transport Mode, address, reason string, ended func(*Session, error)) *Session {
	s := &Session{Client: p.service(), Transport: string(transport), Address: address, Reason: reason, path: p, ended: ended}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.work.Go(func() {
		select {
		case <-p.done:
			s.end(p.err())
		case <-s.ctx.Done():
		}
	})
	return s
}

func (s *Session) end(cause error) {
	s.once.Do(func() {
		s.err = cause
		if s.ended != nil {
			s.ended(s, cause)
		}
		s.stop()
		s.path.close()
	})
}

// Close ends the session and waits until nothing of it runs. It is always called, also
// for a session that has ended by itself, and as often as one likes.
func (s *Session) Close() error {
	s.end(ErrClosed)
	s.work.Wait()
	return nil
}

// Abandon closes a session whose path was open and carried nothing. Where that was QUIC,
// the next sessions go by TCP until QUIC is tried again.
func (s *Session) Abandon(cause error) {
	s.end(&abandoned{cause})
	s.work.Wait()
}

// Leave closes a session with a node that cannot serve it: the next one begins with another
// address.
func (s *Session) Leave(cause error) {
	s.end(cause)
	s.work.Wait()
}

type abandoned struct{ error }

func (a *abandoned) Unwrap() error { return a.error }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Err says what ended the session: ErrBetterPath, ErrClosed, or what broke the
// connection; nil while it lasts.
func (s *Session) Err() error {
	select {
	case <-s.ctx.Done():
		return s.err
	default:
		return nil
	}
}
