package uplink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/transport"
	"github.com/crossdock/crossdock/protocol/transport/airtest"
)

// air is a network with delay and loss, in simulated time, and its authority.
type air struct {
	*airtest.Air
	t    *testing.T
	key  *ecdsa.PrivateKey // of the authority, and of everybody else
	root *x509.Certificate
}

func newAir(t *testing.T, delay time.Duration, loss float64) *air {
	a := &air{Air: airtest.New(3, delay, loss), t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.root = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *air) sign(template *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	template.SerialNumber = big.NewInt(1)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.root
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &a.key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return certificate
}

func (a *air) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return pool
}

// serve makes a relay a node, until stop.
func (a *air) serve(r *relay) (address string, stop func()) {
	a.t.Helper()
	r.beat, r.patience = 10*time.Second, time.Hour
	leaf := a.sign(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	server, err := transport.Listen(transport.ServerConfig{
		Cluster: "c1", Handler: r.handler(), Packets: a.Socket("10.0.0.1"), Authorities: a.pool,
		Certificate: func() (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.root.Raw}, PrivateKey: a.key}, nil
		},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	return server.Addr(), func() {
		cancel()
		if err := <-done; err != nil {
			a.t.Error(err)
		}
	}
}

// agent runs an uplink with the durations of the product, until stop.
func (a *air) agent(s *site, addresses ...string) (u *Uplink, stop func()) {
	a.t.Helper()
	leaf := a.sign(&x509.Certificate{URIs: []*url.URL{transport.Identity{Cluster: "c1", Site: "here", Agent: "here"}.URI()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	own := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: a.key}
	dialer, err := transport.NewDialer(transport.DialerConfig{
		Addresses: addresses, Mode: transport.QUIC, AttemptTimeout: 10 * time.Second,
		TLS:     func() (*tls.Config, error) { return transport.AgentTLS(own, a.pool()), nil },
		Packets: func() (net.PacketConn, error) { return a.Socket("10.0.0.2"), nil },
	})
	if err != nil {
		a.t.Fatal(err)
	}
	cfg, product := config(s), DefaultConfig()
	newDisk(s).configure(&cfg)
	cfg.Dialer = dialer
	cfg.CallTimeout, cfg.Silence, cfg.FullRetry = product.CallTimeout, product.Silence, product.FullRetry
	cfg.ReconnectMin, cfg.ReconnectMax = product.ReconnectMin, product.ReconnectMax
	u = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- u.Run(ctx) }()
	return u, func() {
		cancel()
		if err := <-done; err != nil {
			a.t.Error(err)
		}
	}
}

// simulate runs a test in simulated time. What package block keeps for the whole process is
// made first, outside of it.
func simulate(t *testing.T, test func(t *testing.T)) {
	s := newSite()
	s.add("a")
	cuts, _, err := s.Cut(map[string]uint64{"a": 1}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := block.Open(cuts[0].Block); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, test)
}

// A link of half a second and five lost packets in a hundred, both ways, that is cut for a
// minute: everything arrives, once and in order.
func TestBadLink(t *testing.T) {
	simulate(t, func(t *testing.T) {
		a, s, r := newAir(t, 250*time.Millisecond, 0.05), newSite(), newRelay()
		r.epoch = 1
		var mail []string
		for i := range 20 {
			text := fmt.Sprintf("mail %d ", i)
			mail = append(mail, text+strings.Repeat("x", 20<<10))
			r.mail = append(r.mail, delivery(uint64(i+1), mail[i]))
		}
		address, stopServer := a.serve(r)
		defer stopServer()
		u, stopAgent := a.agent(s, address)
		defer stopAgent()
		feed := func() {
			for range 60 {
				s.add("a", "b")
				s.add("a")
				time.Sleep(100 * time.Millisecond)
			}
		}
		feed()
		r.awaitLane(t, "a", s.lane("a"))
		a.SetCut(true)
		feed()
		time.Sleep(54 * time.Second)
		if u.State().Connected {
			t.Error("the cut has not been noticed")
		}
		a.SetCut(false)
		r.awaitLane(t, "a", s.lane("a"))
		r.awaitLane(t, "b", s.lane("b"))
		r.await(t, "the mail to be acknowledged", func() bool { return r.acked == 20 })
		r.set(func() {
			if r.epoch != 1 {
				t.Errorf("a new epoch: %v", s.why)
			}
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		// What was not acknowledged comes again after the cut; the journal knows it by its
		// number. Nothing comes before what it follows.
		var got []string
		for _, text := range s.received {
			if !slices.Contains(got, text) {
				got = append(got, text)
			}
		}
		if !slices.Equal(got, mail) {
			t.Errorf("got %d pieces of mail, want %d in their order", len(got), len(mail))
		}
	})
}

// A node that answers but cannot reach its leader is left for another.
func TestNodeWithoutLeaderIsLeft(t *testing.T) {
	simulate(t, func(t *testing.T) {
		a, s, good := newAir(t, 10*time.Millisecond, 0), newSite(), newRelay()
		good.epoch = 1
		lost := newRelay()
		lost.leaderless = true
		s.add("a")
		one, stopOne := a.serve(lost)
		defer stopOne()
		two, stopTwo := a.serve(good)
		defer stopTwo()
		for range 4 { // each begins with any of them
			begun := time.Now()
			u, stop := a.agent(s, one, two)
			good.await(t, "a session with the other", func() bool { return u.State().Connected && u.State().Address == two })
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			stop()
			good.set(func() { good.session, good.nonce = 0, "" })
		}
	})
}
