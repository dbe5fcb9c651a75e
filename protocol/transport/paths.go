package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// dialQUIC makes one QUIC connection. It is used directly and not through a pool: a pool
// would replace a broken connection in silence, and a session is one connection.
func dialQUIC(ctx context.Context, address string, conf *tls.Config, handshake time.Duration, packets func() (net.PacketConn, error)) (*path, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	if packets == nil {
		packets = func() (net.PacketConn, error) { return net.ListenUDP("udp", nil) }
	}
	conf = conf.Clone()
	conf.ServerName = host
	conf.NextProtos = []string{http3.NextProtoH3}
	var failed []error
	for _, ip := range ips {
		p, err := dialQUICAddr(ctx, &net.UDPAddr{IP: ip.IP, Zone: ip.Zone, Port: number}, conf, handshake, packets)
		if err == nil {
			p.base = "https://" + address
			return p, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, together(failed...)
}

func dialQUICAddr(ctx context.Context, addr *net.UDPAddr, conf *tls.Config, handshake time.Duration, packets func() (net.PacketConn, error)) (*path, error) {
	udp, err := packets()
	if err != nil {
		return nil, err
	}
	transport := &quic.Transport{Conn: udp}
	release := func() {
		transport.Close() // both only stop what is ours; there is nobody to tell
		udp.Close()
	}
	conn, err := transport.Dial(ctx, addr, conf, quicConfig(handshake))
	if err != nil {
		release()
		return nil, err
	}
	h3 := &http3.Transport{DisableCompression: true, MaxResponseHeaderBytes: maxHeader}
	var once sync.Once
	return &path{
		client: h3.NewClientConn(conn),
		done:   conn.Context().Done(),
		err: func() error {
			if conn.Context().Err() == nil {
				return nil
			}
			return context.Cause(conn.Context())
		},
		close: func() {
			once.Do(func() {
				_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") // fails only when closed already
				release()
			})
		},
	}, nil
}

// dialTCP makes one HTTP/2 connection, through a proxy where one is due.
func dialTCP(ctx context.Context, address string, conf *tls.Config, proxy func(*url.URL) (*url.URL, error)) (*path, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conf = conf.Clone()
	conf.ServerName = host
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		Proxy: func(*http.Request) (*url.URL, error) {
			return proxy(&url.URL{Scheme: "https", Host: address})
		},
		DialContext:            (&net.Dialer{Timeout: handshakeIdle, KeepAlive: pingAfter}).DialContext,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    handshakeIdle,
		Protocols:              protocols,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerConnection: connectionWindow,
			MaxReceiveBufferPerStream:     streamWindow,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
		},
	}
	conn, err := transport.NewClientConn(ctx, "https", address)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	var gone, once sync.Once
	conn.SetStateHook(func(c *http.ClientConn) {
		if c.Err() != nil {
			gone.Do(func() { close(done) })
		}
	})
	return &path{
		client: conn,
		base:   "https://" + address,
		done:   done,
		err: func() error {
			if err := conn.Err(); err != nil {
				return fmt.Errorf("TCP connection lost: %w", err)
			}
			return nil
		},
		close: func() {
			once.Do(func() {
				conn.Close()
				transport.CloseIdleConnections()
			})
		},
	}, nil
}
