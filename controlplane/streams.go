package controlplane

import (
	"context"
	"net"
	"time"

	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/controlplane/store"
)

// streams shows the way to other nodes as the store wants it. The type of an address is
// taken from there, since only the store knows raft.
type streams[Address ~string] struct{ *peer.Peers }

func storePeers[Address ~string](p *peer.Peers, _ func(store.Peers, Address, time.Duration) (net.Conn, error)) *streams[Address] {
	return &streams[Address]{p}
}

// Dial opens a stream to a node.
func (s *streams[Address]) Dial(node Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.DialNode(ctx, string(node))
}
