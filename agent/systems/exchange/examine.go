package exchange

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/guard"
)

// certificateDays is how early an examination begins to ask for a new certificate.
const certificateDays = 14

// Examine looks at the way to a URL without sending a request: name, connection,
// certificate. It stops at the first thing that does not work.
func (c *Client) Examine(ctx context.Context, u *url.URL) []systems.Finding {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	name := c.examineName(ctx, u.Hostname())
	if !name.OK {
		return []systems.Finding{name}
	}
	address, err := guard.Address(u)
	if err != nil {
		return []systems.Finding{name, {Name: "address " + u.Host, Seen: err.Error(), Todo: "correct the URL"}}
	}
	if u.Scheme == "http" {
		return []systems.Finding{name, c.examineTCP(ctx, address)}
	}
	return []systems.Finding{name, c.examineTLS(ctx, address)}
}

func (c *Client) examineName(ctx context.Context, host string) systems.Finding {
	f := systems.Finding{Name: "name " + host}
	if _, err := netip.ParseAddr(host); err == nil {
		f.OK, f.Seen = true, "an address, not a name"
		return f
	}
	resolver := c.cfg.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addresses, err := resolver.LookupHost(ctx, host)
	if err != nil {
		f.Seen, f.Todo = err.Error(), "check the name in the System document and the DNS server of this site"
		return f
	}
	f.OK, f.Seen = true, "resolves to "+strings.Join(addresses, ", ")
	return f
}

func (c *Client) examineTCP(ctx context.Context, address string) systems.Finding {
	f := systems.Finding{Name: "connection to " + address}
	conn, err := c.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		f.Seen, f.Todo = plain(address, err), todo(err)
		return f
	}
	defer conn.Close()
	f.OK, f.Seen = true, "open, from "+conn.LocalAddr().String()
	if to, ok := conn.RemoteAddr().(*net.TCPAddr); !ok || !to.IP.IsLoopback() { // loopback leaves the machine nowhere
		f.Todo = "use https if the system can: this connection is not encrypted"
	}
	return f
}

func (c *Client) examineTLS(ctx context.Context, address string) systems.Finding {
	f := systems.Finding{Name: "connection to " + address}
	conn, err := c.dialTLS(ctx, "tcp", address)
	if err != nil {
		f.Seen, f.Todo = plain(address, err), todo(err)
		return f
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState() // dialTLS gives nothing else
	leaf := state.PeerCertificates[0]
	days := int(leaf.NotAfter.Sub(c.now()) / (24 * time.Hour))
	f.OK = true
	f.Seen = fmt.Sprintf("open, %s, certificate of %s valid for %d more days", tls.VersionName(state.Version), leaf.Subject.CommonName, days)
	if days < certificateDays {
		f.Todo = fmt.Sprintf("have the system's certificate renewed before %s", leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	return f
}

// plain puts an error that only says that time ran out into words.
func plain(address string, err error) string {
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer from " + address + " in time"
	}
	return err.Error()
}

// todo says what a person can do about a connection that does not open.
func todo(err error) string {
	coded := classify(err, false)
	switch {
	case errors.Is(err, guard.ErrRefused):
		return "if this system is meant, name its host below hosts in the System document"
	case foreignCertificate(err):
		return "check that the certificate is for this name and not expired, and set ca if the authority is a private one"
	case coded.Class == systems.Misconfigured:
		return "mend the certificate, key or authority that the System document refers to"
	}
	return "check that the system runs and that this server's firewall lets the agent reach it"
}

// ExamineSecrets looks whether each reference resolves; an empty one is passed over. With a
// secret that is for another host nothing more is to be looked at: not even a connection goes
// to the one of the document.
func ExamineSecrets(secrets systems.Secrets, refs ...string) (findings []systems.Finding, elsewhere bool) {
	for _, ref := range refs {
		if ref == "" {
			continue
		}
		f := systems.Finding{Name: "secret", OK: true, Seen: ref + " resolves"}
		if _, err := secrets.Resolve(ref); err != nil {
			f = systems.Finding{Name: "secret", Seen: err.Error(), Todo: "put the secret where the System document says, readable for the agent alone"}
			if errors.Is(err, systems.ErrElsewhere) {
				f.Todo, elsewhere = "see whether the System document names the right host; if it does, have the secret set anew for that", true
			}
		}
		findings = append(findings, f)
	}
	return findings, elsewhere
}
