package store

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// transporter is all that raft looks for in a transport. Embedding the whole of it keeps
// the optional parts, pre-vote and close, in sight.
type transporter interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// serial makes heartbeats pass through raft's main loop like every other call. Given a
// handler, the transport would call it from its own goroutine; raft v1.8.0 then raises the
// term while a leader still takes commands, stamps an entry with the term of another
// leader, and nodes apply different entries at one index.
type serial struct{ transporter }

// SetHeartbeatHandler ignores the handler.
func (serial) SetHeartbeatHandler(func(raft.RPC)) {}

func guarded(t transporter) transporter {
	if heartbeatsPastTheLoop {
		return t
	}
	return serial{t}
}

// transport gives raft its way to the other nodes, and the connections of that.
func (s *Store) transport(logger logger) (transporter, *links, *teller) {
	if s.cfg.Peers == nil {
		_, memory := raft.NewInmemTransport(raft.ServerAddress(s.cfg.NodeID))
		return guarded(memory), nil, nil
	}
	l := &links{Peers: s.cfg.Peers, id: nodeID(s.cfg.NodeID), open: map[net.Conn]struct{}{}}
	t := newTeller(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:          l,
		Logger:          logger.Named("transport"),
		MaxPool:         poolSize,
		MaxRPCsInFlight: 1, // more is the pipeline, in which replication can stop for ever
		Timeout:         s.cfg.WriteDeadline,
	}), s.position)
	return guarded(t), l, t
}

// position is the term in which this node leads, 0 if it does not, and what is committed in
// it. The term is asked last: what was committed before is so in every later term.
func (s *Store) position() (term, committed uint64) {
	n := s.node.Load()
	if n == nil {
		return 0, 0
	}
	committed = n.raft.CommitIndex()
	if n.raft.State() != raft.Leader {
		return 0, 0
	}
	return n.raft.CurrentTerm(), committed
}

var _ raft.StreamLayer = (*links)(nil)

// nodeID is a node's address: whatever listens beneath, raft knows nodes by their IDs.
type nodeID string

var _ net.Addr = nodeID("")

// Network names the kind of the address.
func (nodeID) Network() string { return "node" }

func (n nodeID) String() string { return string(n) }

// links are the connections of raft. Raft ends only when its calls have, and a call waits
// for a node that is cut off until its deadline; so at the end they are all closed.
type links struct {
	Peers
	id nodeID

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// Addr is where others reach this node.
func (l *links) Addr() net.Addr { return l.id }

// Accept takes a connection from another node.
func (l *links) Accept() (net.Conn, error) { return l.keep(l.Peers.Accept()) }

// Dial makes a connection to another node.
func (l *links) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.keep(l.DialNode(ctx, string(to)))
}

func (l *links) keep(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	l.open[c] = struct{}{}
	return &link{c, l}, nil
}

func (l *links) close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.open {
		_ = c.Close() // what was under way has an unknown end in any case
	}
	clear(l.open)
}

// link is one of them.
type link struct {
	net.Conn
	of *links
}

// Close closes it.
func (l *link) Close() error {
	l.of.mu.Lock()
	delete(l.of.open, l.Conn)
	l.of.mu.Unlock()
	return l.Conn.Close()
}
