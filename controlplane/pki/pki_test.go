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
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/protocol/transport"
)

var now = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// rows are authorities as the state would hold them.
type rows struct {
	dir  string
	list []model.Authority
}

func (r *rows) read() []model.Authority { return slices.Clone(r.list) }

func createIn(t testing.TB, r *rows) *pki.Authority {
	t.Helper()
	a, err := pki.New(pki.Config{Dir: r.dir, Cluster: "c1", Rows: r.read})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func begin(t testing.TB) (*rows, *pki.Authority) {
	t.Helper()
	r := &rows{dir: filepath.Join(t.TempDir(), "pki")}
	if _, err := pki.OpenSeal(r.dir); err != nil {
		t.Fatal(err)
	}
	first, err := pki.First(r.dir, "c1", now)
	if err != nil {
		t.Fatal(err)
	}
	r.list = []model.Authority{first}
	return r, createIn(t, r)
}

func create(t testing.TB) *pki.Authority {
	t.Helper()
	_, a := begin(t)
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

func TestAuthorityOverRows(t *testing.T) {
	r, a := begin(t)
	if err := a.Check(); err != nil || a.ID() != r.list[0].ID || !a.Trusts(a.Hash()) || a.Trusts([32]byte{1}) {
		t.Errorf("check %v, id %s", err, a.ID())
	}
	info, err := os.Stat(filepath.Join(r.dir, "seal.key"))
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("sealing key: %v %v", info, err)
	}
	if text, err := os.ReadFile(filepath.Join(r.dir, "ca.pem")); err != nil || string(text) != string(a.Bundle()) {
		t.Errorf("ca.pem: %v", err)
	}
	if token := a.MintToken(); token.CAHash != a.Hash() {
		t.Error("token pins another authority")
	}
	again, err := pki.OpenSeal(r.dir)
	if first, err2 := pki.ReadSeal(r.dir); err != nil || err2 != nil || again != first {
		t.Error("the sealing key of a start that was cut short is not used again")
	}
	if err := createIn(t, &rows{dir: t.TempDir()}).Check(); !errors.Is(err, pki.ErrNone) {
		t.Errorf("without rows: %v", err)
	}
}

// A key in the state opens with the cluster's sealing key only, for its own cluster and
// authority only; one that is brought back is noticed.
func TestSealedKeys(t *testing.T) {
	r, a := begin(t)
	seal, err := pki.ReadSeal(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	stranger := &rows{dir: t.TempDir(), list: r.list}
	b := createIn(t, stranger)
	if err := b.Check(); !errors.Is(err, pki.ErrSeal) {
		t.Errorf("without a sealing key: %v", err)
	}
	if err := pki.WriteSeal(stranger.dir, pki.NewSeal()); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(); !errors.Is(err, pki.ErrSeal) {
		t.Errorf("with another cluster's sealing key: %v", err)
	}
	if err := pki.WriteSeal(stranger.dir, seal); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(); err != nil {
		t.Errorf("with the sealing key brought back: %v", err)
	}
	next, err := a.Next(now)
	if err != nil {
		t.Fatal(err)
	}
	mixed := r.list[0]
	mixed.SealedKey = next.SealedKey
	if err := createIn(t, &rows{dir: r.dir, list: []model.Authority{mixed}}).Check(); !errors.Is(err, pki.ErrSeal) {
		t.Errorf("with the key of another authority: %v", err)
	}
	other, err := pki.New(pki.Config{Dir: r.dir, Cluster: "c2", Rows: r.read})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Check(); !errors.Is(err, pki.ErrSeal) {
		t.Errorf("as another cluster: %v", err)
	}
}

// activate does to the rows what the state does.
func (r *rows) activate(id string) {
	for i := range r.list {
		switch {
		case r.list[i].ID == id:
			r.list[i].State = model.AuthorityActive
		case r.list[i].State == model.AuthorityActive:
			r.list[i].State = model.AuthorityRetired
		}
	}
}

func (r *rows) remove(id string) {
	r.list = slices.DeleteFunc(r.list, func(a model.Authority) bool { return a.ID == id })
}

// handshake connects as an agent that knows some authorities to a node.
func handshake(t *testing.T, node *tls.Certificate, known *x509.CertPool) error {
	t.Helper()
	one, two := net.Pipe()
	defer one.Close()
	defer two.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = tls.Server(one, &tls.Config{Certificates: []tls.Certificate{*node}, MinVersion: tls.VersionTLS13}).Handshake() // the other side says what is wrong
		one.Close()
	}()
	settings := transport.AgentTLS(tls.Certificate{}, known)
	settings.ServerName, settings.Time = "localhost", func() time.Time { return now.Add(time.Minute) }
	err := tls.Client(two, settings).Handshake()
	two.Close()
	<-served
	return err
}

func TestRotation(t *testing.T) {
	r, a := begin(t)
	certificate := a.Node("n1", []string{"localhost"}, func() time.Time { return now })
	node := func() *tls.Certificate {
		t.Helper()
		c, err := certificate()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old, first, token := a.Pool(), a.ID(), a.MintToken()
	accepted := func(c *x509.Certificate) bool {
		_, err := c.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return err == nil
	}
	early := agentLeaf(t, a)
	if err := handshake(t, node(), old); err != nil {
		t.Fatal(err)
	}
	// Four rotations, which an agent that knows only the first authority sleeps through.
	for i := range 4 {
		next, err := a.Next(now)
		if err != nil {
			t.Fatal(err)
		}
		r.list = append(r.list, next)
		if a.ID() == next.ID || len(a.Certificates()) != i+2 {
			t.Fatal("an authority that is next signs, or is not trusted")
		}
		r.activate(next.ID)
		if a.ID() != next.ID || !a.Trusts(token.CAHash) {
			t.Fatal("the next authority does not sign, or the one before is not trusted")
		}
		if err := handshake(t, node(), old); err != nil {
			t.Fatalf("rotation %d: an agent that knows only the first authority: %v", i+1, err)
		}
		if err := handshake(t, node(), a.Pool()); err != nil {
			t.Fatalf("rotation %d: an agent that knows all: %v", i+1, err)
		}
		if !accepted(early) || !accepted(agentLeaf(t, a)) {
			t.Fatalf("rotation %d: agents' certificates are refused", i+1)
		}
	}
	r.remove(first)
	if accepted(early) || a.Trusts(token.CAHash) {
		t.Error("a removed authority is trusted")
	}
	if err := handshake(t, node(), a.Pool()); err != nil {
		t.Errorf("after the removal: %v", err)
	}
	if err := handshake(t, node(), create(t).Pool()); err == nil {
		t.Error("an agent of another cluster takes the node for its own")
	}
	if text, err := os.ReadFile(filepath.Join(r.dir, "ca.pem")); err != nil || string(text) != string(a.Bundle()) {
		t.Errorf("ca.pem is not up to date: %v", err)
	}
}

// A node that has joined shows and trusts what it was given, until it has the state.
func TestJoinedNode(t *testing.T) {
	r, a := begin(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.SignNode(request(t, key), "n2", nil, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	seal, err := pki.ReadSeal(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	joined := &rows{dir: filepath.Join(t.TempDir(), "pki")}
	if err := pki.WriteJoined(joined.dir, pki.Joined{Seal: seal, Key: key, Chain: chain, Authorities: a.Certificates()}); err != nil {
		t.Fatal(err)
	}
	b := createIn(t, joined)
	certificate := b.Node("n2", []string{"localhost"}, func() time.Time { return now })
	got, err := certificate()
	if err != nil || string(got.Certificate[0]) != string(chain[0]) || !b.Trusts(a.Hash()) {
		t.Fatalf("before the state: %v", err)
	}
	if cluster, node, err := pki.ParseNode(got.Leaf); err != nil || cluster != "c1" || node != "n2" || len(got.Leaf.DNSNames) != 0 {
		t.Errorf("the certificate is for %s of %s, %v", node, cluster, err)
	}
	joined.list = r.list
	if got, err = certificate(); err != nil || string(got.Certificate[0]) == string(chain[0]) || got.Leaf.VerifyHostname("localhost") != nil {
		t.Errorf("with the state: %v", err)
	}
	if _, _, err := pki.ParseNode(agentLeaf(t, a)); err == nil {
		t.Error("an agent's certificate names a node")
	}
}

func agentLeaf(t *testing.T, a *pki.Authority) *x509.Certificate {
	t.Helper()
	chain, err := a.SignAgent(request(t, p256(t, elliptic.P256())), "eu", "eu", a.NewSerial(), time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
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
	if !id.Issued.Equal(now.Truncate(time.Second)) {
		t.Errorf("it counts as issued at %s, and was signed at %s", id.Issued, now)
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
	for usage, want := range map[x509.ExtKeyUsage]bool{x509.ExtKeyUsageClientAuth: true, x509.ExtKeyUsageServerAuth: true, x509.ExtKeyUsageCodeSigning: false} {
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
	if _, err := a.NodeCertificate("N 1", []string{"localhost"}, time.Hour, now); err == nil {
		t.Error("a bad name was signed")
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

// FuzzParseNode: a certificate may name anything; no agent is taken for a node.
func FuzzParseNode(f *testing.F) {
	for _, seed := range []string{"spiffe://c1/node/n1", "spiffe://c1/node/n%31", "spiffe://c1/site/a/agent/b", "spiffe://c1:1/node/n1?x", "spiffe://c1//node/n1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		uri, err := url.Parse(text)
		if err != nil {
			return
		}
		certificate := &x509.Certificate{URIs: []*url.URL{uri}, SerialNumber: big.NewInt(1)}
		cluster, node, err := pki.ParseNode(certificate)
		if err != nil {
			return
		}
		if pki.NodeURI(cluster, node).String() != uri.String() {
			t.Fatalf("%q is node %q of %q", text, node, cluster)
		}
		if id, err := transport.ParseIdentity(certificate); err == nil {
			t.Fatalf("%q is node %q, and agent %+v", text, node, id)
		}
	})
}
