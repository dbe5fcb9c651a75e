package doctor

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// authority is a CA that gives out certificates for 127.0.0.1.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func (a *authority) issue(t *testing.T, name string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// listen serves each connection to a real socket until the test ends.
func listen(t *testing.T, serve func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // a test that hangs ends
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// secured is a server that shows a certificate.
func secured(t *testing.T, certificate tls.Certificate) string {
	return listen(t, func(c net.Conn) { shake(c, certificate) })
}

func shake(c net.Conn, certificate tls.Certificate) {
	server := tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	if server.Handshake() == nil {
		_, _ = io.Copy(io.Discard, server) // until the other side goes
	}
}

// proxyThat answers CONNECT, and then does with the connection what it likes.
func proxyThat(t *testing.T, answer func(r *http.Request) (head string, then func(c net.Conn))) string {
	return listen(t, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		head, then := answer(r)
		if _, err := io.WriteString(c, head); err == nil && then != nil {
			then(c)
		}
	})
}

// tunnel leads on to an address.
func tunnel(address string) func(c net.Conn) {
	return func(c net.Conn) {
		on, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		defer on.Close()
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.Copy(on, c); _ = on.(*net.TCPConn).CloseWrite() })
		both.Go(func() { _, _ = io.Copy(c, on) })
		both.Wait()
	}
}

// nameServer is a DNS server that gives what the test wants for each type.
func nameServer(t *testing.T, records map[dnsmessage.Type]dnsmessage.ResourceBody, codes map[dnsmessage.Type]dnsmessage.RCode) *net.Resolver {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 4096)
		for {
			n, from, err := socket.ReadFrom(packet)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(packet[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true, RCode: codes[q.Type]}, Questions: m.Questions}
			if body := records[q.Type]; body != nil {
				answer.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}, Body: body}}
			}
			if text, err := answer.Pack(); err == nil {
				_, _ = socket.WriteTo(text, from)
			}
		}
	}()
	t.Cleanup(func() {
		socket.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
}

// timeServer speaks NTP, with its clock off by so much.
func timeServer(t *testing.T, off time.Duration) string {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 256)
		for {
			n, from, err := socket.ReadFrom(packet)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			answer := make([]byte, 48)
			answer[0], answer[1], answer[2], answer[3] = 4<<3|4, 1, 6, 0xEC // version 4, server, stratum 1
			copy(answer[12:16], "TEST")
			now := time.Now().Add(off)
			for _, at := range []int{16, 32, 40} {
				putNTP(answer[at:], now)
			}
			copy(answer[24:32], packet[40:48])
			_, _ = socket.WriteTo(answer, from)
		}
	}()
	t.Cleanup(func() {
		socket.Close()
		<-done
	})
	return socket.LocalAddr().String()
}

func putNTP(b []byte, at time.Time) {
	const since1900 = 2208988800
	binary.BigEndian.PutUint32(b, uint32(at.Unix()+since1900))
	binary.BigEndian.PutUint32(b[4:], uint32(int64(at.Nanosecond())<<32/int64(time.Second)))
}
