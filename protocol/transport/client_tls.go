package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
)

// AgentTLS is how an agent speaks to the control plane.
func AgentTLS(certificate tls.Certificate, authorities *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    authorities,
		// Given whatever authorities the server names: it says itself what it refuses.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &certificate, nil
		},
		SessionTicketsDisabled: true,
	}
}

// pinnedTLS is how an agent speaks before it has an identity: without a certificate, to
// a server whose chain holds the authority with the hash of the join token.
func pinnedTLS(pin [32]byte) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		// There is no authority to check against yet; verifyPinned does the whole check.
		InsecureSkipVerify: true, // #nosec G402
		VerifyConnection:   func(cs tls.ConnectionState) error { return verifyPinned(cs, pin) },
	}
}

func verifyPinned(cs tls.ConnectionState, pin [32]byte) error {
	// After a rotation the pinned authority may be the one before: then the chain leads to it
	// by a certificate that it gave to the new one.
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range cs.PeerCertificates[1:] {
		if c.IsCA && HashKey(c) == pin {
			roots.AddCert(c)
			found = true
		} else {
			between.AddCert(c)
		}
	}
	if !found {
		return fmt.Errorf("%w: none of the certificates of %s (%s) has the hash in the join token: "+
			"a TLS-inspecting proxy, or a token of another cluster; nothing was sent", ErrForeignIssuer, cs.ServerName, issuers(cs.PeerCertificates))
	}
	_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: cs.ServerName, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
	}
	return nil
}

// HashKey is the SHA-256 of a certificate's public key: what a join token pins.
func HashKey(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

func issuers(certs []*x509.Certificate) string {
	var names []string
	for _, c := range certs {
		names = append(names, fmt.Sprintf("%q issued by %q", c.Subject.CommonName, c.Issuer.CommonName))
	}
	return strings.Join(names, ", ")
}

// explain says in words what a failed handshake or hello means and what to do.
func explain(err error) error {
	if seen, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return explainServer(err, seen)
	}
	answer, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return err
	}
	switch answer.Meta().Get(refusedHeader) {
	case "":
		return err
	case causeExpired:
		return fmt.Errorf("%w: %w", ErrExpired, err)
	default:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
}

// Blame is what it says about a program that a node has refused the certificate that it came
// with.
type Blame int

// Whose fault it is.
const (
	NoBlame          Blame = iota // the certificate was not refused
	BlameCertificate              // revoked, or expired: any program would be refused with it
	BlameUnclear                  // of another authority or cluster: hardly the program's fault, but it may show the wrong chain
	BlameCaller                   // none was shown, or none of an agent
)

// BlameOf reads it from a node's answer.
func BlameOf(answer *connect.Error) Blame {
	switch answer.Meta().Get(refusedHeader) {
	case causeRevoked, causeExpired, causeTooOld:
		return BlameCertificate
	case causeForeign, causeCluster:
		return BlameUnclear
	case causeStranger, causeIdentity:
		return BlameCaller
	}
	return NoBlame
}

func explainServer(err error, seen *tls.CertificateVerificationError) error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w: a TLS-inspecting proxy stands between, or the address is of another cluster; seen: %s (%w)",
			ErrForeignIssuer, issuers(seen.UnverifiedCertificates), err)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok && len(seen.UnverifiedCertificates) > 0 {
		leaf := seen.UnverifiedCertificates[0]
		return fmt.Errorf("the control plane's certificate is for %v %v: use one of these names, or add this one at the control plane (%w)",
			leaf.DNSNames, leaf.IPAddresses, err)
	}
	return err
}
