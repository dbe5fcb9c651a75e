package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/transport"
)

// aloneOverQUIC is how much longer QUIC is waited for where TCP finds nobody at the port.
const aloneOverQUIC = 3 * time.Second

var errNobody = errors.New("no answer; over TCP nobody listens there either")

// examineLinks looks at the certificate, and at every address that a running agent would try.
func examineLinks(ctx context.Context, cfg Config, id *identity.Identity, found Found) []doctor.Finding {
	proxy, err := ProxyOf(cfg)
	if err != nil {
		return []doctor.Finding{doctor.Certificate(id.Certificate(), time.Now()),
			{ID: "proxy", Level: doctor.Fail, Seen: err.Error(), Todo: "write controlplane.proxy like http://proxy.example.com:3128"}}
	}
	paths := probe(ctx, cfg, id, proxy)
	links, refused := doctor.Links(paths)
	certificate := doctor.Certificate(id.Certificate(), time.Now())
	if refused != "" {
		certificate = doctor.Refused(refused, id.Site)
	}
	findings := append([]doctor.Finding{certificate}, links...)
	findings = append(findings, doctor.Clock(paths))
	for _, p := range paths {
		if p.Epoch > id.Epoch() && !found.Running { // a running one says it itself
			return append(findings, doctor.Fenced(fmt.Sprintf(
				"this agent is in epoch %d, the control plane has granted %d to another copy of it", id.Epoch(), p.Epoch)))
		}
	}
	return findings
}

// probe tries every address over every transport that the configuration allows, QUIC first
// in the order of what it gives.
func probe(ctx context.Context, cfg Config, id *identity.Identity, proxy func(*url.URL) (*url.URL, error)) []doctor.Path {
	modes := []transport.Mode{transport.QUIC, transport.TCP}
	if mode := transport.Mode(cfg.ControlPlane.Transport); mode != transport.Auto {
		modes = []transport.Mode{mode}
	}
	var addresses []string
	for _, a := range append(slices.Clone(cfg.ControlPlane.Addresses), id.Nodes()...) {
		if !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	paths := make([]doctor.Path, len(modes)*len(addresses))
	var all sync.WaitGroup
	for i, address := range addresses {
		overQUIC, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		for m, mode := range modes {
			p := &paths[m*len(addresses)+i]
			*p = doctor.Path{Transport: string(mode), Address: address, Learned: !slices.Contains(cfg.ControlPlane.Addresses, address)}
			all.Go(func() {
				if mode == transport.QUIC {
					probeOne(overQUIC, cfg, id, proxy, p)
					return
				}
				if probeOne(ctx, cfg, id, proxy, p); errors.Is(p.Err, syscall.ECONNREFUSED) {
					time.AfterFunc(aloneOverQUIC, func() { stop(errNobody) })
				}
			})
		}
	}
	all.Wait()
	return paths
}

func probeOne(ctx context.Context, cfg Config, id *identity.Identity, proxy func(*url.URL) (*url.URL, error), p *doctor.Path) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	begun := time.Now()
	dialer, err := transport.NewDialer(transport.DialerConfig{Addresses: []string{p.Address}, Mode: transport.Mode(p.Transport), Proxy: proxy,
		TLS: func() (*tls.Config, error) { return id.TLS(), nil }})
	if err != nil {
		p.Err = err
		return
	}
	seen, err := uplink.Probe(ctx, dialer, id.Epoch(), cfg.Version)
	p.Took, p.Skew, p.Epoch, p.Err = seen.Took, seen.Skew, seen.Epoch, err
	if err != nil {
		p.Took = time.Since(begun)
	}
}
