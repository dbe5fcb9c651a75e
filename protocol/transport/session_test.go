package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// Every kind of connection carries the same calls.
func TestSession(t *testing.T) {
	for _, mode := range []transport.Mode{transport.QUIC, transport.TCP, transport.Auto, transport.Memory} {
		t.Run(string(mode), func(t *testing.T) {
			b := &bench{t: t, ca: newAuthority(t, "one"), service: &service{}}
			var s *transport.Session
			want := string(mode)
			if mode == transport.Memory {
				link := transport.NewMemory(b.handler(), transport.Identity{Cluster: cluster, Site: "berlin", Agent: "berlin"}, transport.Faults{})
				var err error
				if s, err = link.Session(t.Context(), hello); err != nil {
					t.Fatal(err)
				}
				defer s.Close()
			} else {
				b.server = b.start(b.config("127.0.0.1:0"))
				s = b.session(b.dialer(mode, b.tls("berlin")))
				if mode == transport.Auto {
					want = "quic"
				}
			}
			carries(t, b, s, want)
		})
	}
}

func carries(t *testing.T, b *bench, s *transport.Session, want string) {
	if s.Transport != want {
		t.Fatalf("session by %s (%s), want %s", s.Transport, s.Reason, want)
	}
	if got, err := whoAmI(t.Context(), s); err != nil || got != "berlin "+want {
		t.Errorf("caller is %q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := s.Client.Pull(ctx, connect.NewRequest(&syncpb.PullRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= 3; n++ {
		if !stream.Receive() {
			t.Fatalf("stream ended at %d: %v", n, stream.Err())
		}
		if got := stream.Msg().GetDelivery(); got.GetMailbox() != n || len(got.GetBlock()) != 1<<20 {
			t.Errorf("message %d is %d with %d bytes", n, got.GetMailbox(), len(got.GetBlock()))
		}
	}
	// Other calls pass while the stream is open.
	push := &syncpb.PushRequest{Blocks: [][]byte{make([]byte, 2<<20)}}
	if _, err := s.Client.Push(t.Context(), connect.NewRequest(push)); err != nil {
		t.Errorf("push: %v", err)
	}
	cancel()
	if stream.Receive() {
		t.Error("a cancelled stream goes on")
	}
	stream.Close()

	push.Blocks[0] = make([]byte, transport.MaxMessage+1)
	_, err = s.Client.Push(t.Context(), connect.NewRequest(push))
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "send less at once") {
		t.Errorf("push beyond the limit: %v", err)
	}
	if b.service.pushes.Load() != 1 {
		t.Errorf("%d pushes arrived, want 1", b.service.pushes.Load())
	}
	if s.Err() != nil {
		t.Errorf("open session has error %v", s.Err())
	}
	s.Close()
	closed(t, s.Done(), "end of the session")
	if !errors.Is(s.Err(), transport.ErrClosed) {
		t.Errorf("closed session has error %v", s.Err())
	}
}

// The server's own limit holds against a client that has none.
func TestOversizeAtServer(t *testing.T) {
	b := newBench(t)
	for _, mode := range []transport.Mode{transport.QUIC, transport.TCP} {
		s := b.session(b.dialer(mode, b.tls("berlin")))
		got := transport.RawCall(t.Context(), s, "/crossdock.sync.v1.Sync/Push", make([]byte, transport.MaxMessage+1))
		if connect.CodeOf(got) != connect.CodeResourceExhausted {
			t.Errorf("%s: oversize answered %v", mode, got)
		}
		// Garbage is refused, and harms nobody.
		got = transport.RawCall(t.Context(), s, "/crossdock.sync.v1.Sync/Push", []byte("\xff\xff\xff\xff\xff garbage"))
		if connect.CodeOf(got) != connect.CodeInvalidArgument {
			t.Errorf("%s: garbage answered %v", mode, got)
		}
		if _, err := s.Client.Ack(t.Context(), connect.NewRequest(&syncpb.AckRequest{})); err == nil {
			t.Errorf("%s: a panic was answered without error", mode)
		}
		if _, err := whoAmI(t.Context(), s); err != nil {
			t.Errorf("%s: session after bad calls: %v", mode, err)
		}
	}
	if n := b.service.pushes.Load(); n != 0 {
		t.Errorf("%d bad pushes reached the service", n)
	}
}

func TestServerStopEndsSession(t *testing.T) {
	for _, mode := range []transport.Mode{transport.QUIC, transport.TCP} {
		t.Run(string(mode), func(t *testing.T) {
			b := &bench{t: t, ca: newAuthority(t, "one"), service: &service{}}
			server, err := transport.Listen(b.config("127.0.0.1:0"))
			if err != nil {
				t.Fatal(err)
			}
			b.server = server
			stop := run(t, server.Run)
			s := b.session(b.dialer(mode, b.tls("berlin")))
			stream, err := s.Client.Pull(t.Context(), connect.NewRequest(&syncpb.PullRequest{}))
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			for range 3 {
				stream.Receive()
			}
			go stop() // waits for the answers that are read here
			if stream.Receive() {
				t.Error("stream goes on after the server's end")
			}
			closed(t, s.Done(), "end of the session")
			if s.Err() == nil || errors.Is(s.Err(), transport.ErrClosed) {
				t.Errorf("session ended with %v", s.Err())
			}
		})
	}
}

// gate forwards TCP to the server and, while closed, swallows UDP on the same port.
type gate struct {
	address string
	tcp     net.Listener
	udp     net.PacketConn
	open    atomic.Bool
}

// newGate is made before the server, so that it lives until that has said goodbye.
func newGate(t *testing.T) *gate {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Skip("port not free on UDP")
	}
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	return &gate{address: tcp.Addr().String(), tcp: tcp, udp: udp}
}

func (g *gate) forward(target string) {
	go func() {
		for {
			c, err := g.tcp.Accept()
			if err != nil {
				return
			}
			go pipe(c, target)
		}
	}()
	go g.forwardUDP(target)
}

func pipe(c net.Conn, target string) {
	defer c.Close()
	up, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		io.Copy(up, c)
		up.Close()
	}()
	io.Copy(c, up)
}

// forwardUDP forwards for any number of clients.
func (g *gate) forwardUDP(target string) {
	clients := map[string]net.Conn{}
	defer func() {
		for _, up := range clients {
			up.Close()
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := g.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		if !g.open.Load() {
			continue
		}
		up := clients[from.String()]
		if up == nil {
			if up, err = net.Dial("udp", target); err != nil {
				return
			}
			clients[from.String()] = up
			go func() {
				buf := make([]byte, 64<<10)
				for {
					n, err := up.Read(buf)
					if err != nil {
						return
					}
					g.udp.WriteTo(buf[:n], from)
				}
			}()
		}
		up.Write(buf[:n])
	}
}

// Where UDP is swallowed the session goes by TCP, and ends for QUIC when that works.
func TestFallbackAndReturn(t *testing.T) {
	g := newGate(t)
	b := newBench(t)
	g.forward(b.server.Addr())
	d := b.dialer(transport.Auto, b.tls("berlin"), func(c *transport.DialerConfig) {
		c.Addresses = []string{g.address}
		c.RetryQUIC = 100 * time.Millisecond
		c.AttemptTimeout = 2 * time.Second
	})
	s := b.session(d)
	if s.Transport != "tcp" || !strings.Contains(s.Reason, "QUIC gave no answer") {
		t.Fatalf("session by %s: %s", s.Transport, s.Reason)
	}
	if _, err := whoAmI(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	g.open.Store(true)
	closed(t, s.Done(), "better path")
	if !errors.Is(s.Err(), transport.ErrBetterPath) {
		t.Fatalf("session ended with %v", s.Err())
	}
	if s := b.session(d); s.Transport != "quic" || s.Reason != "" {
		t.Errorf("next session by %s: %s", s.Transport, s.Reason)
	}
}

// A QUIC path that completes handshakes and answers no hello is not taken.
func TestHelloDecides(t *testing.T) {
	deaf := func(ctx context.Context) bool { return strings.HasSuffix(caller(ctx), "quic") }
	b := &bench{t: t, ca: newAuthority(t, "one"), service: &service{deaf: deaf}}
	b.server = b.start(b.config("127.0.0.1:0"))
	s := b.session(b.dialer(transport.Auto, b.tls("berlin")))
	if s.Transport != "tcp" {
		t.Errorf("session by %s", s.Transport)
	}
}

// QUIC that fails at once does not make TCP wait.
func TestQUICFailsAtOnce(t *testing.T) {
	b := newBench(t)
	s := b.session(b.dialer(transport.Auto, b.tls("berlin"), func(c *transport.DialerConfig) {
		c.FallbackAfter = time.Hour
		first := true
		conf := c.TLS
		c.TLS = func() (*tls.Config, error) {
			broken, err := conf()
			broken = broken.Clone()
			broken.VerifyConnection = func(tls.ConnectionState) error {
				if first {
					first = false
					return errors.New("no QUIC today")
				}
				return nil
			}
			return broken, err
		}
	}))
	if s.Transport != "tcp" || !strings.Contains(s.Reason, "no QUIC today") {
		t.Errorf("session by %s: %s", s.Transport, s.Reason)
	}
}

func TestAbandonAvoidsQUIC(t *testing.T) {
	b := newBench(t)
	d := b.dialer(transport.Auto, b.tls("berlin"))
	s := b.session(d)
	s.Abandon(errors.New("silent for 30s"))
	if s = b.session(d); s.Transport != "tcp" || !strings.Contains(s.Reason, "silent for 30s") {
		t.Errorf("session after an abandoned one by %s: %s", s.Transport, s.Reason)
	}
	short := b.dialer(transport.Auto, b.tls("berlin"), func(c *transport.DialerConfig) { c.RetryQUIC = time.Nanosecond })
	s = b.session(short)
	s.Abandon(errors.New("silent for 30s"))
	if s = b.session(short); s.Transport != "quic" {
		t.Errorf("session after the time of avoidance by %s: %s", s.Transport, s.Reason)
	}
}

// TCP goes through a CONNECT proxy where one is configured.
func TestProxy(t *testing.T) {
	b := newBench(t)
	var asked atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != b.server.Addr() {
			t.Errorf("proxy was asked to %s %s", r.Method, r.Host)
			return
		}
		asked.Add(1)
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(rw, "HTTP/1.1 200 OK\r\n\r\n")
		rw.Flush()
		pipe(c, r.Host)
	}))
	defer proxy.Close()
	d := b.dialer(transport.TCP, b.tls("berlin"), func(c *transport.DialerConfig) {
		c.Proxy = func(*url.URL) (*url.URL, error) { return url.Parse(proxy.URL) }
	})
	s := b.session(d)
	if got, err := whoAmI(t.Context(), s); err != nil || got != "berlin tcp" || asked.Load() != 1 {
		t.Errorf("by proxy: %q %v, proxy was asked %d times", got, err, asked.Load())
	}
	s.Close()
}

// A node that is gone without a word is left on TCP too, though the line stays open.
func TestGoneNodeIsLeftOnTCP(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	var frozen atomic.Bool
	forward := func(to io.WriteCloser, from io.Reader) {
		defer to.Close()
		buffer := make([]byte, 16<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if !frozen.Load() {
				to.Write(buffer[:n])
			}
		}
	}
	go func() {
		c, err := front.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", b.server.Addr())
		if err != nil {
			c.Close()
			return
		}
		go forward(up, c)
		forward(c, up)
	}()
	s := b.session(b.dialer(transport.TCP, b.tls("berlin"), at(front.Addr().String())))
	frozen.Store(true)
	closed(t, s.Done(), "end of the session") // which waits for 20 s
	if s.Err() == nil || errors.Is(s.Err(), transport.ErrClosed) {
		t.Errorf("ended with %v", s.Err())
	}
}
