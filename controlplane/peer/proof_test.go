package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"testing"
	"time"
)

// What a connection has proven is not checked at each call, but when the authorities are
// others, when the certificate has ended, and after a refusal.
func TestCallerIsProvenOnce(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour).Truncate(time.Second),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	template.Subject = pkix.Name{CommonName: "n2"}
	template.SerialNumber, template.IsCA, template.KeyUsage = big.NewInt(2), false, x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	template.NotAfter = template.NotAfter.Add(-time.Minute)
	if der, err = x509.CreateCertificate(rand.Reader, template, authority, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}

	pool := func() *x509.CertPool { p := x509.NewCertPool(); p.AddCert(authority); return p }
	authorities, proofs := pool(), 0
	p := &Peers{cfg: Config{
		Identity: Identity{Cluster: "c1"}, Authorities: func() *x509.CertPool { return authorities },
		Node: func(*x509.Certificate) (cluster, node string, err error) { proofs++; return "c1", "n2", nil },
	}}
	ctx := withCaller(t.Context(), nil)
	said := ctx.Value(callerKey{}).(*caller)
	call := func(what string, wanted int, good bool) {
		t.Helper()
		r := (&http.Request{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}}).WithContext(ctx)
		if node, err := p.caller(r); (err == nil) != good || (node == "n2") != good || proofs != wanted {
			t.Errorf("%s: node %q after %d proofs, %v; want %d", what, node, proofs, err, wanted)
		}
	}
	call("the first call", 1, true)
	call("the second call", 1, true)
	if !said.proven.until.Equal(leaf.NotAfter) {
		t.Errorf("the proof holds until %s, the certificate until %s", said.proven.until, leaf.NotAfter)
	}
	said.proven.until = time.Now()
	call("with a proof that has ended", 2, true)
	authorities = x509.NewCertPool()
	call("when its authority is not trusted any more", 3, false)
	call("again", 4, false)
	authorities = pool()
	call("when it is trusted again", 5, true)
	call("and after that", 5, true)
}
