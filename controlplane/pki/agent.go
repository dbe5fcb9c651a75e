package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/crossdock/crossdock/protocol/transport"
)

// ErrRequest marks a certificate request that is not signed.
var ErrRequest = errors.New("certificate request")

const maxRequest = 16 << 10

// CheckRequest checks a certificate request and gives the hash of its key. The key is all
// that is ever taken from it.
func (a *Authority) CheckRequest(der []byte) (key [32]byte, err error) {
	request, err := parseRequest(der)
	if err != nil {
		return key, err
	}
	return sha256.Sum256(request.RawSubjectPublicKeyInfo), nil
}

func parseRequest(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > maxRequest {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrRequest, len(der), maxRequest)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	switch public := request.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return nil, fmt.Errorf("%w: a key on %s; use P-256 or Ed25519", ErrRequest, public.Curve.Params().Name)
		}
	default:
		return nil, fmt.Errorf("%w: a key of type %s; use P-256 or Ed25519", ErrRequest, request.PublicKeyAlgorithm)
	}
	// The signature proves that the caller has the key.
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return request, nil
}

// SignAgent signs the key of a request as that of an agent. The serial is one of NewSerial.
func (a *Authority) SignAgent(der []byte, site, agent, serial string, life time.Duration, now time.Time) (chain [][]byte, err error) {
	request, err := parseRequest(der)
	if err != nil {
		return nil, err
	}
	if !nameForm.MatchString(site) || !nameForm.MatchString(agent) {
		return nil, fmt.Errorf("agent %q of site %q: use small letters, digits, dot, dash and underscore", agent, site)
	}
	number, ok := new(big.Int).SetString(serial, 16)
	if !ok || number.Sign() <= 0 || number.BitLen() > 127 {
		return nil, fmt.Errorf("serial number %q is none", serial)
	}
	current, err := a.signing()
	if err != nil {
		return nil, err
	}
	leaf, err := current.sign(&x509.Certificate{
		SerialNumber: number,
		Subject:      pkix.Name{CommonName: agent},
		URIs:         []*url.URL{transport.Identity{Cluster: a.cfg.Cluster, Site: site, Agent: agent}.URI()},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, request.PublicKey, life, now)
	if err != nil {
		return nil, err
	}
	return [][]byte{leaf}, nil
}
