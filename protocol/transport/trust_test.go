package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

var bothModes = []transport.Mode{transport.QUIC, transport.TCP}

// Certificates that prove nothing here are refused, and the agent is told why.
func TestCertificateRefused(t *testing.T) {
	b := newBench(t)
	stranger := newAuthority(t, "cluster two")
	hour := time.Now().Add(time.Hour)
	tests := []struct {
		name        string
		certificate tls.Certificate
		want        string
		blame       transport.Blame
	}{
		{"another authority", stranger.agent(cluster, "berlin", hour), "not of this cluster's authority", transport.BlameUnclear},
		{"another cluster", b.ca.agent("c2", "berlin", hour), "is of cluster c2, this is c1", transport.BlameUnclear},
		{"expired beyond trust", b.ca.agent(cluster, "berlin", time.Now().Add(-2*time.Hour)), "longer ago than the trust age", transport.BlameCertificate},
		{"a node's", b.ca.node(), "names 0 URIs", transport.BlameCaller},
	}
	for _, test := range tests {
		for _, mode := range bothModes {
			t.Run(test.name+" "+string(mode), func(t *testing.T) {
				d := b.dialer(mode, transport.AgentTLS(test.certificate, b.ca.pool()))
				_, err := d.Session(t.Context(), hello)
				refused(t, err, test.want)
				blamed(t, err, test.blame)
			})
		}
	}
}

// blamed checks whose fault a node's answer is.
func blamed(t *testing.T, err error, want transport.Blame) {
	t.Helper()
	answer, ok := errors.AsType[*connect.Error](err)
	if !ok || !connect.IsWireError(answer) || transport.BlameOf(answer) != want {
		t.Errorf("%v: it is not blamed on %d", err, want)
	}
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it to say %q", err, want)
	}
}

// A revocation refuses new sessions, and old ones at their next call.
func TestRevoked(t *testing.T) {
	for _, mode := range bothModes {
		b := newBench(t)
		d := b.dialer(mode, b.tls("berlin"))
		s := b.session(d)
		b.revoked.Store(true)
		if _, err := whoAmI(t.Context(), s); connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), "berlin is revoked") {
			t.Errorf("%s: call of a revoked agent: %v", mode, err)
		}
		_, err := d.Session(t.Context(), hello)
		refused(t, err, "revoked")
		blamed(t, err, transport.BlameCertificate)
		b.revoked.Store(false)
		if _, err := whoAmI(t.Context(), s); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// An agent that was cut off longer than its certificate lived may renew, and no more.
func TestExpiredMayRenew(t *testing.T) {
	b := newBench(t)
	for _, mode := range bothModes {
		d := b.dialer(mode, transport.AgentTLS(b.ca.agent(cluster, "berlin", time.Now().Add(-time.Minute)), b.ca.pool()))
		_, err := d.Session(t.Context(), hello)
		if !errors.Is(err, transport.ErrExpired) {
			t.Errorf("%s: hello with an expired certificate: %v", mode, err)
		}
		blamed(t, err, transport.BlameCertificate)
		s, err := d.Session(t.Context(), func(ctx context.Context, c syncpbconnect.SyncClient) error {
			_, err := c.Renew(ctx, connect.NewRequest(&syncpb.RenewRequest{}))
			return err
		})
		if err != nil {
			t.Fatalf("%s: renewal: %v", mode, err)
		}
		if !b.service.expired.Swap(false) {
			t.Errorf("%s: the service does not hear that the certificate has expired", mode)
		}
		s.Close()
		good := b.session(b.dialer(mode, b.tls("berlin")))
		if _, err := good.Client.Renew(t.Context(), connect.NewRequest(&syncpb.RenewRequest{})); err != nil || b.service.expired.Load() {
			t.Errorf("%s: renewal in time: %v, expired: %t", mode, err, b.service.expired.Load())
		}
	}
}

// A control plane whose clock went back still knows its own certificates.
func TestCertificateOfTheFuture(t *testing.T) {
	b := newBench(t)
	for _, mode := range bothModes {
		b.session(b.dialer(mode, transport.AgentTLS(b.ca.agent(cluster, "berlin", time.Now().Add(24*time.Hour+30*time.Minute)), b.ca.pool())))
	}
}

// Nobody without a certificate may hold a call open by sending no end of it.
func TestStrangerMustComeToAnEnd(t *testing.T) {
	b := newBench(t)
	b.server.SetStrangerTime(50 * time.Millisecond)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: b.ca.pool(), MinVersion: tls.VersionTLS13}, Protocols: protocols,
	}}
	defer client.CloseIdleConnections()
	body, never := io.Pipe()
	defer never.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+b.server.Addr()+syncpbconnect.SyncEnrollProcedure, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/proto")
	answer, err := client.Do(r)
	if err == nil {
		answer.Body.Close()
	}
	if ctx.Err() != nil {
		t.Errorf("the call lasts for ever: %v", err)
	}
}

func TestNoCertificate(t *testing.T) {
	b := newBench(t)
	for _, mode := range bothModes {
		d := b.dialer(mode, &tls.Config{RootCAs: b.ca.pool(), MinVersion: tls.VersionTLS13})
		_, err := d.Session(t.Context(), hello)
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%s: hello without a certificate: %v", mode, err)
		}
		blamed(t, err, transport.BlameCaller)
		// Nothing but an enrolment comes as far as the service.
		_, err = d.Session(t.Context(), func(ctx context.Context, c syncpbconnect.SyncClient) error {
			_, err := c.Push(ctx, connect.NewRequest(&syncpb.PushRequest{}))
			return err
		})
		if connect.CodeOf(err) != connect.CodeUnauthenticated || b.service.pushes.Load() != 0 {
			t.Errorf("%s: push without a certificate: %v, %d arrived", mode, err, b.service.pushes.Load())
		}
	}
}

func TestForeignServer(t *testing.T) {
	b := newBench(t)
	other := newAuthority(t, "Inspector General CA")
	for _, mode := range bothModes {
		d := b.dialer(mode, transport.AgentTLS(b.ca.agent(cluster, "berlin", time.Now().Add(time.Hour)), other.pool()))
		_, err := d.Session(t.Context(), hello)
		if !errors.Is(err, transport.ErrForeignIssuer) || !strings.Contains(err.Error(), `issued by "cluster one"`) {
			t.Errorf("%s: server of another authority: %v", mode, err)
		}
	}
	// The right authority under a name that the certificate is not for.
	_, port, _ := strings.Cut(b.server.Addr(), ":")
	d := b.dialer(transport.TCP, b.tls("berlin"), func(c *transport.DialerConfig) { c.Addresses = []string{"localhost:" + port} })
	if _, err := d.Session(t.Context(), hello); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("wrong name: %v", err)
	}
}

// Tickets are off at the server, so an agent that would resume cannot, and its
// certificate is looked at each time.
func TestNothingIsResumed(t *testing.T) {
	b := newBench(t)
	for _, mode := range bothModes {
		conf := b.tls("berlin")
		conf.SessionTicketsDisabled = false
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		resumed, handshakes := false, 0
		conf.VerifyConnection = func(cs tls.ConnectionState) error {
			handshakes++
			resumed = resumed || cs.DidResume
			return nil
		}
		d := b.dialer(mode, conf)
		for range 3 {
			s := b.session(d)
			if _, err := whoAmI(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			s.Close()
		}
		if resumed || handshakes != 3 {
			t.Errorf("%s: %d handshakes, resumed: %t", mode, handshakes, resumed)
		}
	}
}

func TestEnroll(t *testing.T) {
	b := newBench(t)
	request := &syncpb.EnrollRequest{Token: "xd1.secret"}
	for _, mode := range []transport.Mode{transport.QUIC, transport.TCP, transport.Auto} {
		b.service.secrets.Store(0)
		b.service.authority.Store(b.ca.cert)
		cfg := transport.EnrollConfig{Addresses: []string{b.server.Addr()}, Mode: mode, CAHash: transport.HashKey(b.ca.cert)}
		got, err := transport.Enroll(t.Context(), cfg, request)
		if err != nil || !strings.HasPrefix(got.Agent, "nobody ") || b.service.secrets.Load() != 1 {
			t.Errorf("%s: enrolment: %v %v, token arrived %d times", mode, got, err, b.service.secrets.Load())
		}
		b.service.authority.Store(newAuthority(t, "another").cert)
		if _, err := transport.Enroll(t.Context(), cfg, request); !errors.Is(err, transport.ErrForeignIssuer) || errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("%s: answer with another authority: %v", mode, err)
		}
		b.service.secrets.Store(0)
		cfg.CAHash[0]++
		if _, err := transport.Enroll(t.Context(), cfg, request); !errors.Is(err, transport.ErrForeignIssuer) || !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("%s: wrong pin: %v", mode, err)
		}
		if b.service.secrets.Load() != 0 {
			t.Errorf("%s: the token was sent to a server with the wrong pin", mode)
		}
	}
}

func TestParseIdentity(t *testing.T) {
	tests := []struct {
		uri string
		ok  bool
	}{
		{"spiffe://c1/site/berlin/agent/b1", true},
		{"spiffe://c1/site/berlin/agent/b1/", false},
		{"spiffe://c1/site//agent/b1", false},
		{"spiffe://c1/site/berlin/agent/", false},
		{"spiffe:///site/berlin/agent/b1", false},
		{"https://c1/site/berlin/agent/b1", false},
		{"spiffe://c1/node/n1", false},
		{"spiffe://c1/site/berlin/agent/b%31", false},
		{"spiffe://c1/site/a%2Fb/agent/b1", false},
		{"spiffe://c1:1/site/berlin/agent/b1?x", false},
		{"spiffe://u@c1/site/berlin/agent/b1", false},
	}
	for _, test := range tests {
		uri, err := url.Parse(test.uri)
		if err != nil {
			t.Fatal(err)
		}
		cert := newAuthority(t, "x").cert
		cert.URIs = []*url.URL{uri}
		id, err := transport.ParseIdentity(cert)
		if (err == nil) != test.ok {
			t.Errorf("%s: %+v, %v", test.uri, id, err)
		}
		if err == nil && (id.Cluster != "c1" || id.Site != "berlin" || id.Agent != "b1") {
			t.Errorf("%s: %+v", test.uri, id)
		}
	}
	if _, err := transport.ParseIdentity(&x509.Certificate{}); err == nil {
		t.Error("a certificate without a URI has an identity")
	}
}

// rotated is a server whose authority came after another, which signed it.
func rotated(t *testing.T) (b *bench, before *authority) {
	before = newAuthority(t, "before")
	b = &bench{t: t, ca: newAuthority(t, "after"), service: &service{}}
	cross := before.sign(&x509.Certificate{
		SerialNumber: big.NewInt(5), Subject: b.ca.cert.Subject, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}, before.cert, b.ca.key.Public())
	node := b.ca.node()
	node.Certificate = append(node.Certificate, cross.Raw, before.cert.Raw)
	cfg := b.config("127.0.0.1:0")
	cfg.Certificate = func() (*tls.Certificate, error) { return &node, nil }
	cfg.Authorities = func() *x509.CertPool {
		pool := b.ca.pool()
		pool.AddCert(before.cert)
		return pool
	}
	b.server = b.start(cfg)
	return b, before
}

// After a rotation an agent that knows only the authority before goes on, and a join token
// that names either is good.
func TestRotatedAuthority(t *testing.T) {
	b, before := rotated(t)
	b.service.authority.Store(before.cert)
	for _, mode := range bothModes {
		for name, pool := range map[string]*x509.CertPool{"before": before.pool(), "after": b.ca.pool()} {
			for by, ca := range map[string]*authority{"before": before, "after": b.ca} {
				d := b.dialer(mode, transport.AgentTLS(ca.agent(cluster, "berlin", time.Now().Add(time.Hour)), pool))
				s, err := d.Session(t.Context(), hello)
				if err != nil {
					t.Errorf("%s: agent that trusts the one %s, certified by the one %s: %v", mode, name, by, err)
					continue
				}
				s.Close()
			}
		}
		d := b.dialer(mode, transport.AgentTLS(before.agent(cluster, "berlin", time.Now().Add(time.Hour)), newAuthority(t, "before").pool()))
		if _, err := d.Session(t.Context(), hello); !errors.Is(err, transport.ErrForeignIssuer) {
			t.Errorf("%s: an authority of the same name: %v", mode, err)
		}
		for _, pinned := range []*x509.Certificate{before.cert, b.ca.cert} {
			b.service.authority.Store(pinned)
			cfg := transport.EnrollConfig{Addresses: []string{b.server.Addr()}, Mode: mode, CAHash: transport.HashKey(pinned)}
			if _, err := transport.Enroll(t.Context(), cfg, &syncpb.EnrollRequest{}); err != nil {
				t.Errorf("%s: enrolment pinned to %s: %v", mode, pinned.Subject, err)
			}
		}
	}
}

func TestMark(t *testing.T) {
	m := transport.Mark{Epoch: 1 << 63, Number: 7, Nonce: [16]byte{1, 15: 0xff}}
	if got, err := transport.ParseMark(m.String()); err != nil || got != m {
		t.Errorf("%s is read as %+v, %v", m, got, err)
	}
	for _, text := range []string{"", "1.2", "1.2.3", "1.2.3.4", "-1.2." + strings.Repeat("0", 32), "1.x." + strings.Repeat("0", 32), "1.2." + strings.Repeat("g", 32)} {
		if got, err := transport.ParseMark(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}
