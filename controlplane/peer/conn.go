package peer

import (
	"net"
	"slices"
	"sync"
	"time"
)

// table holds every connection that was taken, within the limits.
type table struct {
	mu      sync.Mutex // guards what follows
	open    map[*conn]bool
	waiting []*conn // strangers, the oldest first
	nodes   int
	closed  bool
}

// conn is a plain connection under TLS that leaves the table when it is closed.
type conn struct {
	net.Conn
	table *table
	node  bool        // guarded by table.mu
	limit *time.Timer // ends a stranger's connection whatever is done on it; guarded by table.mu
}

// take gives a new connection a place among the strangers; nil: the table is closed. Where
// all places are taken the oldest stranger goes: a node proves in a moment who it is, and
// must not be kept out by those who never will.
func (t *table) take(raw net.Conn) *conn {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	var oldest *conn
	if len(t.waiting) >= maxStrangers {
		oldest = t.waiting[0]
	}
	c := &conn{Conn: raw, table: t}
	t.waiting = append(t.waiting, c)
	t.open[c] = true
	t.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	return c
}

// lasts bounds the whole life of a stranger's connection. A deadline would not do: an HTTP
// server sets its own.
func (c *conn) lasts(limit time.Duration) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	if c.table.open[c] {
		c.limit = time.AfterFunc(limit, func() { c.Close() })
	}
}

// forget takes a connection out of the strangers; t.mu is held.
func (t *table) forget(c *conn) {
	t.waiting = slices.DeleteFunc(t.waiting, func(other *conn) bool { return other == c })
}

// proven gives a connection a place among those of nodes.
func (c *conn) proven() bool {
	t := c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open[c] || t.nodes >= maxNodes {
		return false
	}
	t.forget(c)
	t.nodes++
	c.node = true
	return true
}

func (c *conn) Close() error {
	t := c.table
	t.mu.Lock()
	if t.open[c] {
		delete(t.open, c)
		if c.node {
			t.nodes--
		} else {
			t.forget(c)
		}
		if c.limit != nil {
			c.limit.Stop()
		}
	}
	t.mu.Unlock()
	return c.Conn.Close()
}

// close closes all, and takes no more.
func (t *table) close() {
	t.mu.Lock()
	t.closed = true
	var all []*conn
	for c := range t.open {
		all = append(all, c)
	}
	t.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// callListener gives the HTTP server the connections that are for it. The server closes it
// and waits for Accept to return before it lets calls under way finish.
type callListener struct {
	p      *Peers
	once   sync.Once
	closed chan struct{}
}

func (l *callListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.p.calls:
		return conn, nil
	case <-l.closed:
	case <-l.p.ended:
	}
	return nil, net.ErrClosed
}

func (l *callListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *callListener) Addr() net.Addr { return l.p.cfg.Listener.Addr() }
