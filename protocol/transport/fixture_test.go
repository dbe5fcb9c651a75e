package transport_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority is a CA for tests.
type authority struct {
	t    *testing.T
	key  crypto.Signer
	cert *x509.Certificate
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(template, template, a.key.Public())
	return a
}

func (a *authority) sign(template, parent *x509.Certificate, public any) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) node() tls.Certificate {
	key := newKey(a.t)
	leaf := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, key.Public())
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
}

// agent makes the certificate of spiffe://<cluster>/site/<name>/agent/<name>.
func (a *authority) agent(cluster, name string, notAfter time.Time) tls.Certificate {
	key := newKey(a.t)
	leaf := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: name},
		URIs:      []*url.URL{transport.Identity{Cluster: cluster, Site: name, Agent: name}.URI()},
		NotBefore: notAfter.Add(-24 * time.Hour), NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public())
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// service answers with what it sees of the caller.
type service struct {
	syncpbconnect.UnimplementedSyncHandler
	secrets   atomic.Int64 // tokens that arrived
	pushes    atomic.Int64
	expired   atomic.Bool // a renewal came with an expired certificate
	mu        sync.Mutex  // guards order
	order     []uint64
	deaf      func(ctx context.Context) bool   // hello never answers
	authority atomic.Pointer[x509.Certificate] // that an enrolment answers with
}

func caller(ctx context.Context) string {
	id, ok := transport.IdentityFrom(ctx)
	peer, _ := transport.PeerFrom(ctx)
	if !ok {
		return "nobody " + peer.Transport
	}
	return id.Agent + " " + peer.Transport
}

func (s *service) Hello(ctx context.Context, _ *connect.Request[syncpb.HelloRequest]) (*connect.Response[syncpb.HelloResponse], error) {
	if s.deaf != nil && s.deaf(ctx) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if _, ok := transport.IdentityFrom(ctx); !ok {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("who are you"))
	}
	return connect.NewResponse(&syncpb.HelloResponse{Node: caller(ctx)}), nil
}

func (s *service) Push(_ context.Context, r *connect.Request[syncpb.PushRequest]) (*connect.Response[syncpb.PushResponse], error) {
	s.pushes.Add(1)
	s.mu.Lock()
	s.order = append(s.order, r.Msg.Epoch)
	s.mu.Unlock()
	return connect.NewResponse(&syncpb.PushResponse{}), nil
}

func (s *service) Pull(ctx context.Context, _ *connect.Request[syncpb.PullRequest], out *connect.ServerStream[syncpb.PullResponse]) error {
	for n := uint64(1); n <= 3; n++ {
		if err := out.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Delivery{Delivery: &syncpb.Delivery{Mailbox: n, Block: make([]byte, 1<<20)}}}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return connect.NewError(connect.CodeUnavailable, context.Cause(ctx))
}

func (s *service) Ack(context.Context, *connect.Request[syncpb.AckRequest]) (*connect.Response[syncpb.AckResponse], error) {
	panic("a bug")
}

func (s *service) Renew(ctx context.Context, _ *connect.Request[syncpb.RenewRequest]) (*connect.Response[syncpb.RenewResponse], error) {
	if id, _ := transport.IdentityFrom(ctx); id.Expired {
		s.expired.Store(true)
	}
	return connect.NewResponse(&syncpb.RenewResponse{}), nil
}

func (s *service) Enroll(ctx context.Context, r *connect.Request[syncpb.EnrollRequest]) (*connect.Response[syncpb.EnrollResponse], error) {
	s.secrets.Add(1)
	return connect.NewResponse(&syncpb.EnrollResponse{Agent: caller(ctx), Authorities: [][]byte{s.authority.Load().Raw}}), nil
}

const cluster = "c1"

type bench struct {
	t       *testing.T
	ca      *authority
	service *service
	server  *transport.Server
	revoked atomic.Bool
}

func (b *bench) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(syncpbconnect.NewSyncHandler(b.service, transport.HandlerOptions()...))
	return mux
}

func (b *bench) config(address string) transport.ServerConfig {
	node := b.ca.node()
	return transport.ServerConfig{
		Address: address, Cluster: cluster, Handler: b.handler(),
		Certificate: func() (*tls.Certificate, error) { return &node, nil },
		Authorities: b.ca.pool,
		Revoked:     func(transport.Identity) bool { return b.revoked.Load() },
		TrustAge:    time.Hour,
	}
}

// newBench runs a server on loopback until the test ends.
func newBench(t *testing.T) *bench {
	b := &bench{t: t, ca: newAuthority(t, "cluster one"), service: &service{}}
	b.server = b.start(b.config("127.0.0.1:0"))
	return b
}

func (b *bench) start(cfg transport.ServerConfig) *transport.Server {
	b.t.Helper()
	s, err := transport.Listen(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	run(b.t, s.Run)
	return s
}

// run runs until the test ends, and waits for the end.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func (b *bench) dialer(mode transport.Mode, conf *tls.Config, change ...func(*transport.DialerConfig)) *transport.Dialer {
	b.t.Helper()
	cfg := transport.DialerConfig{
		Mode: mode, FallbackAfter: 200 * time.Millisecond,
		TLS: func() (*tls.Config, error) { return conf, nil },
	}
	if b.server != nil {
		cfg.Addresses = []string{b.server.Addr()}
	}
	for _, c := range change {
		c(&cfg)
	}
	d, err := transport.NewDialer(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

func (b *bench) tls(name string) *tls.Config {
	return transport.AgentTLS(b.ca.agent(cluster, name, time.Now().Add(time.Hour)), b.ca.pool())
}

// session opens one and closes it when the test ends.
func (b *bench) session(d *transport.Dialer) *transport.Session {
	b.t.Helper()
	s, err := d.Session(b.t.Context(), hello)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { s.Close() })
	return s
}

func hello(ctx context.Context, c syncpbconnect.SyncClient) error {
	_, err := c.Hello(ctx, connect.NewRequest(&syncpb.HelloRequest{}))
	return err
}

func whoAmI(ctx context.Context, s *transport.Session) (string, error) {
	r, err := s.Client.Hello(ctx, connect.NewRequest(&syncpb.HelloRequest{}))
	if err != nil {
		return "", err
	}
	return r.Msg.Node, nil
}

func closed(t *testing.T, what <-chan struct{}, name string) {
	t.Helper()
	select {
	case <-what:
	case <-time.After(20 * time.Second):
		t.Fatal(fmt.Errorf("%s did not come", name))
	}
}
