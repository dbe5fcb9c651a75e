// Package airtest is for tests: a network with delay and loss between sockets, which works
// in simulated time.
//
// It owns the packets on their way and refuses to know what is in them. Its invariant: the
// same seed and the same packets lose the same ones.
package airtest

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"
)

// Air carries packets between the sockets that it gives out.
type Air struct {
	delay time.Duration // one way
	loss  float64       // likewise

	mu    sync.Mutex // guards what follows
	cut   bool
	dice  *rand.Rand
	nodes map[string]simnet.PacketReceiver
	port  int
}

var _ simnet.Router = (*Air)(nil)

// New makes air that delays packets on each way, and loses a part of them by chance.
func New(seed uint64, delay time.Duration, loss float64) *Air {
	return &Air{delay: delay, loss: loss, dice: rand.New(rand.NewPCG(seed, 2)), nodes: map[string]simnet.PacketReceiver{}, port: 1000}
}

// AddNode implements simnet.Router.
func (a *Air) AddNode(addr net.Addr, node simnet.PacketReceiver) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nodes[addr.String()] = node
}

// SendPacket implements simnet.Router.
func (a *Air) SendPacket(p simnet.Packet) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if node := a.nodes[p.To.String()]; node != nil && !a.cut && a.dice.Float64() >= a.loss {
		time.AfterFunc(a.delay, func() { node.RecvPacket(p) })
	}
	return nil
}

// SetCut loses everything until it is unset.
func (a *Air) SetCut(cut bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cut = cut
}

// Socket is a new one of a host.
func (a *Air) Socket(host string) net.PacketConn {
	a.mu.Lock()
	a.port++
	port := a.port
	a.mu.Unlock()
	return simnet.NewSimConn(&net.UDPAddr{IP: net.ParseIP(host), Port: port}, a)
}
