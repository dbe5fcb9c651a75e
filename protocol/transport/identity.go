package transport

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// DatedBack is how long before they are signed certificates begin: another's clock may be
// behind.
const DatedBack = time.Hour

// Identity is who an agent has proven to be.
type Identity struct {
	Cluster  string
	Site     string
	Agent    string
	Serial   string    // of the certificate, hexadecimal
	Key      [32]byte  // SHA-256 of the public key (SubjectPublicKeyInfo)
	Issued   time.Time // when it was signed, in whole seconds
	NotAfter time.Time
	Expired  bool // the call is let through because it may renew the certificate, and no more
}

// URI is the identity's SPIFFE form.
func (id Identity) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.Cluster, Path: "/site/" + id.Site + "/agent/" + id.Agent}
}

// ParseIdentity reads the identity in a certificate. It proves nothing.
func ParseIdentity(cert *x509.Certificate) (Identity, error) {
	if len(cert.URIs) != 1 {
		return Identity{}, fmt.Errorf("certificate names %d URIs, an agent's names one", len(cert.URIs))
	}
	uri := cert.URIs[0]
	id := Identity{
		Cluster:  uri.Host,
		Serial:   cert.SerialNumber.Text(16),
		Key:      sha256.Sum256(cert.RawSubjectPublicKeyInfo),
		Issued:   cert.NotBefore.Add(DatedBack),
		NotAfter: cert.NotAfter,
	}
	parts := strings.Split(uri.Path, "/")
	if len(parts) == 5 && parts[1] == "site" && parts[3] == "agent" {
		id.Site, id.Agent = parts[2], parts[4]
	}
	// The exact form, or none: an escape or a port would let two texts name one agent.
	if id.Cluster == "" || id.Site == "" || id.Agent == "" || id.URI().String() != uri.String() {
		return Identity{}, fmt.Errorf("certificate's URI %q is not spiffe://<cluster>/site/<site>/agent/<agent>", uri)
	}
	return id, nil
}

// Peer is where a call came from.
type Peer struct {
	Transport string // quic, tcp, memory
	Address   string
}

type identityKey struct{}
type peerKey struct{}

// WithIdentity puts an identity into a context. Only what has proven it may do so.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// IdentityFrom gives the caller's identity; none for a caller without a certificate.
func IdentityFrom(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// WithPeer puts a caller's address into a context.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFrom gives the caller's address.
func PeerFrom(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}
