package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/crossdock/crossdock/protocol/transport"
)

// ErrAddress marks an address that is not that of a node's port for other nodes.
var ErrAddress = errors.New("this is not cluster.listen of a node")

// ErrForeign marks a node whose authority is not the one that the join token names.
var ErrForeign = errors.New("not the cluster of the join token")

// Join asks a node of a cluster to let this one in. The token leaves this process only on
// a connection whose authority has the hash in the token.
func Join(ctx context.Context, address string, token transport.Token, r *JoinRequest) (*JoinAnswer, error) {
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("%q: %w: it has the form host:port, such as hub1.example:7460", address, ErrAddress)
	}
	body, err := encode(r)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, proveTimeout)
			defer cancel()
			raw, err := dialTCP(ctx, "", address)
			if err != nil {
				return nil, err
			}
			conn := tls.Client(raw, pinnedTLS(token.CAHash))
			if err := conn.HandshakeContext(ctx); err != nil {
				raw.Close()
				return nil, err
			}
			return conn, nil
		},
		ForceAttemptHTTP2: true, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
	}}
	out := &JoinAnswer{}
	if err := post(ctx, client, address, callJoin, http.Header{}, maxSmall, body, out); err != nil {
		return nil, joinFailed(address, err)
	}
	for _, der := range out.Authorities {
		if ca, err := x509.ParseCertificate(der); err == nil && transport.HashKey(ca) == token.CAHash {
			return out, nil
		}
	}
	return nil, fmt.Errorf("%w: the answer of %s does not hold the authority that the token names", ErrForeign, address)
}

// joinFailed tells an address that is wrong from a node that does not answer: nothing was
// done there.
func joinFailed(address string, err error) error {
	var plain tls.RecordHeaderError
	var failed *failure
	switch {
	case errors.Is(err, errNoPeer), errors.As(err, &plain), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%s: %w, such as :7460: something else answers there; nothing was done", address, ErrAddress)
	case errors.Is(err, ErrForeign) && errors.As(err, &failed):
		return fmt.Errorf("%s: %w", address, failed.cause)
	}
	return err
}

func pinnedTLS(pin [32]byte) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protoCalls},
		SessionTicketsDisabled: true,
		// There is no authority to check against yet; verifyPinned does the whole check.
		InsecureSkipVerify: true, // #nosec G402
		VerifyConnection:   func(state tls.ConnectionState) error { return verifyPinned(state.PeerCertificates, pin) },
	}
}

// verifyPinned checks that a node's certificate comes, over others or not, from the
// authority with the pinned hash. Which node it is does not matter: any may admit.
func verifyPinned(chain []*x509.Certificate, pin [32]byte) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range chain {
		between.AddCert(c)
		if c.IsCA && transport.HashKey(c) == pin {
			roots.AddCert(c)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("%w: none of its certificates has the hash in the token; nothing was sent", ErrForeign)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if len(chain[0].URIs) != 1 {
		return fmt.Errorf("%w: it is no node of a cluster", ErrForeign)
	}
	return nil
}
