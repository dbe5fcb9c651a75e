package systemtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func requestFor(t *testing.T, key any) []byte {
	t.Helper()
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// own is the rogue's certificate with its key.
func (r *rogue) own() tls.Certificate {
	r.t.Helper()
	certificate, err := r.id.TLS().GetClientCertificate(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return *certificate
}

// TestCertificateWithoutItsKeyOpensNothing: a certificate is public, what counts is the key.
// And no older or resumed form of the handshake goes around that.
func TestCertificateWithoutItsKeyOpensNothing(t *testing.T) {
	w, r := refusalWorld(t)
	stolen := r.own()
	stolen.PrivateKey = newKey(t)
	for _, mode := range []transport.Mode{transport.QUIC, transport.TCP} {
		if _, err := r.session(transport.AgentTLS(stolen, r.id.TLS().RootCAs), mode); err == nil {
			t.Errorf("a session by %s with a certificate whose key is another's", mode)
		}
	}
	api := strings.TrimPrefix(w.plane.addresses.API, "https://")
	for _, c := range []struct {
		name, address string
		change        func(*tls.Config)
		want          string
	}{
		{"TLS 1.2 at the sync port", r.address, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, "protocol version"},
		{"TLS 1.2 at the API", api, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, "protocol version"},
		{"the nodes' protocol at the sync port", r.address, func(c *tls.Config) { c.NextProtos = []string{"crossdock-raft"} }, "no application protocol"},
	} {
		conf := r.id.TLS()
		conf.ServerName, conf.NextProtos = "127.0.0.1", []string{"h2"}
		c.change(conf)
		conn, err := tls.Dial("tcp", c.address, conf)
		if err == nil {
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	old := &http.Client{Transport: &http.Transport{TLSClientConfig: r.id.TLS(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}}
	answer, err := old.Post("https://"+r.address+syncpbconnect.SyncHelloProcedure, "application/json", strings.NewReader("{}"))
	if err == nil {
		answer.Body.Close()
		t.Errorf("a call over HTTP/1.1: %s", answer.Status)
	}
	// A resumed connection would skip the look at who was revoked meanwhile.
	conf := r.id.TLS()
	conf.ServerName, conf.NextProtos, conf.SessionTicketsDisabled = "127.0.0.1", []string{"h2"}, false
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for i := range 3 {
		conn, err := tls.Dial("tcp", r.address, conf)
		if err != nil {
			t.Fatal(err)
		}
		if conn.ConnectionState().DidResume {
			t.Errorf("connection %d was resumed", i)
		}
		if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 9)); err != nil { // what comes before it, such as a ticket, was read too
			t.Fatal(err)
		}
		conn.Close()
	}
}

// TestFakeNodeHearsNothing puts somebody else where an agent looks for a node. Neither a
// join token's secret nor a call reaches it.
func TestFakeNodeHearsNothing(t *testing.T) {
	w, r := refusalWorld(t)
	_, ca := newAuthority(t, r.id.Cluster)
	key := newKey(t)
	signed, err := ca.SignNode(requestFor(t, key), "node-1", []string{"127.0.0.1"}, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, certificate := range map[string]tls.Certificate{
		"a node of another authority":     {Certificate: signed, PrivateKey: key},
		"an agent of the right authority": r.own(),
	} {
		heard := new(atomic.Int64)
		address := fakeNode(t, certificate, heard)
		s := bareSite(t, "eu", t.TempDir())
		s.cfg.ControlPlane.Addresses, s.cfg.ControlPlane.Transport = []string{address}, "tcp"
		text := w.plane.joinToken("eu", "")
		token, err := transport.ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, err := agent.Enroll(ctx, s.cfg, text, token.CAHash); err == nil || ctx.Err() != nil {
			t.Errorf("%s: enrolment gives %v", name, err)
		}
		cancel()

		eu := w.sites["eu"]
		eu.stop()
		there := eu.cfg.ControlPlane
		eu.cfg.ControlPlane.Addresses, eu.cfg.ControlPlane.Transport = []string{address}, "tcp"
		eu.start()
		eu.awaitStatus("knows that this is no node of its cluster", func(s agent.Status) string {
			if s.Link.Connected || !strings.Contains(s.Link.LastError, "certificate") {
				return fmt.Sprintf("%+v", s.Link)
			}
			return ""
		})
		if n := heard.Load(); n != 0 {
			t.Errorf("%s heard %d bytes", name, n)
		}
		eu.stop()
		eu.cfg.ControlPlane = there
		eu.start()
	}
}

// fakeNode listens on TCP and counts what callers say after the handshake.
func fakeNode(t *testing.T, certificate tls.Certificate, heard *atomic.Int64) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func(conn net.Conn) {
				defer conn.Close()
				n, _ := io.Copy(io.Discard, conn) // how a caller leaves does not matter
				heard.Add(n)
			}(conn)
		}
	}()
	return l.Addr().String()
}

// TestExpiredCertificateRenewsAndNoMore: within the trust age, with the registered key, in
// the one right count, unless revoked.
func TestExpiredCertificateRenewsAndNoMore(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := startPlane(t, func(c *controlplane.Config) { c.AgentLife = 2 * time.Second })
	p.approve(policyFor([]string{"na"}, nil))
	r := newRogue(newSite(t, p, "na"))
	expired := func() {
		t.Helper()
		until(t, "the certificate has ended", func() string {
			if left := time.Until(r.id.Certificate().NotAfter); left > -time.Second {
				return left.String()
			}
			return ""
		})
	}
	expired()
	client := r.bareClient(r.id.TLS())
	_, err := client.Hello(t.Context(), connect.NewRequest(&syncpb.HelloRequest{Protocol: 2, Epoch: r.id.Epoch()}))
	wantCode(t, "a hello", err, connect.CodeUnauthenticated, "expired", "renew")
	_, err = client.Push(t.Context(), connect.NewRequest(&syncpb.PushRequest{Epoch: r.id.Epoch(), Blocks: [][]byte{r.block("na", r.id.Epoch(), 1, "na")}}))
	wantCode(t, "a push", err, connect.CodeUnauthenticated, "expired")
	renew := func(key any, recoveries uint64) error {
		_, err := client.Renew(t.Context(), connect.NewRequest(&syncpb.RenewRequest{CertificateRequest: requestFor(t, key), Recoveries: recoveries}))
		return err
	}
	wantCode(t, "a renewal for another key", renew(newKey(t), 0), connect.CodePermissionDenied, "another key")
	if err := renew(r.own().PrivateKey, 0); err != nil {
		t.Errorf("a renewal: %v", err)
	}
	wantCode(t, "a renewal by a copy of the key", renew(r.own().PrivateKey, 0), connect.CodePermissionDenied, "second copy")
	until(t, "the copy of the key is an exception", func() string {
		var list struct {
			Items []struct{ Agent, Kind string }
		}
		p.must("GET", "/exceptions", nil, &list)
		for _, e := range list.Items {
			if e.Agent == "na" && e.Kind == "key-copy" {
				return ""
			}
		}
		return fmt.Sprintf("%+v", list.Items)
	})
	p.must("POST", "/agents/na/revoke", nil, nil)
	wantCode(t, "a renewal of a revoked agent", renew(r.own().PrivateKey, 1), connect.CodePermissionDenied, "revoked")

	// And where the trust is shorter than the absence, there is none.
	p = startPlane(t, func(c *controlplane.Config) { c.AgentLife, c.TrustAge = time.Second, time.Millisecond })
	p.approve(policyFor([]string{"na"}, nil))
	r = newRogue(newSite(t, p, "na"))
	expired()
	client = r.bareClient(r.id.TLS())
	wantCode(t, "a renewal after the trust age", renew(r.own().PrivateKey, 0), connect.CodeUnauthenticated, "trust age", "enrol again")
}

// TestWhatWasSentBeforeIsTakenOnce sends recorded calls again, and others in their place.
func TestWhatWasSentBeforeIsTakenOnce(t *testing.T) {
	w, r := refusalWorld(t)
	s := r.mustSession(transport.QUIC)
	epoch := r.id.Epoch()
	recorded := r.block("na", epoch, 1, "hq")
	other := r.blockOf("other", "na", epoch, 1, "hq")
	for i, c := range []struct {
		what string
		text []byte
	}{{"the first time", recorded}, {"the same again", recorded}, {"another under the same number", other}, {"a number ahead", r.blockOf("ahead", "na", epoch, 3, "hq")}} {
		lanes, err := r.push(s, epoch, c.text)
		if err != nil || lanes["hq"].GetHighwater() != 1 {
			t.Errorf("%d, %s: %v, %v", i, c.what, lanes, err)
		}
	}
	lanes, err := r.push(s, epoch, r.blockOf("last", "na", epoch, 2, "hq"))
	if err != nil || lanes["hq"].GetHighwater() != 2 {
		t.Errorf("the next number: %v, %v", lanes, err)
	}
	until(t, "the last order is there", func() string {
		if len(w.systemNamed("erp").seen(ofKey("last"))) == 0 {
			return "not yet"
		}
		return ""
	})
	for key, want := range map[string]int{"forged": 1, "other": 0, "ahead": 0, "last": 1} {
		if n := len(w.systemNamed("erp").seen(ofKey(key))); n != want {
			t.Errorf("erp got order %s %d times, want %d", key, n, want)
		}
	}

	// A call that was recorded in a session that is over.
	hello := func(session uint64, nonce byte) {
		t.Helper()
		_, err := s.Client.Hello(t.Context(), connect.NewRequest(&syncpb.HelloRequest{Protocol: 2, Epoch: epoch, Session: session, Nonce: append(make([]byte, 15), nonce)}))
		if err != nil {
			t.Fatal(err)
		}
	}
	hello(1, 1)
	hello(2, 2)
	for what, mark := range map[string]transport.Mark{
		"of an older session":      {Epoch: epoch, Number: 1, Nonce: [16]byte{15: 1}},
		"of a copy of the session": {Epoch: epoch, Number: 2, Nonce: [16]byte{15: 3}},
	} {
		call := connect.NewRequest(&syncpb.PushRequest{Epoch: epoch, Blocks: [][]byte{r.blockOf("late", "na", epoch, 3, "hq")}})
		call.Header().Set(transport.SessionHeader, mark.String())
		w.counted("a call "+what, func() {
			_, err := s.Client.Push(t.Context(), call)
			wantCode(t, "a call "+what, err, connect.CodeAborted, "is over")
		}, gatewayRefused, `"session"`)
	}
}
