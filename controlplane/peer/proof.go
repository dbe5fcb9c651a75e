package peer

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// proof says which node a chain of certificates proves, by which authorities, and for how long.
type proof struct {
	node        string
	authorities *x509.CertPool
	until       time.Time
}

// prove gives what a chain proves now.
func (p *Peers) prove(chain []*x509.Certificate, usage x509.ExtKeyUsage) (proof, error) {
	if len(chain) == 0 {
		return proof{}, model.Errorf(model.Unauthorized, "no certificate: only nodes of cluster %s may speak here", p.cfg.Identity.Cluster)
	}
	cluster, node, err := p.cfg.Node(chain[0])
	if err != nil {
		return proof{}, model.Errorf(model.Unauthorized, "%v: only nodes may speak here", err)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	authorities := p.cfg.Authorities()
	ways, err := chain[0].Verify(x509.VerifyOptions{Roots: authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return proof{}, model.Errorf(model.Unauthorized, "certificate of node %s is not of an authority that cluster %s trusts (%v)", node, p.cfg.Identity.Cluster, err)
	}
	if cluster != p.cfg.Identity.Cluster {
		return proof{}, model.Errorf(model.Unauthorized, "node %s is of cluster %s, this is %s", node, cluster, p.cfg.Identity.Cluster)
	}
	until := ways[0][0].NotAfter
	for _, c := range ways[0] {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return proof{node, authorities, until}, nil
}

// verify gives the node that a chain proves.
func (p *Peers) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage) (node string, err error) {
	proof, err := p.prove(chain, usage)
	return proof.node, err
}

// caller is the other side of a connection for calls. What it has proven is remembered as
// long as it holds: to check signatures takes longer than most calls.
type caller struct {
	mu     sync.Mutex
	proven proof // guarded by mu; zero: nothing
}

type callerKey struct{}

// withCaller gives a new connection's calls its caller.
func withCaller(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, callerKey{}, &caller{})
}

// caller gives the node that makes a call.
func (p *Peers) caller(r *http.Request) (node string, err error) {
	c, known := r.Context().Value(callerKey{}).(*caller)
	if !known { // there is no connection: a test's call
		c = &caller{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proven.authorities == nil || c.proven.authorities != p.cfg.Authorities() || !time.Now().Before(c.proven.until) {
		c.proven, err = p.prove(r.TLS.PeerCertificates, x509.ExtKeyUsageClientAuth)
	}
	return c.proven.node, err
}
