package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// NodeURI is a node's name in its certificate.
func NodeURI(cluster, node string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: cluster, Path: "/node/" + node}
}

// ParseNode reads which node a certificate names. It proves nothing.
func ParseNode(certificate *x509.Certificate) (cluster, node string, err error) {
	if len(certificate.URIs) != 1 {
		return "", "", fmt.Errorf("certificate names %d URIs, a node's names one", len(certificate.URIs))
	}
	uri := certificate.URIs[0]
	node, ok := strings.CutPrefix(uri.Path, "/node/")
	if !ok || !nameForm.MatchString(node) || NodeURI(uri.Host, node).String() != uri.String() {
		return "", "", fmt.Errorf("certificate's URI %q is not spiffe://<cluster>/node/<node>", uri)
	}
	return uri.Host, node, nil
}

// SignNode signs the key of a request as that of a node. The chain holds every authority
// that a caller may know: an agent that enrols has nothing else to check its token's pin
// against, and one that knows an older authority only comes over its signature of the newer.
func (a *Authority) SignNode(der []byte, node string, names []string, life time.Duration, now time.Time) (chain [][]byte, err error) {
	request, err := parseRequest(der)
	if err != nil {
		return nil, err
	}
	s, err := a.signing()
	if err != nil {
		return nil, err
	}
	return s.signNode(a.cfg.Cluster, request.PublicKey, node, names, life, now)
}

func (s *set) signNode(cluster string, public crypto.PublicKey, node string, names []string, life time.Duration, now time.Time) ([][]byte, error) {
	if !nameForm.MatchString(node) {
		return nil, fmt.Errorf("node name %q: use small letters, digits, dot, dash and underscore", node)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: node},
		URIs:         []*url.URL{NodeURI(cluster, node)},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := s.sign(template, public, life, now)
	if err != nil {
		return nil, err
	}
	return append([][]byte{der}, s.chain()...), nil
}

// chain are the authorities beside a node's certificate: the active one first.
func (s *set) chain() (out [][]byte) {
	for _, t := range s.trusted {
		if t.row.State == model.AuthorityNext {
			continue // has signed nothing yet
		}
		out = append(out, t.certificate.Raw)
		if t.row.Cross != nil {
			out = append(out, t.row.Cross)
		}
	}
	return out
}

// NodeCertificate makes a key and a certificate for a node, under the host names and
// addresses by which agents and people reach it.
func (a *Authority) NodeCertificate(node string, names []string, life time.Duration, now time.Time) (*tls.Certificate, error) {
	s, err := a.signing()
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	chain, err := s.signNode(a.cfg.Cluster, key.Public(), node, names, life, now)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// Node gives a node's certificate whenever it is asked for, and makes a new one when two
// thirds of the old one's life are over, or the authorities have changed. A node that has
// no rows yet shows what it was given when it joined. now is time.Now outside of tests.
func (a *Authority) Node(node string, names []string, now func() time.Time) func() (*tls.Certificate, error) {
	var mu sync.Mutex
	var current *tls.Certificate
	var of *set
	return func() (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		at := now()
		by, err := a.signing()
		if errors.Is(err, ErrNone) {
			return a.joinedCertificate()
		}
		if err != nil {
			return nil, err
		}
		// One that lies in the future was made while the clock was wrong.
		if current != nil && of == by && !at.Before(current.Leaf.NotBefore) && at.Before(current.Leaf.NotAfter.Add(-NodeLife/3)) {
			return current, nil
		}
		fresh, err := a.NodeCertificate(node, names, NodeLife, at)
		if err != nil {
			return nil, err
		}
		current, of = fresh, by
		return fresh, nil
	}
}
