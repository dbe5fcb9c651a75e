package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// DefaultTrustAge is how long ago a certificate may have expired and still be renewed.
const DefaultTrustAge = 30 * 24 * time.Hour

// ServerConfig is what a server is made of.
type ServerConfig struct {
	Address     string // host:port, of UDP and TCP alike; port 0 picks one
	Cluster     string
	Handler     http.Handler
	Certificate func() (*tls.Certificate, error) // asked at every handshake; the chain holds the authority, enrolment pins it
	Authorities func() *x509.CertPool            // of agents
	Revoked     func(Identity) bool              // nil: nobody
	TrustAge    time.Duration                    // 0: DefaultTrustAge
	Now         func() time.Time                 // nil: time.Now
	Logger      *slog.Logger
	Metrics     *Metrics // nil: counted nowhere

	// Packets is served instead of a socket at Address, and TCP is not served. Nil, as
	// anywhere but in a simulated network: the system's sockets are.
	Packets net.PacketConn
}

// Server serves one handler over QUIC and TCP.
type Server struct {
	cfg      ServerConfig
	udp      net.PacketConn
	tcp      net.Listener    // nil in a simulated network
	stopping context.Context // done when Run is about to stop
	stop     context.CancelFunc
	close    sync.Once

	strangerTime atomic.Int64 // a time.Duration; tests change it
}

// Listen opens the two sockets; Run serves them.
func Listen(cfg ServerConfig) (*Server, error) {
	if cfg.Handler == nil || cfg.Certificate == nil || cfg.Authorities == nil || cfg.Cluster == "" {
		return nil, errors.New("sync listener: handler, certificate, authorities and cluster must be given")
	}
	if cfg.Revoked == nil {
		cfg.Revoked = func(Identity) bool { return false }
	}
	if cfg.TrustAge == 0 {
		cfg.TrustAge = DefaultTrustAge
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	s := &Server{cfg: cfg, udp: cfg.Packets}
	if s.udp == nil {
		var err error
		if s.tcp, s.udp, err = listenBoth(cfg.Address); err != nil {
			return nil, fmt.Errorf("sync listener: %w", err)
		}
	}
	s.strangerTime.Store(int64(strangerTimeout))
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// listenBoth takes the same port number on TCP and UDP. A picked one may be free on TCP
// alone, hence the tries.
func listenBoth(address string) (net.Listener, net.PacketConn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, err
	}
	const tries = 10
	for try := 1; ; try++ {
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return nil, nil, err
		}
		same := net.JoinHostPort(host, strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port))
		udp, err := net.ListenPacket("udp", same)
		if err == nil {
			return tcp, udp, nil
		}
		if cerr := tcp.Close(); cerr != nil || port != "0" || try == tries {
			return nil, nil, errors.Join(err, cerr)
		}
	}
}

// Addr is the address listened on, with the port that was picked.
func (s *Server) Addr() string { return s.udp.LocalAddr().String() }

// Close closes the sockets. Run does it too.
func (s *Server) Close() {
	s.close.Do(func() {
		s.stop()
		if s.tcp != nil {
			s.tcp.Close() // nothing can be done about a failing close of a listener
		}
		s.udp.Close()
	})
}

// Run serves until ctx ends or one of the two listeners fails.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	handler := &guard{server: s, next: s.cfg.Handler, errors: connect.NewErrorWriter(HandlerOptions()...)}

	unproven := rate.NewLimiter(unprovenRate, unprovenBurst)
	transport := &quic.Transport{
		Conn:                s.udp,
		VerifySourceAddress: func(net.Addr) bool { return !unproven.Allow() },
	}
	defer transport.Close()
	listener, err := transport.Listen(s.tlsConfig(http3.NextProtoH3), quicConfig(handshakeIdle))
	if err != nil {
		return fmt.Errorf("listen for QUIC on %s: %w", s.Addr(), err)
	}
	defer listener.Close()
	h3 := &http3.Server{Handler: handler, MaxHeaderBytes: maxHeader, IdleTimeout: unusedTimeout, Logger: s.cfg.Logger,
		ConnContext: func(ctx context.Context, _ *quic.Conn) context.Context { return withVerdict(ctx) }}
	h2 := s.http2(handler)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := h3.ServeListener(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve QUIC on %s: %w", s.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		if s.tcp == nil {
			return nil
		}
		if err := h2.Serve(tls.NewListener(s.tcp, h2.TLSConfig)); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve TCP on %s: %w", s.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		s.shutdown(h3, h2)
		return nil
	})
	return group.Wait()
}

func (s *Server) http2(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           handler,
		TLSConfig:         s.tlsConfig("h2"),
		Protocols:         protocols,
		ConnContext:       func(ctx context.Context, _ net.Conn) context.Context { return withVerdict(ctx) },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       unusedTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: connectionWindow,
			MaxReceiveBufferPerStream:     streamWindow,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
		},
	}
}

// shutdown ends the streams first, since they would never end by themselves, and gives
// the calls a moment to answer: what they have done should be known to be done.
func (s *Server) shutdown(h3 *http3.Server, h2 *http.Server) {
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() {
		if err := h3.Shutdown(ctx); err != nil {
			s.cfg.Logger.Debug("QUIC connections were cut", "error", err)
		}
	})
	both.Go(func() {
		if err := h2.Shutdown(ctx); err != nil {
			s.cfg.Logger.Debug("TCP connections were cut", "error", err)
			h2.Close() // its listener is closed already
		}
	})
	both.Wait()
}
