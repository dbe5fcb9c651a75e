package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
)

// Defaults of a dialer.
const (
	DefaultFallbackAfter  = time.Second
	DefaultRetryQUIC      = 10 * time.Minute
	DefaultAttemptTimeout = 20 * time.Second

	// quickAttempt bounds the first attempt at each of several addresses: one that does not
	// answer at all must not keep the agent from the next. Slow ones get a second attempt.
	quickAttempt = 4 * time.Second

	maxAddresses = 64
)

// Hello proves that a path carries the protocol: a real call, answered. In a race it runs
// on two paths at once, and again when QUIC is tried anew, so it must do no harm when
// repeated, and must end when its context ends.
type Hello func(ctx context.Context, client syncpbconnect.SyncClient) error

// DialerConfig is what a dialer is made of.
type DialerConfig struct {
	Addresses      []string                         // host:port, tried in turn, beginning with any
	TLS            func() (*tls.Config, error)      // asked for every attempt: certificates are renewed
	Mode           Mode                             // empty: Auto
	Proxy          func(*url.URL) (*url.URL, error) // for TCP; nil: as the environment says
	FallbackAfter  time.Duration                    // QUIC's start before TCP
	RetryQUIC      time.Duration                    // between tries of QUIC while on TCP
	AttemptTimeout time.Duration                    // for one address, hello included
	Logger         *slog.Logger

	// Packets gives the socket of a QUIC connection, which is closed with it. Nil, as
	// anywhere but in a simulated network: one of the system's.
	Packets func() (net.PacketConn, error)
}

// Dialer opens sessions: the first of QUIC and TCP that completes a hello.
type Dialer struct {
	cfg DialerConfig // but for Addresses and Proxy it never changes

	mu        sync.Mutex // guards what follows, and those two
	addresses []string   // the configured ones, then those that SetAddresses gave
	further   []string   // which that gave
	next      int        // address to begin with
	quick     time.Duration
	avoid     time.Time // until then TCP goes first
	reason    string    // why QUIC is avoided
}

// NewDialer checks the configuration.
func NewDialer(cfg DialerConfig) (*Dialer, error) {
	if len(cfg.Addresses) == 0 || cfg.TLS == nil {
		return nil, errors.New("sync dialer: addresses and TLS must be given")
	}
	if err := checkAddresses(cfg.Addresses); err != nil {
		return nil, err
	}
	switch cfg.Mode {
	case "":
		cfg.Mode = Auto
	case Auto, QUIC, TCP:
	default:
		return nil, fmt.Errorf("sync dialer: transport %q is none of auto, quic, tcp", cfg.Mode)
	}
	if cfg.Proxy == nil {
		cfg.Proxy = httpproxy.FromEnvironment().ProxyFunc()
	}
	if cfg.FallbackAfter == 0 {
		cfg.FallbackAfter = DefaultFallbackAfter
	}
	if cfg.RetryQUIC == 0 {
		cfg.RetryQUIC = DefaultRetryQUIC
	}
	if cfg.AttemptTimeout == 0 {
		cfg.AttemptTimeout = DefaultAttemptTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	// Agents that all have the same configuration do not all go to the same node.
	return &Dialer{cfg: cfg, addresses: slices.Clone(cfg.Addresses), next: rand.N(len(cfg.Addresses)), quick: quickAttempt}, nil
}

func checkAddresses(addresses []string) error {
	for _, a := range addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("sync dialer: address %q is not host:port: %w", a, err)
		}
	}
	if len(addresses) > maxAddresses {
		return fmt.Errorf("sync dialer: %d addresses, the limit is %d", len(addresses), maxAddresses)
	}
	return nil
}

// Configure takes other addresses and another proxy from the next connection on; a proxy of
// nil is that of the environment. Where it gives an error nothing has changed.
func (d *Dialer) Configure(addresses []string, proxy func(*url.URL) (*url.URL, error)) error {
	if len(addresses) == 0 {
		return errors.New("sync dialer: addresses must be given")
	}
	if err := checkAddresses(addresses); err != nil {
		return err
	}
	if proxy == nil {
		proxy = httpproxy.FromEnvironment().ProxyFunc()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cfg.Addresses, d.cfg.Proxy = slices.Clone(addresses), proxy
	d.arrangeLocked()
	return nil
}

// proxy is the one in force.
func (d *Dialer) proxy() func(*url.URL) (*url.URL, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg.Proxy
}

// SetAddresses tries further addresses behind the configured ones: those of nodes that the
// control plane has told of. What is no address is passed over.
func (d *Dialer) SetAddresses(further []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.further = slices.Clone(further)
	d.arrangeLocked()
}

func (d *Dialer) arrangeLocked() {
	addresses := slices.Clone(d.cfg.Addresses)
	for _, a := range d.further {
		host, port, err := net.SplitHostPort(a)
		if err == nil && host != "" && port != "" && len(addresses) < maxAddresses && !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	if slices.Equal(addresses, d.addresses) {
		return
	}
	begin := d.addresses[d.next]
	d.addresses, d.next = addresses, max(slices.Index(addresses, begin), 0)
}

// round gives the addresses in the order in which they are tried, and the time that each is
// given at first.
func (d *Dialer) round() (addresses []string, timeout time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	timeout = d.cfg.AttemptTimeout
	if len(d.addresses) > 1 {
		timeout = min(timeout, d.quick)
	}
	return append(slices.Clone(d.addresses[d.next:]), d.addresses[:d.next]...), timeout
}

// beginAt has the next round begin with an address, or with one further on.
func (d *Dialer) beginAt(address string, further int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at := slices.Index(d.addresses, address); at >= 0 {
		d.next = (at + further) % len(d.addresses)
	}
}

// Session opens a session at the first address that gives one. No hello of its own runs
// any more when it returns, except that a session on TCP tries QUIC from time to time.
func (d *Dialer) Session(ctx context.Context, hello Hello) (*Session, error) {
	addresses, timeout := d.round()
	var failed []error
	for len(addresses) > 0 {
		var slow []string
		for _, address := range addresses {
			s, err := d.attempt(ctx, address, timeout, hello)
			if err == nil {
				d.beginAt(address, 0)
				return s, nil
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if errors.Is(err, errSlow) && timeout < d.cfg.AttemptTimeout {
				slow = append(slow, address)
				continue
			}
			failed = append(failed, fmt.Errorf("%s: %w", address, err))
		}
		addresses, timeout = slow, d.cfg.AttemptTimeout
	}
	return nil, together(failed...)
}

// errSlow marks an attempt whose time was up.
var errSlow = errors.New("no answer in time")

type outcome struct {
	transport Mode
	path      *path
	err       error
}

// attempt races the two transports to one address.
func (d *Dialer) attempt(ctx context.Context, address string, timeout time.Duration, hello Hello) (*Session, error) {
	conf, err := d.cfg.TLS()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	order, reason := d.order()
	results := make(chan outcome, len(order))
	running := 0
	launch := func() {
		transport := order[0]
		order = order[1:]
		running++
		go func() {
			p, err := d.open(ctx, transport, address, conf, hello)
			results <- outcome{transport, p, err}
		}()
	}
	begin := time.Now()
	launch()
	fallback := time.NewTimer(d.cfg.FallbackAfter)
	defer fallback.Stop()
	var failed []error
	for running > 0 {
		select {
		case <-fallback.C:
			// TCP that goes first goes alone: QUIC is avoided, not merely slower.
			if len(order) > 0 && order[0] == TCP {
				launch()
			}
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				d.collect(results, running)
				if reason == "" && r.transport == TCP {
					reason = fmt.Sprintf("QUIC gave no answer within %s", time.Since(begin).Round(time.Millisecond))
				}
				return d.begin(r, address, reason, hello), nil
			}
			failed = append(failed, fmt.Errorf("%s: %w", r.transport, r.err))
			if timeout < d.cfg.AttemptTimeout && running > 0 && errors.Is(r.err, syscall.ECONNREFUSED) {
				// Most likely nobody listens there on UDP either: others first.
				cancel()
			}
			if ctx.Err() != nil || time.Since(begin) >= timeout*9/10 { // a deadline may fire before its context says so
				failed = append(failed, errSlow)
			}
			if r.transport == QUIC {
				reason = "QUIC failed: " + r.err.Error()
			}
			if len(order) > 0 && ctx.Err() == nil {
				launch()
			}
		}
	}
	return nil, together(failed...)
}

// order says what to try and why QUIC is not first.
func (d *Dialer) order() ([]Mode, string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.cfg.Mode == QUIC:
		return []Mode{QUIC}, ""
	case d.cfg.Mode == TCP:
		return []Mode{TCP}, "transport: tcp is configured"
	case time.Now().Before(d.avoid):
		return []Mode{TCP, QUIC}, d.reason
	default:
		return []Mode{QUIC, TCP}, ""
	}
}

// collect waits for the losers, whose context has ended, and closes one that came second.
func (d *Dialer) collect(results <-chan outcome, running int) {
	for range running {
		if r := <-results; r.err == nil {
			r.path.close()
		}
	}
}

// open makes a connection and proves it by a hello.
func (d *Dialer) open(ctx context.Context, transport Mode, address string, conf *tls.Config, hello Hello) (*path, error) {
	var p *path
	var err error
	switch {
	case transport == TCP:
		p, err = dialTCP(ctx, address, conf, d.proxy())
	case d.cfg.Mode == QUIC:
		p, err = dialQUIC(ctx, address, conf, handshakeIdle, d.cfg.Packets)
	default:
		p, err = dialQUIC(ctx, address, conf, raceHandshakeIdle, d.cfg.Packets)
	}
	if err != nil {
		return nil, explain(err)
	}
	if err := hello(ctx, p.service()); err != nil {
		if broken := p.err(); broken != nil {
			err = together(err, broken)
		}
		p.close()
		return nil, explain(err)
	}
	return p, nil
}

func (d *Dialer) begin(r outcome, address, reason string, hello Hello) *Session {
	if r.transport != TCP {
		reason = ""
	}
	s := newSession(r.path, r.transport, address, reason, d.ended)
	if r.transport == TCP && d.cfg.Mode == Auto {
		s.work.Go(func() { d.retryQUIC(s, hello) })
	}
	return s
}

// retryQUIC looks from time to time whether QUIC works with everything that a session
// needs, and ends the session on TCP when it does.
func (d *Dialer) retryQUIC(s *Session, hello Hello) {
	for {
		// Agents that lost QUIC together do not come back together.
		pause := time.NewTimer(d.cfg.RetryQUIC + rand.N(d.cfg.RetryQUIC/5+1))
		select {
		case <-pause.C:
		case <-s.ctx.Done():
			pause.Stop()
			return
		}
		err := d.tryQUIC(s, hello)
		if err == nil {
			d.mu.Lock()
			d.avoid = time.Time{}
			d.mu.Unlock()
			s.end(ErrBetterPath)
			return
		}
		d.cfg.Logger.Debug("QUIC still does not work", "address", s.Address, "error", err)
	}
}

func (d *Dialer) tryQUIC(s *Session, hello Hello) error {
	conf, err := d.cfg.TLS()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, d.cfg.AttemptTimeout)
	defer cancel()
	p, err := d.open(ctx, QUIC, s.Address, conf, hello)
	if err != nil {
		return err
	}
	p.close()
	return nil
}

// ended learns from the end of a session where to begin the next time.
func (d *Dialer) ended(s *Session, cause error) {
	if errors.Is(cause, ErrClosed) || errors.Is(cause, ErrBetterPath) {
		return
	}
	d.beginAt(s.Address, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	var given *abandoned
	if errors.As(cause, &given) && s.Transport == string(QUIC) {
		d.avoid = time.Now().Add(d.cfg.RetryQUIC)
		d.reason = "QUIC carried nothing: " + given.Error()
	}
}
