package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/sealing"
)

// authority signs what agents ask for.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert}
}

func (a *authority) sign(t *testing.T, request []byte, begin time.Time, life time.Duration) [][]byte {
	t.Helper()
	asked, err := x509.ParseCertificateRequest(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := asked.CheckSignature(); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "eu"}, NotBefore: begin, NotAfter: begin.Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, asked.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{der}
}

var granted = Granted{Cluster: "c", Agent: "eu", Site: "eu", Epoch: 3}

func enrolled(t *testing.T, a *authority, dir string) {
	t.Helper()
	request, err := NewRequest(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Accept(dir, granted, a.sign(t, request, time.Now(), 3*time.Hour), [][]byte{a.cert.Raw}); err != nil {
		t.Fatal(err)
	}
}

func TestEnrolAndRenew(t *testing.T) {
	dir, a := filepath.Join(t.TempDir(), "identity"), newAuthority(t)
	if _, err := Open(dir); !errors.Is(err, ErrNotEnrolled) {
		t.Fatalf("an empty directory: %v", err)
	}
	if _, err := NewRequest(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("a request without an answer: %v", err)
	}
	enrolled(t, a, dir)
	id, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if id.Granted != granted {
		t.Errorf("got %+v", id.Granted)
	}
	if left := time.Until(id.RenewAt()); left < 119*time.Minute || left > 2*time.Hour {
		t.Errorf("renews in %v, want two thirds of 3h", left)
	}
	request, err := id.Request()
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(2 * time.Hour)
	if err := id.Replace(a.sign(t, request, later, 3*time.Hour), [][]byte{a.cert.Raw}, 0); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir)
	if err != nil || !again.Certificate().Equal(id.Certificate()) || again.RenewAt().Before(later) {
		t.Errorf("after a restart: %v", err)
	}
	if cfg := again.TLS(); cfg.RootCAs == nil && cfg.VerifyConnection == nil && cfg.VerifyPeerCertificate == nil {
		t.Error("the agent trusts anybody")
	}
}

func TestWhatIsNotOurs(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	enrolled(t, a, dir)
	id, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewRequest(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Replace(a.sign(t, other, time.Now(), time.Hour), [][]byte{a.cert.Raw}, 0); err == nil {
		t.Error("a certificate for another key was taken")
	}
	if err := id.Replace(nil, nil, 0); err == nil {
		t.Error("no certificate was taken")
	}
	if _, err := Open(dir); err != nil {
		t.Errorf("a refused renewal spoiled the identity: %v", err)
	}
	if err := Accept(t.TempDir(), granted, nil, nil); err == nil {
		t.Error("an enrolment without certificate was taken")
	}
}

// The former identity stays in force until the new one was granted.
func TestEnrolAgain(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	enrolled(t, a, dir)
	if _, err := NewRequest(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err != nil {
		t.Errorf("a request alone ended the identity: %v", err)
	}
	enrolled(t, a, dir)
	if _, err := Open(dir); err != nil {
		t.Error(err)
	}
}

func TestNothingIsReadableForOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "identity")
	enrolled(t, newAuthority(t), dir)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 5 {
		t.Fatalf("%v %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v (%v)", e.Name(), info.Mode(), err)
		}
	}
}

// A request that was never answered is made again for the same key, so that the same join
// token can be answered again.
func TestNewRequestKeepsTheKeyThatWaits(t *testing.T) {
	dir := t.TempDir()
	var keys []any
	for range 2 {
		der, err := NewRequest(dir)
		if err != nil {
			t.Fatal(err)
		}
		request, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, request.PublicKey)
	}
	if first, ok := keys[0].(*ecdsa.PublicKey); !ok || !first.Equal(keys[1]) {
		t.Error("the second request is for another key")
	}
}

// sealingOf makes the key if there is none.
func sealingOf(t *testing.T, dir string) (string, sealing.Announcement) {
	t.Helper()
	id := opened(t, dir)
	if err := id.MakeSealing(); err != nil {
		t.Fatal(err)
	}
	key, said, err := id.Sealing()
	if err != nil {
		t.Fatal(err)
	}
	return key, said
}

func TestSealingKey(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	enrolled(t, a, dir)
	if _, _, err := opened(t, dir).Sealing(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before it is made: %v", err)
	}
	key, said := sealingOf(t, dir)
	id := opened(t, dir)
	registered := sha256.Sum256(id.Certificate().RawSubjectPublicKeyInfo)
	if err := said.Verify(granted.Cluster, granted.Agent, registered); err != nil {
		t.Error(err)
	}
	request, err := id.Request()
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Replace(a.sign(t, request, time.Now(), time.Hour), [][]byte{a.cert.Raw}, 0); err != nil {
		t.Fatal(err)
	}
	if _, again := sealingOf(t, dir); again.Recipient != said.Recipient {
		t.Error("a renewal made another key")
	}
	info, err := os.Stat(filepath.Join(dir, sealingFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v (%v)", info.Mode(), err)
	}
	enrolled(t, a, dir)
	if other, _ := sealingOf(t, dir); other == key {
		t.Error("an enrolment kept the key")
	}
	if err := os.WriteFile(filepath.Join(dir, sealingFile), []byte("AGE-SECRET-KEY-1JUNK"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := opened(t, dir).Sealing(); err == nil || strings.Contains(err.Error(), "JUNK") {
		t.Errorf("a damaged key: %v", err)
	}
}
