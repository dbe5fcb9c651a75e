package transport_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
	"github.com/crossdock/crossdock/protocol/transport/airtest"
)

// A node that is gone without a word is left within seconds, whoever has something to say.
func TestGoneNodeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, ca: newAuthority(t, "one"), service: &service{}}
		a := airtest.New(1, 250*time.Millisecond, 0.05)
		cfg := b.config("")
		cfg.Packets = a.Socket("127.0.0.1")
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
			c.Packets = func() (net.PacketConn, error) { return a.Socket("127.0.0.2"), nil }
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
			a.SetCut(true)
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
			a.SetCut(false)
		}
	})
}
