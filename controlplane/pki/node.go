package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"
)

// NodeCertificate makes a key and a certificate for a node, under the host names and
// addresses by which agents and people reach it. The chain holds the authority, because
// an agent that enrols has nothing else to check the pin against.
func (a *Authority) NodeCertificate(node string, names []string, life time.Duration, now time.Time) (*tls.Certificate, error) {
	if !nameForm.MatchString(node) {
		return nil, fmt.Errorf("node name %q: use small letters, digits, dot, dash and underscore", node)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("certificate of node %s: give at least one host name or address", node)
	}
	current := a.current()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: node},
		URIs:         []*url.URL{{Scheme: "spiffe", Host: current.cluster, Path: "/node/" + node}},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := current.sign(template, key.Public(), life, now)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, current.certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Node gives a node's certificate whenever it is asked for, and makes a new one when two
// thirds of the old one's life are over, or the authority was reloaded. now is time.Now
// outside of tests.
func (a *Authority) Node(node string, names []string, now func() time.Time) func() (*tls.Certificate, error) {
	var mu sync.Mutex
	var current *tls.Certificate
	var of *x509.Certificate
	return func() (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		at, by := now(), a.current().certificate
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
