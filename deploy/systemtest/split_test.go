package systemtest

import (
	"context"
	"net"
	"os"
	"sync"
	"time"
)

// split cuts nodes of one process off from each other, each direction for itself. What is
// sent on a cut direction stands still, and comes when it is restored, or never, as on a
// network that drops packets.
type split struct {
	mu  sync.Mutex // guards cut
	cut map[[2]string]bool
}

// look is how often something that waits for a direction looks again.
const look = 5 * time.Millisecond

// set cuts or restores the way from one node to another.
func (s *split) set(from, to string, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut == nil {
		s.cut = map[[2]string]bool{}
	}
	s.cut[[2]string{from, to}] = cut
}

// heal restores all.
func (s *split) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.cut)
}

func (s *split) is(from, to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut[[2]string{from, to}]
}

// dialer is how one node reaches the others.
func (s *split) dialer(me string) func(ctx context.Context, node, address string) (net.Conn, error) {
	return func(ctx context.Context, node, address string) (net.Conn, error) {
		for s.is(me, node) || s.is(node, me) { // a connection needs both ways to begin
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(look):
			}
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return &splitConn{Conn: c, split: s, me: me, other: node, closed: make(chan struct{})}, nil
	}
}

// splitConn is the calling end of a connection, which sees both directions.
type splitConn struct {
	net.Conn
	split     *split
	me, other string
	once      sync.Once
	closed    chan struct{}
	held      []byte // read from the wire and not yet let through

	mu          sync.Mutex // guards what follows
	read, write time.Time  // deadlines
}

func (c *splitConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	c.read, c.write = t, t
	c.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

func (c *splitConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.read = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

func (c *splitConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	c.write = t
	c.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}

func (c *splitConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// pass waits until a direction is open.
func (c *splitConn) pass(from, to string, deadline *time.Time) error {
	for c.split.is(from, to) {
		c.mu.Lock()
		late := !deadline.IsZero() && time.Now().After(*deadline)
		c.mu.Unlock()
		if late {
			return os.ErrDeadlineExceeded
		}
		select {
		case <-c.closed:
			return net.ErrClosed
		case <-time.After(look):
		}
	}
	return nil
}

func (c *splitConn) Write(b []byte) (int, error) {
	if err := c.pass(c.me, c.other, &c.write); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *splitConn) Read(b []byte) (int, error) {
	if len(c.held) == 0 {
		buffer := make([]byte, len(b))
		n, err := c.Conn.Read(buffer)
		if c.held = buffer[:n]; n == 0 {
			return 0, err
		}
	}
	if err := c.pass(c.other, c.me, &c.read); err != nil {
		return 0, err
	}
	n := copy(b, c.held)
	c.held = c.held[n:]
	return n, nil
}
