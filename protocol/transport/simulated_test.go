package transport_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// air is a network with delay and loss, in simulated time.
type air struct {
	delay time.Duration // one way

	mu    sync.Mutex // guards what follows
	loss  float64
	cut   bool
	dice  *rand.Rand
	nodes map[string]simnet.PacketReceiver
	port  int
}

var _ simnet.Router = (*air)(nil)

func newAir(delay time.Duration, loss float64) *air {
	return &air{delay: delay, loss: loss, dice: rand.New(rand.NewPCG(1, 2)), nodes: map[string]simnet.PacketReceiver{}, port: 1000}
}

func (a *air) AddNode(addr net.Addr, node simnet.PacketReceiver) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nodes[addr.String()] = node
}

func (a *air) SendPacket(p simnet.Packet) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if node := a.nodes[p.To.String()]; node != nil && !a.cut && a.dice.Float64() >= a.loss {
		time.AfterFunc(a.delay, func() { node.RecvPacket(p) })
	}
	return nil
}

func (a *air) setCut(cut bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cut = cut
}

// socket is a new one of a host.
func (a *air) socket(host string) *simnet.SimConn {
	a.mu.Lock()
	a.port++
	port := a.port
	a.mu.Unlock()
	return simnet.NewSimConn(&net.UDPAddr{IP: net.ParseIP(host), Port: port}, a)
}

// A node that is gone without a word is left within seconds, whoever has something to say.
func TestGoneNodeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, ca: newAuthority(t, "one"), service: &service{}}
		a := newAir(250*time.Millisecond, 0.05)
		cfg := b.config("")
		cfg.Packets = a.socket("127.0.0.1")
		server, err := transport.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := server.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer running.Wait()
		defer cancel()
		d := b.dialer(transport.QUIC, b.tls("berlin"), func(c *transport.DialerConfig) {
			c.Addresses = []string{server.Addr()}
			c.Packets = func() (net.PacketConn, error) { return a.socket("127.0.0.2"), nil }
		})
		for _, busy := range []bool{false, true} {
			s, err := d.Session(t.Context(), hello)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute) // a quiet session lasts
			if s.Err() != nil {
				t.Fatalf("a quiet session ended: %v", s.Err())
			}
			a.setCut(true)
			begun := time.Now()
			if busy {
				go s.Client.Push(ctx, connect.NewRequest(&syncpb.PushRequest{Blocks: [][]byte{make([]byte, 100<<10)}}))
			}
			<-s.Done()
			if took := time.Since(begun); took > 12*time.Second {
				t.Errorf("the end was noticed after %s (busy: %t)", took, busy)
			}
			if s.Err() == nil || errors.Is(s.Err(), transport.ErrClosed) {
				t.Errorf("ended with %v", s.Err())
			}
			s.Close()
			a.setCut(false)
		}
	})
}
