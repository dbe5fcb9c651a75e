package ops

import (
	"net"
	"net/http"
	"sync"
)

// unused knows the connections on which nothing was asked yet. http.Server.Shutdown waits
// seconds for those, although nobody has to wait for their answer.
type unused struct {
	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
}

func newUnused() *unused { return &unused{conns: map[net.Conn]bool{}} }

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
