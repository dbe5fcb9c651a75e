// Package httpserve owns one act: serving HTTP until a context ends, and then not a moment
// longer than somebody waits for an answer.
//
// It refuses to know what is served. Its invariant: a request in flight gets its answer
// within the grace that it is given, and a connection on which nothing was asked gets none.
package httpserve

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Run serves on a listener, with TLS if the server has a configuration for it, until ctx
// ends; then requests in flight may finish for as long as grace. What takes longer is cut
// off, and context.DeadlineExceeded says so.
func Run(ctx context.Context, server *http.Server, listener net.Listener, grace time.Duration) error {
	unused := &unused{conns: map[net.Conn]bool{}}
	server.ConnState = unused.follow
	ended := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			ended <- server.ServeTLS(listener, "", "")
			return
		}
		ended <- server.Serve(listener)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	unused.close()
	err := server.Shutdown(stop)
	if err != nil {
		_ = server.Close() // Shutdown's error is the one that tells
	}
	<-ended //nolint:errcheck // http.ErrServerClosed
	return err
}

// unused knows the connections on which nothing was asked yet. http.Server.Shutdown waits
// seconds for those, although nobody has to wait for their answer.
type unused struct {
	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
}

// follow is the server's ConnState.
func (u *unused) follow(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(u.conns, c)
	case u.conns == nil: // came with the end
		_ = c.Close() // nobody has used it
	default:
		u.conns[c] = true
	}
}

// close closes them, and those that still come.
func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		_ = c.Close() // nobody has used it
	}
	u.conns = nil
}
