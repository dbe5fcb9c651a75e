// Package guard owns the one place where a driver opens a connection: a dialer that goes to
// declared hosts only, and decides on the address that a name resolved to, at the moment of
// connecting.
//
// It refuses to know HTTP, credentials and what is sent. Its invariant: no packet leaves for
// a link-local, metadata, multicast, reserved or unspecified address, and none for a loopback
// or private one unless the System document names the host that was asked for.
package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// ErrRefused marks every refusal of this package; nothing was sent.
var ErrRefused = errors.New("refused by the outbound guard")

const (
	dialTimeout = 10 * time.Second
	keepAlive   = 30 * time.Second
)

// Config says where a dialer may go.
type Config struct {
	Declared []string      // host:port of every URL in the System document
	Private  []string      // hosts, or host:port, that may be loopback or private (HTTPDriver.Hosts)
	Resolver *net.Resolver // nil: the machine's
}

// Dialer connects to declared hosts only. It is safe for concurrent use.
type Dialer struct {
	declared map[string]bool
	private  map[string]bool
	resolver *net.Resolver
}

// New makes a dialer.
func New(cfg Config) *Dialer {
	d := &Dialer{declared: map[string]bool{}, private: map[string]bool{}, resolver: cfg.Resolver}
	for _, address := range cfg.Declared {
		d.declared[normal(address)] = true
	}
	for _, host := range cfg.Private {
		d.private[normal(host)] = true
	}
	return d
}

// normal makes two spellings of one host equal: case, a final dot, brackets around IPv6.
func normal(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return normalHost(address)
	}
	return net.JoinHostPort(normalHost(host), port)
}

func normalHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return host
}

// Address gives the host:port that a URL connects to.
func Address(u *url.URL) (string, error) {
	port := u.Port()
	switch {
	case u.Hostname() == "":
		return "", fmt.Errorf("the URL has no host")
	case port != "":
	case u.Scheme == "https":
		port = "443"
	case u.Scheme == "http":
		port = "80"
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("the URL's scheme is %q; only http and https are spoken", u.Scheme)
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// DialContext connects to a declared host:port. Every address that the name resolves to is
// judged right before its connect call, so an answer of the DNS that changes between two
// calls gains nothing.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	asked := normal(address)
	if !d.declared[asked] {
		return nil, fmt.Errorf("%w: %s is not an address of this System document", ErrRefused, address)
	}
	host, _, _ := net.SplitHostPort(asked) // declared addresses have a port
	named := d.private[asked] || d.private[host]
	dialer := net.Dialer{
		Timeout:   dialTimeout,
		KeepAlive: keepAlive,
		Resolver:  d.resolver,
		ControlContext: func(_ context.Context, network, resolved string, _ syscall.RawConn) error {
			return judge(network, resolved, asked, named)
		},
	}
	return dialer.DialContext(ctx, network, address)
}

func judge(network, resolved, asked string, named bool) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: network %s", ErrRefused, network)
	}
	to, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("%w: cannot read the address %s", ErrRefused, resolved)
	}
	switch reach, what := Judge(to.Addr()); {
	case reach == Never:
		return fmt.Errorf("%w: %s leads to %s, a %s address; these are never called", ErrRefused, asked, to.Addr(), what)
	case reach == Named && !named:
		return fmt.Errorf("%w: %s leads to %s, a %s address; name the host below hosts in the System document to allow it",
			ErrRefused, asked, to.Addr(), what)
	}
	return nil
}
