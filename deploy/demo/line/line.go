// Package line is a wide-area line that can be cut, each way for itself, and that has
// weather: a relay of UDP datagrams and TCP streams under one port number, between a site
// and the control plane.
//
// It knows nothing of what it carries. Its invariant: no byte passes in a direction that is
// cut, datagrams are lost and streams stand still, as on a real line.
package line

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	maxDatagram = 64 << 10
	flowIdle    = 2 * time.Minute // a UDP flow without datagrams is forgotten
	maxFlows    = 1024
	maxStreams  = 1024

	// What a busy machine reads late is not to be lost: a line loses datagrams when it is cut.
	socketBuffer = 4 << 20
)

// Line relays between one listening port and one target.
type Line struct {
	target string
	tcp    net.Listener
	udp    *net.UDPConn

	mu       sync.Mutex            // guards what follows
	open     map[Way]chan struct{} // closed while the line carries that way
	noUDP    bool
	weather  Weather
	chance   *rand.Rand
	flows    map[string]*net.UDPConn // by the address of the client
	streams  map[net.Conn]bool
	finished bool
}

// Listen opens a line from a local address to a target; the same port for UDP and TCP.
func Listen(address, target string) (*Line, error) {
	var failed error
	for range 20 { // a port that is free for TCP may be taken for UDP
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return nil, err
		}
		at := tcp.Addr().(*net.TCPAddr)
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port})
		if err == nil {
			widen(udp)
			l := &Line{target: target, tcp: tcp, udp: udp, open: map[Way]chan struct{}{There: make(chan struct{}), Back: make(chan struct{})},
				flows: map[string]*net.UDPConn{}, streams: map[net.Conn]bool{}}
			l.Restore()
			return l, nil
		}
		tcp.Close()
		failed = err
	}
	return nil, fmt.Errorf("listen on %s for both UDP and TCP: %w", address, failed)
}

// Addr is where the site connects to.
func (l *Line) Addr() string { return l.tcp.Addr().String() }

// Way is a direction on the line.
type Way string

// The ways.
const (
	There Way = "there" // from the site to the control plane
	Back  Way = "back"
)

// Cut stops everything on the line.
func (l *Line) Cut() {
	l.CutWay(There)
	l.CutWay(Back)
}

// CutWay stops everything that goes one way.
func (l *Line) CutWay(w Way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carries(w) {
		l.open[w] = make(chan struct{})
	}
}

// Restore lets the line carry again.
func (l *Line) Restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range []Way{There, Back} {
		if !l.carries(w) {
			close(l.open[w])
		}
	}
}

// BlockUDP makes the line behave like a firewall that drops UDP in silence.
func (l *Line) BlockUDP(block bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noUDP = block
}

// Up reports whether the line carries both ways.
func (l *Line) Up() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.carries(There) && l.carries(Back)
}

// UDPBlocked reports whether UDP is dropped.
func (l *Line) UDPBlocked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.noUDP
}

func (l *Line) carries(w Way) bool {
	select {
	case <-l.open[w]:
		return true
	default:
		return false
	}
}

func (l *Line) gate(w Way) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open[w]
}

// pass waits until a way carries.
func (l *Line) pass(ctx context.Context, ways ...Way) error {
	for _, w := range ways {
		select {
		case <-l.gate(w):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Run relays until ctx ends.
func (l *Line) Run(ctx context.Context) error {
	var group sync.WaitGroup
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	group.Go(func() { l.relayUDP(ctx, &group) })
	group.Go(func() { l.acceptTCP(ctx, &group) })
	group.Wait()
	return nil
}

func (l *Line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finished = true
	l.tcp.Close()
	l.udp.Close()
	for _, flow := range l.flows {
		flow.Close()
	}
	for stream := range l.streams {
		stream.Close()
	}
}

func (l *Line) relayUDP(ctx context.Context, group *sync.WaitGroup) {
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := l.udp.ReadFromUDP(buffer)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if flow := l.flow(from, group); flow != nil {
			l.carry(There, buffer[:n], func(b []byte) { _, _ = flow.Write(b) }) // lost datagrams are what UDP promises
		}
	}
}

// flow finds or opens the socket towards the target for one client.
func (l *Line) flow(client *net.UDPAddr, group *sync.WaitGroup) *net.UDPConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if flow := l.flows[client.String()]; flow != nil {
		return flow
	}
	if l.finished || len(l.flows) >= maxFlows {
		return nil
	}
	target, err := net.ResolveUDPAddr("udp", l.target)
	if err != nil {
		return nil
	}
	flow, err := net.DialUDP("udp", nil, target)
	if err != nil {
		return nil
	}
	widen(flow)
	l.flows[client.String()] = flow
	group.Go(func() { l.answerUDP(flow, client) })
	return flow
}

func (l *Line) answerUDP(flow *net.UDPConn, client *net.UDPAddr) {
	defer func() {
		flow.Close()
		l.mu.Lock()
		if l.flows[client.String()] == flow {
			delete(l.flows, client.String())
		}
		l.mu.Unlock()
	}()
	buffer := make([]byte, maxDatagram)
	for {
		if err := flow.SetReadDeadline(time.Now().Add(flowIdle)); err != nil {
			return
		}
		n, err := flow.Read(buffer)
		if errors.Is(err, net.ErrClosed) || isTimeout(err) {
			return
		}
		if err != nil {
			continue // a refused port shows as an error of the next read
		}
		l.carry(Back, buffer[:n], func(b []byte) { _, _ = l.udp.WriteToUDP(b, client) })
	}
}

// widen asks for large buffers; the system gives what it allows.
func widen(c *net.UDPConn) {
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (l *Line) acceptTCP(ctx context.Context, group *sync.WaitGroup) {
	for {
		client, err := l.tcp.Accept()
		if err != nil {
			return // closed
		}
		if !l.keep(client) {
			client.Close()
			continue
		}
		group.Go(func() {
			defer l.drop(client)
			if l.pass(ctx, There, Back) != nil {
				return
			}
			var dialer net.Dialer
			server, err := dialer.DialContext(ctx, "tcp", l.target)
			if err != nil || !l.keep(server) {
				return
			}
			defer l.drop(server)
			var both sync.WaitGroup
			both.Go(func() { l.copyStream(ctx, There, server, client) })
			both.Go(func() { l.copyStream(ctx, Back, client, server) })
			both.Wait()
		})
	}
}

func (l *Line) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished || len(l.streams) >= maxStreams {
		return false
	}
	l.streams[c] = true
	return true
}

func (l *Line) drop(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, c)
}

// copyStream relays one direction and closes both ends with it.
func (l *Line) copyStream(ctx context.Context, w Way, to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if l.pass(ctx, w) != nil {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
