package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Name looks a name of the control plane up, each family by itself. Behind a proxy a name
// that is unknown here may still be known there. A nil resolver is the machine's.
func Name(ctx context.Context, resolver *net.Resolver, host string, proxied bool) Finding {
	f := Finding{ID: "dns-" + host, Level: OK}
	if _, err := netip.ParseAddr(host); err == nil {
		f.Seen = "an address, not a name"
		return f
	}
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	var said []string
	found, broken := 0, 0
	for _, family := range []struct{ network, name string }{{"ip4", "IPv4"}, {"ip6", "IPv6"}} {
		begun := time.Now()
		ips, err := resolver.LookupNetIP(ctx, family.network, host)
		switch {
		case err == nil && len(ips) > 0:
			found++
			texts := make([]string, len(ips))
			for i, ip := range ips {
				texts[i] = ip.Unmap().String()
			}
			said = append(said, family.name+": "+strings.Join(texts, ", "))
		case err == nil || absent(err):
			said = append(said, family.name+": none")
		default:
			broken++
			said = append(said, family.name+": "+Plain(err, time.Since(begun)))
		}
	}
	f.Seen = strings.Join(said, "; ")
	switch {
	case found == 0 && proxied:
		f.Level, f.Todo = Warn, "QUIC needs the name to be known here; over TCP the proxy looks it up"
	case found == 0:
		f.Level, f.Todo = Fail, "correct the name in controlplane.addresses, or have this site's DNS know it"
	case broken > 0:
		f.Level, f.Todo = Warn, "see to the DNS server of this site: every look-up waits for the family that it does not answer"
	}
	return f
}

// absent reports whether a name has no address of a family, rather than no answer came.
func absent(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsNotFound
	}
	_, ok := errors.AsType[*net.AddrError](err) // it has addresses, of the other family alone
	return ok
}
