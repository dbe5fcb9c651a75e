// Package peer carries what the nodes of a cluster say to each other: streams, and calls
// with one answer, over one TLS port.
//
// It owns who may speak there, the limits of it, and how a node's name becomes a
// connection. It refuses to know what is said: streams are somebody's protocol, and calls
// are answered by the services that it is given. Its invariant: nothing is passed on that
// does not come from a node of this very life of the cluster, but for a join, which brings
// a token.
package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/controlplane/model"
)

// The protocols on the port.
const (
	protoStream = "crossdock-raft"
	protoCalls  = "h2"
)

// Limits of the port.
const (
	MaxCommand = 2<<20 + 64<<10 // bytes of a forwarded command or its answer
	MaxAsk     = 8 << 20        // bytes of a live command's arguments or answer
	maxSmall   = 256 << 10      // bytes of any other call or answer
	maxHeader  = 16 << 10
	maxPreface = 1 << 10

	maxNodes     = 256 // connections of nodes
	maxStrangers = 32  // connections that have not proven to be a node's
	maxBacklog   = 16  // streams that wait to be taken

	dialTimeout     = 2 * time.Second // to a connection that was let in
	proveTimeout    = 5 * time.Second // for the other side to say who it is
	strangerTimeout = 30 * time.Second
	idleTimeout     = 2 * time.Minute
	pingAfter       = 2 * time.Second
	pingTimeout     = 2 * time.Second
	stopTimeout     = 2 * time.Second
)

// Identity is which node of which life of which cluster speaks.
type Identity struct {
	Cluster     string
	Incarnation string
	Node        string
}

// Config is what a port is made of.
type Config struct {
	Listener net.Listener // plain; closed by Run or Close
	Identity Identity

	Certificate func() (*tls.Certificate, error) // of this node
	Authorities func() *x509.CertPool            // that sign nodes; others are another pool
	Node        func(certificate *x509.Certificate) (cluster, node string, err error)

	// Address tells where a node listens. Nothing there may wait.
	Address func(node string) (hostport string, ok bool)
	// Refuse says why a node that has proven its name is not let in; nil: it is. Forbidden is
	// taken by that node as the word that it was removed for good.
	Refuse func(ctx context.Context, node string) error
	// Dial makes the plain connection; nil: TCP. Tests cut nodes off from each other here.
	Dial func(ctx context.Context, node, address string) (net.Conn, error)

	Logger *slog.Logger
}

// Peers is the port of one node: what it says to the others, and what they say to it.
type Peers struct {
	cfg      Config
	services atomic.Pointer[Services]
	streams  chan net.Conn
	calls    chan net.Conn

	clientMu sync.Mutex // guards the two below
	client   *http.Client
	clientOf []byte // certificate that its connections show

	table table

	closeStreams sync.Once
	noStreams    chan struct{} // closed by Close: nobody takes streams any more
	closeAll     sync.Once
	ended        chan struct{} // closed when the port is
}

// New makes a port. It serves from Run on; what it is asked before Serve is answered as
// unavailable.
func New(cfg Config) (*Peers, error) {
	if cfg.Listener == nil || cfg.Certificate == nil || cfg.Authorities == nil || cfg.Node == nil || cfg.Address == nil {
		return nil, errors.New("peer: listener, certificate, authorities, node and address must be given")
	}
	if cfg.Identity.Cluster == "" || cfg.Identity.Incarnation == "" || cfg.Identity.Node == "" {
		return nil, errors.New("peer: the identity is not complete")
	}
	if cfg.Refuse == nil {
		cfg.Refuse = func(context.Context, string) error { return nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = dialTCP
	}
	p := &Peers{
		cfg: cfg, streams: make(chan net.Conn, maxBacklog), calls: make(chan net.Conn),
		table: table{open: map[*conn]bool{}}, noStreams: make(chan struct{}), ended: make(chan struct{}),
	}
	return p, nil
}

func dialTCP(ctx context.Context, _, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// Serve gives the port what answers calls.
func (p *Peers) Serve(s Services) { p.services.Store(&s) }

// Run serves until ctx ends or the listener fails.
func (p *Peers) Run(ctx context.Context) error {
	defer p.shut()
	server := p.server()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := p.accept()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("peer: listen on %s: %w", p.cfg.Listener.Addr(), err)
	})
	group.Go(func() error {
		if err := server.Serve(&callListener{p: p, closed: make(chan struct{})}); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("peer: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		p.cfg.Listener.Close() // nothing can be done about a failing close of a listener
		if err := server.Shutdown(grace); err != nil {
			server.Close() // what is still under way is cut: its caller does not know its fate, and says so
		}
		p.shut()
		return nil
	})
	return group.Wait()
}

func (p *Peers) shut() {
	p.closeAll.Do(func() {
		close(p.ended)
		p.cfg.Listener.Close()
		p.table.close()
		p.clientMu.Lock()
		defer p.clientMu.Unlock()
		if p.client != nil {
			p.client.CloseIdleConnections()
		}
	})
}

// accept hands every connection to a goroutine of its own, within the limits.
func (p *Peers) accept() error {
	for {
		raw, err := p.cfg.Listener.Accept()
		if err != nil {
			return err
		}
		if c := p.table.take(raw); c != nil {
			go p.admit(c)
			continue
		}
		p.cfg.Logger.Warn("a connection is refused: too many have not said who they are", "from", raw.RemoteAddr(), "limit", maxStrangers)
		raw.Close()
	}
}

// admit finds out who calls and what for.
func (p *Peers) admit(raw *conn) {
	conn := tls.Server(raw, p.serverTLS())
	if err := p.admitted(raw, conn); err != nil {
		p.cfg.Logger.Debug("a connection between nodes has failed", "from", raw.RemoteAddr(), "error", err)
		raw.Close() // without waiting for a side that may be gone
	}
}

func (p *Peers) admitted(raw *conn, conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), proveTimeout)
	defer cancel()
	if err := conn.SetDeadline(time.Now().Add(proveTimeout)); err != nil {
		return err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	state := conn.ConnectionState()
	switch state.NegotiatedProtocol {
	case protoStream:
		return p.takeStream(ctx, raw, conn, &state)
	case protoCalls:
		return p.takeCalls(raw, conn, &state)
	}
	return errors.New("it speaks neither of the protocols between nodes")
}

func (p *Peers) takeStream(ctx context.Context, raw *conn, conn *tls.Conn, state *tls.ConnectionState) error {
	if err := p.greet(ctx, conn, state); err != nil {
		p.cfg.Logger.Warn("a stream of another node is refused", "from", raw.RemoteAddr(), "error", err)
		return err
	}
	if !raw.proven() {
		return fmt.Errorf("there are %d connections of nodes already", maxNodes)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	select {
	case p.streams <- conn:
		return nil
	case <-p.noStreams:
		return errors.New("nobody takes streams any more")
	}
}

// takeCalls gives the HTTP server the connection of a node for good, and that of another
// for the time of a join.
func (p *Peers) takeCalls(raw *conn, conn *tls.Conn, state *tls.ConnectionState) error {
	if _, err := p.verify(state.PeerCertificates, x509.ExtKeyUsageClientAuth); err == nil {
		if !raw.proven() {
			return fmt.Errorf("there are %d connections of nodes already", maxNodes)
		}
	} else {
		raw.lasts(strangerTimeout)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	select {
	case p.calls <- conn: // the server wants the TLS connection itself
		return nil
	case <-p.ended:
		return net.ErrClosed
	}
}

// sameLife refuses a node of another cluster, or of another life of this one. It is no word
// on whether that node is in the right: a recovery by mistake must not stop the others.
func (p *Peers) sameLife(cluster, incarnation string) error {
	switch own := p.cfg.Identity; {
	case cluster != own.Cluster:
		return model.Errorf(model.Conflict, "the call is for cluster %s, node %s is of %s", clip(cluster), own.Node, own.Cluster)
	case incarnation != own.Incarnation:
		return model.Errorf(model.Conflict, "the call is of another life of cluster %s (%s) than that of node %s (%s): one of them was restored or recovered since; "+
			"empty the data directory of the one that was left behind and join it again", own.Cluster, clip(incarnation), own.Node, own.Incarnation)
	}
	return nil
}

func (p *Peers) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protoStream, protoCalls},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return p.cfg.Certificate()
		},
		// Whoever shows no good certificate is told so in words, which an alert has not.
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
	}
}

func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most]
	}
	return s
}
