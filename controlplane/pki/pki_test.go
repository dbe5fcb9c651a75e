package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/protocol/transport"
)

var now = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func create(t testing.TB) *pki.Authority {
	t.Helper()
	a, err := pki.Create(t.TempDir(), "c1", now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func request(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	// What a request asks for counts for nothing; this one asks for a lot.
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "root"}, DNSNames: []string{"crossdock"},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "c1", Path: "/node/n1"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func p256(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCreateOpenReload(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := pki.Open(dir); !errors.Is(err, pki.ErrNone) {
		t.Errorf("open of nothing: %v", err)
	}
	if _, err := pki.Create(dir, "C 1", now); err == nil {
		t.Error("a bad cluster id was taken")
	}
	a, err := pki.Create(dir, "c1", now)
	if err != nil || a.Cluster() != "c1" {
		t.Fatalf("%v %v", a, err)
	}
	if _, err := pki.Create(dir, "c2", now); !errors.Is(err, pki.ErrExists) {
		t.Errorf("second create: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "ca-key.pem"))
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", info, err)
	}
	b, err := pki.Open(dir)
	if err != nil || b.Hash() != a.Hash() || string(b.Bundle()) != string(a.Bundle()) {
		t.Errorf("opened another authority: %v", err)
	}
	if token := b.MintToken(); token.CAHash != a.Hash() {
		t.Error("token pins another authority")
	}
	// A key of another backup is noticed, and what was read stays.
	other, err := x509.MarshalPKCS8PrivateKey(p256(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: other})
	if err := os.WriteFile(filepath.Join(dir, "ca-key.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(); err == nil || b.Cluster() != "c1" {
		t.Errorf("reload with another key: %v", err)
	}
	for _, garbage := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := b.Reload(); err == nil {
			t.Errorf("reload of %q", garbage)
		}
	}
}

// A first start may be cut short between the two files. The key that is there is used.
func TestCreateAfterACut(t *testing.T) {
	dir := t.TempDir()
	a, err := pki.Create(dir, "c1", now)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(dir); !errors.Is(err, pki.ErrNone) {
		t.Errorf("open: %v", err)
	}
	b, err := pki.Create(dir, "c1", now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if b.Hash() != a.Hash() {
		t.Error("another key was made: join tokens and agents are cut off")
	}
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca-key.pem"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Create(dir, "c1", now); err == nil {
		t.Error("a damaged key was replaced")
	}
}

// A certificate that was made while the clock was ahead is not kept when it is set right.
func TestNodeAfterTheClockWentBack(t *testing.T) {
	a := create(t)
	clock := now.AddDate(1, 0, 0)
	certificate := a.Node("n1", []string{"localhost"}, func() time.Time { return clock })
	if _, err := certificate(); err != nil {
		t.Fatal(err)
	}
	clock = now
	got, err := certificate()
	if err != nil || got.Leaf.NotBefore.After(clock) {
		t.Errorf("begins at %s: %v", got.Leaf.NotBefore, err)
	}
}

func TestSignAgent(t *testing.T) {
	a := create(t)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		key  crypto.Signer
		ok   bool
	}{
		{"P-256", p256(t, elliptic.P256()), true},
		{"Ed25519", edwards, true},
		{"P-384", p256(t, elliptic.P384()), false},
		{"RSA", short, false},
	}
	for _, test := range tests {
		der, serial := request(t, test.key), a.NewSerial()
		key, err := a.CheckRequest(der)
		if (err == nil) != test.ok || err != nil && !errors.Is(err, pki.ErrRequest) {
			t.Errorf("%s: %v", test.name, err)
		}
		chain, err := a.SignAgent(der, "berlin", "berlin", serial, time.Hour, now)
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		if !test.ok {
			continue
		}
		if id := checkAgent(t, a, chain[0]); id.Serial != serial || id.Key != key {
			t.Errorf("%s: identity %+v", test.name, id)
		}
	}
}

// checkAgent checks that a certificate says what the control plane decided, and no more.
func checkAgent(t *testing.T, a *pki.Authority, der []byte) transport.Identity {
	t.Helper()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	id, err := transport.ParseIdentity(leaf)
	if err != nil || id.Agent != "berlin" || id.Cluster != "c1" || !id.NotAfter.Equal(now.Add(time.Hour)) {
		t.Errorf("identity %+v, %v", id, err)
	}
	if leaf.Subject.CommonName != "berlin" || len(leaf.DNSNames) != 0 || leaf.IsCA {
		t.Errorf("names out of the request are in the certificate: %v %v", leaf.Subject, leaf.DNSNames)
	}
	for usage, want := range map[x509.ExtKeyUsage]bool{x509.ExtKeyUsageClientAuth: true, x509.ExtKeyUsageServerAuth: false} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		if (err == nil) != want {
			t.Errorf("use %v: %v", usage, err)
		}
	}
	return id
}

func TestSignAgentRefuses(t *testing.T) {
	a := create(t)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := request(t, p256(t, elliptic.P256()))
	for _, bad := range []string{"", "a/b", "A", "..", "ä", "a b", "a%2f"} {
		if _, err := a.SignAgent(der, bad, "berlin", a.NewSerial(), time.Hour, now); err == nil {
			t.Errorf("site %q was signed", bad)
		}
		if _, err := a.SignAgent(der, "berlin", bad, a.NewSerial(), time.Hour, now); err == nil {
			t.Errorf("agent %q was signed", bad)
		}
		if _, err := a.SignAgent(der, "berlin", "berlin", bad, time.Hour, now); err == nil && bad != "A" {
			t.Errorf("serial %q was signed", bad)
		}
	}
	// A request whose signature is not by its key proves nothing.
	der[len(der)-5]++
	if _, err := a.CheckRequest(der); !errors.Is(err, pki.ErrRequest) {
		t.Errorf("request with a damaged signature: %v", err)
	}
	// No certificate outlives the authority.
	late := now.Add(pki.AuthorityLife - time.Minute)
	chain, err := a.SignAgent(request(t, edwards), "berlin", "berlin", a.NewSerial(), time.Hour, late)
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err := x509.ParseCertificate(chain[0]); err != nil || leaf.NotAfter.After(now.Add(pki.AuthorityLife)) {
		t.Errorf("certificate until %v, %v", leaf.NotAfter, err)
	}
	if _, err := a.SignAgent(request(t, edwards), "berlin", "berlin", a.NewSerial(), time.Hour, late.Add(time.Hour)); err == nil {
		t.Error("an expired authority signs")
	}
}

func TestNode(t *testing.T) {
	a := create(t)
	clock := now
	certificate := a.Node("n1", []string{"crossdock.example", "10.0.0.1", "::1"}, func() time.Time { return clock })
	get := func() *tls.Certificate {
		t.Helper()
		c, err := certificate()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := get()
	for name, want := range map[string]bool{"crossdock.example": true, "10.0.0.1": true, "::1": true, "other": false} {
		if err := first.Leaf.VerifyHostname(name); (err == nil) != want {
			t.Errorf("name %s: %v", name, err)
		}
	}
	if len(first.Certificate) != 2 {
		t.Error("the chain lacks the authority, enrolment could not check its pin")
	}
	for usage, want := range map[x509.ExtKeyUsage]bool{x509.ExtKeyUsageClientAuth: false, x509.ExtKeyUsageServerAuth: true} {
		_, err := first.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		if (err == nil) != want {
			t.Errorf("use %v: %v", usage, err)
		}
	}
	if _, err := transport.ParseIdentity(first.Leaf); err == nil {
		t.Error("a node's certificate is an agent's identity")
	}
	clock = now.Add(pki.NodeLife * 2 / 3)
	if second := get(); second == first {
		t.Error("not renewed after two thirds of its life")
	} else if get() != second {
		t.Error("renewed each time")
	}
	if _, err := a.NodeCertificate("n1", nil, time.Hour, now); err == nil {
		t.Error("a node without names has a certificate")
	}
}

func FuzzCheckRequest(f *testing.F) {
	a := create(f)
	f.Add(request(f, p256(f, elliptic.P256())))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := a.CheckRequest(der); err != nil && !errors.Is(err, pki.ErrRequest) {
			t.Errorf("%v", err)
		}
	})
}
