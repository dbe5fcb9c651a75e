// Package exchange owns one HTTP exchange with a foreign system: the guarded connection, TLS
// with a private authority or a client certificate, the limits, and the class of every way
// in which it can fail. The http and webhook drivers are made of it.
//
// It refuses to know events, signatures and who asks. Its invariants: it sends nothing to an
// address that the guard refuses, follows no redirect, uses no proxy, keeps no more of an
// answer than asked for, and calls an outcome unknown whenever a request with an effect may
// have reached the other side and its answer did not come back.
package exchange

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/guard"
	"github.com/crossdock/crossdock/protocol/policy"
)

// Limits on one exchange.
const (
	MaxAnswer        = 1 << 20          // bytes of an answer
	MaxPage          = 8 << 20          // bytes of one page of a snapshot or feed
	CallTimeout      = 30 * time.Second // when the caller's context has no deadline
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 60 * time.Second
	maxIdle          = 16
	maxHeader        = 64 << 10
)

// userAgent tells a system's operator who calls.
const userAgent = "crossdock-agent"

// Config is what a client is made of.
type Config struct {
	URLs     []string // every URL that may be called, by host and port
	Hosts    []string // private or loopback hosts among them that may be
	CA       string   // secret reference of a PEM file; empty: the machine's roots
	MTLS     *policy.MTLS
	Secrets  systems.Secrets
	Resolver *net.Resolver
	Now      func() time.Time
}

// Client makes exchanges. It is safe for concurrent use.
type Client struct {
	cfg       Config
	dialer    *guard.Dialer
	transport *http.Transport
	http      *http.Client
}

// New checks the URLs and makes a client; it connects to nothing and resolves no secret, so
// that a missing one shows at the delivery that needs it and mends itself when it appears.
func New(cfg Config) (*Client, error) {
	var declared []string
	for _, text := range cfg.URLs {
		u, err := ParseURL(text)
		if err != nil {
			return nil, err
		}
		address, err := guard.Address(u)
		if err != nil {
			return nil, systems.Misconfiguredf("%w", err)
		}
		declared = append(declared, address)
	}
	c := &Client{cfg: cfg, dialer: guard.New(guard.Config{Declared: declared, Private: cfg.Hosts, Resolver: cfg.Resolver})}
	c.transport = &http.Transport{
		Proxy:                  nil, // a proxy named in the environment would connect past the guard
		DialContext:            c.dialer.DialContext,
		DialTLSContext:         c.dialTLS,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		// HTTP/1.1 only: with one request on a connection, a broken connection puts one
		// delivery in doubt, not all that share it.
		Protocols: new(http.Protocols),
	}
	c.transport.Protocols.SetHTTP1(true)
	c.http = &http.Client{
		Transport:     c.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// ParseURL reads a URL of a System document.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, systems.Misconfiguredf("the URL cannot be read; write it like https://erp.example.com/api")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, systems.Misconfiguredf("the URL's scheme is %q; only http and https are spoken", u.Scheme)
	case u.Hostname() == "":
		return nil, systems.Misconfiguredf("the URL has no host; write it like https://erp.example.com/api")
	case u.User != nil:
		return nil, systems.Misconfiguredf("the URL of %s holds a user; put it below auth, with the password as a secret reference", u.Hostname())
	case u.Fragment != "":
		return nil, systems.Misconfiguredf("the URL of %s has a fragment (#...), which is never sent; remove it", u.Hostname())
	}
	return u, nil
}

// HTTP is the guarded client, for a library that makes requests of its own.
func (c *Client) HTTP() *http.Client { return c.http }

// Close lets the idle connections go.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// dialTLS builds the TLS configuration for each connection anew, so that a rotated
// certificate or authority is used without a restart.
func (c *Client) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	cfg, err := c.tlsConfig(host)
	if err != nil {
		return nil, err
	}
	raw, err := c.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

func (c *Client) tlsConfig(host string) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Time: c.cfg.Now}
	if c.cfg.CA != "" {
		pem, err := c.cfg.Secrets.Resolve(c.cfg.CA)
		if err != nil {
			return nil, systems.Misconfiguredf("private authority: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, systems.Misconfiguredf("private authority %s holds no PEM certificate", c.cfg.CA)
		}
	}
	if m := c.cfg.MTLS; m != nil {
		certificate, err := c.cfg.Secrets.Resolve(m.Certificate)
		if err != nil {
			return nil, systems.Misconfiguredf("client certificate: %w", err)
		}
		key, err := c.cfg.Secrets.Resolve(m.Key)
		if err != nil {
			return nil, systems.Misconfiguredf("client key: %w", err)
		}
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, systems.Misconfiguredf("client certificate %s and key %s: %w", m.Certificate, m.Key, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// Request is one exchange to make.
type Request struct {
	Method    string
	URL       *url.URL
	Header    http.Header
	Body      []byte
	Effect    bool     // it changes something at the system
	Secrets   [][]byte // to cut out of what is kept of a refusal
	MaxAnswer int64    // 0: MaxAnswer
	Partial   bool     // the status is the answer: of the body a cleaned beginning is enough
}

// Reply is the answer with a 2xx status.
type Reply struct {
	Status int
	Body   []byte
}

// Do makes one exchange. Every error is a *systems.Error.
func (c *Client) Do(ctx context.Context, r Request) (Reply, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, CallTimeout)
		defer cancel()
	}
	var wrote atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})
	req, err := http.NewRequestWithContext(traced, r.Method, r.URL.String(), bytes.NewReader(r.Body))
	if err != nil {
		return Reply{}, systems.Misconfiguredf("the request to %s cannot be built; check its method %q and URL", r.URL.Host, r.Method)
	}
	if r.Header != nil {
		req.Header = r.Header.Clone()
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return Reply{}, masked(classify(err, r.Effect && wrote.Load()), r.Secrets)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return Reply{}, statusError(resp, readSome(resp.Body, systems.MaxBody), r.Secrets, c.now())
	}
	if r.Partial {
		return Reply{Status: resp.StatusCode, Body: systems.Clean(readSome(resp.Body, systems.MaxBody), r.Secrets...)}, nil
	}
	return readAll(resp, r)
}

func (c *Client) now() time.Time {
	if c.cfg.Now != nil {
		return c.cfg.Now()
	}
	return time.Now()
}

// readSome reads up to limit bytes and forgives an error: what matters stood in the status.
func readSome(body io.Reader, limit int64) []byte {
	some, _ := io.ReadAll(io.LimitReader(body, limit))
	// A short rest is read too, so that the connection can be used again.
	_, _ = io.CopyN(io.Discard, body, limit)
	return some
}

func readAll(resp *http.Response, r Request) (Reply, error) {
	limit := r.MaxAnswer
	if limit == 0 {
		limit = MaxAnswer
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return Reply{}, masked(classify(fmt.Errorf("reading the answer: %w", err), r.Effect), r.Secrets)
	}
	if int64(len(body)) > limit {
		e := systems.Rejectedf("the answer is larger than %d bytes; ask for less at a time", limit)
		e.Status = resp.StatusCode
		return Reply{}, e
	}
	return Reply{Status: resp.StatusCode, Body: body}, nil
}

// masked cuts secrets out of an error that may repeat what the other side said: an answer that
// is no HTTP is quoted in it.
func masked(e *systems.Error, secrets [][]byte) *systems.Error {
	if e.Err == nil {
		return e
	}
	text := e.Err.Error()
	if clean := string(systems.Mask([]byte(text), secrets...)); clean != text {
		e.Err = errors.New(clean)
	}
	return e
}

// classify finds the class of an exchange that got no answer. sent says that a request with
// an effect may have arrived.
func classify(err error, sent bool) *systems.Error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the URL: its query may hold arguments
	}
	var coded *systems.Error
	if errors.As(err, &coded) {
		return coded
	}
	class := systems.Unavailable
	switch {
	case errors.Is(err, guard.ErrRefused), foreignCertificate(err), refusedCertificate(err, sent):
		class = systems.Misconfigured
	case sent:
		class = systems.Unknown
		err = fmt.Errorf("the request went out and no answer came back: %w", err)
	}
	return &systems.Error{Class: class, Err: err}
}

// foreignCertificate says that the other side's certificate, or its not speaking TLS at all,
// ended the handshake.
func foreignCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	return errors.As(err, &verification) || errors.As(err, &plain)
}

// refusedCertificate says that the other side refused ours. With TLS 1.3 that shows only
// after the request was sent; it was not read then, so the outcome is known.
func refusedCertificate(err error, sent bool) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return false
	}
	if !sent {
		return true
	}
	text := op.Err.Error()
	return strings.Contains(text, "certificate") || strings.Contains(text, "access denied") || strings.Contains(text, "handshake failure")
}

// Classify codes the error of a request without an effect that a library made with HTTP.
func Classify(what string, err error) *systems.Error {
	coded := classify(err, false)
	return &systems.Error{Class: coded.Class, Status: coded.Status, RetryAfter: coded.RetryAfter, Err: fmt.Errorf("%s: %w", what, coded.Err)}
}
