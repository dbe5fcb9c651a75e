package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/transport"
)

const (
	// aloneOverQUIC is how much longer QUIC is waited for where TCP finds nobody at the port.
	aloneOverQUIC = 3 * time.Second
	// wayTimeout is for what lies on the way to all addresses together.
	wayTimeout = 15 * time.Second
)

var errNobody = errors.New("no answer; over TCP nobody listens there either")

// examineLinks looks at the certificate, and at every address that a running agent would try.
func examineLinks(ctx context.Context, cfg Config, id *identity.Identity, found Found) []doctor.Finding {
	certificate := doctor.Certificate(id.Chain(), id.TLS().RootCAs, time.Now())
	proxy, err := ProxyOf(cfg)
	if err != nil {
		return []doctor.Finding{certificate, {ID: "proxy", Level: doctor.Fail, Seen: err.Error(), Todo: "correct it in the configuration"}}
	}
	paths := probe(ctx, cfg, id, proxy)
	links, refused := doctor.Links(paths)
	if refused != "" {
		certificate = doctor.Refused(refused, id.Site)
	}
	findings := append([]doctor.Finding{certificate}, links...)
	findings = append(findings, examineWay(ctx, cfg, id, paths)...)
	findings = append(findings, doctor.Version(cfg.Version, uplink.ProtocolVersion, paths)...)
	findings = append(findings, doctor.Clock(paths, time.Now()))
	for _, p := range paths {
		if p.Epoch > id.Epoch() && !found.Running { // a running one says it itself
			return append(findings, doctor.Fenced(fmt.Sprintf(
				"this agent is in epoch %d, the control plane has granted %d to another copy of it", id.Epoch(), p.Epoch)))
		}
	}
	return findings
}

// examineWay looks at what lies on the way to the control plane: names, proxy, and who looks
// into TLS; for all addresses at once, since nobody may answer.
func examineWay(ctx context.Context, cfg Config, id *identity.Identity, paths []doctor.Path) (findings []doctor.Finding) {
	quic := slices.ContainsFunc(paths, func(p doctor.Path) bool { return p.Err == nil && p.Transport == string(transport.QUIC) })
	ctx, cancel := context.WithTimeout(ctx, wayTimeout)
	defer cancel()
	told := map[string]bool{}
	of := make([][2][]doctor.Finding, len(cfg.ControlPlane.Addresses)) // of each the name, and the way over TCP
	var all sync.WaitGroup
	for i, address := range cfg.ControlPlane.Addresses {
		through, err := through(cfg, address)
		if err != nil {
			of[i][0] = []doctor.Finding{{ID: "proxy", Level: doctor.Fail, Seen: err.Error(), Todo: "correct it there"}}
			continue
		}
		host, _, err := net.SplitHostPort(address)
		if err == nil && !told[host] {
			told[host] = true
			all.Go(func() {
				looking, cancel := context.WithTimeout(ctx, probeTimeout)
				defer cancel()
				of[i][0] = []doctor.Finding{doctor.Name(looking, nil, host, through.Proxy != nil)}
			})
		}
		if cfg.ControlPlane.Transport == string(transport.QUIC) {
			continue // nothing else is ever tried
		}
		all.Go(func() { of[i][1] = examineTCP(ctx, id, through, address, quic) })
	}
	all.Wait()
	for _, one := range of {
		findings = append(findings, slices.Concat(one[0], one[1])...)
	}
	return once(findings)
}

// examineTCP opens the TCP way to an address and looks at who answers at its end.
func examineTCP(ctx context.Context, id *identity.Identity, through doctor.Through, address string, quic bool) (findings []doctor.Finding) {
	var conn net.Conn
	if through.Proxy == nil {
		findings = append(findings, doctor.NoProxy())
		var err error
		if conn, err = doctor.Direct(ctx, address); err != nil {
			return findings // link-tcp tells of it
		}
	} else {
		var f doctor.Finding
		f, conn = doctor.Proxy(ctx, through, address)
		if findings = append(findings, f); conn == nil {
			return findings
		}
	}
	shown := doctor.Inspection(ctx, conn, address, id.TLS().RootCAs, quic)
	if len(shown) == 0 && ctx.Err() != nil {
		shown = []doctor.Finding{{ID: "tls-inspection", Level: doctor.Warn, Seen: "not looked at: the way to " + address + " took too long", Todo: "mend the link first"}}
	}
	return append(findings, shown...)
}

// once leaves out what was found before, word for word.
func once(findings []doctor.Finding) (out []doctor.Finding) {
	for _, f := range findings {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// through finds the proxy that leads to an address, and who named it.
func through(cfg Config, address string) (doctor.Through, error) {
	if cfg.ControlPlane.Proxy != "" {
		find, err := ProxyOf(cfg)
		if err != nil {
			return doctor.Through{From: "controlplane.proxy"}, err
		}
		proxy, err := find(nil)
		return doctor.Through{Proxy: proxy, From: "controlplane.proxy"}, err
	}
	target := &url.URL{Scheme: "https", Host: address}
	proxy, err := httpproxy.FromEnvironment().ProxyFunc()(target)
	if err != nil { // whose words may have a password in them
		err = errors.New("HTTPS_PROXY of the environment is not a URL like http://proxy.example.com:3128")
	}
	if err != nil || proxy != nil {
		return doctor.Through{Proxy: proxy, From: "HTTPS_PROXY of the environment"}, err
	}
	proxy, err = systemProxy(target)
	return doctor.Through{Proxy: proxy, From: "the system's proxy settings"}, err
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
	p.Took, p.Skew, p.Epoch, p.Protocol, p.Err = seen.Took, seen.Skew, seen.Epoch, seen.Protocol, err
	if err != nil {
		p.Took = time.Since(begun)
	}
}
