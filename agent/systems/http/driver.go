// Package httpdriver owns how a system is talked to over HTTP: all five operations, as the
// System document's http driver declares them, with its ways to authenticate.
//
// It refuses to know retry, order and mapping. Its invariant: every request goes to the
// declared URL's host (or the token URL's) through the guard, every request with an effect
// carries its idempotency key, and no secret is in anything that it returns or logs.
package httpdriver

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/exchange"
	"github.com/crossdock/crossdock/protocol/policy"
)

// Headers of our own, beside the ones of CloudEvents and Idempotency-Key.
const (
	HeaderIdempotencyKey = "Idempotency-Key"
	HeaderKey            = "Crossdock-Key"     // the ordering key, percent-encoded
	HeaderRoute          = "Crossdock-Route"   // the route that asked for the delivery
	HeaderAttempt        = "Crossdock-Attempt" // from 1
	HeaderShadow         = "Crossdock-Shadow"  // true: compare, do not act
)

// Driver is one system that speaks HTTP. It is safe for concurrent use.
type Driver struct {
	system string
	spec   policy.HTTPDriver
	base   *url.URL
	client *exchange.Client
	auth   *authenticator
	opts   systems.Options
	log    *slog.Logger
}

var (
	_ systems.Driver         = (*Driver)(nil)
	_ systems.Examiner       = (*Driver)(nil)
	_ systems.Deliverer      = (*Driver)(nil)
	_ systems.BatchDeliverer = (*Driver)(nil)
	_ systems.Querier        = (*Driver)(nil)
	_ systems.Commander      = (*Driver)(nil)
	_ systems.Snapshotter    = (*Driver)(nil)
	_ systems.Publisher      = (*Driver)(nil)
)

// New makes the driver of a System document. It connects to nothing.
func New(sys *policy.System, opts systems.Options) (*Driver, error) {
	if sys.HTTP == nil {
		return nil, systems.Misconfiguredf("system %s has no http driver", sys.Name)
	}
	opts = opts.WithDefaults()
	d := &Driver{system: sys.Name, spec: *sys.HTTP, opts: opts, log: opts.Logger.With("system", sys.Name, "driver", "http")}
	base, err := exchange.ParseURL(d.spec.URL)
	if err != nil {
		return nil, fmt.Errorf("system %s: %w", sys.Name, err)
	}
	d.base = base
	urls := []string{d.spec.URL}
	if o := d.spec.Auth.OAuth2; o != nil {
		urls = append(urls, o.TokenURL)
	}
	d.client, err = exchange.New(exchange.Config{
		URLs: urls, Hosts: d.spec.Hosts, CA: d.spec.CA, MTLS: d.spec.Auth.MTLS,
		Secrets: opts.Secrets, Resolver: opts.Resolver, Now: opts.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("system %s: %w", sys.Name, err)
	}
	d.auth = newAuthenticator(d.spec.Auth, opts, d.client)
	if err := d.checkTemplates(); err != nil {
		return nil, fmt.Errorf("system %s: %w", sys.Name, err)
	}
	return d, nil
}

// Operations is what the document declares.
func (d *Driver) Operations() []systems.Operation {
	var ops []systems.Operation
	for _, o := range []struct {
		op       systems.Operation
		declared bool
	}{
		{systems.OpPublish, d.spec.Publish != nil},
		{systems.OpDeliver, d.spec.Deliver != nil},
		{systems.OpQuery, len(d.spec.Query) > 0},
		{systems.OpCommand, len(d.spec.Command) > 0},
		{systems.OpSnapshot, len(d.spec.Snapshot) > 0},
	} {
		if o.declared {
			ops = append(ops, o.op)
		}
	}
	return ops
}

// Check is systems.Driver: secrets, name, connection and certificate, without a request.
func (d *Driver) Check(ctx context.Context) error {
	return systems.CheckFindings(d.Examine(ctx))
}

// Examine is systems.Examiner.
func (d *Driver) Examine(ctx context.Context) []systems.Finding {
	findings, elsewhere := exchange.ExamineSecrets(d.opts.Secrets, d.auth.references(d.spec.CA)...)
	if elsewhere {
		return findings
	}
	findings = append(findings, d.client.Examine(ctx, d.base)...)
	if o := d.spec.Auth.OAuth2; o != nil {
		if u, err := exchange.ParseURL(o.TokenURL); err == nil && u.Host != d.base.Host {
			findings = append(findings, d.client.Examine(ctx, u)...)
		}
		findings = append(findings, d.examineLogin(ctx))
	}
	return findings
}

// examineLogin fetches a token, the one login that has no effect at the system itself.
func (d *Driver) examineLogin(ctx context.Context) systems.Finding {
	f := systems.Finding{Name: "login", OK: true, Seen: "the token server gives a token to " + d.spec.Auth.OAuth2.ClientID}
	if _, _, err := d.auth.header(ctx, true); err != nil {
		f.OK, f.Seen, f.Todo = false, err.Error(), "see the answer: tokenURL, clientID, clientSecret and scopes of the System document"
	}
	return f
}

// Close lets idle connections go.
func (d *Driver) Close() error { return d.client.Close() }

// do makes one authenticated exchange. A token that the system no longer takes is renewed
// once: a 401 says that nothing was done.
func (d *Driver) do(ctx context.Context, r exchange.Request) (exchange.Reply, error) {
	for again := false; ; again = true {
		header, secrets, err := d.auth.header(ctx, again)
		if err != nil {
			return exchange.Reply{}, err
		}
		attempt := r
		attempt.Secrets = append(secrets, []byte(base64.StdEncoding.EncodeToString([]byte(header)))) // which hides what stands in it
		attempt.Header = r.Header.Clone()
		if attempt.Header == nil {
			attempt.Header = http.Header{}
		}
		if header != "" {
			attempt.Header.Set("Authorization", header)
		}
		reply, err := d.client.Do(ctx, attempt)
		if err == nil || again || !d.auth.renewable() || statusOf(err) != http.StatusUnauthorized {
			return reply, err
		}
	}
}

// resolve joins a path of the document, which may have a query, to the base URL.
func (d *Driver) resolve(path string) (*url.URL, error) {
	rel, err := url.Parse(path)
	if err != nil || rel.IsAbs() || rel.Host != "" || rel.User != nil || rel.Fragment != "" {
		return nil, systems.Misconfiguredf("path %q must be a path below the driver's url, such as /orders?state=open", path)
	}
	for _, segment := range strings.Split(rel.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, systems.Misconfiguredf("path %q must not hold . or .. segments", path)
		}
	}
	u := *d.base
	if rel.Path != "" {
		u = *d.base.JoinPath(rel.EscapedPath())
	}
	u.RawQuery = joinQuery(d.base.RawQuery, rel.RawQuery)
	return &u, nil
}

func joinQuery(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "&" + b
}
