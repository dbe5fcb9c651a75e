package sealing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
)

func keyPair(t *testing.T) (key, recipient string) {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if recipient, err = RecipientOf(key + "\n"); err != nil {
		t.Fatal(err)
	}
	return key, recipient
}

func TestSealAndOpen(t *testing.T) {
	key, recipient := keyPair(t)
	to := Binding{Cluster: "c", Agent: "eu", Name: "erp/token", Version: 7}
	for _, want := range [][]byte{[]byte("x"), []byte("two\nlines\n"), bytes.Repeat([]byte{0, 255}, MaxValue/2)} {
		sealed, err := Seal(recipient, to, want)
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) > MaxSealed || len(want) > 1 && bytes.Contains(sealed, want) {
			t.Errorf("sealed %d bytes to %d", len(want), len(sealed))
		}
		at := to
		at.Version = 0
		if got, err := Open(key, at, sealed); err != nil || got.Version != 7 || !bytes.Equal(got.Value, want) || got.Only != nil {
			t.Errorf("%d bytes: got %d, version %d for %v, %v", len(want), len(got.Value), got.Version, got.Only, err)
		}
	}
	if _, err := Seal(recipient, to, make([]byte, MaxValue+1)); err == nil {
		t.Error("a secret beyond the limit was sealed")
	}
}

func TestWhatDoesNotOpen(t *testing.T) {
	key, recipient := keyPair(t)
	other, _ := keyPair(t)
	to := Binding{Cluster: "c", Agent: "eu", Name: "erp/token", Version: 7}
	sealed, err := Seal(recipient, to, []byte("canary"))
	if err != nil {
		t.Fatal(err)
	}
	spoiled := bytes.Clone(sealed)
	spoiled[len(spoiled)-1] ^= 1
	for what, open := range map[string]func() (Secret, error){
		"another key":     func() (Secret, error) { return Open(other, to, sealed) },
		"a turned bit":    func() (Secret, error) { return Open(key, to, spoiled) },
		"nothing":         func() (Secret, error) { return Open(key, to, nil) },
		"another name":    func() (Secret, error) { return Open(key, Binding{"c", "eu", "shop/token", 7}, sealed) },
		"another agent":   func() (Secret, error) { return Open(key, Binding{"c", "us", "erp/token", 7}, sealed) },
		"another cluster": func() (Secret, error) { return Open(key, Binding{"d", "eu", "erp/token", 7}, sealed) },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) || got.Value != nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %q, %v", what, got.Value, err)
		}
	}
	if _, err := Open("AGE-SECRET-KEY-1JUNK", to, sealed); err == nil || strings.Contains(err.Error(), "JUNK") {
		t.Errorf("a damaged key: %v", err)
	}
	if _, err := RecipientOf("AGE-SECRET-KEY-1JUNK"); err == nil || strings.Contains(err.Error(), "JUNK") {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestAnnouncement(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	registered := sha256.Sum256(public)
	_, recipient := keyPair(t)
	_, forged := keyPair(t)
	a, err := Announce("c", "eu", recipient, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Verify("c", "eu", registered); err != nil {
		t.Error(err)
	}
	lie := a
	lie.Recipient = forged
	for what, err := range map[string]error{
		"another recipient": lie.Verify("c", "eu", registered), "another agent": a.Verify("c", "us", registered),
		"another cluster": a.Verify("d", "eu", registered), "another key": a.Verify("c", "eu", [32]byte{1}), "nothing": Announcement{}.Verify("c", "eu", registered),
	} {
		if err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	if Fingerprint(recipient) == Fingerprint(forged) || len(Fingerprint(recipient)) != 39 {
		t.Errorf("fingerprints %s and %s", Fingerprint(recipient), Fingerprint(forged))
	}
}

func FuzzOpen(f *testing.F) {
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	recipient, err := RecipientOf(key)
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := Seal(recipient, Binding{Cluster: "c"}, []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	if sealed, err = Seal(recipient, Binding{Cluster: "c"}, []byte("x"), "erp.example"); err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, err := Open(key, Binding{Cluster: "d"}, text); err == nil {
			t.Errorf("opened %q", got.Value)
		}
	})
}
