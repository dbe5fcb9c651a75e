package systemtest

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// serveTCP gives each connection to serve until the test ends.
func serveTCP(t *testing.T, l net.Listener, serve func(c net.Conn)) {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute)) // a test that hangs ends
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
}

func tunnelTo(address string) func(c net.Conn) {
	return func(c net.Conn) {
		on, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		defer on.Close()
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.Copy(on, c); on.Close() })
		both.Go(func() { _, _ = io.Copy(c, on); c.Close() })
		both.Wait()
	}
}

// swallowing takes an address at which TCP leads to the control plane and UDP leads nowhere,
// as behind a firewall that drops it.
func swallowing(t *testing.T, door string) string {
	t.Helper()
	for range 20 {
		address := freePort(t)
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			udp.Close()
			continue
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			packet := make([]byte, 2048)
			for {
				if _, _, err := udp.ReadFrom(packet); err != nil {
					return
				}
			}
		}()
		t.Cleanup(func() {
			udp.Close()
			<-done
		})
		serveTCP(t, tcp, tunnelTo(door))
		return address
	}
	t.Fatal("no port is free over UDP and TCP")
	return ""
}

// proxyWith is an HTTP proxy that answers CONNECT as it is told, and goes on as it is told.
func proxyWith(t *testing.T, head string, then func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveTCP(t, l, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		if _, err := io.WriteString(c, head+"\r\n"); err == nil && then != nil {
			then(c)
		}
	})
	return "http://" + l.Addr().String()
}

// TestDoctorSeesTheWay puts what sites have between them and the control plane: a firewall
// that drops UDP, proxies that refuse, and one that looks into TLS; and asks from afar.
func TestDoctorSeesTheWay(t *testing.T) {
	door := freeDoor(t)
	front := swallowing(t, door)
	w := newWorld(t, func(c *controlplane.Config) {
		c.Sync.Listen, c.Sync.Advertise = door, []string{front} // all that an agent is told of
	}, []string{"eu"}, func(*history.History) []*system { return nil })
	eu := w.sites["eu"]
	eu.start()
	eu.awaitLink("quic")

	var far api.Diagnosis
	w.plane.must("GET", "/agents/eu/doctor", nil, &far)
	seen := map[string]api.FindingLevel{}
	for _, f := range far.Findings {
		seen[f.ID] = f.Level
	}
	for _, id := range []string{"config", "certificate", "link-quic", "link-tcp", "tls-inspection", "clock", "version", "policy", "store", "queue-level", "queue-age", "dead-letters", "data-owner"} {
		if seen[id] != api.FindingLevelOk {
			t.Errorf("from afar %s is %q: %+v", id, seen[id], far.Findings)
		}
	}
	if far.Agent != "eu" || len(far.NotTested) == 0 {
		t.Errorf("%+v", far)
	}

	running := agent.Found{Running: true}
	eu.cfg.ControlPlane.Addresses = []string{front}
	d := eu.diagnose(running)
	d.want(t, "link-quic", doctor.Warn, "no answer", "send UDP")
	d.want(t, "link-tcp", doctor.OK)
	d.want(t, "tls-inspection", doctor.OK)
	d.want(t, "dns-127.0.0.1", doctor.OK)

	inspector := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer inspector.Close()
	for _, tt := range []struct {
		name, proxy, id string
		level           doctor.Level
		says            []string
	}{
		{"a proxy leads through", proxyWith(t, "HTTP/1.1 200 OK\r\n", tunnelTo(door)), "proxy", doctor.OK, []string{"leads to " + front}},
		{"a proxy looks in", proxyWith(t, "HTTP/1.1 200 OK\r\n", func(c net.Conn) {
			server := tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: inspector.TLS.Certificates, NextProtos: []string{"h2"}})
			if server.Handshake() == nil {
				_, _ = io.Copy(io.Discard, server)
			}
		}), "tls-inspection", doctor.Fail, []string{"issued by", "exempt " + front}},
		{"a proxy wants NTLM", proxyWith(t, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n", nil), "proxy", doctor.Fail, []string{"407", "NTLM", "not supported"}},
	} {
		eu.cfg.ControlPlane.Proxy = tt.proxy
		eu.cfg.ControlPlane.Transport = "tcp" // what QUIC gives was seen above
		d := eu.diagnose(running)
		d.want(t, tt.id, tt.level, tt.says...)
		want := doctor.Fail
		if tt.level == doctor.OK {
			want = doctor.OK
		}
		d.want(t, "link-tcp", want)
	}
}
